//! What the calling thread tells of a batch: calls of `on_progress`, one for each item that was
//! decided, and of `on_tick`.

use std::time::Duration;

use crate::clock;
use crate::counts::Counts;
use crate::home::AtHome;
use crate::panic::{self, Panic};
use crate::progress::{Earlier, Load, Progress};
use crate::sync::Instant;

use super::schedule::Status;

/// What the user wants called.
pub(crate) type OnProgress<'a> = AtHome<Box<dyn FnMut(&Progress) + 'a>>;

/// A caller that has made calls for so long looks whether there is something else to do before it goes on.
const BURST: Duration = Duration::from_millis(1);

/// As often as a caller looks around by itself.
const SHORTEST: Duration = Duration::from_millis(1);

/// Calls now and then, also while no item is decided.
pub(crate) struct Tick<'a> {
    every: Duration,
    due: Duration,
    call: OnProgress<'a>,
    /// It is called at the beginning and at the end, too.
    is_shown_all: bool,
}

impl<'a> Tick<'a> {
    pub(crate) fn new(every: Duration, call: OnProgress<'a>) -> Self {
        let every = every.max(SHORTEST);
        Tick { every, due: every, call, is_shown_all: false }
    }

    /// One that is called at the beginning and at the end, too.
    #[cfg_attr(not(feature = "indicatif"), allow(dead_code, reason = "a bar is one"))]
    pub(crate) fn of_bar(every: Duration, call: OnProgress<'a>) -> Self {
        Tick { every, due: Duration::ZERO, call, is_shown_all: true }
    }
}

/// Turns counts into one call for each item, and time into ticks.
pub(super) struct Report<'a> {
    on_progress: Option<OnProgress<'a>>,
    ticks: Vec<Tick<'a>>,
    /// As far as it is known.
    total: usize,
    total_hint: Option<usize>,
    since: Instant,
    told: Counts,
    load: Load,
    /// How many items an earlier run has decided, as far as it is known.
    recorded: usize,
}

impl<'a> Report<'a> {
    /// None if there is nothing to call.
    pub(super) fn new(
        on_progress: Option<OnProgress<'a>>,
        ticks: Vec<Tick<'a>>,
        total_hint: Option<usize>,
        since: Instant,
    ) -> Option<Self> {
        let total = total_hint.unwrap_or_default();
        let (told, load, recorded) = (Counts::default(), Load::default(), 0);
        (on_progress.is_some() || !ticks.is_empty()).then_some(Report {
            on_progress,
            ticks,
            total,
            total_hint,
            since,
            told,
            load,
            recorded,
        })
    }

    /// Whether it is to hear of every item.
    pub(super) fn counts_items(&self) -> bool {
        self.on_progress.is_some()
    }

    /// An earlier run has decided this many of the items.
    pub(super) fn expects(&mut self, recorded: usize) {
        self.recorded = recorded;
    }

    /// Makes the calls that are due; whether that were all. Slow calls are made a few at a time.
    pub(super) fn tell(&mut self, status: &Status) -> bool {
        self.knows(status.known);
        self.load = status.load;
        let is_all = self.up_to(status.counts);
        if !self.ticks.is_empty() {
            self.tick(clock::since(self.since));
        }
        is_all
    }

    /// There were this many items so far, and there may be more or not.
    pub(super) fn knows(&mut self, (items, are_all): (usize, bool)) {
        if are_all {
            self.total_hint = Some(items);
        } else if self.total_hint.is_some_and(|hint| hint < items) {
            self.total_hint = None; // a hint that was none
        }
        self.total = self.total_hint.unwrap_or(items);
    }

    /// Calls for the items that were decided since the last time, with one time for all of them.
    fn up_to(&mut self, counts: Counts) -> bool {
        if counts == self.told {
            return true;
        }
        let elapsed = clock::since(self.since);
        let (mut calls, mut next_look) = (0_usize, 1);
        while self.told != counts {
            self.call_for_next(counts, elapsed);
            calls += 1;
            if calls == next_look {
                next_look *= 2;
                if clock::since(self.since) > elapsed + BURST {
                    break;
                }
            }
        }
        self.told == counts
    }

    /// Calls for one more item, or a few, by turns with the work.
    pub(super) fn add(&mut self, more: Counts, load: Option<Load>) {
        let (mut counts, elapsed) = (self.told, clock::since(self.since));
        counts.add(more);
        self.load = load.unwrap_or(self.load);
        while self.told != counts {
            self.call_for_next(counts, elapsed);
        }
        self.tick(elapsed);
    }

    fn call_for_next(&mut self, counts: Counts, elapsed: Duration) {
        if self.on_progress.is_none() {
            self.told = counts;
            return;
        }
        if self.told.failed < counts.failed {
            self.told.failed += 1;
        } else {
            self.told.succeeded += 1;
        }
        self.told.recorded = counts.recorded.min(self.told.recorded + 1);
        let progress = self.progress(elapsed);
        self.on_progress.iter_mut().for_each(|on_progress| on_progress(&progress));
    }

    fn progress(&self, elapsed: Duration) -> Progress {
        let decided = self.told.decided();
        let total_hint = self.total_hint.filter(|hint| *hint >= decided);
        let to_come = self.recorded.saturating_sub(self.told.recorded);
        let earlier = Earlier { to_come, took: self.load.began };
        Progress::new(self.told, (self.total.max(decided), total_hint), elapsed, self.load, earlier)
    }

