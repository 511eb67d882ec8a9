//! Every verb tells the same story of a batch: what starts when, what is reported and when, what is recorded. With one worker, and a clock
//! that stands still while anything runs, that story is the same to the nanosecond.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use batch_executor::{
    Batch, BatchExecutor, BatchResult, ItemContext, Limit, Outcome, Progress, RateLimit, Results, Retry,
    RetryDecision, Streamed, TestClock, Timeline,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::common::{MEANT, nap, silence_meant_panics};

const MILLI: Duration = Duration::from_millis(1);

/// What becomes of an item.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// How long each attempt takes, in milliseconds.
    takes: u32,
    /// How many attempts fail first.
    fails: usize,
    /// What the last of those does: panic, or ask for a pause.
    panics: bool,
    pauses: bool,
    /// What it takes of the limit.
    cost: u64,
}

#[derive(Debug, Clone)]
struct Case {
    fates: Vec<Fate>,
    /// None where the executor says it.
    stop_on_error: Option<bool>,
    stop_after: Option<usize>,
    delays: Option<Vec<u32>>,
    rate: Option<u32>,
    rate_by_key: Option<u32>,
    slots: Option<usize>,
    timeout: Option<u32>,
    tick: Option<u32>,
}

/// What happens, in order, and what there is in the end.
#[derive(Debug, Default, Clone, PartialEq)]
struct Story {
    attempts: Vec<String>,
    reports: Vec<Report>,
    outcomes: Vec<String>,
    ended: String,
    spans: Vec<String>,
    /// Of the reports, what they tell of decided items.
    decided: Vec<String>,
}

/// What is called, when, with what.
type Report = (&'static str, Duration, Progress);

impl Story {
    /// Its reports tell of decided items only, and of no ticks.
    fn tell_of_decided(&mut self) {
        let calls = self.reports.drain(..).filter(|(what, ..)| *what == "call");
        let of_decided = |(_, at, p): Report| {
            format!("{at:?} {:?}", (p.completed, p.total_hint, p.succeeded, p.failed, p.elapsed))
        };
        self.decided = calls.map(of_decided).collect();
    }
}

/// Where a story is told while it happens.
struct Stage<'c> {
    case: &'c Case,
    now: &'c (dyn Fn() -> Duration + Sync),
    story: Mutex<Story>,
    tries: Mutex<BTreeMap<u32, usize>>,
}

impl<'c> Stage<'c> {
    fn new(case: &'c Case, now: &'c (dyn Fn() -> Duration + Sync)) -> Self {
        Stage { case, now, story: Mutex::default(), tries: Mutex::default() }
    }

    fn fate(&self, item: u32) -> Fate {
        self.case.fates[item as usize - 100]
    }

    /// An attempt begins; how long it takes.
    fn begins(&self, item: u32, context: Option<&ItemContext<'_, impl Sized>>) -> Duration {
        let mut tries = self.tries.lock().unwrap();
        let tried = tries.entry(item).or_default();
        *tried += 1;
        if let Some(context) = context {
            let told = (context.index(), context.attempt(), context.worker(), context.is_cancelled());
            assert_eq!(told, (item as usize - 100, *tried, 0, false), "what the context says");
            assert_eq!(context.deadline().is_some(), self.case.timeout.is_some());
        }
        let line = format!("{item} for the {tried}. time at {:?}", (self.now)());
        self.story.lock().unwrap().attempts.push(line);
        self.fate(item).takes * MILLI
    }

    /// The attempt has taken its time.
    fn ends(&self, item: u32) -> Result<u32, String> {
        let (fate, tried) = (self.fate(item), self.tries.lock().unwrap()[&item]);
        assert!(!(fate.panics && tried == fate.fails), "{MEANT}");
        if tried > fate.fails {
            return Ok(item * 10);
        }
        Err(if fate.pauses && tried == fate.fails { "too many" } else { "busy" }.into())
    }

    fn attempt(&self, item: u32, context: Option<&ItemContext<'_, impl Sized>>) -> Result<u32, String> {
        nap(self.begins(item, context));
        self.ends(item)
    }

