//! One batch: its steps, and the verbs that run it.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::batch_error::BatchError;
use crate::cancel::CancelToken;
use crate::context::ItemContext;
use crate::engine::{
    Control, Engine, Flow, Init, NameOf, Observers, OnProgress, Order, Outcome, Record, Steps, collect,
};
#[cfg(feature = "journal")]
use crate::journal::{Journal, Journaled, Serialized};
use crate::keep::{JournalPolicy, NoJournal};
use crate::panic::{self, Panic};
use crate::progress::Progress;
use crate::result::{BatchResult, discard_each};
use crate::retry::{NoRetry, Retry, RetryPolicy};
use crate::stream::{Results, Streamed};
use crate::sync::{Instant, Mutex};
use crate::timeline::span::debug_name;

/// Items about to be run. Made by [`BatchExecutor::batch`](crate::BatchExecutor::batch); nothing happens before one of the verbs:
/// [`run`](Batch::run), [`run_with`](Batch::run_with), [`run_tasks`](Batch::run_tasks), [`stream`](Batch::stream),
/// [`stream_with`](Batch::stream_with).
///
/// Items, operation and values may borrow from the caller: the batch is over when `run` returns.
///
/// Steps may come in any order. [`retry`](Batch::retry), [`state`](Batch::state) and `journal` change the type of the batch (`R`, what is
/// done about errors, `S`, what each worker keeps, and `K`, whether there is a journal), which only shows where a batch is stored or returned half-made.
#[must_use = "a batch does nothing until it is run"]
pub struct Batch<'a, It: Iterator, R = NoRetry, S = (), K = NoJournal> {
    engine: &'a Engine,
    items: It,
    asked: Asked<'a>,
    /// What items are called in the timeline, if there is to be one.
    id: Option<NameOf<'a, It::Item>>,
    retry: R,
    init: Init<'a, S>,
    keep: K,
}

/// What was asked for, whatever the types are.
struct Asked<'a> {
    on_progress: Option<OnProgress<'a>>,
    tokens: Vec<CancelToken>,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    flow: Flow,
    /// How many spans a timeline may have.
    spans: usize,
}

/// A few megabytes, and a page that opens at once.
const SPANS: usize = 100_000;

impl<'a, It: Iterator> Batch<'a, It> {
    pub(crate) fn new(engine: &'a Engine, items: It) -> Self {
        let flow = Flow { window: None, order: Order::Input };
        let (on_progress, tokens, deadline, timeout) = (None, Vec::new(), None, None);
        let asked = Asked { on_progress, tokens, deadline, timeout, flow, spans: SPANS };
        Batch { engine, items, asked, id: None, retry: NoRetry, init: Box::new(|| ()), keep: NoJournal }
    }
}

