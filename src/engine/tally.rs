//! Completions on their way to the caller: a bell that workers ring, and the calls of `on_progress` that follow.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::progress::Progress;
use crate::result::Counts;

/// What the user wants called after each item.
pub(crate) type OnProgress<'a> = Box<dyn FnMut(&Progress) + 'a>;

/// Tells the caller that there is something to look at. Rung twice before anybody listens, it has been rung once: what
/// there is to look at stands elsewhere.
pub(super) struct Bell {
    ring: Sender<()>,
    rung: Receiver<()>,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (ring, rung) = bounded(1);
        Bell { ring, rung }
    }

    pub(super) fn ring(&self) {
        // Full means that it has been rung already.
        let _ = self.ring.try_send(());
    }

    /// Waits for the bell.
    pub(super) fn wait(&self) {
        let _ = self.rung.recv();
    }

    /// Waits for the bell, but not longer than `limit`; whether it rang.
    pub(super) fn wait_for(&self, limit: Duration) -> bool {
        self.rung.recv_timeout(limit).is_ok()
    }
}

/// Items by turns whose calls may carry the time of one clock reading, which takes longer than a quick item does.
const ITEMS_PER_READING: usize = 16;

/// Turns counts into one call for each item.
pub(super) struct Report<'a> {
    on_progress: OnProgress<'a>,
    total: usize,
    since: Instant,
    told: Counts,
    elapsed: Duration,
    /// Items until the clock is read again.
    fresh: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(on_progress: OnProgress<'a>, total: usize, since: Instant) -> Self {
        Report { on_progress, total, since, told: Counts::default(), elapsed: Duration::ZERO, fresh: 0 }
    }

    /// Calls for every item that was decided since the last time.
    pub(super) fn up_to(&mut self, counts: Counts) {
        if counts != self.told {
            self.read_clock();
            self.call_for(counts);
        }
        self.fresh = 0;
    }

    /// Calls for one more item, or a few.
    pub(super) fn add(&mut self, more: Counts) {
        if self.fresh == 0 {
            self.read_clock();
        }
        self.fresh -= 1;
        let mut counts = self.told;
        counts.add(more);
        self.call_for(counts);
    }

    fn read_clock(&mut self) {
        self.elapsed = self.since.elapsed();
        self.fresh = ITEMS_PER_READING;
    }

    fn call_for(&mut self, counts: Counts) {
        while self.told.failed < counts.failed {
            self.told.failed += 1;
            self.call();
        }
        while self.told.succeeded < counts.succeeded {
            self.told.succeeded += 1;
            self.call();
        }
    }

    fn call(&mut self) {
        (self.on_progress)(&Progress::new(self.told, self.total, self.elapsed));
    }
}