    fn reports(&self, what: &'static str, progress: &Progress) {
        self.story.lock().unwrap().reports.push((what, (self.now)(), *progress));
    }

    fn batch<'b>(&'b self, executor: &'b BatchExecutor) -> Batch<'b, std::vec::IntoIter<u32>, u32, String> {
        let case = self.case;
        let items: Vec<u32> = (100..).take(case.fates.len()).collect();
        let mut batch =
            executor.batch(items).record_timeline().on_progress(|progress| self.reports("call", progress));
        if let Some(stop) = case.stop_on_error {
            batch = batch.stop_on_error(stop);
        }
        if let Some(failures) = case.stop_after {
            batch = batch.stop_after_failures(failures);
        }
        if let Some(delays) = &case.delays {
            let decide = |error: &String| match error.as_str() {
                "too many" => RetryDecision::PauseAll(70 * MILLI),
                _ => RetryDecision::Retry,
            };
            batch = batch.retry(Retry::delays(|| delays.iter().map(|delay| *delay * MILLI)).when(decide));
        }
        if let Some(every) = case.rate {
            let limit = Limit::rate(RateLimit::every(every * MILLI)).cost(|item| self.fate(*item).cost);
            batch = batch.limit(limit.named("rate"));
        }
        if let Some(every) = case.rate_by_key {
            let limit = move |key: &u32| RateLimit::every((every + key) * MILLI);
            batch = batch.limit(Limit::per_key(|item: &u32| item % 3, move |key| Limit::rate(limit(key))));
        }
        if let Some(slots) = case.slots {
            batch = batch.limit(Limit::at_once(slots).cost(|item| self.fate(*item).cost.min(1)));
        }
        if let Some(timeout) = case.timeout {
            batch = batch.timeout(timeout * MILLI);
        }
        if let Some(every) = case.tick {
            batch = batch.on_tick(every * MILLI, |progress| self.reports("tick", progress));
        }
        batch
    }

    fn end(self, result: &BatchResult<u32, u32, String>) -> Story {
        let mut story = self.story.into_inner().unwrap();
        let items = result.iter();
        story.outcomes = items.map(|item| line(item.index, *item.item, item.outcome)).collect();
        let attempts: Vec<_> = (0..result.total()).map(|index| result.attempts(index)).collect();
        story.ended = format!("{result:?} {attempts:?}");
        story.spans = spans(result.timeline().unwrap());
        story
    }

    fn end_of_stream(self, streamed: &Streamed<Vec<String>>) -> Story {
        let mut story = self.story.into_inner().unwrap();
        story.outcomes.clone_from(&streamed.output);
        story.ended = format!("{:?}", (streamed.stopped, streamed.succeeded, streamed.failed));
        story.spans = spans(streamed.timeline().unwrap());
        story
    }
}

fn line(index: usize, item: u32, outcome: &Outcome<u32, String>) -> String {
    format!("{index}: {item} {outcome:?}")
}

fn spans(timeline: &Timeline) -> Vec<String> {
    timeline.spans().iter().map(|span| format!("{span:?}")).collect()
}

fn executor(clock: &TestClock) -> BatchExecutor {
    BatchExecutor::builder().workers(1).clock(clock.clone()).build().unwrap()
}