    /// Calls what is due. A bar hears of it in any case: it may have to draw while the caller is busy.
    fn tick(&mut self, elapsed: Duration) {
        let is_called = |tick: &Tick<'_>| elapsed >= tick.due || tick.is_shown_all;
        if !self.ticks.iter().any(is_called) {
            return;
        }
        let progress = self.progress(elapsed);
        for tick in self.ticks.iter_mut().filter(|tick| is_called(tick)) {
            if elapsed >= tick.due {
                tick.due = elapsed.saturating_add(tick.every);
            }
            (tick.call)(&progress);
        }
    }

    /// How long it is until the next tick.
    pub(super) fn tick_in(&self) -> Option<Duration> {
        let due = self.ticks.iter().map(|tick| tick.due).min()?;
        Some(due.saturating_sub(clock::since(self.since)))
    }

    /// Shows a bar what it ends with, and drops all callbacks one by one, whatever their
    /// destructors do. A bar's panic is no reason to lose a batch that is over.
    pub(super) fn end(mut self) -> Result<(), Panic> {
        let progress = self.progress(clock::since(self.since));
        let mut ended = panic::discard(self.on_progress.take());
        for mut tick in self.ticks {
            if tick.is_shown_all {
                let _ = panic::catch(|| (tick.call)(&progress));
            }
            ended = ended.and(panic::discard(tick));
        }
        ended
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::cell::RefCell;
    use std::thread;

    use super::*;

    fn counts(succeeded: usize, failed: usize) -> Counts {
        Counts { succeeded, failed, recorded: 0 }
    }

    #[test]
    fn every_item_gets_one_call() {
        let seen = RefCell::new(Vec::new());
        let on_progress = Box::new(|p: &Progress| seen.borrow_mut().push((p.completed, p.failed)));
        let mut report =
            Report::new(Some(AtHome::new(on_progress)), Vec::new(), Some(9), Instant::now()).unwrap();
        while !report.up_to(counts(2, 1)) {}
        report.add(counts(0, 1), None);
        assert_eq!(seen.borrow().len(), 4);
        assert!(report.up_to(counts(2, 2)));
        assert_eq!(*seen.borrow(), [(1, 1), (2, 1), (3, 1), (4, 2)]);
    }

    #[test]
    fn the_next_tick_is_the_first_that_is_due() {
        let tick =
            |seconds| Tick::new(Duration::from_secs(seconds), AtHome::new(Box::new(|_: &Progress| ())));
        let report = Report::new(None, vec![tick(3_600), tick(60), tick(3_600)], None, Instant::now());
        assert!(report.unwrap().tick_in().unwrap() <= Duration::from_secs(60));
    }

    #[test]
    fn slow_calls_are_made_a_few_at_a_time() {
        let seen = RefCell::new(0);
        let slow = Box::new(|_: &Progress| {
            *seen.borrow_mut() += 1;
            thread::sleep(2 * BURST);
        });
        let mut report = Report::new(Some(AtHome::new(slow)), Vec::new(), Some(100), Instant::now()).unwrap();
        assert!(!report.up_to(counts(100, 0)));
        assert_eq!(*seen.borrow(), 1);
        assert!(!report.up_to(counts(100, 0)));
        assert_eq!(*seen.borrow(), 2);
    }

    #[test]
    fn calls_that_become_slow_together_are_made_a_few_at_a_time_too() {
        let seen = RefCell::new(0);
        let on_progress = Box::new(|_: &Progress| {
            *seen.borrow_mut() += 1;
            thread::sleep(BURST * 2 / 3);
        });
        let mut report =
            Report::new(Some(AtHome::new(on_progress)), Vec::new(), Some(100), Instant::now()).unwrap();
        assert!(!report.up_to(counts(100, 0)));
        assert!(*seen.borrow() <= 2);
    }

    #[test]
    fn by_turns_each_call_has_its_own_time() {
        let seen = RefCell::new(Vec::new());
        let on_progress = Box::new(|p: &Progress| seen.borrow_mut().push(p.elapsed));
        let mut report =
            Report::new(Some(AtHome::new(on_progress)), Vec::new(), Some(3), Instant::now()).unwrap();
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(1));
            report.add(counts(1, 0), None);
        }
        assert_eq!(seen.borrow().len(), 3);
        assert!(seen.borrow().windows(2).all(|pair| pair[1] >= pair[0] + Duration::from_millis(1)));
    }

    /// Ten of twenty are recorded. When those have been told, the other ten are left.
    #[test]
    fn recorded_items_are_to_come_until_they_are_told() {
        let (seen, recorded) = (RefCell::new(Vec::new()), Counts { recorded: 5, ..counts(5, 0) });
        let on_progress = Box::new(|p: &Progress| seen.borrow_mut().push((p.recorded, p.eta().is_some())));
        let mut report =
            Report::new(Some(AtHome::new(on_progress)), Vec::new(), Some(20), Instant::now()).unwrap();
        report.expects(10);
        let estimated = |report: &Report<'_>| report.progress(Duration::from_secs(1)).eta();
        report.add(recorded, None);
        report.add(recorded, None);
        assert_eq!(estimated(&report), None, "nothing has run that would tell");
        report.add(counts(5, 0), None);
        assert_eq!(estimated(&report), Some(Duration::from_secs(1)), "five in a second, and five are left");
        report.add(counts(5, 0), None);
        assert_eq!(estimated(&report), Some(Duration::ZERO));
        let told: Vec<usize> = seen.borrow().iter().map(|(recorded, _)| *recorded).collect();
        assert_eq!(told, (1..=10).chain([10; 10]).collect::<Vec<_>>());
    }
}
