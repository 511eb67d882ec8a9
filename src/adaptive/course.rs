//! What is being found out at the moment, and how seldom a level that is held is questioned.

/// What the cohort that is being measured is measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// To learn what the items are.
    Ramp,
    /// To see whether more than `from` bring more.
    Up { from: usize },
    /// To see whether fewer than `from` bring as much.
    Down { from: usize },
    /// To see whether anything has changed.
    Hold,
    /// To recover after a complaint.
    Relief,
}

/// How seldom a level that is held is questioned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// Judgements since the level was reached, and how many there are to be before the next question.
    pub(super) held: u32,
    pub(super) pause: u32,
    /// Whether the next question is for fewer workers.
    pub(super) downwards: bool,
    /// Whether a raise that was given up has been looked at again.
    pub(super) looked_again: bool,
    /// Whether a level that was enough for the cores has been tried with fewer workers.
    pub(super) computing_tried: bool,
}

impl Default for Pauses {
    fn default() -> Self {
        Pauses { held: 0, pause: 0, downwards: true, looked_again: false, computing_tried: false }
    }
}

impl Pauses {
    const LONGEST: u32 = 64;

    /// Twice as long until the next question.
    pub(super) fn longer(&mut self) {
        (self.held, self.pause) = (0, (self.pause * 2).clamp(1, Self::LONGEST));
    }

    /// Counts a judgement; whether it is time for a question.
    pub(super) fn count_judgement(&mut self) -> bool {
        self.held += 1;
        self.held >= self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pauses = Pauses::default();
        let lengths = [(); 9].map(|()| {
            pauses.longer();
            pauses.pause
        });
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }
}
