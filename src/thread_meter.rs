//! What the system tells of threads, where it does: how long this one has computed, and which have something to compute.

use std::fs::File;
use std::io;
use std::time::Duration;

use crate::sync::{Instant, Mutex};

/// Files that one batch keeps open at the most, out of the thousand that a process usually may.
const MOST_WATCHED: usize = 64;

/// The CPU time of the calling thread so far, by the system's clock for it.
#[cfg(all(feature = "cpu-time", any(unix, windows), not(any(loom, shuttle))))]
fn cpu_time() -> Option<Duration> {
    cpu_time::ThreadTime::try_now().ok().map(|time| time.as_duration())
}

#[cfg(not(all(feature = "cpu-time", any(unix, windows), not(any(loom, shuttle)))))]
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
    count: Count,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Meter { schedule: open("/proc/thread-self/schedstat").ok(), count: Count::default() }
    }

    /// Costs 1 to 2 microseconds.
    pub(crate) fn read(&mut self) -> Option<Usage> {
        let now = Instant::now();
        let schedule = self.schedule.as_ref().and_then(schedule);
        let cpu = cpu_time().or_else(|| Some(self.count.cpu_time(schedule?, now)))?;
        Some(Usage { cpu, run_delay: schedule.map(|schedule| schedule.run_delay) })
    }
}

/// What Linux counts of one thread.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// Up to when it last came onto a core, or to a tick of the kernel since then: what is missing is up to 10 ms.
    cpu: Duration,
    run_delay: Duration,
    /// How often it has come onto a core.
    arrivals: u64,
}

/// Makes the CPU time of that. A thread that has not come onto a core since the last reading has not left it either, and all the
/// time is CPU time. Otherwise what it has computed since it came is missing, and comes with a later reading, so that sums are right.
#[derive(Debug, Default)]
struct Count {
    last: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    arrivals: u64,
    cpu: Duration,
}

impl Count {
    /// `now` is just before the schedule was read: threads lose their core where they return from the kernel.
    fn cpu_time(&mut self, schedule: Schedule, now: Instant) -> Duration {
        let Schedule { arrivals, .. } = schedule;
        let stayed = self.last.filter(|last| last.arrivals == arrivals);
        let cpu = stayed.map_or(schedule.cpu, |last| schedule.cpu.max(last.cpu + (now - last.at)));
        self.last = Some(Reading { at: now, arrivals, cpu });
        cpu
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

/// Three numbers: nanoseconds on a core, nanoseconds on a run queue, arrivals. A kernel that does not count says 0 each time, where
/// a thread that reads has arrived.
fn schedule(file: &File) -> Option<Schedule> {
    let (text, length) = beginning(file)?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    let (cpu, run_delay, arrivals) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let (cpu, run_delay) = (Duration::from_nanos(cpu), Duration::from_nanos(run_delay));
    (arrivals > 0).then_some(Schedule { cpu, run_delay, arrivals })
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
    fn a_thread_that_runs_is_known_whatever_its_name_is() {
        for name in ["job", "job(1)", "a) S (b"] {
            let read = || is_runnable(&open("/proc/thread-self/stat").ok()?);
            let thread = thread::Builder::new().name(name.to_owned()).spawn(read).unwrap();
            assert_eq!(thread.join().unwrap(), Some(true), "{name}");
        }
    }

    #[test]
    fn beyond_what_may_be_watched_nothing_is_known() {
        let watch = Watch::default();
        let watched: Vec<_> = (0..=MOST_WATCHED).map(|_| watch.enter()).collect();
        assert_eq!(watch.runnable(), None);
        drop(watched);
        assert_eq!(watch.runnable(), Some(0));
    }

    const MS: Duration = Duration::from_millis(1);

    /// What a new count tells at each of these moments, in ms, of what Linux counts then, in ms and arrivals.
    fn told(readings: &[(u32, u32, u64)]) -> Vec<u128> {
        let (mut count, since) = (Count::default(), Instant::now());
        let tell = |&(at, cpu, arrivals): &(u32, u32, u64)| {
            let schedule = Schedule { cpu: cpu * MS, run_delay: Duration::ZERO, arrivals };
            count.cpu_time(schedule, since + at * MS).as_millis()
        };
        readings.iter().map(tell).collect()
    }

    #[test]
    fn who_keeps_its_core_computes_all_the_time() {
        assert_eq!(told(&[(0, 7, 3), (1, 7, 3), (3, 7, 3)]), [7, 8, 10]);
        assert_eq!(told(&[(0, 7, 3), (1, 10, 3), (3, 10, 3)]), [7, 10, 12], "a tick knew of more");
    }

    #[test]
    fn what_was_computed_before_a_reading_is_told_with_a_later_one() {
        // Waits from 1 to 11, and from 14 to 24, where the 2 ms are known that it computed before it was read.
        assert_eq!(told(&[(0, 0, 1), (13, 1, 2), (14, 1, 2), (24, 4, 3)]), [0, 1, 2, 4]);
    }

    #[test]
    fn what_was_told_too_much_is_forgotten_when_it_comes_back() {
        assert_eq!(told(&[(0, 0, 1), (4, 0, 1), (5, 3, 2), (6, 3, 2)]), [0, 4, 3, 4], "a host took 1 ms");
    }

    #[test]
    #[cfg(feature = "cpu-time")]
    fn what_linux_counts_adds_up_to_what_the_clock_tells() {
        let file = open("/proc/thread-self/schedstat").unwrap();
        let Some(_) = schedule(&file) else { return };
        let mut count = Count::default();
        let mut told = || count.cpu_time(schedule(&file).unwrap(), Instant::now());
        let (clock, mut last, mut sum) = (cpu_time().unwrap(), told(), Duration::ZERO);
        for number in 0..4_000 {
            (0..1_000).for_each(|_| hint::spin_loop());
            if number % 100 == 99 {
                thread::sleep(MS);
            }
            if number % 10 == 9 {
                let now = told();
                (sum, last) = (sum + now.saturating_sub(last), now);
            }
        }
        let clock = cpu_time().unwrap().saturating_sub(clock);
        assert!(sum > clock * 4 / 5 && sum < clock * 2, "{sum:?} of {clock:?}");
    }

    #[test]
    fn computing_takes_cpu_time_and_a_core_that_is_shared_is_waited_for() {
        let compute = || {
            let mut meter = Meter::new();
            let since = Instant::now();
            let (first, mut last) = (meter.read()?, meter.read()?);
            while last.cpu < first.cpu + 20 * MS {
                last = meter.read()?;
            }
            let delay = last.run_delay?.saturating_sub(first.run_delay?);
            assert!(delay < 2 * since.elapsed(), "it has waited for {delay:?}");
            Some(delay)
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
