//! Runs a program on real executors, and hands what happened to the checks.

use std::collections::VecDeque;
use std::fs::{self, DirEntry};
use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use batch_executor::{
    BatchExecutor, BatchResult, CancelToken, ItemContext, Limit, LimiterError, RateLimit, Retry,
    RetryDecision, Streamed, Workers, limiter_fn,
};

use crate::check::{self, Happened};
use crate::ledger::{Bomb, Ledger, Token};
use crate::program::{
    Act, Batch, Cancel, DEEPEST, Limiting, OnFailure, OnProgress, Program, Refusal, Retrying, Setup, Source,
    Turn, Verb,
};
use crate::streams::{Marks, Taken};
use crate::tasks::{self, await_turn};

fn limited<'b, It: Iterator<Item = Token>>(steps: Steps<'b, It>, limiting: Limiting) -> Steps<'b, It> {
    let slots = |slots: u8| usize::from(slots % 4) + 1;
    match limiting {
        Limiting::None => steps,
        Limiting::AtOnce(most) => steps.limit(Limit::at_once(slots(most))),
        Limiting::Cost(most) => {
            steps.limit(Limit::at_once(slots(most)).cost(|item: &Token| item.index() as u64 % 7))
        }
        Limiting::Key(most) => {
            steps.limit(Limit::per_key(|item: &Token| item.index() % 3, move |_| Limit::at_once(slots(most))))
        }
        Limiting::Rate => steps.limit(Limit::rate(RateLimit::every(Duration::from_micros(5)))),
    }
}

/// How a batch or a stream came to its end.
pub enum Ended {
    Batch(Done),
    Stream(Streamed<Taken>),
    /// Its future was dropped.
    Dropped,
}

pub type Done = BatchResult<Token, Token, Token>;

/// A batch of a program, as the crate has it.
type Steps<'b, It> = batch_executor::Batch<'b, It, Token, Token>;

/// What all threads of executors are called.
const NAME: &str = "fuzzed";

/// An executor that drops has joined its threads, but let go before of those whose time had run out: they may still be
/// on their way out. What such a thread has, LeakSanitizer takes for leaked.
pub fn wait_for_expired_threads() {
    let is_ours = |task: &DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(NAME))
    };
    let is_there =
        || fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.flatten().any(|task| is_ours(&task)));
    while is_there() {
        thread::yield_now();
    }
}

/// The executors of a program while it runs.
pub struct Machine<'p> {
    places: Vec<Place>,
    ledger: &'p Arc<Ledger>,
}

struct Place {
    setup: Setup,
    handle: Mutex<Option<BatchExecutor>>,
    permits: Arc<Permits>,
}

/// A batch while it runs, as its items see it.
struct Scene<'r> {
    machine: &'r Machine<'r>,
    place: &'r Place,
    acts: &'r [&'r Act],
    runs: Vec<AtomicUsize>,
    inside: AtomicUsize,
    /// The most items that may run at once.
    most: usize,
    depth: usize,
}

impl Scene<'_> {
    fn enter(&self, index: usize) -> Inside<'_> {
        let inside = Inside::enter(&self.inside, self.most);
        self.place.use_permit();
        self.runs[index].fetch_add(1, Ordering::Relaxed);
        inside
    }

    fn run(&self, index: usize) -> Result<Token, Token> {
        let _inside = self.enter(index);
        self.machine.perform(self.acts[index], index, self.depth)
    }

    async fn run_in_task(&self, index: usize) -> Result<Token, Token> {
        let _inside = self.enter(index);
        let _own = self.machine.ledger.make(index);
        await_turn(self.acts[index]).await;
        self.machine.perform(self.acts[index], index, self.depth)
    }
}

/// Counts an item of a batch while it runs; also if it unwinds.
struct Inside<'b>(&'b AtomicUsize);