/// Steps.
impl<'a, It: Iterator, R, S, K> Batch<'a, It, R, S, K> {
    /// Calls `callback` after every item that was run or refused by the rate limiter; with a journal, for those too that were done before.
    ///
    /// The calls come on the calling thread, one at a time, with [`completed`](Progress::completed) rising by one. With
    /// several workers, the calling thread only reports while there are others to work, so a slow callback slows no
    /// item; calls for quick items come a few at a time, with one time for all. Where no other thread can be had, or none
    /// comes within a tenth of a second, the calling thread works and reports by turns. The last call of this method wins.
    /// With feature `indicatif`, `progress_bar()` is such a callback.
    ///
    /// # Panics
    ///
    /// A panic of the callback stops the batch: it is not called again, nothing new starts, what runs is waited for, and
    /// then the panic goes on out of `run`.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Workers};
    ///
    /// let mut bar = String::new();
    /// BatchExecutor::builder().workers(Workers::auto()).build()?
    ///     .batch(0..20)
    ///     .on_progress(|p| bar.push(if p.failed == 0 { '.' } else { '!' }))
    ///     .run(|n| Ok::<_, String>(n + 1))?;
    /// assert_eq!(bar, ".".repeat(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_progress(mut self, callback: impl FnMut(&Progress) + 'a) -> Self {
        self.asked.on_progress = Some(Box::new(callback));
        self
    }

    /// Stops the batch when the token is cancelled: nothing more starts, and `run` returns as soon as what runs has ended.
    /// Given several times, any of the tokens stops it.
    ///
    /// Whoever waits is woken at once: at the limiter, for another attempt, for a helper. What never started is
    /// [`Skipped`](crate::ItemError::Skipped), what was to be tried again keeps its last error, and the reason is
    /// [`StopReason::Cancelled`](crate::StopReason::Cancelled). A cancel that comes when nothing is left to start changes nothing.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, CancelToken, RateLimit};
    /// use std::time::Duration;
    ///
    /// let executor = BatchExecutor::builder().rate_limiter(RateLimit::every(Duration::from_secs(3600))).build()?;
    /// let token = CancelToken::new();
    /// let stopped = std::thread::scope(|scope| {
    ///     scope.spawn(|| token.cancel());
    ///     executor.batch(0..10_000).cancel_on(&token).run(|n| Ok::<_, String>(*n))
    /// });
    /// println!("{}", stopped.unwrap_err());       // cancelled (1 of 10000 succeeded, 9999 skipped in 0.2 ms)
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    ///
    /// For Ctrl-C there is an example, `interrupt`, with crate `ctrlc`:
    ///
    /// ```no_run
    /// # use batch_executor::CancelToken;
    /// let token = CancelToken::new();
    /// let on_ctrl_c = token.clone();
    /// ctrlc::set_handler(move || {
    ///     if on_ctrl_c.is_cancelled() {
    ///         std::process::exit(130);        // pressed again: at once
    ///     }
    ///     on_ctrl_c.cancel();                 // what runs is waited for, and `run` returns what there is
    /// })?;
    /// # Ok::<(), ctrlc::Error>(())
    /// ```
    pub fn cancel_on(mut self, token: &CancelToken) -> Self {
        self.asked.tokens.push(token.clone());
        self
    }

    /// Stops the batch at this time, as a cancel would, with
    /// [`StopReason::DeadlineExceeded`](crate::StopReason::DeadlineExceeded). An operation that runs is waited for, and may look at
    /// [`ItemContext::deadline`]. With a [`timeout`](Batch::timeout) too, the earlier of the two holds; the last call of
    /// this method wins.
    ///
    /// Costs one clock reading an item.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::time::{Duration, Instant};
    ///
    /// let end_of_visit = Instant::now() + Duration::from_millis(50);      // for several batches, one after another
    /// let work = |_: &u32| Ok::<_, String>(std::thread::sleep(Duration::from_millis(1)));
    /// let stopped = BatchExecutor::new().batch(0..10_000).deadline(end_of_visit).run(work).unwrap_err();
    /// println!("{stopped}");                  // the deadline has passed (46 of 10000 succeeded, 9954 skipped in 50.1 ms)
    /// assert!(stopped.partial().unwrap().skipped() > 0);
    /// ```
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.asked.deadline = Some(deadline);
        self
    }

    /// Stops the batch so long after `run` was called, like a [`deadline`](Batch::deadline). The last call wins; a time too long
    /// to be told is none.
    ///
    /// ```
    /// use batch_executor::{BatchError, BatchExecutor, StopReason};
    /// use std::time::Duration;
    ///
    /// let error = BatchExecutor::new()
    ///     .batch(0..1_000)
    ///     .timeout(Duration::from_millis(20))
    ///     .run(|_| Ok::<_, String>(std::thread::sleep(Duration::from_millis(3))))
    ///     .unwrap_err();
    /// assert!(matches!(error, BatchError::Stopped { reason: StopReason::DeadlineExceeded, .. }));
    /// assert!(error.into_partial().unwrap().skipped() > 900);
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.asked.timeout = Some(timeout);
        self
    }

    /// Tries items again that fail, as the [`Retry`] says. The last call wins.
    ///
    /// An item that waits for its next attempt holds no worker: it stands in a queue until it is due, and workers go on with
    /// others. Every attempt takes a permit of its own from the rate limiter. The batch ends when the queue is empty, too.
    ///
    /// A retried item counts once, by its last attempt: in the result, in progress, and for `stop_on_error`, where the
    /// reason is the lowest index whose *last* attempt failed: items below it are tried until they are decided. Items
    /// above it that wait for another attempt when the batch stops keep their last error. [`BatchResult::attempts`] says how often
    /// each item was tried.
    ///
    /// Costs 0.1 µs an item, since a worker takes one at a time.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let retry = Retry::exponential(Duration::from_millis(5), Duration::from_secs(1), 4);
    /// let executor = BatchExecutor::builder().workers(8).build()?;
    /// let result = executor
    ///     .batch(0..100)
    ///     .retry(retry)
    ///     .run_with(|n, cx| if cx.attempt() == 1 { Err("busy") } else { Ok(n * 2) })?;
    /// assert!(result.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry<B, W>(self, retry: Retry<B, W>) -> Batch<'a, It, Retry<B, W>, S, K> {
        self.with(|_, init, keep| (retry, init, keep))
    }

    /// Gives each worker something of its own, such as a connection or a buffer: [`ItemContext::state`] in
    /// [`run_with`](Batch::run_with). The last call wins.
    ///
    /// `init` is called on the worker, before its first item, and at most once for each worker that the batch has at a time;
    /// what it made is used and dropped on that thread, so it need not be `Send`. A worker that finds nothing to do makes none. If
    /// `init` panics, that is the outcome of the item at hand, and the next item's turn calls it again.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let connections = AtomicUsize::new(0);
    /// let executor = BatchExecutor::builder().workers(3).build()?;
    /// let result = executor
    ///     .batch(0..100)
    ///     .state(|| connections.fetch_add(1, Ordering::Relaxed))
    ///     .run_with(|n, cx| Ok::<_, String>((*n, *cx.state)))?;
    /// assert!(result.is_success());
    /// assert!(connections.into_inner() <= 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn state<Q>(self, init: impl Fn() -> Q + Sync + 'a) -> Batch<'a, It, R, Q, K> {
        self.with(|retry, _, keep| (retry, Box::new(init) as _, keep))
    }

    /// Keeps what becomes of each item in a [`Journal`], and runs only what is not there as done: the result has all
    /// items in order, old and new. The last call wins.
    ///
    /// An item that is done is not run, asks for no permit, and counts as completed at once. Its value is read from the file; its
    /// [`attempts`](BatchResult::attempts) are those of the run in which it was decided.
    ///
    /// Items and values are [`Serialize`](serde::Serialize), values are `DeserializeOwned` too (so they own what they hold), and errors have a text. Before
    /// anything runs, all items are compared with the plan, as far as [it knows them](crate::Plan::named), and two with the same id are refused; in a stream, each as it comes. If the journal cannot
    /// be written, the batch stops with [`StopReason::Journal`](crate::StopReason::Journal), and
    /// [`journal_error`](BatchResult::journal_error) says why; outcomes are all there, also those that are not in the file.
    ///
    /// Of a [shard](crate::Shard), the batch gets the items without their indices: `shard.select(items).map(|(_, item)| item)`. A journal is kept by one
    /// batch at a time.
    ///
    /// Costs a line written and read again for each item (2 to 4 µs), and [now and then](crate::Journal) a sync.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("journal-step-{}.jsonl", std::process::id()));
    /// let rows = ["a", "b", "c", "d"];
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let mut done = Vec::new();
    /// for power in ["fails", "is back"] {
    ///     let journal = Journal::open(&path, Plan::of(rows)?)?;
    ///     let result = executor.batch(rows).journal(&journal).run(|row| {
    ///         if power == "fails" && *row > "b" { Err("no power") } else { Ok(format!("{row} while power {power}")) }
    ///     })?;
    ///     done = result.values().cloned().collect();
    /// }
    /// let (old, new) = ("while power fails", "while power is back");
    /// assert_eq!(done, [format!("a {old}"), format!("b {old}"), format!("c {new}"), format!("d {new}")]);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "journal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
    pub fn journal(self, journal: &'a Journal) -> Batch<'a, It, R, S, Journaled<'a>> {
        self.with(|retry, init, _| (retry, init, Journaled::new(journal, Serialized)))
    }

    /// Keeps a [journal](Batch::journal) in which items are called what `id` makes of them: for items that cannot be written as JSON, or
    /// are too large for that. The plan is then made of the same texts.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("journal-as-{}.jsonl", std::process::id()));
    /// struct Upload { name: String, bytes: Vec<u8> }
    /// let uploads = [Upload { name: "a.png".into(), bytes: vec![0; 100] }];
    ///
    /// let journal = Journal::open(&path, Plan::of(uploads.iter().map(|upload| &upload.name))?)?;
    /// let result = BatchExecutor::new()
    ///     .batch(uploads)
    ///     .journal_as(&journal, |upload| upload.name.clone())
    ///     .run(|upload| Ok::<_, String>(upload.bytes.len()))?;
    /// assert!(result.is_success());
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "journal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
    pub fn journal_as<F>(self, journal: &'a Journal, id: F) -> Batch<'a, It, R, S, Journaled<'a, F>>
    where
        F: Fn(&It::Item) -> String + Sync,
    {
        self.with(|retry, init, _| (retry, init, Journaled::new(journal, id)))
    }

    /// Records when each attempt at each item was queued, waited for a permit, started and ended, on which worker, and how: for
    /// [`BatchResult::timeline`], [`Streamed::timeline`](crate::Streamed::timeline). Items are called what their `Debug` text
    /// is, without the quotation marks of a string, up to 200 bytes of it; for something else there is
    /// [`record_timeline_as`](Batch::record_timeline_as).
    ///
    /// Costs a reading of the clock an item (55 to 70 ns in all), one more where it may have to wait for a permit and where it is kept, and about 100 bytes and the id for each of the
    /// attempts that are [kept](Batch::timeline_spans). Without it, a batch is not slower than if it did not exist.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, RateLimit};
    ///
    /// let executor = BatchExecutor::builder().workers(4).rate_limiter(RateLimit::per_second(1_000)).build()?;
    /// let result = executor.batch(0..50).record_timeline().run(|n| Ok::<_, String>(n * n))?;
    ///
    /// let timeline = result.timeline().unwrap();
    /// println!("{}", timeline.stats());                          // a table for the terminal
    /// # let file = std::io::sink();
    /// timeline.write_html(file)?;                                // a page to look at
    /// let waited = timeline.spans().iter().filter(|span| span.limiter_wait() > span.run_time()).count();
    /// println!("{waited} items waited for the limiter longer than they ran");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_timeline(self) -> Self
    where
        It::Item: fmt::Debug + 'a,
    {
        self.record_timeline_as(debug_name)
    }

    /// Records a [timeline](Batch::record_timeline) in which items are called what `id` returns; more than 200 bytes are cut off. It
    /// is called on the workers, for the attempts that are kept, when they have ended. If it panics, the panic's message is the id.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// struct Upload { name: String, bytes: Vec<u8> }
    /// let uploads = vec![Upload { name: "a.png".into(), bytes: vec![0; 100] }];
    ///
    /// let result = BatchExecutor::new()
    ///     .batch(uploads)
    ///     .record_timeline_as(|upload| upload.name.clone())
    ///     .run(|upload| Ok::<_, String>(upload.bytes.len()))?;
    /// assert_eq!(result.timeline().unwrap().spans()[0].id(), "a.png");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_timeline_as(mut self, id: impl Fn(&It::Item) -> String + Sync + 'a) -> Self {
        self.id = Some(Box::new(id));
        self
    }

    /// How many attempts a recorded timeline may keep. Default 100,000, which take about 10 MB and as long a page; while it runs, each
    /// worker keeps its 100 slowest and first 100 failures beside that. Of more, a
    /// [sample](crate::Timeline) remains, and counts stay exact. The last call wins; it does not ask for a timeline by itself.
    ///
    /// # Panics
    ///
    /// If `spans` is 0.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(0..10_000).record_timeline().timeline_spans(1_000).run(|n| Ok::<_, String>(*n))?;
    /// let timeline = result.timeline().unwrap();
    /// assert!(!timeline.is_complete() && timeline.spans().len() <= 1_000);
    /// assert_eq!(timeline.stats().attempts, 10_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeline_spans(mut self, spans: usize) -> Self {
        assert!(spans > 0, "a timeline of 0 spans would show nothing");
        self.asked.spans = spans;
        self
    }

    /// How many items a [`stream`](Batch::stream) may have under way at a time: pulled out of the iterator, and not yet handed
    /// on to the consumer. Default 4 for each worker; with adaptive workers, for each that there may be. The last call wins.
    ///
    /// It bounds the memory of a stream, and how far a slow item can hold the others back: when it is the next to be handed
    /// on, so many items, itself included, are all that go on beside it. Items that take less than a few microseconds want a window of some
    /// hundreds or thousands, so that workers can take several at a time. There are never more workers at work than the
    /// window has room for.
    ///
    /// [`run`](Batch::run), [`run_with`](Batch::run_with) and [`run_tasks`](Batch::run_tasks) do not look at it: their window
    /// is everything.
    ///
    /// # Panics
    ///
    /// If `items` is 0: nothing could ever start.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let pulled = AtomicUsize::new(0);
    /// let endless = (0..).inspect(|_| _ = pulled.fetch_add(1, Ordering::Relaxed));
    /// let executor = BatchExecutor::builder().workers(4).build()?;
    /// let streamed = executor.batch(endless).window(10).stream(|n| Ok::<_, String>(n * n), |results| {
    ///     for (handed_on, item) in results.take(100).enumerate() {
    ///         assert_eq!(item.outcome.unwrap(), handed_on * handed_on);
    ///         assert!(pulled.load(Ordering::Relaxed) <= handed_on + 10);
    ///     }
    /// });
    /// assert_eq!(streamed.succeeded, 100);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn window(mut self, items: usize) -> Self {
        assert!(items > 0, "a window of 0 items would never let anything start");
        self.asked.flow.window = Some(items);
        self
    }

    /// Has a [`stream`](Batch::stream) hand outcomes on as they come, instead of in input order: a slow item then holds nothing
    /// back but its own place in the [`window`](Batch::window).
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::{thread, time::Duration};
    ///
    /// let executor = BatchExecutor::builder().workers(2).build()?;
    /// let millis = [200, 1, 1, 1];
    /// let streamed = executor.batch(millis).unordered().stream(
    ///     |&n| Ok::<_, String>(thread::sleep(Duration::from_millis(n))),
    ///     |results| results.map(|item| item.id).collect::<Vec<_>>(),
    /// );
    /// println!("{:?}", streamed.output);                  // [1, 1, 1, 200]
    /// # let mut ids = streamed.output; ids.sort(); assert_eq!(ids, [1, 1, 1, 200]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn unordered(mut self) -> Self {
        self.asked.flow.order = Order::Completion;
        self
    }

    /// The same batch, with other types.
    fn with<P, Q, L>(
        self,
        change: impl FnOnce(R, Init<'a, S>, K) -> (P, Init<'a, Q>, L),
    ) -> Batch<'a, It, P, Q, L> {
        let Batch { engine, items, asked, id, retry, init, keep } = self;
        let (retry, init, keep) = change(retry, init, keep);
        Batch { engine, items, asked, id, retry, init, keep }
    }
}

