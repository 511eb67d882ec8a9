//! What the tests share: settings to try, places to meet, counters, and a limit for everything that might hang.

#![allow(dead_code, reason = "every test file uses its own part of this")]

pub(crate) mod streams;

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    AdaptiveWorkers, Batch, BatchExecutor, BatchExecutorBuilder, BatchResult, CancelToken, ItemError,
    Outcome, RateLimit, RateLimiter, StopReason, Workers,
};

/// The worker settings that every claim is tried with.
pub(crate) fn settings() -> [Workers; 6] {
    [
        Workers::Sequential,
        Workers::Fixed(1),
        Workers::Fixed(2),
        Workers::Fixed(8),
        Workers::auto(),
        Workers::adaptive(),
    ]
}

/// Settings that have at least two workers on any machine.
pub(crate) fn parallel_settings() -> [Workers; 3] {
    [Workers::Fixed(2), Workers::Fixed(8), Workers::from(AdaptiveWorkers::new().min(4).max(4))]
}

/// For an executor whose threads have a name that no other's have, and stay until they are told to go.
pub(crate) fn builder() -> BatchExecutorBuilder {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{OWN_NAME}{}", NUMBER.fetch_add(1, Ordering::SeqCst));
    BatchExecutor::builder().thread_name(name).keep_alive(Duration::from_secs(3600))
}

/// How the names of such threads begin.
pub(crate) const OWN_NAME: &str = "own";

/// An executor that runs everything and collects the errors.
#[track_caller]
pub(crate) fn collecting(workers: impl Into<Workers>) -> BatchExecutor {
    builder().workers(workers).stop_on_error(false).build().expect("good settings")
}

/// An executor that stops on the first error.
#[track_caller]
pub(crate) fn stopping(workers: impl Into<Workers>) -> BatchExecutor {
    builder().workers(workers).build().expect("good settings")
}

/// A stack with more bytes than the address space of a process has, or than are left in it.
pub(crate) const NO_ROOM: usize =
    if cfg!(target_pointer_width = "64") { (usize::MAX >> 17) + 1 } else { usize::MAX / 16 * 15 };

/// Whether the system is known to refuse a thread with such a stack.
pub(crate) const REFUSES_THREADS: bool = cfg!(any(target_os = "linux", windows));

/// Time that a wait for something may take before it has failed. Where a processor or a system is emulated, all takes longer:
/// the environment may name a factor.
pub(crate) fn patience(seconds: u64) -> Duration {
    let factor = std::env::var("BATCH_EXECUTOR_TEST_PATIENCE").ok().and_then(|factor| factor.parse().ok());
    Duration::from_secs(seconds * factor.unwrap_or(1))
}

/// How often a thread may look for something before that has failed, with a wait of this length between two looks, where all that goes
/// on is quick. On a busy machine each look takes longer, as each step of what it looks for does: so looks are counted, not seconds.
fn looks(seconds: u64, wait: Duration) -> u128 {
    patience(seconds).as_millis() / wait.as_millis()
}

/// Sleeps, by the clock of the batch where an operation calls it.
pub(crate) fn nap(time: Duration) {
    let limit = RateLimit::every(time);
    for _ in 0..2 {
        limit.acquire().expect("it grants all");
    }
}

/// A way to run a batch: with this many workers, with a callback or without, with threads or with none to be had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) workers: Workers,
    /// With a callback the caller coordinates, and works only where it has no helper.
    reports: bool,
    stack_size: Option<usize>,
}

impl Way {
    /// Every worker setting, without a callback and with one.
    pub(crate) fn with_threads() -> Vec<Way> {
        let way = |workers| [false, true].map(|reports| Way { workers, reports, stack_size: None });
        settings().into_iter().flat_map(way).collect()
    }

    /// Those, and such as get no thread from the system.
    pub(crate) fn all() -> Vec<Way> {
        let no_room = REFUSES_THREADS.then_some(NO_ROOM);
        let mut ways = Way::with_threads();
        for workers in [Workers::Fixed(4), Workers::from(AdaptiveWorkers::new().min(4).max(4))] {
            let way = |reports| Way { workers, reports, stack_size: no_room };
            ways.extend(no_room.map(|_| [false, true].map(way)).into_iter().flatten());
        }
        ways
    }

    /// Whether as many items as there are workers run at the same time.
    pub(crate) fn is_parallel(&self) -> bool {
        self.stack_size.is_none() && self.stopping().workers_for(100) > 1
    }

