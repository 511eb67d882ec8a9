//! Calls of `on_progress`: one for each item that was decided.

use std::time::Duration;

use crate::clock;
use crate::counts::Counts;
use crate::progress::Progress;
use crate::sync::Instant;

/// What the user wants called after each item.
pub(crate) type OnProgress<'a> = Box<dyn FnMut(&Progress) + 'a>;

/// A caller that has made calls for so long looks whether there is something else to do before it goes on.
const BURST: Duration = Duration::from_millis(1);

/// Turns counts into one call for each item.
pub(super) struct Report<'a> {
    on_progress: OnProgress<'a>,
    /// As far as it is known.
    total: usize,
    total_hint: Option<usize>,
    since: Instant,
    told: Counts,
}

impl<'a> Report<'a> {
    pub(super) fn new(on_progress: OnProgress<'a>, total_hint: Option<usize>, since: Instant) -> Self {
        let total = total_hint.unwrap_or_default();
        Report { on_progress, total, total_hint, since, told: Counts::default() }
    }

    /// There were so many items so far, and there may be more or not.
    pub(super) fn knows(&mut self, (items, are_all): (usize, bool)) {
        if are_all {
            self.total_hint = Some(items);
        } else if self.total_hint.is_some_and(|hint| hint < items) {
            self.total_hint = None; // a hint that was none
        }
        self.total = self.total_hint.unwrap_or(items);
    }

    /// Calls for the items that were decided since the last time, with one time for all of them; whether that were all
    /// there are to call for. Slow calls are made a few at a time.
    pub(super) fn up_to(&mut self, counts: Counts) -> bool {
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

    /// Calls for one more item, or a few.
    pub(super) fn add(&mut self, more: Counts) {
        let (mut counts, elapsed) = (self.told, clock::since(self.since));
        counts.add(more);
        while self.told != counts {
            self.call_for_next(counts, elapsed);
        }
    }

    fn call_for_next(&mut self, counts: Counts, elapsed: Duration) {
        if self.told.failed < counts.failed {
            self.told.failed += 1;
        } else {
            self.told.succeeded += 1;
        }
        let decided = self.told.decided();
        let total_hint = self.total_hint.filter(|hint| *hint >= decided);
        let progress = Progress::new(self.told, self.total.max(decided), total_hint, elapsed);
        (self.on_progress)(&progress);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::thread;

    use super::*;

    fn counts(succeeded: usize, failed: usize) -> Counts {
        Counts { succeeded, failed }
    }

    #[test]
    fn every_item_gets_one_call() {
        let seen = RefCell::new(Vec::new());
        let on_progress = Box::new(|p: &Progress| seen.borrow_mut().push((p.completed, p.failed)));
        let mut report = Report::new(on_progress, Some(9), Instant::now());
        while !report.up_to(counts(2, 1)) {}
        report.add(counts(0, 1));
        assert_eq!(seen.borrow().len(), 4);
        assert!(report.up_to(counts(2, 2)));
        assert_eq!(*seen.borrow(), [(1, 1), (2, 1), (3, 1), (4, 2)]);
    }

    #[test]
    fn slow_calls_are_made_a_few_at_a_time() {
        let seen = RefCell::new(0);
        let slow = Box::new(|_: &Progress| {
            *seen.borrow_mut() += 1;
            thread::sleep(2 * BURST);
        });
        let mut report = Report::new(slow, Some(100), Instant::now());
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
        let mut report = Report::new(on_progress, Some(100), Instant::now());
        assert!(!report.up_to(counts(100, 0)));
        assert!(*seen.borrow() <= 2);
    }

    #[test]
    fn by_turns_each_call_has_its_own_time() {
        let seen = RefCell::new(Vec::new());
        let on_progress = Box::new(|p: &Progress| seen.borrow_mut().push(p.elapsed));
        let mut report = Report::new(on_progress, Some(3), Instant::now());
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(1));
            report.add(counts(1, 0));
        }
        assert_eq!(seen.borrow().len(), 3);
        assert!(seen.borrow().windows(2).all(|pair| pair[1] >= pair[0] + Duration::from_millis(1)));
    }
}
