//! A server that serves this many requests at once and lets the others queue, first come first served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Backend {
    seats: usize,
    service: Duration,
    /// By how much a request takes longer for each further `seats` that queue; 0 for a server that does not mind.
    decline: f64,
    inside: Mutex<Inside>,
}

/// A server that refuses what it has no seat for, after some time.
#[derive(Debug)]
pub struct Refusing {
    seats: usize,
    after: Duration,
    inside: AtomicUsize,
}

impl Refusing {
    pub fn new(seats: usize, after: Duration) -> Self {
        Refusing { seats, after, inside: AtomicUsize::new(0) }
    }

    /// Whether it was served.
    pub fn request(&self, service: Duration) -> bool {
        let seat = |inside| (inside < self.seats).then_some(inside + 1);
        let has_seat = self.inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, seat).is_ok();
        thread::sleep(if has_seat { service } else { self.after });
        if has_seat {
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
        has_seat
    }
}

#[derive(Debug, Default)]
struct Inside {
    seated: usize,
    queue: VecDeque<Queuing>,
}

#[derive(Debug)]
struct Queuing {
    since: Instant,
    /// Tells it when it will have been served.
    seat: Sender<Instant>,
}

impl Backend {
    pub fn new(seats: usize, service: Duration, decline: f64) -> Self {
        Backend { seats, service, decline, inside: Mutex::default() }
    }

    /// Returns when it was served.
    pub fn request(&self) {
        let served = self.enter();
        thread::sleep(served.saturating_duration_since(Instant::now()));
        self.leave(served);
    }

    fn enter(&self) -> Instant {
        let (seat, given) = mpsc::channel();
        let since = Instant::now();
        let mut inside = self.lock();
        if inside.seated < self.seats {
            inside.seated += 1;
            return since + self.takes(inside.queue.len());
        }
        inside.queue.push_back(Queuing { since, seat });
        drop(inside);
        given.recv().expect("who leaves gives the seat to the next")
    }

    /// The next one has the seat from when this one was served, not from when this thread woke up to say so: the threads
    /// here are the server's clients, and it does not wait for them.
    fn leave(&self, served: Instant) {
        let mut inside = self.lock();
        let Some(next) = inside.queue.pop_front() else {
            inside.seated -= 1;
            return;
        };
        let until = served.max(next.since) + self.takes(inside.queue.len());
        drop(inside);
        next.seat.send(until).expect("who queues waits for a seat");
    }

    fn takes(&self, queuing: usize) -> Duration {
        self.service.mul_f64(1.0 + self.decline * queuing as f64 / self.seats as f64)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::Backend;

    /// How long this many clients at once take, each with one request.
    fn time(backend: &Backend, clients: usize) -> Duration {
        let since = Instant::now();
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| backend.request());
            }
        });
        since.elapsed()
    }

    #[test]
    fn so_many_are_served_at_once_and_the_others_after_them() {
        let backend = Backend::new(4, Duration::from_millis(50), 0.0);
        assert!(time(&backend, 4) >= Duration::from_millis(50));
        assert!(time(&backend, 12) >= Duration::from_millis(150));
        assert_eq!(backend.lock().seated, 0);
    }

    #[test]
    fn a_queue_slows_a_declining_server_down() {
        let backend = Backend::new(4, Duration::from_millis(10), 0.2);
        assert_eq!(backend.takes(0), Duration::from_millis(10));
        assert_eq!(backend.takes(4), Duration::from_millis(12));
        assert_eq!(backend.takes(124), Duration::from_millis(72));
    }
}