impl<'b> Inside<'b> {
    fn enter(inside: &'b AtomicUsize, most: usize) -> Self {
        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(now <= most, "{now} items at once, and {most} workers");
        Inside(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a limiter gave.
#[derive(Default)]
struct Permits {
    asked: AtomicUsize,
    given: AtomicUsize,
    used: AtomicUsize,
}

impl Place {
    fn new(setup: Setup) -> Self {
        Place { setup, handle: Mutex::new(None), permits: Arc::default() }
    }

    /// A handle to the executor, which is built if it is not there.
    fn executor(&self) -> BatchExecutor {
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.get_or_insert_with(|| self.build()).clone()
    }

    fn take(&self) -> Option<BatchExecutor> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn build(&self) -> BatchExecutor {
        let builder = BatchExecutor::builder().workers(self.setup.workers());
        let builder = match self.setup.on_failure {
            OnFailure::Collect => builder.stop_on_error(false),
            OnFailure::Stop => builder.stop_on_error(true),
            OnFailure::StopAfter(limit) => builder.stop_after_failures(usize::from(limit).max(1)),
        };
        let keep_alive = if self.setup.short_lived { Duration::ZERO } else { Duration::from_secs(10) };
        let builder = builder.keep_alive(keep_alive).thread_name(NAME);
        let (permits, refusal) = (Arc::clone(&self.permits), self.setup.refusal);
        let builder = match refusal {
            Refusal::NoLimiter => builder,
            _ => builder.rate_limiter(limiter_fn(move || permits.reserve(refusal))),
        };
        builder.build().expect("the settings are good")
    }

    fn is_limited(&self) -> bool {
        !matches!(self.setup.refusal, Refusal::NoLimiter)
    }
}

impl Permits {
    fn reserve(&self, refusal: Refusal) -> Result<Duration, LimiterError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let refused = match refusal {
            Refusal::NoLimiter | Refusal::Never | Refusal::Waits => false,
            Refusal::Once { at } => number == usize::from(at),
            Refusal::From { at } => number >= usize::from(at),
            Refusal::Panics { at } if number == usize::from(at) => {
                panic_any(Arc::new(Ledger::default()).make(check::OF_THE_LIMITER))
            }
            Refusal::Panics { .. } => false,
        };
        if refused {
            return Err(LimiterError::new("refused"));
        }
        self.given.fetch_add(1, Ordering::SeqCst);
        Ok(if matches!(refusal, Refusal::Waits) { Duration::from_micros(30) } else { Duration::ZERO })
    }
}

impl<'p> Machine<'p> {
    pub fn new(program: &Program, ledger: &'p Arc<Ledger>) -> Self {
        let places = program.executors().iter().copied().map(Place::new).collect();
        Machine { places, ledger }
    }

    pub fn take_turn(&self, turn: &Turn) {
        match turn {
            Turn::Run(batch) => self.run(batch, 0),
            Turn::Together(one, two) => thread::scope(|scope| {
                let other = scope.spawn(|| self.run(one, 0));
                self.run(two, 0);
                // A scope that ends waits for what its threads do, and not for their end, and
                // LeakSanitizer takes what a thread on its way out has for leaked.
                other.join().expect("checks abort");
            }),
            Turn::Execute { executor, act } => self.execute(*executor, act),
            Turn::Drop { executor } => self.drop_executor(*executor),
        }
    }

    fn place(&self, number: u8) -> Option<&Place> {
        self.places.get(usize::from(number) % self.places.len().max(1))
    }

    fn drop_executor(&self, number: u8) {
        drop(self.place(number).and_then(Place::take));
    }

    fn execute(&self, number: u8, act: &Act) {
        let Some(place) = self.place(number) else { return };
        let mut ran = false;
        let outcome = place.executor().execute(|| {
            place.use_permit();
            ran = true;
            self.perform(act, 0, 1)
        });
        assert!(ran || place.is_limited(), "a task never ran");
        check::check_decided(0, act, outcome, !ran);
        place.assert_permits();
    }

    fn run(&self, batch: &Batch, depth: usize) {
        let Some(place) = self.place(batch.executor) else { return };
        let executor = place.executor();
        let acts = batch.acts(depth);
        // On this frame: whatever touches them after the batch is over is seen by the sanitizer.
        let mut calls = Vec::new();
        let scene = Scene {
            machine: self,
            place,
            acts: &acts,
            runs: acts.iter().map(|_| AtomicUsize::new(0)).collect(),
            inside: AtomicUsize::new(0),
            most: place.setup.most(&executor),
            depth: depth + 1,
        };
        let marks = Marks::new(batch.window(scene.most));
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            self.start(&executor, batch, &scene, &marks, &mut calls)
        }));
        assert_eq!(scene.inside.load(Ordering::SeqCst), 0, "an item runs after the batch is over");
        let runs: Vec<usize> = scene.runs.into_iter().map(AtomicUsize::into_inner).collect();
        drop(executor);
        let happened = Happened {
            batch,
            on_failure: place.setup.on_failure,
            limited: place.is_limited(),
            in_order: matches!(place.setup.workers(), Workers::Sequential),
            acts: &acts,
            runs: &runs,
            calls: &calls,
            asked: marks.asked(),
        };
        happened.check(ended);
        place.assert_permits();
    }

    fn start(
        &self,
        executor: &BatchExecutor,
        batch: &Batch,
        scene: &Scene<'_>,
        marks: &Marks,
        calls: &mut Vec<(usize, usize)>,
    ) -> Ended {
        let (token, size) = (CancelToken::new(), scene.acts.len());
        let mut steps = executor.batch(marks.watch(self.items(batch.source, size))).cancel_on(&token);
        if !matches!(batch.progress, OnProgress::None) {
            steps = steps.on_progress(|p| {
                assert_eq!(p.succeeded + p.failed, p.completed);
                assert!(p.completed <= p.total && p.total <= size);
                assert!(p.total == size || batch.is_stream());
                calls.push((p.completed, p.failed));
                if batch.cancels_at_call(p.completed) {
                    token.cancel();
                }
                self.panic_at(batch.progress, calls.len());
            });
        }
        if batch.ticks {
            steps = steps.on_tick(Duration::ZERO, move |p| {
                assert!(p.completed + p.running + p.waiting <= p.total && p.total <= size);
            });
        }
        let tasks = match batch.verb {
            Verb::Run => return Ended::Batch(steps.run(|item| scene.run(item.index()))),
            Verb::RunWith => return Ended::Batch(self.run_with(batch, scene, steps, &token)),
            Verb::Stream => return Ended::Stream(self.stream(batch, scene, marks, steps, &token)),
            Verb::RunAsync { polls } => return self.run_in_task(batch, scene, polls, steps, &token),
            Verb::StreamAsync { polls } => {
                return self.stream_in_task(batch, scene, marks, polls, steps, &token);
            }
            Verb::RunTasks => size,
            Verb::TooManyTasks(more) => size + usize::from(more) + 1,
            Verb::TooFewTasks(fewer) => size.saturating_sub(usize::from(fewer) + 1),
        };
        // Each owns something, for those that never start.
        Ended::Batch(steps.run_tasks(
            (0..tasks).map(|index| self.ledger.make(index)).map(|own| move || scene.run(own.index())),
        ))
    }

    fn run_with<'b, It: Iterator<Item = Token>>(
        &'b self,
        batch: &'b Batch,
        scene: &Scene<'_>,
        steps: Steps<'b, It>,
        token: &CancelToken,
    ) -> Done {
        let steps = self.controlled(batch, steps, token);
        let init = || self.ledger.make(0);
        let result = steps.run_init(init, |item, cx| {
            assert_eq!(cx.state.index(), 0);
            look_around(batch, token, item, cx);
            scene.run(cx.index())
        });
        check::check_attempts(batch.control.retry, &result);
        result
    }

    fn stream<'b, It: Iterator<Item = Token> + Send>(
        &'b self,
        batch: &'b Batch,
        scene: &Scene<'_>,
        marks: &Marks,
        steps: Steps<'b, It>,
        token: &CancelToken,
    ) -> Streamed<Taken> {
        flowing(batch, self.controlled(batch, steps, token)).stream_init(
            || self.ledger.make(0),
            |item, cx| {
                assert_eq!(cx.state.index(), 0);
                look_around(batch, token, item, cx);
                scene.run(cx.index())
            },
            |results| {
                batch.flow.consume(results, marks, |act| {
                    drop(self.perform(act, check::OF_THE_CONSUMER, scene.depth));
                })
            },
        )
    }

    fn run_in_task<'b, It: Iterator<Item = Token>>(
        &'b self,
        batch: &'b Batch,
        scene: &Scene<'_>,
        polls: Option<u8>,
        steps: Steps<'b, It>,
        token: &CancelToken,
    ) -> Ended {
        let run = self.controlled(batch, steps, token).run_async_with(async |item, cx| {
            look_around(batch, token, item, cx);
            scene.run_in_task(cx.index()).await
        });
        let Some(result) = tasks::run(run, polls) else { return Ended::Dropped };
        check::check_attempts(batch.control.retry, &result);
        Ended::Batch(result)
    }

    fn stream_in_task<'b, It: Iterator<Item = Token>>(
        &'b self,
        batch: &'b Batch,
        scene: &Scene<'_>,
        marks: &Marks,
        polls: Option<u8>,
        steps: Steps<'b, It>,
        token: &CancelToken,
    ) -> Ended {
        let stream = flowing(batch, self.controlled(batch, steps, token)).stream_async(
            async |item| {
                if batch.is_cancelled_by(item.index()) {
                    token.cancel();
                }
                scene.run_in_task(item.index()).await
            },
            async |results| {
                let perform = |act: &Act| drop(self.perform(act, check::OF_THE_CONSUMER, scene.depth));
                batch.flow.consume_in_task(results, marks, perform).await
            },
        );
        tasks::run(stream, polls).map_or(Ended::Dropped, Ended::Stream)
    }

    /// With everything that `Control` says.
    fn controlled<'b, It: Iterator<Item = Token>>(
        &'b self,
        batch: &'b Batch,
        mut steps: Steps<'b, It>,
        token: &CancelToken,
    ) -> Steps<'b, It> {
        if matches!(batch.control.cancel, Cancel::Before) {
            token.cancel();
        }
        if let Some(time) = batch.control.timeout {
            steps = steps.timeout(Duration::from_micros(u64::from(time) * 10));
        }
        let (retry, short) = (batch.control.retry, Duration::from_micros(20));
        let retrying =
            Retry::delays(move || std::iter::repeat_n(short, retry.most())).when(move |error: &Token| {
                match retry {
                    Retrying::Never => RetryDecision::GiveUp,
                    Retrying::Retry(_) => RetryDecision::Retry,
                    Retrying::After(_) => RetryDecision::RetryAfter(short / 2),
                    Retrying::PauseAll(_) => RetryDecision::PauseAll(short),
                    Retrying::Panics => panic_any(error.ledger().make(check::OF_THE_RETRY)),
                }
            });
        let steps = steps.retry(retrying);
        limited(limited(steps, batch.control.limits.0), batch.control.limits.1)
    }

    fn items(&self, source: Source, size: usize) -> Box<dyn Iterator<Item = Token> + Send + '_> {
        let items = (0..size).map(|index| self.ledger.make(index));
        match source {
            Source::Vector => Box::new(items.collect::<VecDeque<_>>().into_iter()),
            Source::WithoutHint => Box::new(items.filter(|item| black_box(item).index() < usize::MAX)),
            Source::Panics { at } => Box::new(items.inspect(move |item| {
                if item.index() == usize::from(at) {
                    panic_any(item.ledger().make(check::OF_THE_ITERATOR));
                }
            })),
        }
    }

    fn panic_at(&self, progress: OnProgress, call: usize) {
        let token = || self.ledger.make(check::OF_THE_CALLBACK);
        match progress {
            OnProgress::Panics { at } if call == usize::from(at) => panic_any(token()),
            OnProgress::PanicsWithBomb { at } if call == usize::from(at) => panic_any(Bomb(token())),
            _ => {}
        }
    }

    fn perform(&self, act: &Act, index: usize, depth: usize) -> Result<Token, Token> {
        let token = self.ledger.make(index);
        match act {
            Act::Succeed => {}
            Act::Fail => return Err(token),
            Act::Panic => panic_any(token),
            Act::PanicWithBomb => panic_any(Bomb(token)),
            Act::Work(turns) => (0..*turns).for_each(|turn| _ = black_box(turn)),
            Act::Sleep(micros) => thread::sleep(Duration::from_micros(u64::from(*micros))),
            Act::Yield => thread::yield_now(),
            Act::Nest(batch) if depth < DEEPEST => self.run(batch, depth),
            Act::Nest(_) => {}
            Act::Drop { executor } => self.drop_executor(*executor),
        }
        Ok(token)
    }
}