    /// Whether one worker does everything. Adaptive workers that begin as one, on one CPU, may become more.
    pub(crate) fn is_lone(&self) -> bool {
        !self.is_parallel() && (self.stack_size.is_some() || !matches!(self.workers, Workers::Adaptive(_)))
    }

    pub(crate) fn builder(&self) -> BatchExecutorBuilder {
        let builder = builder().workers(self.workers);
        if let Some(bytes) = self.stack_size { builder.stack_size(bytes) } else { builder }
    }

    #[track_caller]
    pub(crate) fn stopping(&self) -> BatchExecutor {
        self.builder().build().expect("good settings")
    }

    #[track_caller]
    pub(crate) fn collecting(&self) -> BatchExecutor {
        self.builder().stop_on_error(false).build().expect("good settings")
    }

    /// A batch that reports, if this way does. The callback sees to it that progress is honest.
    pub(crate) fn batch<'a, T, E, I>(
        &self,
        executor: &'a BatchExecutor,
        items: I,
    ) -> Batch<'a, I::IntoIter, T, E>
    where
        I: IntoIterator,
    {
        let mut batch = executor.batch(items);
        if self.reports {
            let mut calls = 0;
            batch = batch.on_progress(move |p| {
                calls += 1;
                assert_eq!(p.completed, calls, "calls of on_progress");
                assert_eq!(p.completed, p.succeeded + p.failed);
                assert!(p.completed <= p.total, "{} of {}", p.completed, p.total);
            });
        }
        batch
    }
}

/// Why the batch stopped, and what there is.
#[track_caller]
pub(crate) fn stopped<I, T, E>(result: BatchResult<I, T, E>) -> (StopReason, BatchResult<I, T, E>) {
    assert_counts_add_up(&result);
    match result.stopped() {
        Some(reason) => (reason, result),
        None => panic!("it did not stop: {result}"),
    }
}

/// The result of a batch that ran to its end.
#[track_caller]
pub(crate) fn ran_to_its_end<I, T, E>(result: BatchResult<I, T, E>) -> BatchResult<I, T, E> {
    assert_eq!(result.stopped(), None, "it stopped: {result}");
    assert_counts_add_up(&result);
    result
}

/// The value of every item of a batch, none of which failed.
#[track_caller]
pub(crate) fn all_values<I, T, E>(result: BatchResult<I, T, E>) -> Vec<T> {
    let result = ran_to_its_end(result);
    assert!(result.is_success(), "items have no value: {result}");
    result.into_iter().filter_map(|item| item.outcome.ok()).collect()
}

/// Runs something, and cancels the token soon after the gate was opened.
pub(crate) fn cancelled_behind<R>(gate: &Gate, token: &CancelToken, run: impl FnOnce() -> R) -> R {
    thread::scope(|scope| {
        scope.spawn(|| {
            gate.pass();
            thread::sleep(Duration::from_millis(5));
            token.cancel();
        });
        run()
    })
}

/// Runs a test's body on a thread of its own, and fails if it is not back within a minute of a quiet machine, or its [`patience`].
#[track_caller]
pub(crate) fn within_a_minute<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (ended, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = panic::catch_unwind(AssertUnwindSafe(body));
        let _ = ended.send(result);
    });
    let wait = Duration::from_millis(1);
    match (0..looks(60, wait)).find_map(|_| end.recv_timeout(wait).ok()) {
        Some(Ok(result)) => {
            let _ = thread.join();
            result
        }
        Some(Err(payload)) => panic::resume_unwind(payload),
        None => panic!("the test hangs: it is not back within a minute"),
    }
}

/// Looks again and again, as often as a loaded machine needs too; whether it came.
pub(crate) fn comes(condition: impl Fn() -> bool) -> bool {
    let wait = Duration::from_millis(1);
    (0..looks(20, wait)).any(|_| {
        let has_come = condition();
        if !has_come {
            thread::sleep(wait);
        }
        has_come
    })
}

#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    assert!(comes(condition), "waited in vain until {what}");
}

