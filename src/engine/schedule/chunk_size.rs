//! How many items a worker claims at a time: enough that claims cost little, few enough that no worker has to wait for the
//! items of another.

use std::time::Duration;

/// The most items of a claim. More saves nothing, and leaves a core's own cache.
pub(super) const LARGEST: usize = 4096;

/// As many as asked for, within what leaves something for the others. The first items go one to a worker.
pub(super) fn fair(asked: usize, next: usize, shared: usize, workers: usize) -> usize {
    let size = match workers {
        1 => asked,
        _ if next < workers => 1,
        _ => asked.min(shared / (2 * workers)),
    };
    size.clamp(1, LARGEST)
}

/// A worker claims this many items together, however few are left: an eighth of a claim's work, 2.5 µs. Another worker needs as long
/// to come for them. Without this, two workers made nine claims of ten no-ops, and now three. In case the last items are slow, not
/// more than there are for each of the others.
pub(super) fn worth(asked: usize, queued: usize, workers: usize) -> usize {
    (asked / PART_OF_A_CLAIM).min(MOST_TOGETHER).min(queued / workers.saturating_sub(1).max(1))
}

const PART_OF_A_CLAIM: usize = 8;

/// With more, workers hand items back to each other at the end of large batches.
const MOST_TOGETHER: usize = 16;

/// The work that one claim should hold. A claim costs about 0.1 µs, so this keeps its cost under one percent.
const CLAIM: Duration = Duration::from_micros(20);

/// The same for a claim that is measured, which costs up to 5 µs.
const MEASURED_CLAIM: Duration = Duration::from_micros(400);

/// The most by which a claim may be larger than the one before it, so that one quick item is not taken for a rule.
const GROWTH: usize = 8;

/// One worker's claim size, from what its last claim took.
#[derive(Debug)]
pub(in crate::engine) struct Pace {
    size: usize,
    claim: Duration,
}

impl Pace {
    pub(in crate::engine) fn new() -> Self {
        Pace { size: 1, claim: CLAIM }
    }

    /// For claims that are measured.
    pub(in crate::engine) fn measured() -> Self {
        Pace { size: 1, claim: MEASURED_CLAIM }
    }

    /// How many items to take next.
    pub(in crate::engine) fn size(&self) -> usize {
        self.size
    }

    /// Takes one item next.
    pub(in crate::engine) fn go_one_by_one(&mut self) {
        self.size = 1;
    }

    /// Learns how long a claim of `items` items took.
    pub(in crate::engine) fn learn(&mut self, items: usize, took: Duration) {
        let per_item = (took.as_nanos() / items.max(1) as u128).max(1);
        let fitting = self.claim.as_nanos() / per_item;
        let most = self.size.saturating_mul(GROWTH);
        self.size = usize::try_from(fitting).unwrap_or(most).clamp(1, most);
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
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
    fn slow_items_are_claimed_one_by_one() {
        assert_eq!(after(&[]), 1);
        assert_eq!(after(&[(1, 1_000_000), (1, 30_000)]), 1);
        assert_eq!(after(&[(1, 10), (8, 80), (64, 64_000_000)]), 1);
    }

    #[test]
    fn quick_items_are_claimed_in_growing_numbers() {
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

    /// The sizes of all claims, when each worker asks for this many.
    fn sizes(items: usize, workers: usize, asked: usize) -> Vec<usize> {
        let (mut next, mut sizes) = (0, Vec::new());
        while next < items {
            let size = fair(asked, next, items - next, workers).min(items - next);
            next += size;
            sizes.push(size);
        }
        sizes
    }

    #[test]
    fn the_first_items_go_one_to_a_worker_and_claims_shrink_towards_the_end() {
        assert_eq!(sizes(20, 4, 100)[..4], [1, 1, 1, 1]);
        assert_eq!(sizes(100, 2, 30)[..5], [1, 1, 24, 18, 14]);
        assert_eq!(sizes(100, 2, 30).last(), Some(&1));
        assert_eq!(sizes(100, 5, 30)[5..7], [9, 8]);
    }

    #[test]
    fn what_goes_together_at_the_end_leaves_as_many_to_each_of_the_others() {
        assert_eq!((worth(7, 100, 2), worth(40, 100, 2), worth(4_000, 100, 2)), (0, 5, 16));
        assert_eq!((worth(4_000, 8, 2), worth(4_000, 8, 3), worth(4_000, 8, 1)), (8, 4, 8));
        assert_eq!((worth(4_000, 64, 16), worth(4_000, 16, 16), worth(4_000, 14, 16)), (4, 1, 0));
    }

    #[test]
    fn a_single_worker_gets_what_it_asks_for_up_to_what_a_cache_holds() {
        assert_eq!(sizes(100, 1, 64), [64, 36]);
        assert_eq!(fair(usize::MAX, 0, usize::MAX, 1), 4096);
    }
}
