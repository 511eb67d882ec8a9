//! How many workers there might be, over time. Bounded, whatever the batch does.

use std::time::Duration;

/// As many as a picture can show. Of more, every second one is left out.
const MOST: usize = 4096;

#[derive(Debug)]
pub(crate) struct Curve {
    steps: Vec<(Duration, usize)>,
}

impl Curve {
    /// Of a batch that began with this many.
    pub(crate) fn new(limit: usize) -> Self {
        Curve { steps: vec![(Duration::ZERO, limit)] }
    }

    /// From this time on, this many.
    pub(crate) fn add(&mut self, time: Duration, limit: usize) {
        if self.steps.len() == MOST {
            let mut is_kept = false;
            self.steps.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        self.steps.push((time, limit));
    }

    pub(crate) fn into_steps(self) -> Vec<(Duration, usize)> {
        self.steps
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_kept_however_many_there_are() {
        let mut curve = Curve::new(1);
        (1..=50_000).for_each(|step| curve.add(Duration::from_millis(step), 2));
        curve.add(Duration::from_secs(60), 3);
        let steps = curve.into_steps();
        assert!((MOST / 2..=MOST).contains(&steps.len()));
        assert_eq!((steps[0], steps[steps.len() - 1]), ((Duration::ZERO, 1), (Duration::from_secs(60), 3)));
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