/// Each thread waits until this many have come. It panics if they do not come, so that nothing hangs.
#[derive(Default)]
pub(crate) struct Meeting {
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    /// How many have come so far.
    pub(crate) fn arrived(&self) -> usize {
        *self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    pub(crate) fn of(&self, expected: usize) {
        note_thread();
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        *arrived += 1;
        self.changed.notify_all();
        let deadline = Instant::now() + patience(20);
        while *arrived < expected {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {arrived} of {expected} came");
            arrived = self.changed.wait_timeout(arrived, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A door that is shut until a thread opens it. A thread that waits too long in front of it panics.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    pub(crate) fn pass(&self) {
        note_thread();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + patience(20);
        while !*open {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the gate stayed shut");
            open = self.changed.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How many are inside, and the most that ever were.
#[derive(Default)]
pub(crate) struct Peak {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Peak {
    pub(crate) fn enter(&self) -> Inside<'_> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        Inside(self)
    }

    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

pub(crate) struct Inside<'p>(&'p Peak);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How often each item was run.
pub(crate) struct Census(Vec<AtomicUsize>);

impl Census {
    pub(crate) fn of(items: usize) -> Self {
        Census((0..items).map(|_| AtomicUsize::new(0)).collect())
    }

    pub(crate) fn count(&self, index: usize) {
        note_thread();
        self.0[index].fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn runs(&self) -> Vec<usize> {
        self.0.iter().map(|runs| runs.load(Ordering::SeqCst)).collect()
    }

    /// The indices of those that ran.
    pub(crate) fn ran(&self) -> Vec<usize> {
        let runs = self.runs().into_iter().enumerate();
        runs.filter_map(|(index, runs)| (runs > 0).then_some(index)).collect()
    }

    pub(crate) fn total(&self) -> usize {
        self.runs().iter().sum()
    }

    #[track_caller]
    pub(crate) fn assert_each_ran_once(&self) {
        let runs = self.runs();
        assert!(runs.iter().all(|&runs| runs == 1), "not every item ran exactly once: {runs:?}");
    }

    #[track_caller]
    pub(crate) fn assert_none_ran_twice(&self) {
        let runs = self.runs();
        assert!(runs.iter().all(|&runs| runs <= 1), "an item ran twice: {runs:?}");
    }
}

/// Makes values, and knows how many of them are still there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Register(Arc<[AtomicUsize; 2]>);

impl Register {
    pub(crate) fn make(&self) -> Registered {
        self.0[0].fetch_add(1, Ordering::SeqCst);
        Registered(self.clone())
    }

    pub(crate) fn made(&self) -> usize {
        self.0[0].load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }

    /// Every value was made, this many of them, and dropped once.
    #[track_caller]
    pub(crate) fn assert_all_dropped(&self, made: usize) {
        assert_eq!((self.made(), self.dropped()), (made, made), "values made and dropped");
    }
}

#[derive(Debug)]
pub(crate) struct Registered(Register);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

/// What must hold of an executor after every fault: its call has come back, with one outcome for each item, at its index,
/// from one run; all workers come; no worker is in the batch any more, nor holds what it borrowed.
#[track_caller]
pub(crate) fn assert_still_works(executor: &BatchExecutor) {
    let (census, peak, borrowed) = (Census::of(100), Peak::default(), Arc::new(()));
    let (calls, held) = (AtomicUsize::new(0), Arc::clone(&borrowed));
    let result = executor
        .batch(0..100usize)
        .on_progress(|_| {
            calls.fetch_add(1, Ordering::SeqCst);
        })
        .run(|&n| {
            let _inside = peak.enter();
            census.count(n);
            Ok::<_, String>((n * n, Arc::clone(&held)))
        });
    let result = ran_to_its_end(result);
    assert_eq!(peak.inside(), 0, "workers inside a batch that is over");
    census.assert_each_ran_once();
    assert_eq!(calls.into_inner(), 100, "calls of on_progress");
    assert_each_outcome_at_its_index(&result, |&n| Some((n * n, Arc::clone(&borrowed))));
    drop((result, held));
    assert_eq!(Arc::strong_count(&borrowed), 1, "handles to what the values held");
    let workers = executor.workers_for(100);
    assert_eq!(names_of_all_workers(executor, workers).len(), workers, "workers that still come");
}

/// The names of the threads, the caller's too, that work on a batch of as many items as workers.
#[track_caller]
fn names_of_all_workers(executor: &BatchExecutor, workers: usize) -> HashSet<Option<String>> {
    let meeting = Meeting::default();
    let together = executor.run(0..workers, |_| {
        meeting.of(workers);
        Ok::<_, String>(thread::current().name().map(str::to_owned))
    });
    assert_eq!(together.workers(), workers, "workers that were counted");
    all_values(together).into_iter().collect()
}

/// [`assert_still_works`], and then its threads are gone, every one. For the last handle of an executor from [`builder`].
#[track_caller]
pub(crate) fn assert_survived(executor: BatchExecutor) {
    assert_still_works(&executor);
    let names = names_of_all_workers(&executor, executor.workers_for(2));
    let own = thread::current().name().map(str::to_owned);
    let helper = names.into_iter().find(|name| *name != own).flatten();
    drop(executor);
    let Some(helper) = helper else { return };
    let (name, _) = helper.rsplit_once('-').expect("a name and a number");
    assert!(name.starts_with(OWN_NAME), "{name} may be the name of other threads too");
    wait_until("its threads have ended", || threads_named(&format!("{name}-")).is_empty());
}

/// Outcome k belongs to item k, which is k; `expected` says its value, none for a failure.
#[track_caller]
pub(crate) fn assert_each_outcome_at_its_index<T: PartialEq + std::fmt::Debug, E>(
    result: &BatchResult<usize, T, E>,
    expected: impl Fn(&usize) -> Option<T>,
) {
    assert_eq!(result.items().len(), result.outcomes().len(), "outcomes");
    for (index, item) in result.iter().enumerate() {
        assert_eq!((item.index, *item.item), (index, index), "the item at index {index}");
        let value = item.outcome.as_ref().ok();
        assert_eq!(value, expected(&index).as_ref(), "the value at index {index}");
    }
    assert_counts_add_up(result);
}

/// The counts say what the outcomes say: an item that was to be tried again when the batch stopped is skipped, too.
#[track_caller]
pub(crate) fn assert_counts_add_up<I, T, E>(result: &BatchResult<I, T, E>) {
    let is_skipped =
        |outcome: &&Outcome<T, E>| matches!(outcome, Err(ItemError::Skipped | ItemError::Interrupted(_)));
    // Where memory ran out there are items and no outcomes.
    let without_outcome = result.items().len() - result.outcomes().len();
    assert!(without_outcome == 0 || result.stopped() == Some(StopReason::OutOfMemory), "outcomes");
    let skipped = result.outcomes().iter().filter(is_skipped).count() + without_outcome;
    let counted = (result.values().count(), result.failures().count(), skipped, result.items().len());
    let told = (result.succeeded(), result.failed(), result.skipped(), result.total());
    assert_eq!(told, counted, "succeeded, failed, skipped, total");
    assert_eq!(told.0 + told.1 + told.2, told.3);
    assert_eq!(result.is_success(), told.0 == told.3);
}

/// How the panics begin that a test means to happen. The hook, which is for the whole process, prints all others.
pub(crate) const MEANT: &str = "meant: ";

thread_local! {
    /// How often the hook has seen one on this thread.
    static MEANT_PANICS: Cell<usize> = const { Cell::new(0) };
}

/// How often the hook runs on this thread for a panic that is meant, while `f` does.
pub(crate) fn meant_panics_in(f: impl FnOnce()) -> usize {
    let before = MEANT_PANICS.get();
    f();
    MEANT_PANICS.get() - before
}

pub(crate) fn silence_meant_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let other = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            if text.is_some_and(|text| text.starts_with(MEANT)) {
                MEANT_PANICS.set(MEANT_PANICS.get() + 1);
            } else {
                other(info);
            }
        }));
    });
}

/// The text of what `catch_unwind` caught.
pub(crate) fn text_of(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}

/// What the body panics with.
#[track_caller]
pub(crate) fn panic_of<R>(body: impl FnOnce() -> R) -> String {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => panic!("there was no panic"),
        Err(payload) => text_of(&*payload).to_owned(),
    }
}

/// The numbers of this process's threads whose names begin so. Linux cuts names at 15 bytes.
#[cfg(target_os = "linux")]
pub(crate) fn threads_named(name: &str) -> HashSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a /proc");
    tasks
        .filter_map(Result::ok)
        .filter(|task| {
            // A thread may end between the listing and the reading.
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))
        })
        .map(|task| task.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(target_os = "linux")]
