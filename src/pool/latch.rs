//! Counts the helpers inside a batch, and lets the caller wait until there is none.

use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, spin_until};

/// Shared ownership, since a helper still touches it when the batch is gone.
#[derive(Debug, Default)]
pub(super) struct Latch {
    inside: AtomicUsize,
    /// Whether the caller sleeps until `inside` is 0.
    waiting: Mutex<bool>,
    empty: Condvar,
}

impl Latch {
    /// Called under the pool's lock, so that nobody enters once the invitation is revoked.
    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self) {
        let was_last = self.inside.fetch_sub(1, Ordering::Release) == 1;
        if was_last && *self.waiting.lock() {
            self.empty.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }

    pub(super) fn wait_until_empty(&self) {
        spin_until(|| self.is_empty());
        if self.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        *waiting = true;
        while !self.is_empty() {
            waiting = self.empty.wait(waiting);
        }
    }
}

/// Says so when a helper leaves, also if its work unwinds.
pub(super) struct Leave(pub(super) Arc<Latch>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.leave();
    }
}
