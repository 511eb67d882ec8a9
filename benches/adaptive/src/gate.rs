//! Lets as many threads pass at once as a peer says.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::peers::Peer;

pub struct Gate {
    since: Instant,
    inside: Mutex<(Box<dyn Peer>, usize)>,
    moved: Condvar,
}

impl Gate {
    pub fn new(peer: Box<dyn Peer>) -> Self {
        Gate { since: Instant::now(), inside: Mutex::new((peer, 0)), moved: Condvar::new() }
    }

    /// Runs the request when it may pass, and tells the peer how it went.
    pub fn pass(&self, request: impl FnOnce() -> bool) -> bool {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |inside: &mut (Box<dyn Peer>, usize)| inside.1 >= inside.0.limit();
        let mut inside = self.moved.wait_while(inside, is_full).unwrap_or_else(PoisonError::into_inner);
        inside.1 += 1;
        drop(inside);
        let started = Instant::now();
        let has_succeeded = request();
        let (rtt, now) = (started.elapsed().as_secs_f64(), self.since.elapsed().as_secs_f64());
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = inside.1;
        inside.0.ended(now, rtt, in_flight, !has_succeeded);
        inside.1 -= 1;
        drop(inside);
        self.moved.notify_all();
        has_succeeded
    }
}