fn note_thread() {}

/// Elsewhere those are known that came to a meeting, a gate or a census, until they end.
#[cfg(not(target_os = "linux"))]
pub(crate) use noted_threads::{note_thread, threads_named};

#[cfg(not(target_os = "linux"))]
mod noted_threads {
    use std::collections::HashSet;
    use std::sync::{Mutex, PoisonError};
    use std::thread::{self, Thread, ThreadId};

    static NOTED: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

    struct Noted(ThreadId);

    impl Drop for Noted {
        fn drop(&mut self) {
            NOTED.lock().unwrap_or_else(PoisonError::into_inner).retain(|thread| thread.id() != self.0);
        }
    }

    thread_local!(static OWN: Noted = {
        let own = thread::current();
        let noted = Noted(own.id());
        NOTED.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        noted
    });

    pub(crate) fn note_thread() {
        let _ = OWN.try_with(|_| {});
    }

    pub(crate) fn threads_named(name: &str) -> HashSet<String> {
        let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        let named = noted.iter().filter(|thread| thread.name().is_some_and(|own| own.starts_with(name)));
        named.map(|thread| format!("{:?}", thread.id())).collect()
    }
}

/// Set in a child process, to what the child is to do.
const CHILD: &str = "BATCH_EXECUTOR_TEST_CHILD";

