//! What the system tells of threads, where it does: how long this one has computed, and which have something to compute.

use std::fs::File;
use std::io;
use std::time::Duration;

use crate::sync::Mutex;

/// Files that one batch keeps open at the most, out of the thousand that a process usually may.
const MOST_WATCHED: usize = 64;

/// The CPU time of the calling thread so far.
#[cfg(all(any(unix, windows), not(any(loom, shuttle))))]
fn cpu_time() -> Option<Duration> {
    cpu_time::ThreadTime::try_now().ok().map(|time| time.as_duration())
}

#[cfg(not(all(any(unix, windows), not(any(loom, shuttle)))))]
fn cpu_time() -> Option<Duration> {
    None
}

/// What the system counts for one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Ready to compute, and without a core.
    pub(crate) run_delay: Option<Duration>,
}

/// Reads what is counted for the thread that made it.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Kept open: opening it takes eight times as long as reading it.
    schedule: Option<File>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Meter { schedule: open("/proc/thread-self/schedstat").ok() }
    }

    /// Costs 1 to 2 microseconds.
    pub(crate) fn read(&self) -> Option<Usage> {
        let run_delay = self.schedule.as_ref().and_then(run_delay);
        cpu_time().map(|cpu| Usage { cpu, run_delay })
    }
}

/// Threads whose state can be read by another one.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    next: u64,
    watched: Vec<(u64, File)>,
    unwatched: usize,
}

impl Watch {
    /// Watches the calling thread, until what it gets is dropped.
    pub(crate) fn enter(&self) -> Watched<'_> {
        let state = open("/proc/thread-self/stat");
        let mut threads = self.threads.lock();
        threads.next += 1;
        let number = threads.next;
        match state {
            Ok(state) if threads.watched.len() < MOST_WATCHED => threads.watched.push((number, state)),
            _ => threads.unwatched += 1,
        }
        Watched { watch: self, number }
    }

    /// How many of the threads have something to compute, on a core or waiting for one; if that is known of all of them.
    /// Costs 3 microseconds a thread.
    pub(crate) fn runnable(&self) -> Option<usize> {
        let threads = self.threads.lock();
        if threads.unwatched > 0 {
            return None;
        }
        threads.watched.iter().map(|(_, state)| is_runnable(state).map(usize::from)).sum()
    }
}

/// One thread that is watched.
pub(crate) struct Watched<'w> {
    watch: &'w Watch,
    number: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut threads = self.watch.threads.lock();
        let before = threads.watched.len();
        threads.watched.retain(|(number, _)| *number != self.number);
        if threads.watched.len() == before {
            threads.unwatched -= 1;
        }
    }
}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
fn open(path: &str) -> io::Result<File> {
    File::open(path)
}

#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
fn open(_: &str) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The beginning of a file that is made anew each time it is read from the start.
#[cfg(target_os = "linux")]
fn beginning(file: &File) -> Option<([u8; 64], usize)> {
    use std::os::unix::fs::FileExt;

    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0).ok()?;
    Some((text, length))
}

#[cfg(not(target_os = "linux"))]
fn beginning(_: &File) -> Option<([u8; 64], usize)> {
    None
}

/// The second number: nanoseconds on a run queue.
fn run_delay(schedule: &File) -> Option<Duration> {
    let (text, length) = beginning(schedule)?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// The state is the letter behind the name, which stands in parentheses and may itself have some.
fn is_runnable(state: &File) -> Option<bool> {
    let (text, length) = beginning(state)?;
    let text = &text[..length];
    let name_ends = text.iter().rposition(|&byte| byte == b')')?;
    text.get(name_ends + 2).map(|&letter| letter == b'R')
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::{hint, thread};

    use super::*;

    #[test]
    fn who_sleeps_has_nothing_to_compute_and_who_spins_has() {
        let (watch, enough) = (Watch::default(), AtomicBool::new(false));
        let (wake, sleep) = mpsc::channel::<()>();
        let watch = &watch;
        thread::scope(|scope| {
            scope.spawn(move || {
                let (_watched, sleep) = (watch.enter(), sleep);
                let _ = sleep.recv();
            });
            scope.spawn(|| {
                let _watched = watch.enter();
                while !enough.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
            // One sleeps, the other spins, once both have begun.
            while watch.threads.lock().watched.len() < 2 || watch.runnable() != Some(1) {
                thread::yield_now();
            }
            drop(wake);
            enough.store(true, Ordering::Relaxed);
        });
        assert_eq!(watch.runnable(), Some(0));
        assert!(watch.threads.lock().watched.is_empty());
    }

    #[test]
    fn beyond_what_may_be_watched_nothing_is_known() {
        let watch = Watch::default();
        let watched: Vec<_> = (0..=MOST_WATCHED).map(|_| watch.enter()).collect();
        assert_eq!(watch.runnable(), None);
        drop(watched);
        assert_eq!(watch.runnable(), Some(0));
    }

    #[test]
    fn computing_takes_cpu_time_and_a_core_that_is_shared_is_waited_for() {
        let compute = || {
            let meter = Meter::new();
            let (first, mut last) = (meter.read().unwrap(), meter.read().unwrap());
            while last.cpu < first.cpu + Duration::from_millis(20) {
                last = meter.read().unwrap();
            }
            last.run_delay.zip(first.run_delay).map(|(last, first)| last.saturating_sub(first))
        };
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4 * cores).map(|_| scope.spawn(compute)).collect();
            let delays: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
            // Where the kernel counts it. Four times as many threads as cores have to wait.
            assert!(delays.is_empty() || delays.iter().sum::<Duration>() > Duration::from_millis(1));
        });
    }
}
