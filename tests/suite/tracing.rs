//! What the subscribers of crate `tracing` hear: a span for each batch, an event for each failure and retry, none for a success
//! unless they listen that closely.
#![cfg(feature = "tracing")]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::{Meeting, Way, assert_survived, collecting, stopping};
use batch_executor::{BatchExecutor, LimiterError, Retry, limiter_fn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// Writes down what it hears, up to a level.
#[derive(Clone)]
struct Ear {
    level: Level,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Ear {
    fn new(level: Level) -> Self {
        Ear { level, heard: Arc::default() }
    }

    /// What it hears of this.
    fn hears<R>(&self, what: impl FnOnce() -> R) -> R {
        // The first test that sets it has set it for all.
        let _ = tracing::subscriber::set_global_default(Undecided);
        tracing::subscriber::with_default(Registry::default().with(self.clone()), what)
    }

    fn note(&self, line: String) {
        self.heard.lock().expect("no panic while it is locked").push(line);
    }

    fn lines(&self, start: &str) -> Vec<String> {
        let mut lines = self.heard.lock().expect("no panic while it is locked").clone();
        lines.retain(|line| line.starts_with(start));
        lines.sort();
        lines
    }
}

/// Hears nothing now, and may later. Without it, `tracing` remembers for each span and event that no subscriber wants it, and may do so
/// for one test while another begins to listen.
struct Undecided;

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Ear {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields(String::new());
        attributes.record(&mut fields);
        let span = context.span(id).expect("it is new");
        let parent = span.parent().map_or("nothing", |parent| parent.name());
        self.note(format!("target {}", span.metadata().target()));
        self.note(format!("span {} in {parent}{}", span.name(), fields.0));
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        self.note(format!("record{}", fields.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.note(format!("target {}", event.metadata().target()));
        let within = context.event_span(event).map_or("nothing", |span| span.name());
        self.note(format!("{} in {within}{}", event.metadata().level(), fields.0));
    }
}

#[test]
fn a_batch_is_a_span_in_that_of_its_caller_with_its_counts() {
    let ear = Ear::new(Level::DEBUG);
    ear.hears(|| {
        tracing::info_span!("caller").in_scope(|| {
            let executor = BatchExecutor::builder().workers(3).stop_on_error(false).build().unwrap();
            let result = executor.run(0..10, |n| if *n == 4 { Err("four") } else { Ok(()) });
            assert_eq!(result.stopped(), None);
        });
    });
    assert_eq!(ear.lines("span batch"), ["span batch in caller what=\"batch\" items=10 workers=3"]);
    assert_eq!(ear.lines("record"), ["record failed=1", "record succeeded=9"]);
}

#[test]
fn each_failure_and_each_retry_is_an_event_and_no_success_is() {
    for way in Way::with_threads() {
        let (ear, executor) = (Ear::new(Level::DEBUG), way.collecting());
        ear.hears(|| {
            let retry = Retry::delays(|| [Duration::ZERO].into_iter());
            let batch = way.batch(&executor, ["fine", "busy", "bad", "loud"]).retry(retry);
            let result = batch.run_with(|id, cx| match *id {
                "busy" if cx.attempt() == 1 => Err("busy"),
                "bad" => Err("bad"),
                "loud" => panic!("boom"),
                _ => Ok(()),
            });
            assert_eq!(result.stopped(), None);
        });
        let told = |level| {
            let lines = ear.lines(level).into_iter();
            // The worker may be any.
            lines.map(|line| line.split(" worker=").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let busy = "DEBUG in batch message=item failed, and is tried again index=1 attempt=1";
        let bad = "DEBUG in batch message=item failed, and is tried again index=2 attempt=1";
        assert_eq!(told("DEBUG"), [busy, bad], "{way:?}");
        let bad = "WARN in batch message=item failed index=2 attempt=2";
        let loud = "WARN in batch message=item panicked index=3 attempt=1";
        assert_eq!(told("WARN"), [bad, loud], "{way:?}");
        assert!(ear.lines("WARN")[1].ends_with("note=\"boom\""));
        // That of the span, of two attempts that are followed by others, and of two failures.
        assert_eq!(ear.lines("target "), ["target batch_executor"; 5], "{way:?}");
        assert!(ear.lines("TRACE").is_empty());
    }
}

#[test]
fn an_item_without_a_permit_is_an_event_that_says_so() {
    for way in Way::with_threads() {
        let refuse = || Err(LimiterError::new("the service is closed"));
        let builder = way.builder().stop_on_error(false).rate_limiter(limiter_fn(refuse));
        let (ear, executor) = (Ear::new(Level::DEBUG), builder.build().unwrap());
        ear.hears(|| {
            let retry = Retry::delays(|| [Duration::ZERO].into_iter());
            let result = way.batch(&executor, [7]).retry(retry).run(|n| Ok::<_, String>(*n));
            assert_eq!(result.failed(), 1);
        });
        assert!(ear.lines("DEBUG").is_empty(), "{way:?}");
        let told = ear.lines("WARN").concat();
        assert!(told.starts_with("WARN in batch message=item got no permit index=0 "), "{way:?}: {told}");
        assert!(told.ends_with("the service is closed\""), "{way:?}: {told}");
    }
}

#[test]
fn successes_are_events_for_those_who_listen_that_closely() {
    for way in Way::with_threads() {
        let (ear, executor) = (Ear::new(Level::TRACE), way.collecting());
        let result = ear.hears(|| way.batch(&executor, 0..200).run(|n| Ok::<_, String>(n + 1)));
        assert_eq!(result.stopped(), None);
        assert!(result.timeline().is_none());
        assert_eq!(ear.lines("TRACE in batch message=item succeeded").len(), 200, "{way:?}");
    }
}

#[test]
fn the_event_of_a_success_names_its_item_and_attempt() {
    let ear = Ear::new(Level::TRACE);
    ear.hears(|| {
        let executor = collecting(1);
        let batch = executor.batch(["once", "twice"]).retry(Retry::delays(|| [Duration::ZERO].into_iter()));
        let result =
            batch.run_with(|id, cx| if *id == "twice" && cx.attempt() == 1 { Err("busy") } else { Ok(()) });
        assert!(result.is_success());
    });
    let start = "TRACE in batch message=item succeeded";
    let expected =
        [format!("{start} index=0 attempt=1 worker=0"), format!("{start} index=1 attempt=2 worker=0")];
    assert_eq!(ear.lines(start), expected);
}

/// Without threads, with threads, and where the caller runs quick items by itself.
#[test]
fn the_span_of_a_stream_has_its_counts() {
    for workers in [1, 2] {
        for items in [10, 10_000] {
            let (ear, executor) = (Ear::new(Level::INFO), collecting(workers));
            ear.hears(|| {
                let batch = executor.batch(0..items);
                let op = |n: &i32| if *n == 3 { Err("three") } else { Ok(()) };
                batch.stream(op, |results| results.count()).into_result().unwrap();
            });
            let expected = [format!("record succeeded={}", items - 1), "record failed=1".into()];
            let mut told = ear.lines("record");
            told.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(told, expected, "{workers} workers");
        }
    }
}

#[test]
fn a_stream_is_a_span_too() {
    let ear = Ear::new(Level::INFO);
    ear.hears(|| {
        let streamed =
            stopping(2).batch(0..).stream(|n| Ok::<_, String>(*n), |results| results.take(5).count());
        assert_eq!(streamed.output, 5);
    });
    let lines = ear.lines("span batch");
    assert_eq!(lines, ["span batch in nothing what=\"stream\" workers=2"]);
    let ear = Ear::new(Level::INFO);
    ear.hears(|| {
        let streamed = stopping(2).batch(0..5).stream(|n| Ok::<_, String>(*n), |results| results.count());
        assert_eq!(streamed.output, 5);
    });
    assert_eq!(ear.lines("span batch"), ["span batch in nothing what=\"stream\" items=5 workers=2"]);
}

#[test]
fn what_operations_tell_is_told_within_the_batch_on_every_worker() {
    let (ear, meeting) = (Ear::new(Level::INFO), Meeting::default());
    ear.hears(|| {
        let result = stopping(3).run(0..3, |n| {
            meeting.of(3); // one to a worker
            tracing::info!(n, "hello");
            Ok::<_, String>(())
        });
        assert_eq!(result.stopped(), None);
    });
    assert_eq!(ear.lines("INFO in batch message=hello").len(), 3, "{:?}", ear.lines(""));
}

#[test]
fn what_happens_in_a_stream_is_within_its_span_also_where_the_caller_runs_the_items() {
    for workers in [1, 2] {
        let ear = Ear::new(Level::INFO);
        ear.hears(|| {
            let executor = collecting(workers);
            let op = |n: &usize| {
                tracing::info!(n, "hello");
                if *n == 3 { Err("three") } else { Ok(()) }
            };
            assert_eq!(executor.batch(0..10).stream(op, |results| results.count()).failed, 1);
        });
        assert_eq!(ear.lines("INFO in batch message=hello").len(), 10, "{workers}: {:?}", ear.lines(""));
        let failed = ear.lines("WARN in batch message=item failed index=3 attempt=1");
        assert_eq!(failed.len(), 1, "{workers}: {:?}", ear.lines(""));
    }
}

#[cfg(feature = "tokio")]
#[test]
fn what_an_async_operation_logs_and_how_it_fails_is_within_the_span_of_its_batch() {
    let ear = Ear::new(Level::INFO);
    ear.hears(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let executor = collecting(2);
        let result = runtime.block_on(executor.batch(0..3).run_async(async |n| {
            tracing::info!(n, "before");
            tokio::task::yield_now().await;
            tracing::info!(n, "after");
            if *n == 1 { Err("one") } else { Ok(()) }
        }));
        assert_eq!(result.failed(), 1);
    });
    assert_eq!(ear.lines("INFO in batch").len(), 6, "{:?}", ear.lines(""));
    let failed = ear.lines("WARN in batch message=item failed index=1 attempt=1");
    assert_eq!(failed.len(), 1, "{:?}", ear.lines(""));
}

#[test]
fn a_subscriber_that_panics_stops_the_batch_and_nothing_hangs() {
    struct Deaf;
    impl<S: Subscriber> Layer<S> for Deaf {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            assert!(*event.metadata().level() > Level::WARN, "the ear hurts");
        }
    }
    let executor = collecting(3);
    let unwound = thread::scope(|scope| {
        let run = || {
            tracing::subscriber::with_default(Registry::default().with(Deaf), || {
                executor.run(0..1_000, |n| if *n == 5 { Err(()) } else { Ok(()) })
            })
        };
        scope.spawn(run).join()
    });
    let payload = unwound.expect_err("the panic goes on in the caller");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"the ear hurts"));
    assert_survived(executor);
}

#[test]
fn what_the_operation_logs_is_within_the_span_of_the_batch_whatever_thread_runs_it() {
    let lone = BatchExecutor::new();
    for executor in [&lone, &stopping(2)] {
        let ear = Ear::new(Level::INFO);
        ear.hears(|| {
            let result = executor.batch(0..3).on_progress(|_| ()).run(|_| {
                let span = tracing::Span::current().metadata().map(tracing::Metadata::name);
                if span == Some("batch") { Ok(()) } else { Err(format!("{span:?}")) }
            });
            assert!(result.is_success(), "{:?}", result.outcomes());
        });
    }
}
