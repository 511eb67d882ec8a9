//! What a timeline is written as: a page with its data in it, and a trace, each true to the spans whatever ids contain.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{MEANT, builder, nap, silence_meant_panics};
use batch_executor::{
    BatchExecutor, BatchResult, Ending, Limit, LimiterError, Quantiles, RateLimit, Retry, RetryDecision,
    Span, TestClock, Timeline, limiter_fn,
};
use serde_json::Value;

const HOSTILE: [&str; 7] = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "quote \" backslash \\ newline \n tab \t",
    "\u{2028}\u{2029}\u{0}\u{7f}",
    "grüße 🦀 \u{202e}",
    "",
    "]]>&amp;",
];

/// A batch of those, in which everything happens that can.
fn result() -> BatchResult<&'static str, (), String> {
    let limiter = limiter_fn(|| Ok::<_, LimiterError>(Duration::from_micros(300)));
    let executor = builder().workers(2).stop_on_error(false).rate_limiter(limiter).build().unwrap();
    let retry = Retry::delays(|| [Duration::ZERO].into_iter());
    executor
        .batch(HOSTILE)
        .retry(retry)
        .record_timeline_as(|id| (*id).to_owned())
        .run_with(|id, cx| {
            thread::sleep(Duration::from_micros(200));
            match cx.index() {
                1 => Err(format!("no good: {id}")),
                2 if cx.attempt() == 1 => Err("once".to_owned()),
                3 => panic!("{id}"),
                _ => Ok(()),
            }
        })
        .into_result()
        .unwrap()
}

