//! How many claims run at once: the number now, and its integral over time.

use super::number::float;

/// Claims that run, now and so far.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    running: usize,
    /// Claim-seconds until `at`.
    area: f64,
    at: f64,
}

impl Crowd {
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// One claim more; the integral until now.
    pub(super) fn enter(&mut self, now: f64) -> f64 {
        self.advance(now);
        self.running += 1;
        self.area
    }

    /// One claim less; the mean number that ran beside it, if the integral was `area` when it began, `seconds` ago.
    pub(super) fn leave(&mut self, now: f64, area: f64, seconds: f64) -> f64 {
        self.advance(now);
        self.running = self.running.saturating_sub(1);
        ((self.area - area) / seconds).max(1.0)
    }

    /// Clocks of different cores may differ a little: time does not run backwards here.
    fn advance(&mut self, now: f64) {
        let seconds = (now - self.at).max(0.0);
        self.area += seconds * float(self.running);
        self.at += seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_learns_how_many_ran_beside_it() {
        let mut crowd = Crowd::default();
        let first = crowd.enter(0.0);
        let second = crowd.enter(1.0);
        assert!((crowd.leave(2.0, second, 1.0) - 2.0).abs() < 1e-12);
        assert!((crowd.leave(4.0, first, 4.0) - 1.25).abs() < 1e-12);
        assert_eq!(crowd.running(), 0);
    }

    #[test]
    fn time_that_runs_backwards_stands_still() {
        let mut crowd = Crowd::default();
        let area = crowd.enter(5.0);
        assert!((crowd.leave(3.0, area, 1.0) - 1.0).abs() < 1e-12);
        crowd.leave(3.0, area, 1.0);
        assert_eq!(crowd.running(), 0);
    }
}
