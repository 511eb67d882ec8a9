//! Items that fail because there are too many at once, as against those that would fail at any number of workers.

/// Failures above what is usual before the number of workers is doubted.
const SURPRISE: f64 = 2.0;

/// And this part of the claims.
const NOTEWORTHY: f64 = 0.07;

/// The failures that must be missing among fewer workers before that counts; twice as many if there are some.
const MISSING: f64 = 3.0;

/// And only this part of what was to be expected may be there.
const FEW: f64 = 0.25;

/// From this number of claims for each worker on, more say nothing new.
const ENOUGH_CLAIMS: usize = 3;

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    claims: f64,
    /// Each by the part of its items that failed.
    failed: f64,
}

impl Tally {
    fn add(&mut self, failed: f64, kept: f64) {
        self.claims = self.claims * kept + 1.0;
        self.failed = self.failed * kept + failed;
    }

    fn share(&self) -> f64 {
        if self.claims > 0.0 { self.failed / self.claims } else { 0.0 }
    }
}

/// Claims with failures, of late, and since there are fewer workers for it.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The share of items that fails at any number of workers.
    usual: f64,
    recent: Tally,
    relieved: Tally,
}

impl Failures {
    /// Counts a claim in, in the time without relief; older ones fade so that twice the workers are remembered.
    pub(super) fn add(&mut self, failed: f64, workers: usize) {
        self.recent.add(failed, 1.0 - 1.0 / (2.0 * super::number::float(workers)).max(16.0));
    }

    /// Counts a claim in that began when there were fewer workers already.
    pub(super) fn add_relieved(&mut self, failed: f64) {
        self.relieved.add(failed, 1.0);
    }

    /// Whether nothing but failures came of late.
    pub(super) fn are_all(&self) -> bool {
        let share = if self.recent.claims >= SURPRISE { self.recent.share() } else { self.usual };
        share > 0.99
    }

    /// Whether more fail than usual, even if none of those that run does: what fails may fail sooner than others succeed.
    pub(super) fn are_too_many(&self, running: usize) -> bool {
        let usual = self.usual * (self.recent.claims + super::number::float(running));
        let surprise = (SURPRISE * (1.0 + usual.sqrt())).max(NOTEWORTHY * self.recent.claims);
        self.recent.failed >= usual + surprise
    }

    /// Whether nothing has come of a claim that began with fewer workers but failures.
    pub(super) fn have_no_relief(&self) -> bool {
        self.relieved.failed >= self.relieved.claims
    }

    /// Whether fewer fail with fewer workers; none while that cannot be said.
    pub(super) fn fell(&self, workers: usize) -> Option<bool> {
        let expected = self.recent.share() * self.relieved.claims;
        let missing = if self.relieved.failed > 0.0 { 2.0 * MISSING } else { MISSING };
        if expected >= missing {
            return Some(self.relieved.failed <= FEW * expected);
        }
        (self.relieved.claims >= super::number::float(ENOUGH_CLAIMS * workers.max(6))).then_some(false)
    }

    /// What is seen now is usual. If they `fell`, that is what was seen with fewer workers.
    pub(super) fn settle(&mut self, fell: bool) {
        let all = Tally {
            claims: self.recent.claims + self.relieved.claims,
            failed: self.recent.failed + self.relieved.failed,
        };
        self.usual = if fell { self.relieved.share() } else { all.share() };
        (self.recent, self.relieved) = (Tally::default(), Tally::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten claims in which all fails, and relief or none: what came before is no news then.
    #[test]
    fn what_has_been_judged_once_is_not_judged_again() {
        for fell in [false, true] {
            let mut failures = Failures::default();
            (0..10).for_each(|_| failures.add(1.0, 4));
            assert!(failures.are_too_many(4));
            (0..20).for_each(|_| failures.add_relieved(if fell { 0.0 } else { 1.0 }));
            assert_eq!(failures.fell(4), Some(fell));
            failures.settle(fell);
            assert!(!failures.are_too_many(4), "nothing has come since");
            assert_eq!((failures.fell(4), failures.are_all()), (None, !fell), "what is usual");
        }
    }
}