/// What this process is to do, if it was started by [`child`].
pub(crate) fn told_to() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// This test binary once more, running one test alone on its main thread, behind a command such as `strace`.
pub(crate) fn child(behind: &[&str], test: &str, told_to: &str) -> Command {
    let own = std::env::current_exe().expect("a test binary");
    let mut command = match behind {
        [] => Command::new(own),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(own);
            command
        }
    };
    command
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, told_to);
    if behind.first() == Some(&"strace") {
        // LeakSanitizer traces a process, too, and only one can.
        command.env("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1");
    }
    command
}

/// How the child ended and what it printed, on both streams. A child that is not back within a minute is killed.
#[track_caller]
pub(crate) fn ended(mut command: Command) -> (ExitStatus, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the child starts");
    let read = |stream: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut stream = stream;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(Box::new(child.stdout.take().expect("a pipe")));
    let err = read(Box::new(child.stderr.take().expect("a pipe")));
    let wait = Duration::from_millis(5);
    let status = (0..looks(60, wait)).find_map(|_| {
        let status = child.try_wait().expect("it is our child");
        if status.is_none() {
            thread::sleep(wait);
        }
        status
    });
    let Some(status) = status else {
        let _ = child.kill();
        panic!("the child hangs: it is not back within a minute");
    };
    (status, out.join().expect("a reader") + &err.join().expect("a reader"))
}

/// The line by which a child says that it came to its end.
pub(crate) const AT_THE_END: &str = "the child came to its end";

/// The child ran its test, and came to the end of it; what it printed.
#[track_caller]
pub(crate) fn assert_ends_well(command: Command) -> String {
    let (status, printed) = ended(command);
    assert!(status.success() && printed.contains(AT_THE_END), "{status}:\n{printed}");
    printed
}

/// The child's calls of `clone3` fail as `when` says; each of its threads counts its own. The first of the main thread is
/// that of the test harness, which runs the test itself if it is refused.
pub(crate) fn behind_strace(when: &str, test: &str, told_to: &str) -> Command {
    let inject = format!("inject=clone3:error=EAGAIN:when={when}");
    child(&["strace", "-f", "-o", "/dev/null", "-e", "trace=clone3", "-e", &inject], test, told_to)
}

/// What a child is told that is only to say whether it gets a thread.
pub(crate) const PROBE: &str = "probe";

/// Prints that the system refuses threads, if it does.
pub(crate) fn probe() {
    if thread::Builder::new().spawn(|| {}).is_err() {
        println!("{NO_THREAD}");
    }
}

pub(crate) const NO_THREAD: &str = "no thread to be had";

/// Whether `strace` is there, may trace, and its failing `clone3` is the call that starts threads here. `test` has to call
/// [`probe`] when it is told [`PROBE`]. Loud if not, since the claim goes untested then.
pub(crate) fn strace_works(test: &str) -> bool {
    let installed = Command::new("strace").arg("-V").output().is_ok();
    let works = installed && ended(behind_strace("1+", test, PROBE)).1.contains(NO_THREAD);
    if !works {
        skip(test, "strace is missing or may not trace here");
    }
    works
}

/// Says on the terminal itself that a test was skipped: the harness swallows what a test that passes prints.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {why}");
}