/// What a stream is asked for beside what every batch is.
fn flowing<'b, It: Iterator<Item = Token>>(batch: &Batch, mut steps: Steps<'b, It>) -> Steps<'b, It> {
    if let Some(window) = batch.flow.window() {
        steps = steps.window(window);
    }
    if batch.flow.unordered { steps.unordered() } else { steps }
}

fn look_around<S>(batch: &Batch, token: &CancelToken, item: &Token, cx: &ItemContext<'_, S>) {
    assert_eq!(item.index(), cx.index());
    if batch.is_cancelled_by(cx.index()) {
        token.cancel();
        assert!(cx.is_cancelled());
    }
}

impl Batch {
    fn is_cancelled_by(&self, index: usize) -> bool {
        matches!(self.control.cancel, Cancel::ByItem(at) if usize::from(at) == index)
    }

    fn cancels_at_call(&self, call: usize) -> bool {
        matches!(self.control.cancel, Cancel::ByCall(at) if usize::from(at) == call)
    }
}

impl Place {
    fn use_permit(&self) {
        self.permits.used.fetch_add(1, Ordering::SeqCst);
    }

    /// Never more used than given.
    fn assert_permits(&self) {
        let used = self.permits.used.load(Ordering::SeqCst);
        let given = self.permits.given.load(Ordering::SeqCst);
        assert!(!self.is_limited() || used <= given, "{used} items started with {given} permits");
    }
}