/// Verbs.
impl<It: Iterator, R, S, K> Batch<'_, It, R, S, K> {
    /// Runs `op` on every item and waits for all of them.
    ///
    /// All items are taken out of the iterator first, on this thread. Outcomes come back in input order. The first
    /// items, as many as there are workers, are started one by one and at once; beyond that, items must not wait for one
    /// another, since a worker may hold several.
    ///
    /// A panic in `op` is that item's outcome, [`ItemError::Panicked`](crate::ItemError::Panicked); the panic hook prints
    /// its message first, as for any panic. `op` may start other batches, on this executor too: they never wait for a
    /// thread, and have a worker limit of their own.
    ///
    /// Items, values and errors are `Send`, whatever the worker count; for errors of any kind that is
    /// `Box<dyn Error + Send + Sync>`. `op` gets a reference to the item, so a function of `&str` is passed as
    /// `|text| function(text)`.
    ///
    /// Costs a few nanoseconds an item beside what `op` takes, and the memory of one
    /// [`BatchItem`](crate::BatchItem) each. Values larger than some hundred bytes are better boxed: outcomes are
    /// moved into their place.
    ///
    /// # Errors
    ///
    /// [`BatchError::Stopped`] if the executor stops on failures and there were as many; with `stop_on_error(false)`,
    /// failures are in the result, and this is `Ok`. Where items borrow, `?` needs
    /// [`without_items`](BatchError::without_items).
    ///
    /// # Panics
    ///
    /// If the iterator, the progress callback, or a destructor of what is thrown away panics; never while something of
    /// the batch is still running.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError};
    ///
    /// let executor = BatchExecutor::builder().workers(2).stop_on_error(false).build()?;
    /// let result = executor.batch(["3", "4", "x"]).run(|word| word.parse::<i32>())?;
    /// assert_eq!(result.values().copied().collect::<Vec<_>>(), [3, 4]);
    /// assert!(matches!(result.items()[2].error(), Some(ItemError::Failed(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<I, T, E>(
        self,
        op: impl Fn(&I) -> Result<T, E> + Sync,
    ) -> Result<BatchResult<I, T, E>, BatchError<I, T, E>>
    where
        It: Iterator<Item = I>,
        I: Send,
        T: Send,
        E: Send,
        R: RetryPolicy<E>,
        K: JournalPolicy<I, T, E>,
    {
        self.go(Instant::now(), false, move |item: &I, _: &mut ItemContext<'_, S>| op(item))
            .unwrap_or_else(|panic| panic.resume())
    }

    /// Runs `op` on every item, and tells it more than the item: [`ItemContext`] knows index, attempt and worker, whether the
    /// batch has stopped, and holds the worker's [`state`](Batch::state). Like [`run`](Batch::run) in everything else.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Batch::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does, and if the destructor of a worker's state panics.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let result = BatchExecutor::new()
    ///     .batch(["a", "b"])
    ///     .run_with(|id, cx| Ok::<_, String>(format!("{}: {id}", cx.index())))?;
    /// assert_eq!(result.into_values().unwrap(), ["0: a", "1: b"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_with<I, T, E>(
        self,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
    ) -> Result<BatchResult<I, T, E>, BatchError<I, T, E>>
    where
        It: Iterator<Item = I>,
        I: Send,
        T: Send,
        E: Send,
        R: RetryPolicy<E>,
        K: JournalPolicy<I, T, E>,
    {
        self.go(Instant::now(), true, op).unwrap_or_else(|panic| panic.resume())
    }

    /// Runs `op` on items as they are pulled out of the iterator, and hands each on as soon as it and all before it are done: for
    /// input that is endless, or larger than memory, and for results that are wanted before the last one is there.
    ///
    /// `consume` is called once, on this thread, with [`Results`], an ordinary iterator of [`BatchItem`](crate::BatchItem)s in
    /// input order. What it returns is the [`output`](Streamed::output). Meanwhile workers pull items, one thread at a time and no further than the
    /// [`window`](Batch::window) allows, and run them. So memory does not grow with the input, and a slow first item holds the window
    /// back and never makes it larger. Without other threads, with one worker or where none can be had, an item is pulled and run when the
    /// consumer asks for it.
    ///
    /// The iterator may wait in `next`, for a channel or for stdin: what was pulled runs on and is handed on meanwhile, even if
    /// the iterator waits for what the consumer makes of it. It is not asked again after its end. It goes to other threads, so it is `Send`: `BufReader::new(io::stdin())` is, `stdin().lock()` is not.
    ///
    /// Everything else is as in [`run`](Batch::run): rate limits, retries, states, cancels, panics as outcomes. Progress
    /// is reported on this thread, while the consumer asks for the next item. An item that backs off keeps its place in the window.
    ///
    /// # Stopping
    ///
    /// - When the executor stops on a failure, `Results` ends behind that item, the lowest that failed, whatever the number of workers.
    /// - After a cancel or a deadline, it ends before the first item that did not run. An [`unordered`](Batch::unordered) stream hands
    ///   on all that did.
    /// - When `consume` returns early, or panics, nothing more starts.
    ///
    /// In each case what runs is waited for, also an iterator that is in its `next`; up to a window of items may have been pulled
    /// and are dropped.
    ///
    /// # Panics
    ///
    /// If `consume`, the iterator, the progress callback or a destructor of what is thrown away panics; never while something of the
    /// stream is still running.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Workers};
    /// use std::io::{BufRead, Cursor};
    ///
    /// let input = Cursor::new("3\n1\nfour\n5\n");                  // or BufReader::new(io::stdin()), or a file
    /// let executor = BatchExecutor::builder().workers(Workers::auto()).stop_on_error(false).build()?;
    /// let streamed = executor.batch(input.lines().map_while(Result::ok)).stream(
    ///     |line| line.parse::<u32>(),
    ///     |results| {
    ///         let mut sum = 0;
    ///         for item in results {                                 // in the order of the lines
    ///             match item.outcome {
    ///                 Ok(number) => sum += number,
    ///                 Err(error) => println!("{}: {error}", item.id), // four: invalid digit found in string
    ///             }
    ///         }
    ///         sum
    ///     },
    /// );
    /// assert_eq!((streamed.output, streamed.succeeded, streamed.failed), (9, 3, 1));
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn stream<I, T, E, O>(
        self,
        op: impl Fn(&I) -> Result<T, E> + Sync,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> O,
    ) -> Streamed<O>
    where
        It: Iterator<Item = I> + Send,
        I: Send,
        T: Send,
        E: Send,
        R: RetryPolicy<E>,
        K: JournalPolicy<I, T, E>,
    {
        self.flow(false, move |item: &I, _: &mut ItemContext<'_, S>| op(item), consume)
    }

    /// Like [`stream`](Batch::stream), with an operation that is told more than the item, as in [`run_with`](Batch::run_with).
    ///
    /// # Panics
    ///
    /// As [`stream`](Batch::stream) does, and if the destructor of a worker's state panics.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::builder().workers(2).build()?;
    /// let streamed = executor.batch(["a", "b", "c"]).state(String::new).stream_with(
    ///     |letter, cx| {
    ///         cx.state.push_str(letter);                          // this worker's own
    ///         Ok::<_, String>(cx.index())
    ///     },
    ///     |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
    /// );
    /// assert_eq!(streamed.output, [0, 1, 2]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn stream_with<I, T, E, O>(
        self,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> O,
    ) -> Streamed<O>
    where
        It: Iterator<Item = I> + Send,
        I: Send,
        T: Send,
        E: Send,
        R: RetryPolicy<E>,
        K: JournalPolicy<I, T, E>,
    {
        self.flow(true, op, consume)
    }

    fn flow<I, T, E, O>(
        self,
        numbered: bool,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> O,
    ) -> Streamed<O>
    where
        It: Iterator<Item = I> + Send,
        I: Send,
        T: Send,
        E: Send,
        R: RetryPolicy<E>,
        K: JournalPolicy<I, T, E>,
    {
        let since = Instant::now();
        let Batch { engine, items, asked, id, retry, init, keep } = self;
        let flow = asked.flow;
        let (observers, control) = asked.parts(id, since, numbered);
        let steps = Steps { op, init, retry, keep, types: PhantomData };
        let ended = engine.stream(items, flow, observers, &control, steps, consume);
        ended.unwrap_or_else(|panic| panic.resume())
    }

    /// A panic that is no item's is handed back.
    fn go<I, T, E>(
        self,
        since: Instant,
        numbered: bool,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
    ) -> Result<Outcome<I, T, E>, Panic>
    where
        It: Iterator<Item = I>,
        I: Send,
        T: Send,
        E: Send,
        R: RetryPolicy<E>,
        K: JournalPolicy<I, T, E>,
    {
        let Batch { engine, items, asked, id, retry, init, keep } = self;
        let (observers, control) = asked.parts(id, since, numbered);
        let steps = Steps { op, init, retry, keep, types: PhantomData };
        engine.run(items, observers, &control, steps)
    }
}

