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
    /// Called under the pool's lock, so that no thread enters once the invitation is revoked.
    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self) {
        let was_last = self.inside.fetch_sub(1, Ordering::Release) == 1;
        if was_last && *self.waiting.lock() {
            self.empty.notify_one();
        }
    }

    pub(super) fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inside() == 0
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

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn entered(latch: &Arc<Latch>) -> Leave {
        latch.enter();
        Leave(Arc::clone(latch))
    }

    #[test]
    fn empty_is_who_was_left_by_everybody() {
        let latch = Arc::new(Latch::default());
        assert!(latch.is_empty());
        let (one, two) = (entered(&latch), entered(&latch));
        drop(one);
        assert!(!latch.is_empty());
        drop(two);
        assert!(latch.is_empty());
    }

    /// Lets helpers leave at the times that are given, and waits for each; whether every wait came to its end.
    fn all_waits_end(leaves_after: impl Iterator<Item = Duration> + Send + 'static) -> bool {
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            let (leave, leaves) = mpsc::channel::<(Leave, Instant)>();
            thread::spawn(move || {
                for (leave, at) in leaves {
                    while Instant::now() < at {}
                    drop(leave);
                }
            });
            for after in leaves_after {
                let (latch, at) = (Arc::new(Latch::default()), Instant::now() + after);
                leave.send((entered(&latch), at)).unwrap();
                latch.wait_until_empty();
                assert!(Instant::now() >= at, "the helper was inside");
            }
            let _ = ended.send(());
        });
        end.recv_timeout(Duration::from_secs(20)).is_ok()
    }

    #[test]
    fn who_waits_is_woken_by_the_last_that_leaves() {
        assert!(all_waits_end([0, 1, 5, 100].map(Duration::from_millis).into_iter()));
    }
}