fn page(timeline: &Timeline) -> String {
    let mut page = Vec::new();
    timeline.write_html(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// What the page's script reads.
fn data(page: &str) -> Value {
    let (_, after) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let (data, _) = after.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

fn numbers(column: &Value) -> Vec<u64> {
    column.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

#[track_caller]
fn assert_column(data: &Value, name: &str, spans: &[Span], of: impl Fn(&Span) -> u128) {
    let seen = numbers(&data["spans"][name]).into_iter().map(u128::from);
    assert!(seen.eq(spans.iter().map(of)), "{name}: {}", data["spans"][name]);
}

#[test]
fn the_page_has_the_spans_in_it() {
    let result = result();
    let timeline = result.timeline_with_errors().unwrap();
    let (data, spans, stats) = (data(&page(&timeline)), timeline.spans(), timeline.stats());
    assert_column(&data, "index", spans, |span| span.index() as u128);
    assert_column(&data, "attempt", spans, |span| span.attempt() as u128);
    assert_column(&data, "worker", spans, |span| span.worker() as u128);
    assert_column(&data, "run", spans, |span| span.run_time().as_nanos());
    assert_column(&data, "permit", spans, |span| span.limiter_wait().as_nanos());
    assert_column(&data, "queue", spans, |span| span.queue_wait().as_nanos());
    assert_column(&data, "end", spans, |span| match span.ending() {
        Ending::Succeeded => 0,
        Ending::Failed => 1,
        Ending::Panicked => 2,
        Ending::Refused => 3,
        _ => 4,
    });
    assert_eq!(data["limiters"], serde_json::json!(["rate"]));
    assert_column(&data, "waited", spans, |span| u128::from(span.waited_for() == Some("rate")));
    assert!(spans.iter().any(|span| span.waited_for().is_some()), "{spans:?}");
    let mut sum = 0;
    let starts = numbers(&data["spans"]["started"]).into_iter().map(|more| {
        sum += u128::from(more);
        sum
    });
    assert!(starts.eq(spans.iter().map(|span| span.started().as_nanos())));
    assert_eq!(data["attempts"].as_u64(), Some(stats.attempts as u64));
    assert_eq!(data["complete"], true);
    let failed = numbers(&data["failed"]).into_iter().map(|at| spans[usize::try_from(at).unwrap()].ending());
    let failed: Vec<_> = failed.collect();
    assert!(failed.len() == 2 && failed.contains(&Ending::Failed) && failed.contains(&Ending::Panicked));
    assert_eq!(numbers(&data["slowest"]).len(), spans.len());
    // Without its feature `float_roundtrip` serde_json reads some numbers as their neighbour.
    let utilisation = data["stats"]["utilisation"].as_f64().unwrap();
    assert!((utilisation - stats.utilisation).abs() < 1e-12, "{utilisation} for {}", stats.utilisation);
    for (name, quantiles) in
        [("run", &stats.run_time), ("permit", &stats.limiter_wait), ("queue", &stats.queue_wait)]
    {
        let seen = ["p50", "p90", "max"].map(|part| u128::from(data["stats"][name][part].as_u64().unwrap()));
        assert_eq!(seen, [quantiles.p50, quantiles.p90, quantiles.max].map(|time| time.as_nanos()), "{name}");
    }
    let ended = data["density"]["ended"].as_array().unwrap().iter().flat_map(numbers).sum::<u64>();
    assert_eq!(ended, HOSTILE.len() as u64);
    assert_eq!(data["limit"], serde_json::json!([[0, 2]]));
    for (at, note) in data["notes"].as_object().unwrap() {
        assert_eq!(note.as_str(), spans[at.parse::<usize>().unwrap()].note());
    }
    assert_eq!(data["notes"].as_object().unwrap().len(), 2, "an error and a panic");
}

/// A batch by a test clock, of which the counts of retries, values, errors, panics and refusals all differ.
fn unlike_counts() -> BatchResult<u64, (), &'static str> {
    silence_meant_panics();
    let asked = AtomicUsize::new(0);
    let limiter = limiter_fn(move || match asked.fetch_add(1, Ordering::SeqCst) {
        20 => Err(LimiterError::new("no")),
        _ => Ok(Duration::from_millis(700)),
    });
    let builder = builder().workers(1).stop_on_error(false).rate_limiter(limiter).clock(TestClock::new());
    let retry = Retry::delays(|| [Duration::ZERO; 4].into_iter())
        .when(|error: &&str| if *error == "no" { RetryDecision::GiveUp } else { RetryDecision::Retry });
    builder.build().unwrap().batch(0..18_u64).retry(retry).record_timeline().run_with(|n, cx| {
        nap(Duration::from_millis(100 + n));
        match (*n, cx.attempt()) {
            (0..3, _) => Err("no"),
            (3..5, _) => panic!("{MEANT}{n}"),
            (5, 1..=4) => Err("again"),
            _ => Ok(()),
        }
    })
}

#[test]
fn the_page_has_each_number_under_its_name() {
    let result = unlike_counts();
    let timeline = result.timeline().unwrap();
    let (data, stats, spans) = (data(&page(timeline)), timeline.stats(), timeline.spans());
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
    let told = |of: &Value, names: &[&str]| -> Vec<u64> {
        names.iter().map(|name| of[*name].as_u64().unwrap()).collect()
    };
    let counts = [stats.retries, stats.succeeded, stats.failed, stats.panicked, stats.refused];
    assert_eq!(counts, [4, 12, 3, 2, 1], "all differ");
    let names = ["retries", "succeeded", "failed", "panicked", "refused"];
    assert_eq!(told(&data["stats"], &names), counts.map(|count| count as u64));
    // Without `float_roundtrip`, the last digit may be another.
    let throughput = data["stats"]["throughput"].as_f64().unwrap();
    assert!((throughput - stats.throughput).abs() < 1e-9, "{throughput}");
    let whole = [nanos(timeline.elapsed()), 18, 22, 1];
    assert_eq!(told(&data, &["elapsed", "items", "attempts", "workers"]), whole);
    let of = |times: &Quantiles| [times.p50, times.p90, times.p99, times.max].map(nanos);
    let (run, permit, queue) = (&stats.run_time, &stats.limiter_wait, &stats.queue_wait);
    for (name, times) in [("run", run), ("permit", permit), ("queue", queue)] {
        assert_eq!(told(&data["stats"][name], &["p50", "p90", "p99", "max"]), of(times), "{name}");
    }
    let sum = |name: &str| data["density"][name].as_array().unwrap().iter().flat_map(numbers).sum::<u64>();
    let all = |of: fn(&Span) -> Duration| spans.iter().map(of).map(nanos).sum::<u64>();
    let sums = [all(Span::run_time), all(Span::limiter_wait), 6];
    assert_eq!([sum("busy"), sum("waits"), sum("failed")], sums);
}

#[test]
fn the_note_of_an_error_has_its_causes() {
    let executor = builder().build().unwrap();
    let result = executor
        .batch([()])
        .record_timeline()
        .run(|()| Err::<(), _>(anyhow::anyhow!("no such file").context("cannot read it")));
    let timeline = result.timeline_with_errors().unwrap();
    assert_eq!(timeline.spans()[0].note(), Some("cannot read it: no such file"));
}

#[test]
fn whatever_ids_contain_they_come_back_as_they_are_and_end_no_script() {
    let result = result();
    let timeline = result.timeline_with_errors().unwrap();
    let (page, empty) = (page(&timeline), {
        let executor = builder().build().unwrap();
        let nothing = executor.batch([0; 0]).record_timeline().run(|_| Ok::<_, ()>(()));
        page(nothing.timeline().unwrap())
    });
    let data = data(&page);
    for (at, span) in timeline.spans().iter().enumerate() {
        assert_eq!(data["spans"]["id"][at], HOSTILE[span.index()]);
    }
    let tags = |page: &str| {
        page.matches("<script").count() + page.matches("</script").count() + page.matches("<!--").count()
    };
    assert_eq!(tags(&page), tags(&empty), "the same markup as without any id");
}

#[test]
fn the_page_needs_nothing_beside_itself() {
    // The name of SVG is no address.
    let page = page(result().timeline().unwrap()).replace("http://www.w3.org/2000/svg", "");
    for outside in ["http://", "https://", " src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_trace_has_an_event_for_each_span_and_each_wait_and_its_counters() {
    let result = result();
    let timeline = result.timeline().unwrap();
    let mut trace = Vec::new();
    timeline.write_chrome_trace(&mut trace).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |what: &str, key: &str, value: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["ph"] == what && event[key] == value).collect()
    };
    let items = of("X", "cat", "item");
    assert_eq!(items.len(), timeline.spans().len());
    for (event, span) in items.iter().zip(timeline.spans()) {
        assert_eq!((&event["name"], &event["tid"]), (&span.id().into(), &(span.worker() + 1).into()));
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        assert!((event["ts"].as_f64().unwrap() - micros(span.started())).abs() < 1e-3);
        assert!((event["dur"].as_f64().unwrap() - micros(span.run_time())).abs() < 1e-3);
        assert_eq!(event["args"]["ending"], span.ending().to_string());
        assert_eq!(event["args"]["attempt"], span.attempt());
        assert_eq!(event["args"]["index"], span.index());
        assert_eq!(event["args"]["note"], span.note().unwrap_or_default());
        let waited = event["args"]["queue_wait_us"].as_f64().unwrap();
        assert!((waited - span.queue_wait().as_secs_f64() * 1e6).abs() < 0.01, "{waited} of {span:?}");
    }
    for edge in ["b", "e"] {
        let waits = of(edge, "cat", "limiter");
        assert_eq!(waits.len(), timeline.spans().len(), "each waited for its permit");
        assert!(waits.iter().all(|event| event["args"]["limit"] == "rate"), "{waits:?}");
    }
    let workers: HashSet<_> = timeline.spans().iter().map(Span::worker).collect();
    assert_eq!(of("M", "name", "thread_name").len(), workers.len());
    assert_eq!(of("M", "name", "process_name").len(), 1);
    let rates = ["busy workers", "items per second"].map(|name| of("C", "name", name).len());
    assert!(rates == [timeline.intervals().len() + 1; 2], "each interval, and the end: {rates:?}");
    for counter in ["busy workers", "items per second", "worker limit"] {
        let values = of("C", "name", counter);
        assert!(
            !values.is_empty() && values.iter().all(|event| event["args"][counter].is_number()),
            "{counter}"
        );
        assert!(values.iter().map(|event| event["ts"].as_f64().unwrap()).is_sorted(), "{counter}");
    }
    for rate in ["busy workers", "items per second"] {
        let values = of("C", "name", rate);
        assert_eq!(values.last().unwrap()["args"][rate], 0, "{rate} at the end");
    }
    for event in events {
        let has = |key: &str| event[key].is_number();
        assert!(event["ph"].is_string() && event["name"].is_string() && has("pid") && has("tid"), "{event}");
        assert!(event["ph"] == "M" || has("ts"), "{event}");
        // As Perfetto wants it: no thread 0, and none that looks like the main one.
        assert!(event["tid"] != 0 && event["tid"] != event["pid"], "{event}");
        assert!(event["ph"] != "X" || event["dur"].as_f64().is_some_and(|time| time >= 0.0), "{event}");
    }
}

/// The trace of two items, which keeps up to `spans` spans. The second waits from 3 s on, and runs from 10 s to 13 s.
fn trace_of_a_wait(spans: usize) -> Value {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let limit = Limit::rate(RateLimit::every(Duration::from_secs(10)));
    let batch = executor.batch(["x", "y"]).limit(limit).record_timeline().timeline_spans(spans);
    let result = batch.run(|_| {
        nap(Duration::from_secs(3));
        Ok::<_, String>(())
    });
    let mut trace = Vec::new();
    result.timeline().unwrap().write_chrome_trace(&mut trace).unwrap();
    serde_json::from_slice(&trace).unwrap()
}

#[test]
fn each_wait_and_each_counter_of_the_trace_has_its_time() {
    let trace = trace_of_a_wait(100);
    let events = trace["traceEvents"].as_array().unwrap();
    let first = |what: &str, name: &str| {
        events.iter().find(|event| event["ph"] == what && event["name"] == name).unwrap()
    };
    let at = |edge: &str| first(edge, "waits for a permit")["ts"].as_f64();
    assert_eq!([at("b"), at("e")], [Some(3e6), Some(10e6)]);
    let value = |name: &str| first("C", name)["args"][name].as_f64();
    let values = ["busy workers", "items per second", "worker limit"].map(value);
    assert_eq!(values, [Some(1.0), Some(0.0), Some(1.0)], "while the first item runs");
    assert_eq!(trace["otherData"], serde_json::json!({ "attempts": 2, "isComplete": true }));
    let sample = &trace_of_a_wait(1)["otherData"];
    assert_eq!(*sample, serde_json::json!({ "attempts": 2, "isComplete": false }));
}

#[test]
fn an_item_that_gets_its_permit_at_once_is_drawn_without_a_wait() {
    let limit = Limit::rate(RateLimit::per_second(1_000_000).burst(100));
    let result = BatchExecutor::new()
        .batch(0..3)
        .workers(1)
        .limit(limit)
        .record_timeline()
        .run(|_| Ok::<_, String>(()));
    let (timeline, mut trace) = (result.timeline().unwrap(), Vec::new());
    assert!(timeline.spans().iter().all(|span| span.waited_for().is_none()));
    assert_eq!(numbers(&data(&page(timeline))["spans"]["waited"]), [0; 3]);
    timeline.write_chrome_trace(&mut trace).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let phases = trace["traceEvents"].as_array().unwrap().iter().map(|event| event["ph"].as_str().unwrap());
    assert_eq!(phases.filter(|phase| matches!(*phase, "b" | "e" | "X")).collect::<String>(), "XXX");
}

/// A disk that is full after this many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len().min(self.0);
        self.0 -= written;
        if written == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let result = result();
    let timeline = result.timeline().unwrap();
    let whole = page(timeline).len();
    for room in [0, 100, whole - 1] {
        assert_eq!(timeline.write_html(Full(room)).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(timeline.write_chrome_trace(Full(room.min(900))).is_err());
    }
    timeline.write_html(Full(whole)).unwrap();
}