impl<'a> Asked<'a> {
    /// For a run that began at `since`, and is recorded if there are ids.
    fn parts<I>(
        self,
        id: Option<NameOf<'a, I>>,
        since: Instant,
        numbered: bool,
    ) -> (Observers<'a, I>, Control) {
        let Asked { on_progress, tokens, deadline, timeout, spans, .. } = self;
        let deadlines = [deadline, timeout.and_then(|timeout| since.checked_add(timeout))];
        let deadline = deadlines.into_iter().flatten().min();
        let record = id.map(|name_of| Record { name_of, spans });
        (Observers { on_progress, record }, Control { since, tokens, deadline, numbered })
    }
}

/// Tasks can run once, so there is neither retry nor state for them.
impl<It: Iterator> Batch<'_, It> {
    /// Runs one task for each item; the items are the ids under which the outcomes come back.
    ///
    /// Like [`run`](Batch::run) in everything else. Tasks that never start are dropped, on this thread, when the
    /// batch is over.
    ///
    /// # Errors
    ///
    /// [`BatchError::LengthMismatch`] if there are more tasks than items or fewer; nothing has run then. Otherwise as
    /// for [`run`](Batch::run).
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let greet = |name: &'static str| move || Ok::<_, String>(format!("hello {name}"));
    /// let result = BatchExecutor::new()
    ///     .batch(["id-1", "id-2"])
    ///     .run_tasks([greet("Ada"), greet("Bob")])?;
    /// assert_eq!(result.items()[1].id, "id-2");
    /// assert_eq!(result.into_values().unwrap(), ["hello Ada", "hello Bob"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_tasks<I, T, E, F>(
        self,
        tasks: impl IntoIterator<Item = F>,
    ) -> Result<BatchResult<I, T, E>, BatchError<I, T, E>>
    where
        It: Iterator<Item = I>,
        F: FnOnce() -> Result<T, E> + Send,
        I: Send,
        T: Send,
        E: Send,
    {
        let since = Instant::now();
        let Batch { engine, items, asked, id, retry, init, keep } = self;
        let (Ok(ids), Ok(tasks)) = (collect(items), collect(tasks.into_iter().map(Some).map(Mutex::new)))
        else {
            return Err(BatchError::out_of_memory());
        };
        if tasks.len() != ids.len() {
            return refuse(tasks, ids);
        }
        let items = ids.into_iter();
        let batch = Batch { engine, items, asked, id, retry, init, keep };
        let ended = batch.go(since, false, |_: &I, context| take(&tasks[context.index()])());
        let unstarted = panic::drop_each(tasks);
        match (ended, unstarted) {
            (Ok(outcome), Ok(())) => outcome,
            (Ok(outcome), Err(panic)) => discard(outcome, panic),
            (Err(panic), _) => panic.resume(),
        }
    }
}

/// Drops tasks and ids that do not match. Whatever their destructors do, all of them.
fn refuse<F, I, T, E>(tasks: Vec<F>, ids: Vec<I>) -> Outcome<I, T, E> {
    let error = BatchError::LengthMismatch { tasks: tasks.len(), item_ids: ids.len() };
    match panic::drop_each(tasks).and(panic::drop_each(ids)) {
        Ok(()) => Err(error),
        Err(panic) => panic.resume(),
    }
}

/// Drops what a batch came to, and lets a panic go on.
fn discard<I, T, E>(outcome: Outcome<I, T, E>, panic: Panic) -> ! {
    if let Some(result) = outcome.map_or_else(BatchError::into_partial, Some) {
        let _ = discard_each(result);
    }
    panic.resume()
}

/// The task of one item. Every item is run once, so it is there.
fn take<F>(slot: &Mutex<Option<F>>) -> F {
    let task = slot.lock().take();
    task.unwrap_or_else(|| unreachable!("an item was run twice"))
}

impl<It: Iterator, R, S, K> fmt::Debug for Batch<'_, It, R, S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("reports_progress", &self.asked.on_progress.is_some())
            .field("records_timeline", &self.id.is_some())
            .finish_non_exhaustive()
    }
}
