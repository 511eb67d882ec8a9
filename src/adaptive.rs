//! How many workers a running batch should have: completions and times in, a limit out. No thread, lock or clock inside.
//!
//! The rule is a hill climb in doublings. At each level the throughput is measured over one round of items; a doubling
//! is kept if it brought enough ([`ELASTICITY`]), and taken back if not. After that the level is held, and the doubling
//! tried again from time to time, each time after twice as long.

#[allow(dead_code, reason = "its turn in the engine comes when the engine can tick")]
pub(crate) mod controller;

use std::time::Duration;

use crate::workers::AdaptiveWorkers;

/// The least elasticity of throughput with respect to workers, d ln X / d ln n, for which more workers are kept: a
/// doubling has to bring 1.32 times as much. Work that only waits has 1, a saturated CPU or server 0 or less.
const ELASTICITY: f64 = 0.4;

/// A measurement lasts at least this long, since neither clocks nor threads are exact to less than some microseconds.
const SHORTEST_ROUND: Duration = Duration::from_millis(1);

/// Items shorter than this do not gain from more workers than there are CPUs: switching threads costs as much.
const SHORT_ITEM: Duration = Duration::from_micros(50);

/// Rounds until the next try after the first one that failed.
const FIRST_PAUSE: u32 = 8;

/// The longest pause between two tries, in rounds.
const LONGEST_PAUSE: u32 = 128;

/// Decides the worker limit of one batch.
#[derive(Debug)]
pub(crate) struct Controller {
    most: usize,
    limit: usize,
    round: Round,
    phase: Phase,
    pause: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing is known yet.
    First,
    /// At more workers than the `from` that gave `rate` items a second.
    Trying { from: usize, rate: f64 },
    /// Not to be raised for so many rounds.
    Holding { rounds: u32 },
}

/// One measurement: as many items as there are workers, after those that had started before it.
#[derive(Debug, Clone, Copy)]
struct Round {
    settling: usize,
    since: Option<Duration>,
    items: usize,
}

impl Round {
    fn after(settling: usize) -> Self {
        Round { settling, since: None, items: 0 }
    }

    /// The rate, once enough items are there.
    fn completed(&mut self, now: Duration, items: usize, workers: usize) -> Option<f64> {
        let Some(since) = self.since else {
            self.settling = self.settling.saturating_sub(items);
            self.since = (self.settling == 0).then_some(now);
            return None;
        };
        self.items += items;
        let took = now.saturating_sub(since);
        let enough = self.items >= workers && took >= SHORTEST_ROUND;
        enough.then(|| rate(self.items, took))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn rate(items: usize, took: Duration) -> f64 {
    items as f64 / took.as_secs_f64()
}

impl Controller {
    /// Begins at the number of workers that the batch starts with.
    pub(crate) fn new(bounds: AdaptiveWorkers, first: usize) -> Self {
        Controller {
            most: bounds.most(),
            limit: first,
            round: Round::after(first),
            phase: Phase::First,
            pause: FIRST_PAUSE,
        }
    }

    /// How many workers there may be now.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// So many items were completed; `now` is the time since the batch began.
    pub(crate) fn completed(&mut self, now: Duration, items: usize) {
        if let Some(rate) = self.round.completed(now, items, self.limit) {
            self.judge(rate);
        }
    }

    fn judge(&mut self, rate: f64) {
        match self.phase {
            Phase::Trying { from, rate: before } if self.was_worth_it(from, before, rate) => {
                self.pause = FIRST_PAUSE;
                self.try_more(rate);
            }
            Phase::Trying { from, .. } => self.go_back(from),
            Phase::First | Phase::Holding { rounds: 0 } => self.try_more(rate),
            Phase::Holding { rounds } => self.hold(rounds - 1),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "there are at most 4,096 workers")]
    fn was_worth_it(&self, from: usize, before: f64, rate: f64) -> bool {
        let step = self.limit as f64 / from as f64;
        rate / before >= step.powf(ELASTICITY)
    }

    fn try_more(&mut self, rate: f64) {
        let more = (self.limit * 2).min(self.most);
        if more == self.limit || self.items_are_short(rate) {
            return self.hold(self.pause);
        }
        self.round = Round::after(self.limit);
        self.phase = Phase::Trying { from: self.limit, rate };
        self.limit = more;
    }

    fn go_back(&mut self, from: usize) {
        self.limit = from;
        self.hold(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn hold(&mut self, rounds: u32) {
        self.round = Round::after(0);
        self.phase = Phase::Holding { rounds };
    }

    /// By Little's law, the time of an item is the number of workers over the rate.
    #[allow(clippy::cast_precision_loss, reason = "there are at most 4,096 workers")]
    fn items_are_short(&self, rate: f64) -> bool {
        self.limit as f64 / rate < SHORT_ITEM.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `rounds` rounds in virtual time; `rate` is how many items a second so many workers complete.
    fn limits(bounds: AdaptiveWorkers, first: usize, rounds: usize, rate: fn(usize) -> f64) -> Vec<usize> {
        let mut controller = Controller::new(bounds, first);
        let (mut now, mut seen) = (Duration::ZERO, vec![first]);
        for _ in 0..rounds {
            let workers = controller.limit();
            for _ in 0..workers {
                now += Duration::from_secs_f64(1.0 / rate(workers));
                controller.completed(now, 1);
            }
            if seen.last() != Some(&controller.limit()) {
                seen.push(controller.limit());
            }
        }
        seen
    }

    #[allow(clippy::cast_precision_loss)]
    fn waiting(workers: usize) -> f64 {
        workers as f64 / 0.01
    }

    fn saturated_at_8(workers: usize) -> f64 {
        waiting(workers.min(8))
    }

    #[test]
    fn waiting_work_gets_all_the_workers_there_are() {
        assert_eq!(limits(AdaptiveWorkers::new(), 2, 30, waiting), [2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(limits(AdaptiveWorkers::new().max(20), 2, 30, waiting), [2, 4, 8, 16, 20]);
    }

    #[test]
    fn a_doubling_that_brings_nothing_is_taken_back_and_rarely_tried_again() {
        assert_eq!(limits(AdaptiveWorkers::new(), 2, 12, saturated_at_8), [2, 4, 8, 16, 8]);
        let long = limits(AdaptiveWorkers::new(), 2, 200, saturated_at_8);
        assert_eq!(long[5..], [16, 8, 16, 8, 16, 8, 16, 8], "{long:?}");
    }

    #[test]
    fn a_falling_rate_goes_back_to_where_it_was_better() {
        let falling = |workers: usize| 100_000.0 / waiting(workers);
        assert_eq!(limits(AdaptiveWorkers::new().min(3), 3, 9, falling), [3, 6, 3]);
    }

    #[test]
    fn short_items_are_left_to_the_workers_they_started_with() {
        assert_eq!(limits(AdaptiveWorkers::new(), 2, 50_000, |_| 1e6), [2]);
    }
}
