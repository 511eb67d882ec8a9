//! What time it is: the machine's clock, or in a test one that stands still until all threads of a batch wait.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, Instant, Mutex};

/// A clock for tests: waits take no time.
///
/// An executor with this clock waits by it: at limits, in a back-off, in a pause, for a timeout, for a tick. The clock stands
/// still while anything runs. When all threads of the batches that use it wait, it jumps to the end of the wait that ends
/// first. So an hour of back-off is a test of a millisecond, and the order of what happens is that of an hour.
///
/// [`RateLimit`](crate::RateLimit)s go by the clock of the batch that asks them, and so do the times in results,
/// progress and timelines. What the operation itself does takes the time that it takes, and none by this clock. A
/// [`deadline`](crate::Batch::deadline) is a moment of the machine's clock; this clock shows that one's time when it is made, and
/// its own from then on.
///
/// The clock does not know of threads that are not the executor's. While an operation waits for another thread that runs a
/// batch by the same clock, the clock stands still, since that operation runs. A batch inside an operation goes by the clock of
/// its own executor, and by the machine's if that has none.
///
/// ```
/// use batch_executor::{BatchExecutor, Retry, TestClock};
/// use std::time::Duration;
///
/// let clock = TestClock::new();
/// let executor = BatchExecutor::builder().workers(4).clock(clock.clone()).build()?;
/// let result = executor
///     .batch(0..10)
///     .retry(Retry::delays(|| [Duration::from_secs(3600)].into_iter()))
///     .run_with(|n, cx| if cx.attempt() == 1 { Err("down") } else { Ok(*n) });
/// assert!(result.is_success());
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600));         // and it took a millisecond
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct TestClock {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    elapsed: Duration,
    /// How many threads run.
    running: usize,
    /// Counts what waiting threads may want to look at.
    changes: u64,
    waiting: BTreeMap<u64, Waiting>,
    next_number: u64,
}

/// A thread that waits.
struct Waiting {
    until: Option<Duration>,
    /// How many changes there had been when it looked last, in vain.
    looked: u64,
}

/// How long a waiting thread sleeps until it looks again, if something outside the batch changes what it waits for.
const GLANCE: Duration = Duration::from_millis(5);

impl TestClock {
    /// A clock that shows no time. A clone is the same clock.
    #[must_use]
    pub fn new() -> Self {
        let (began, state, changed) = (Instant::now(), Mutex::default(), Condvar::default());
        TestClock { shared: Arc::new(Shared { began, state, changed }) }
    }

    /// The time that has passed by this clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.state.lock().elapsed
    }

    pub(crate) fn now(&self) -> Instant {
        self.shared.began + self.elapsed()
    }

    /// Something has changed that waiting threads may want to look at.
    pub(crate) fn changed(&self) {
        self.shared.state.lock().changes += 1;
        self.shared.changed.notify_all();
    }

    /// Waits until `is_over`, at most until then. Others may move the clock meanwhile.
    pub(crate) fn wait(&self, until: Option<Instant>, is_over: impl Fn() -> bool) {
        let mut state = self.shared.state.lock();
        let until = until.map(|until| until.saturating_duration_since(self.shared.began));
        let number = state.next_number;
        state.next_number += 1;
        state.running -= 1;
        loop {
            let looked = state.changes;
            if is_over() || until.is_some_and(|until| until <= state.elapsed) {
                break;
            }
            state.waiting.insert(number, Waiting { until, looked });
            if state.jump() {
                self.shared.changed.notify_all();
            } else {
                (state, _) = self.shared.changed.wait_for(state, GLANCE);
            }
        }
        state.waiting.remove(&number);
        state.running += 1;
    }
}

