//! How many items a worker takes at a time: enough that taking them costs little, few enough that nobody waits for it.

use std::time::Duration;

/// The work that one claim should hold. A claim costs about 0.1 µs, so this keeps the cost under one percent.
const CLAIM: Duration = Duration::from_micros(20);

/// The same for a claim that is measured, which costs up to 5 µs.
const MEASURED_CLAIM: Duration = Duration::from_micros(400);

/// The most by which a claim may be larger than the one before it, so that one quick item is not taken for a rule.
const GROWTH: usize = 8;

/// One worker's claim size, from what its last claim took.
#[derive(Debug)]
pub(super) struct Pace {
    size: usize,
    claim: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { size: 1, claim: CLAIM }
    }

    /// For claims that are measured.
    pub(super) fn measured() -> Self {
        Pace { size: 1, claim: MEASURED_CLAIM }
    }

    /// How many items to take next.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Learns that `items` took so long.
    pub(super) fn learn(&mut self, items: usize, took: Duration) {
        let per_item = (took.as_nanos() / items.max(1) as u128).max(1);
        let fitting = self.claim.as_nanos() / per_item;
        let most = self.size.saturating_mul(GROWTH);
        self.size = usize::try_from(fitting).unwrap_or(most).clamp(1, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(learnt: &[(usize, u64)]) -> usize {
        let mut pace = Pace::new();
        for &(items, nanos) in learnt {
            pace.learn(items, Duration::from_nanos(nanos));
        }
        pace.size()
    }

    #[test]
    fn slow_items_are_taken_one_by_one() {
        assert_eq!(after(&[]), 1);
        assert_eq!(after(&[(1, 1_000_000), (1, 30_000)]), 1);
        assert_eq!(after(&[(1, 10), (8, 80), (64, 64_000_000)]), 1);
    }

    #[test]
    fn quick_items_are_taken_in_growing_claims() {
        assert_eq!(after(&[(1, 20)]), 8);
        assert_eq!(after(&[(1, 20), (8, 160), (64, 1280)]), 512);
        assert_eq!(after(&[(1, 20), (8, 160), (64, 1280), (512, 10_240)]), 1_000);
        assert_eq!(after(&[(1, 1_000), (8, 8_000)]), 20);
    }

    #[test]
    fn claims_that_are_measured_hold_more() {
        let (mut pace, mut measured) = (Pace::new(), Pace::measured());
        for pace in [&mut pace, &mut measured] {
            for _ in 0..3 {
                pace.learn(1, Duration::from_micros(4));
            }
        }
        assert_eq!((pace.size(), measured.size()), (5, 100));
    }

    #[test]
    fn a_clock_that_stands_still_does_no_harm() {
        assert_eq!(after(&[(1, 0), (0, 0)]), 64);
    }
}