/// The stories of all verbs that work on threads.
fn on_threads(case: &Case) -> BTreeMap<&'static str, Story> {
    type Verb = for<'s> fn(
        &'s Stage<'_>,
        Batch<'s, std::vec::IntoIter<u32>, u32, String>,
    ) -> BatchResult<u32, u32, String>;
    let verbs: [(&str, Verb); 5] = [
        ("run", |stage, batch| batch.run(|item| stage.attempt(*item, None::<&ItemContext<'_>>))),
        ("run_with", |stage, batch| batch.run_with(|item, cx| stage.attempt(*item, Some(cx)))),
        ("run_init", |stage, batch| batch.run_init(String::new, |item, cx| stage.attempt(*item, Some(cx)))),
        ("try_run_init", |stage, batch| {
            batch.try_run_init(|| Ok(String::new()), |item, cx| stage.attempt(*item, Some(cx)))
        }),
        ("run_growing", |stage, batch| batch.run_growing(|item, cx, _| stage.attempt(*item, Some(cx)))),
    ];
    let mut stories = BTreeMap::new();
    for (name, verb) in verbs {
        let clock = TestClock::new();
        let (executor, now) = (executor(&clock), || clock.elapsed());
        let stage = Stage::new(case, &now);
        let result = verb(&stage, stage.batch(&executor));
        stories.insert(name, stage.end(&result));
    }
    stories
}

/// The stories of the streams on threads.
fn of_streams(case: &Case) -> BTreeMap<&'static str, Story> {
    let mut stories = BTreeMap::new();
    for name in ["stream", "stream_with", "stream_init"] {
        let clock = TestClock::new();
        let (executor, now) = (executor(&clock), || clock.elapsed());
        let stage = Stage::new(case, &now);
        let batch = stage.batch(&executor);
        let consume = |results: &mut Results<'_, u32, u32, String>| {
            results.map(|item| line(item.index, item.item, &item.outcome)).collect()
        };
        let streamed: Streamed<Vec<_>> = match name {
            "stream" => batch.stream(|item| stage.attempt(*item, None::<&ItemContext<'_>>), consume),
            "stream_with" => batch.stream_with(|item, cx| stage.attempt(*item, Some(cx)), consume),
            _ => batch.stream_init(String::new, |item, cx| stage.attempt(*item, Some(cx)), consume),
        };
        stories.insert(name, stage.end_of_stream(&streamed));
    }
    stories
}

/// The stories of batches in a task, by the clock of its runtime.
#[cfg(feature = "tokio")]
fn in_tasks(case: &Case) -> BTreeMap<&'static str, Story> {
    use tokio::time::{Instant, sleep};

    let mut stories = BTreeMap::new();
    for name in ["run_async", "run_async_with", "stream_async"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let since = Instant::now();
            let (executor, now) = (BatchExecutor::builder().workers(1).build().unwrap(), || since.elapsed());
            let stage = Stage::new(case, &now);
            let batch = stage.batch(&executor);
            let op = async |item: &u32| {
                sleep(stage.begins(*item, None::<&ItemContext<'_>>)).await;
                stage.ends(*item)
            };
            if name == "run_async" {
                let result = batch.run_async(op).await;
                stories.insert(name, stage.end(&result));
            } else if name == "run_async_with" {
                let op = async |item: &u32, cx: &mut ItemContext<'_>| {
                    sleep(stage.begins(*item, Some(cx))).await;
                    stage.ends(*item)
                };
                let result = batch.run_async_with(op).await;
                stories.insert(name, stage.end(&result));
            } else {
                let streamed = batch
                    .stream_async(op, async |results| {
                        let mut lines = Vec::new();
                        while let Some(item) = results.next().await {
                            lines.push(line(item.index, item.item, &item.outcome));
                        }
                        lines
                    })
                    .await;
                stories.insert(name, stage.end_of_stream(&streamed));
            }
        });
    }
    stories
}

fn cases() -> impl Strategy<Value = Case> {
    let fate = (
        1_u32..60,
        prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2), 1 => Just(9)],
        any::<[bool; 3]>(),
        0_u64..3,
    )
        .prop_map(|(takes, fails, [first, second, pauses], cost)| Fate {
            takes,
            fails,
            panics: first && second,
            pauses,
            cost,
        });
    let millis = || option::weighted(0.4, 1_u32..100);
    let stops = (any::<bool>().prop_map(Some), option::weighted(0.2, 1_usize..4));
    let limits = (millis(), millis(), option::weighted(0.3, 1_usize..3));
    let delays = option::weighted(0.6, vec(0_u32..90, 1..3));
    let times = (option::weighted(0.2, 50_u32..400), millis());
    (vec(fate, 0..9), stops, delays, limits, times).prop_map(
        |(fates, (stop_on_error, stop_after), delays, (rate, rate_by_key, slots), (timeout, tick))| Case {
            fates,
            stop_on_error,
            stop_after,
            delays,
            rate,
            rate_by_key,
            slots,
            timeout,
            tick,
        },
    )
}

