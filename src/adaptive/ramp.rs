//! The beginning, and every change of the work: while cores are idle and items wait, more workers cannot hurt the cores,
//! so they are started before anything is known of the items.

use std::time::Duration;

use super::number::float;

/// Until the first tick: the workers are up by then, at 20 to 40 us each, and those that sleep are visibly asleep.
const FIRST_TICK: Duration = Duration::from_micros(200);

/// The longest time between two ticks.
const LONGEST_GAP: Duration = Duration::from_millis(2);

/// This many workers are started without evidence. 32 is the knee between work that waits, of which each item time with
/// fewer workers is lost, and a server that slows down under load, where each worker too many costs.
const BURST: (usize, usize) = (8, 32);

/// A batch of this many items gets a worker for each: it would be over before anything is learnt.
const SMALL: usize = 64;

/// Idle is where fewer than this part of the cores, and of the workers, has something to compute.
const IDLE: f64 = 0.5;

/// And where this part of the workers is at work: the others are being started.
const AT_WORK: f64 = 0.7;

/// How many workers may be started while nothing is known of the items.
pub(super) fn burst(items: Option<usize>) -> usize {
    match items {
        Some(items) if items <= SMALL => SMALL,
        Some(items) => items.isqrt().div_ceil(2).clamp(BURST.0, BURST.1),
        None => 16,
    }
}

/// What a tick saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) runnable: usize,
    pub(super) running: usize,
    pub(super) limit: usize,
    pub(super) cpus: usize,
}

impl Sight {
    /// Whether those at work compute, and there are cores for more of them.
    pub(super) fn has_free_cores(&self) -> bool {
        self.limit < self.cpus && self.are_at_work() && float(self.runnable) >= IDLE * float(self.running)
    }

    /// Whether the cores could carry twice as much.
    pub(super) fn is_idle(&self) -> bool {
        self.are_at_work() && float(self.runnable) < IDLE * float(self.cpus.min(self.running))
    }

    fn are_at_work(&self) -> bool {
        float(self.running) >= AT_WORK * float(self.limit)
    }
}

/// The ticks.
#[derive(Debug, Default)]
pub(super) struct Ramp {
    /// From then on the ticks become slower.
    began: Duration,
    /// The last tick.
    last: Duration,
    /// Ticks in a row that saw idle cores.
    idle: usize,
}

impl Ramp {
    /// When the next tick is wanted: soon at first, and then after as long as the ramp has lasted.
    pub(super) fn next(&self) -> Duration {
        let lasted = self.last.saturating_sub(self.began);
        self.last.saturating_add(lasted.clamp(FIRST_TICK, LONGEST_GAP))
    }

    /// Whether the cores were idle for this many ticks.
    pub(super) fn was_idle_for(&self, ticks: usize) -> bool {
        self.idle >= ticks
    }

    /// Ticks fast again.
    pub(super) fn restart(&mut self) {
        self.began = self.last;
    }

    pub(super) fn tick(&mut self, now: Duration, idle: bool) {
        self.last = now;
        self.idle = if idle { self.idle + 1 } else { 0 };
    }
}

/// Four times as many of few, and twice as many of more.
pub(super) fn more(limit: usize) -> usize {
    if limit < 8 { limit.saturating_mul(4) } else { limit.saturating_mul(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_idle_when_half_of_them_and_half_of_the_workers_have_nothing_to_compute() {
        let sight = Sight { runnable: 3, running: 8, limit: 8, cpus: 8 };
        assert!(sight.is_idle());
        assert!(!Sight { runnable: 4, ..sight }.is_idle());
        assert!(!Sight { cpus: 4, ..sight }.is_idle());
        assert!(!Sight { limit: 12, ..sight }.is_idle(), "the others have not begun yet");
    }

    #[test]
    fn workers_that_compute_get_a_core_each() {
        let sight = Sight { runnable: 8, running: 8, limit: 8, cpus: 32 };
        assert!(sight.has_free_cores() && !Sight { cpus: 8, ..sight }.has_free_cores());
        assert!(!Sight { runnable: 3, ..sight }.has_free_cores(), "they wait");
    }

    #[test]
    fn a_small_batch_gets_a_worker_an_item_and_a_large_one_more_before_anything_is_known() {
        let items = [Some(50), Some(64), Some(65), Some(1_000), Some(1_000_000), None];
        assert_eq!(items.map(burst), [64, 64, 8, 16, 32, 16]);
    }
}
