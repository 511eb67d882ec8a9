//! Batches that wait for something shared, and hear when it changes.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::sync::Mutex;

/// A batch that waits.
pub(crate) trait OnChange: Send + Sync {
    /// What it waits for may be there now.
    fn changed(&self, what: Changed);
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Some came back, or their number was set.
    Slots,
    Rate,
    /// A pause of a rate was ended.
    Resumed,
}

/// One of them. It does not keep the batch.
#[derive(Clone)]
pub(crate) struct Listener(Weak<dyn OnChange>);

impl Listener {
    pub(crate) fn new<B: OnChange + 'static>(batch: &Arc<B>) -> Self {
        let batch: Arc<dyn OnChange> = batch.clone();
        Listener(Arc::downgrade(&batch))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// The batches that wait for one thing. It does not keep them: one that has ended is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listeners: Vec<Listener>,
    /// With this many, those that have ended are looked for.
    sweep_at: usize,
}

impl Listeners {
    /// The batch hears of each change from now on.
    pub(crate) fn add(&self, listener: Listener) {
        let mut state = self.state.lock();
        if state.listeners.len() >= state.sweep_at {
            state.listeners.retain(|listener| listener.0.strong_count() > 0);
            state.sweep_at = 2 * state.listeners.len().max(4);
        }
        if !state.listeners.iter().any(|other| other.0.ptr_eq(&listener.0)) {
            state.listeners.push(listener);
        }
    }

    /// Tells all of them, and holds no lock meanwhile.
    pub(crate) fn tell(&self, what: Changed) {
        let listeners: Vec<Arc<dyn OnChange>> =
            self.state.lock().listeners.iter().filter_map(|listener| listener.0.upgrade()).collect();
        for listener in listeners {
            listener.changed(what);
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Heard(AtomicUsize);

    impl OnChange for Heard {
        fn changed(&self, _: Changed) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_listener_that_was_added_twice_hears_once() {
        let (listeners, heard) = (Listeners::default(), Arc::new(Heard::default()));
        listeners.add(Listener::new(&heard));
        listeners.add(Listener::new(&heard));
        listeners.tell(Changed::Slots);
        assert_eq!(heard.0.load(Ordering::Relaxed), 1);
    }

    /// However many have come before it is looked for those that have ended.
    #[test]
    fn listeners_that_wait_are_kept() {
        let (listeners, all) = (Listeners::default(), [(); 100].map(|()| Arc::new(Heard::default())));
        for heard in &all {
            listeners.add(Listener::new(heard));
        }
        listeners.tell(Changed::Slots);
        assert!(all.iter().all(|heard| heard.0.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn listeners_that_have_ended_are_forgotten() {
        let listeners = Listeners::default();
        for _ in 0..10_000 {
            listeners.add(Listener::new(&Arc::new(Heard::default())));
        }
        assert!(listeners.state.lock().listeners.len() <= 8);
        listeners.tell(Changed::Slots);
    }
}
