//! What one worker did over time, in a bounded number of buckets: exact, however many attempts there were.

use std::iter::Sum;
use std::ops::AddAssign;

use super::span::{Attempt, Ending, Times};

/// As many as a chart can show. More come together two by two.
const MOST_BUCKETS: u64 = 512;

/// The shift of 4 µs: a batch of a millisecond still has a curve.
const FINEST: u32 = 12;

/// What fell into one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Nanoseconds that operations ran.
    pub(super) busy: u64,
    /// Nanoseconds that it waited for permits.
    pub(super) waits: u64,
    /// Items that were decided.
    pub(super) decided: u64,
    /// Of them, those without a value.
    pub(super) failed: u64,
}

impl AddAssign<&Bucket> for Bucket {
    fn add_assign(&mut self, more: &Bucket) {
        self.busy += more.busy;
        self.waits += more.waits;
        self.decided += more.decided;
        self.failed += more.failed;
    }
}

impl<'b> Sum<&'b Bucket> for Bucket {
    fn sum<B: Iterator<Item = &'b Bucket>>(buckets: B) -> Self {
        let mut total = Bucket::default();
        buckets.for_each(|bucket| total += bucket);
        total
    }
}

/// Buckets of one width, from the beginning of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Density {
    /// A bucket is 2^`shift` nanoseconds wide.
    shift: u32,
    buckets: Vec<Bucket>,
}

impl Density {
    pub(super) fn new() -> Self {
        Density { shift: FINEST, buckets: Vec::new() }
    }

    /// Nanoseconds.
    pub(super) fn width(&self) -> u64 {
        1 << self.shift
    }

    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    #[inline]
    pub(super) fn add(&mut self, attempt: &Attempt) {
        let Times { taken, started, ended, .. } = attempt.times;
        let last = self.bucket_at(ended);
        last.decided += u64::from(attempt.ending != Ending::Retried);
        last.failed += u64::from(attempt.ending.is_failure());
        self.spread(started, ended, |bucket| &mut bucket.busy);
        if started > taken {
            self.spread(taken, started, |bucket| &mut bucket.waits);
        }
    }

    #[inline]
    fn bucket_at(&mut self, time: u64) -> &mut Bucket {
        while time >> self.shift >= MOST_BUCKETS {
            self.coarsen();
        }
        let position = position(time >> self.shift);
        if position >= self.buckets.len() {
            self.buckets.resize(position + 1, Bucket::default());
        }
        &mut self.buckets[position]
    }

    /// Adds the time from `start` to `end`, whose bucket is there, to the buckets that it falls into.
    #[inline]
    fn spread(&mut self, start: u64, end: u64, part: impl Fn(&mut Bucket) -> &mut u64) {
        let mut from = start;
        while from < end {
            let number = from >> self.shift;
            let to = end.min((number + 1) << self.shift);
            *part(&mut self.buckets[position(number)]) += to - from;
            from = to;
        }
    }

    /// Twice the width.
    #[cold]
    fn coarsen(&mut self) {
        self.shift += 1;
        self.buckets = self.buckets.chunks(2).map(|pair| pair.iter().sum()).collect();
    }

    /// Adds another, at the greater width of both.
    pub(super) fn merge(&mut self, mut other: Density) {
        align(&mut [&mut *self, &mut other]);
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
    }

    fn widen(&mut self, shift: u32) {
        while self.shift < shift {
            self.coarsen();
        }
    }
}

/// Brings all to one width, and to one length.
pub(super) fn align(densities: &mut [&mut Density]) {
    let shift = densities.iter().map(|density| density.shift).max().unwrap_or(FINEST);
    for density in &mut *densities {
        density.widen(shift);
    }
    let length = densities.iter().map(|density| density.buckets.len()).max().unwrap_or(0);
    for density in densities {
        density.buckets.resize(length, Bucket::default());
    }
}

/// There are never more than `MOST_BUCKETS`.
fn position(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    fn attempt(taken: u64, started: u64, ended: u64, ending: Ending) -> Attempt {
        Attempt { index: 0, number: 1, times: Times { queued: 0, taken, started, ended }, ending }
    }

    fn density(attempts: &[(u64, u64, u64)]) -> Density {
        let mut density = Density::new();
        for &(taken, started, ended) in attempts {
            density.add(&attempt(taken, started, ended, Ending::Succeeded));
        }
        density
    }

    fn busy(density: &Density) -> Vec<u64> {
        density.buckets().iter().map(|bucket| bucket.busy).collect()
    }

    #[test]
    fn a_time_is_spread_over_the_buckets_that_it_falls_into() {
        let density = density(&[(1000, 4000, 9000)]);
        assert_eq!(density.width(), 4096);
        assert_eq!(busy(&density), [96, 4096, 808]);
        assert_eq!(density.buckets()[0].waits, 3000);
        assert_eq!(density.buckets().iter().map(|bucket| bucket.decided).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[test]
    fn there_are_never_more_buckets_than_the_most_and_nothing_is_lost() {
        let hour = 3_600_000_000_000;
        let density = density(&[(0, 0, 5000), (5000, 5000, hour), (hour, hour + 7, hour + 9)]);
        assert!(density.buckets().len() as u64 <= MOST_BUCKETS);
        assert_eq!(busy(&density).iter().sum::<u64>(), 5000 + (hour - 5000) + 2);
        assert_eq!(density.buckets().iter().map(|bucket| bucket.decided).sum::<u64>(), 3);
        assert!(density.width() * (MOST_BUCKETS / 2) <= hour + 9, "no coarser than it has to be");
    }

    #[test]
    fn two_of_different_widths_come_together() {
        let (fine, coarse) = (density(&[(0, 0, 4096)]), density(&[(0, 10_000_000, 10_000_100)]));
        let mut both = fine.clone();
        both.merge(coarse.clone());
        let mut other = coarse;
        other.merge(fine);
        assert_eq!(both, other);
        assert_eq!(busy(&both).iter().sum::<u64>(), 4196);
    }

    #[test]
    fn aligned_ones_have_one_width_and_one_length() {
        let mut all = [density(&[(0, 0, 9)]), density(&[(0, 0, 90_000_000)]), Density::new()];
        align(&mut all.each_mut());
        assert!(
            all.iter()
                .all(|one| (one.width(), one.buckets().len()) == (all[1].width(), all[1].buckets().len()))
        );
    }

    #[test]
    fn a_retry_ends_no_item_and_a_refusal_is_a_failure() {
        let mut density = Density::new();
        for ending in Ending::ALL {
            density.add(&attempt(0, 0, 1, ending));
        }
        assert_eq!((density.buckets()[0].decided, density.buckets()[0].failed), (4, 3));
    }
}
