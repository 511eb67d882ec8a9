//! The backends, the lock and the rate limits that items meet.

use std::collections::VecDeque;

use crate::machine::{Backend, Rate};
use crate::shared::Shared;

#[derive(Debug)]
pub(crate) struct Server {
    backend: Backend,
    inside: usize,
    seated: usize,
    queue: VecDeque<(usize, f64)>,
    served: Shared,
}

/// What becomes of a request.
pub(crate) enum Entry {
    /// It is served, for this many seconds.
    Seat(f64),
    /// It ends by `leave` or by `next_seat`.
    Waits,
    /// It fails after this many seconds.
    Refused(f64),
}

impl Server {
    pub(crate) fn new(backend: Backend) -> Self {
        Server { backend, inside: 0, seated: 0, queue: VecDeque::new(), served: Shared::default() }
    }

    pub(crate) fn enter(&mut self, worker: usize, seconds: f64) -> Entry {
        match self.backend {
            Backend::Refusing { seats, after } if self.seated == seats => return Entry::Refused(after),
            Backend::Sharing { .. } => self.served.enter(worker, seconds),
            Backend::Queue { seats, .. } if self.seated == seats => self.queue.push_back((worker, seconds)),
            Backend::Queue { .. } | Backend::Refusing { .. } => {
                self.inside += 1;
                self.seated += 1;
                return Entry::Seat(seconds * self.slowed());
            }
        }
        self.inside += 1;
        Entry::Waits
    }

    /// A seat is free: who takes it, and for how long.
    pub(crate) fn next_seat(&mut self) -> Option<(usize, f64)> {
        self.inside -= 1;
        let Some((worker, seconds)) = self.queue.pop_front() else {
            self.seated -= 1;
            return None;
        };
        Some((worker, seconds * self.slowed()))
    }

    pub(crate) fn leave(&mut self) -> Option<usize> {
        self.inside -= 1;
        self.served.leave()
    }

    pub(crate) fn has_seats(&self) -> bool {
        !matches!(self.backend, Backend::Sharing { .. })
    }

    fn slowed(&self) -> f64 {
        let (seats, decline) = match self.backend {
            Backend::Queue { seats, decline } => (seats as f64, decline),
            Backend::Sharing { seats, decline } => (seats, decline),
            Backend::Refusing { seats, .. } => (seats as f64, 0.0),
        };
        1.0 + decline * (self.inside as f64 - seats).max(0.0) / seats
    }

    pub(crate) fn set_speed(&mut self) {
        if let Backend::Sharing { seats, .. } = self.backend {
            let share = (seats / self.served.len()).min(1.0);
            self.served.set_speed(share / self.slowed());
        }
    }

    pub(crate) fn next(&self) -> f64 {
        self.served.next()
    }

    pub(crate) fn advance(&mut self, seconds: f64) {
        self.served.advance(seconds);
    }
}

/// A lock that its holder gives to who has waited longest.
#[derive(Debug, Default)]
pub(crate) struct Lock {
    holder: Option<usize>,
    queue: VecDeque<(usize, f64)>,
}

impl Lock {
    /// Whether the lock was free; else the worker stands in the queue.
    pub(crate) fn take(&mut self, worker: usize, seconds: f64) -> bool {
        if self.holder.is_some() {
            self.queue.push_back((worker, seconds));
            return false;
        }
        self.holder = Some(worker);
        true
    }

    /// If the worker held it: who holds it next, and for how long, if each that waits adds so much.
    pub(crate) fn pass_on(&mut self, worker: usize, convoy: f64) -> Option<(usize, f64)> {
        const HAND_OVER: f64 = 3e-6;
        if self.holder != Some(worker) {
            return None;
        }
        let next = self.queue.pop_front();
        self.holder = next.map(|(worker, _)| worker);
        next.map(|(worker, seconds)| (worker, seconds * (1.0 + convoy * self.queue.len() as f64) + HAND_OVER))
    }
}

/// Hands out permits, evenly spaced but for the burst.
#[derive(Debug)]
pub(crate) struct Permits {
    rate: Rate,
    next: f64,
}

impl Permits {
    pub(crate) fn new(rate: Rate) -> Self {
        Permits { rate, next: f64::NEG_INFINITY }
    }

    /// When the next permit may be used.
    pub(crate) fn take(&mut self, now: f64) -> f64 {
        let Rate { per_second, burst } = self.rate;
        self.next = self.next.max(now - burst / per_second) + 1.0 / per_second;
        self.next.max(now)
    }
}