impl State {
    /// Moves the clock to the end of the first wait, if nothing can happen before that.
    fn jump(&mut self) -> bool {
        let all_wait = self.running == 0
            && self.waiting.values().all(|waiting| {
                waiting.looked == self.changes && waiting.until.is_none_or(|until| until > self.elapsed)
            });
        let next = self.waiting.values().filter_map(|waiting| waiting.until).min().filter(|_| all_wait);
        self.elapsed = next.unwrap_or(self.elapsed);
        next.is_some()
    }
}

impl Default for TestClock {
    fn default() -> Self {
        TestClock::new()
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClock").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

/// By what the waits and the times of a batch go.
#[derive(Clone)]
enum Clock {
    Machine,
    Test(TestClock),
    /// That of a task's runtime.
    #[cfg(feature = "tokio")]
    Task(fn() -> Instant),
}

thread_local! {
    /// The clocks of the batches that this thread works on, the innermost last. It goes by the machine's where there is none.
    static CLOCKS: RefCell<Vec<Clock>> = const { RefCell::new(Vec::new()) };
}

/// The time by the clock of the batch that this thread works on.
#[inline]
pub(crate) fn now() -> Instant {
    CLOCKS.with_borrow(|clocks| match clocks.last() {
        None | Some(Clock::Machine) => Instant::now(),
        Some(Clock::Test(clock)) => clock.now(),
        #[cfg(feature = "tokio")]
        Some(Clock::Task(now)) => now(),
    })
}

pub(crate) fn since(time: Instant) -> Duration {
    now().saturating_duration_since(time)
}

/// That clock, if it is one for tests.
pub(crate) fn of_test() -> Option<TestClock> {
    CLOCKS.with_borrow(|clocks| match clocks.last() {
        Some(Clock::Test(clock)) => Some(clock.clone()),
        _ => None,
    })
}

/// Sleeps by that clock.
pub(crate) fn sleep(time: Duration) {
    match of_test() {
        Some(clock) => clock.wait(clock.now().checked_add(time), || false),
        None => std::thread::sleep(time),
    }
}

/// This thread goes by the clock of a batch as long as this is there.
#[must_use]
pub(crate) struct Entered {
    is_noted: bool,
}

/// The thread works on a batch with this clock, by which it counts as running; or with that of the machine.
pub(crate) fn enter(clock: Option<&TestClock>) -> Entered {
    let Some(clock) = clock else {
        // What surrounds the batch may go by another one.
        let is_noted = CLOCKS.with_borrow_mut(|clocks| {
            let is_inside = !clocks.is_empty();
            if is_inside {
                clocks.push(Clock::Machine);
            }
            is_inside
        });
        return Entered { is_noted };
    };
    let is_first = CLOCKS.with_borrow_mut(|clocks| {
        let is_first = !clock.is_among(clocks);
        clocks.push(Clock::Test(clock.clone()));
        is_first
    });
    clock.shared.state.lock().running += usize::from(is_first);
    Entered { is_noted: true }
}

/// The same in a task, where `now` is the time without a clock for tests.
#[cfg(feature = "tokio")]
pub(crate) fn enter_task(clock: Option<&TestClock>, now: fn() -> Instant) -> Entered {
    if clock.is_some() {
        return enter(clock);
    }
    CLOCKS.with_borrow_mut(|clocks| clocks.push(Clock::Task(now)));
    Entered { is_noted: true }
}

impl TestClock {
    fn is_among(&self, clocks: &[Clock]) -> bool {
        clocks
            .iter()
            .any(|other| matches!(other, Clock::Test(other) if Arc::ptr_eq(&other.shared, &self.shared)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.is_noted {
            return;
        }
        let (left, is_last) = CLOCKS.with_borrow_mut(|clocks| {
            let left = clocks.pop();
            let is_last = matches!(&left, Some(Clock::Test(clock)) if !clock.is_among(clocks));
            (left, is_last)
        });
        if let Some(Clock::Test(clock)) = left {
            clock.shared.state.lock().running -= usize::from(is_last);
            clock.changed();
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::thread;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_sleep_moves_the_clock_and_takes_no_time() {
        let clock = TestClock::new();
        let _entered = enter(Some(&clock));
        sleep(HOUR);
        sleep(HOUR);
        assert_eq!((clock.elapsed(), since(clock.shared.began)), (2 * HOUR, 2 * HOUR));
    }

    #[test]
    fn waits_end_in_the_order_of_time_and_the_clock_stands_while_a_thread_runs() {
        let (clock, ended) = (TestClock::new(), Mutex::new(Vec::new()));
        let all_here = std::sync::Barrier::new(3);
        thread::scope(|scope| {
            for hours in [3, 1, 2] {
                let (clock, ended, all_here) = (&clock, &ended, &all_here);
                scope.spawn(move || {
                    let _entered = enter(Some(clock));
                    all_here.wait();
                    for round in 1..=20 {
                        sleep(hours * HOUR);
                        assert_eq!(clock.elapsed(), round * hours * HOUR);
                        ended.lock().push(clock.elapsed());
                    }
                });
            }
        });
        assert!(ended.lock().is_sorted(), "{:?}", ended.lock());
    }

    #[test]
    fn what_a_thread_waits_for_comes_before_time_goes_on() {
        let (clock, is_there) = (TestClock::new(), std::sync::atomic::AtomicBool::new(false));
        thread::scope(|scope| {
            let _entered = enter(Some(&clock));
            scope.spawn(|| {
                let _entered = enter(Some(&clock));
                thread::sleep(Duration::from_millis(20));
                is_there.store(true, std::sync::atomic::Ordering::SeqCst);
                clock.changed();
            });
            while clock.shared.state.lock().running < 2 {
                thread::yield_now();
            }
            clock.wait(None, || is_there.load(std::sync::atomic::Ordering::SeqCst));
        });
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_batch_inside_a_batch_counts_its_thread_once() {
        let clock = TestClock::new();
        let outer = enter(Some(&clock));
        let inner = enter(Some(&clock));
        sleep(HOUR);
        drop(inner);
        assert_eq!(clock.shared.state.lock().running, 1);
        drop(outer);
        assert_eq!(clock.shared.state.lock().running, 0);
        assert_eq!(clock.elapsed(), HOUR);
    }

    #[test]
    fn a_batch_goes_by_its_own_clock_whatever_surrounds_it() {
        let (outer, inner) = (TestClock::new(), TestClock::new());
        let shown = || of_test().map(|clock| clock.elapsed());
        let entered = enter(Some(&outer));
        sleep(HOUR);
        {
            let _machine = enter(None);
            assert_eq!(shown(), None);
            assert!(since(outer.now()) < HOUR, "the machine's clock is an hour behind");
            let _inner = enter(Some(&inner));
            assert_eq!(shown(), Some(Duration::ZERO));
            assert_eq!(now(), inner.now());
        }
        assert_eq!((shown(), now()), (Some(HOUR), outer.now()));
        drop(entered);
        let _machine = enter(None);
        assert!(CLOCKS.with_borrow(Vec::is_empty), "it is the machine's anyway");
    }

    #[test]
    fn the_clock_stands_while_a_change_is_to_be_looked_at_or_a_thread_runs() {
        let waits = |looked| Waiting { until: Some(HOUR), looked };
        let jump = |running, changes, looked: [u64; 2]| {
            let waiting = looked.into_iter().map(waits).enumerate().map(|(n, waits)| (n as u64, waits));
            let mut state = State { running, changes, waiting: waiting.collect(), ..State::default() };
            (state.jump(), state.elapsed)
        };
        assert_eq!(jump(0, 3, [3, 3]), (true, HOUR));
        assert_eq!(jump(0, 3, [3, 2]), (false, Duration::ZERO), "one has not looked");
        assert_eq!(jump(1, 3, [3, 3]), (false, Duration::ZERO), "one runs");
    }
}