#[track_caller]
fn assert_equal<'s>(stories: impl IntoIterator<Item = (&'static str, &'s Story)>) {
    let mut stories = stories.into_iter();
    let (first, expected) = stories.next().unwrap();
    for (name, Story { attempts, reports, outcomes, ended, spans, decided }) in stories {
        assert_eq!(attempts, &expected.attempts, "attempts of {name} and {first}");
        assert_eq!(outcomes, &expected.outcomes, "outcomes of {name} and {first}");
        assert_eq!(ended, &expected.ended, "{name} and {first}");
        assert_eq!(spans, &expected.spans, "spans of {name} and {first}");
        assert_eq!(reports, &expected.reports, "reports of {name} and {first}");
        assert_eq!(decided, &expected.decided, "reports of {name} and {first}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_verbs_tell_the_same_story(case in cases()) {
        silence_meant_panics();
        let mut stories = on_threads(&case);
        for (.., progress) in &mut stories.get_mut("run_growing").unwrap().reports {
            progress.total_hint = Some(progress.total); // not known while an item may push more
        }
        assert_equal(stories.iter().map(|(name, story)| (*name, story)));
    }

    #[test]
    fn all_streams_tell_the_same_story(case in cases()) {
        silence_meant_panics();
        assert_equal(of_streams(&case).iter().map(|(name, story)| (*name, story)));
    }

    #[test]
    fn what_the_executor_is_told_holds_as_if_each_batch_was_told(mut case in cases()) {
        silence_meant_panics();
        case.fates.iter_mut().for_each(|fate| fate.cost = 1);
        case.delays = None; // an item that is tried again meets those that were taken up ahead
        case.rate_by_key = None; // of several rates, the first decides which permits are taken ahead: the executor's is the last
        let clock = TestClock::new();
        let mut builder = BatchExecutor::builder().workers(1).clock(clock.clone());
        if let Some(every) = case.rate {
            builder = builder.rate_limiter(RateLimit::every(every * MILLI));
        }
        let executor = builder.stop_on_error(case.stop_on_error == Some(true)).build().unwrap();
        let (untold, now) = (Case { stop_on_error: None, rate: None, ..case.clone() }, || clock.elapsed());
        let stage = Stage::new(&untold, &now);
        let result = stage.batch(&executor).run(|item| stage.attempt(*item, None::<&ItemContext<'_>>));
        let mut stories = [stage.end(&result), on_threads(&case).remove("run").unwrap()];
        // Where a limit looks at the item, workers take up more of them ahead.
        for story in &mut stories {
            story.spans.clear();
            story.tell_of_decided();
        }
        let [of_executor, of_batch] = &stories;
        assert_equal([("batch", of_batch), ("executor", of_executor)]);
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn batches_in_tasks_tell_the_same_story(case in cases()) {
        silence_meant_panics();
        // A thread alone does not tick while it runs an item, tells of it before the next, and does not cut it off.
        // Its clock has whole milliseconds: two waits that end within one may end in another order. So a retry or one limit.
        let rate = case.rate.filter(|_| case.delays.is_none());
        let rate_by_key = case.rate_by_key.filter(|_| case.delays.is_none() && rate.is_none());
        let slots = case.slots.filter(|_| case.delays.is_none() && rate.or(rate_by_key).is_none());
        let case = Case { tick: None, timeout: None, rate, rate_by_key, slots, ..case };
        let (mut stories, threads, streams) = (in_tasks(&case), on_threads(&case), of_streams(&case));
        stories.extend([threads, streams].into_iter().flatten());
        stories.values_mut().for_each(Story::tell_of_decided); // what is under way differs by the next item
        assert_equal(["run", "run_async", "run_async_with"].map(|name| (name, &stories[name])));
        // A thread alone pulls nothing while an item waits: the input might keep it.
        let Case { delays: None, rate: None, rate_by_key: None, slots: None, .. } = case else { return Ok(()) };
        assert_equal(["stream", "stream_async"].map(|name| (name, &stories[name])));
    }
}
