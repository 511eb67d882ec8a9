//! How many workers there might be, over time. Bounded, whatever the batch does.

use std::time::Duration;

use crate::sync::Instant;

/// As many as a curve can show. Of more, every second one is left out.
const MOST: usize = 4096;

#[derive(Debug)]
pub(super) struct Limits {
    since: Instant,
    steps: Vec<(Duration, usize)>,
}

impl Limits {
    /// Of a batch that began then, with so many.
    pub(super) fn new(since: Instant, limit: usize) -> Self {
        Limits { since, steps: vec![(Duration::ZERO, limit)] }
    }

    /// From now on, so many.
    pub(super) fn now(&mut self, limit: usize) {
        self.at(self.since.elapsed(), limit);
    }

    fn at(&mut self, time: Duration, limit: usize) {
        if self.steps.len() == MOST {
            let mut is_kept = false;
            self.steps.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        self.steps.push((time, limit));
    }

    pub(super) fn into_steps(self) -> Vec<(Duration, usize)> {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_kept_however_many_there_are() {
        let mut limits = Limits::new(Instant::now(), 1);
        (1..=50_000).for_each(|step| limits.at(Duration::from_millis(step), 2));
        limits.at(Duration::from_secs(60), 3);
        let steps = limits.into_steps();
        assert!((MOST / 2..=MOST).contains(&steps.len()));
        assert_eq!((steps[0], steps[steps.len() - 1]), ((Duration::ZERO, 1), (Duration::from_secs(60), 3)));
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
