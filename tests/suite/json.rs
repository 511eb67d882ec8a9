//! What feature `serde` makes of everything that comes out of a batch, as JSON, to the letter.

#![cfg(feature = "serde")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::panic::panic_any;
use std::time::Duration;

use batch_executor::{
    BatchExecutor, BatchResult, CancelToken, Interval, ItemContext, Limit, LimiterError, RateLimit, Retry,
    RetryDecision, StopReason, TestClock, limiter_fn,
};
#[cfg(feature = "journal")]
use batch_executor::{Journal, Plan};
use serde_json::{Value, json, to_string, to_value};

use crate::common::{collecting, nap, stopping};

/// The JSON, with the time that it took replaced by 0.5.
#[track_caller]
fn timeless(json: &str) -> String {
    let (before, rest) = json.split_once(r#""elapsed_seconds":"#).unwrap();
    let (time, after) = rest.split_at(rest.find([',', '}']).unwrap());
    assert!(time.parse::<f64>().unwrap() >= 0.0, "{json}");
    format!(r#"{before}"elapsed_seconds":0.5{after}"#)
}

/// The outcomes of the items, to the letter.
fn outcomes<I: serde::Serialize, T: serde::Serialize, E: serde::Serialize>(
    result: &BatchResult<I, T, E>,
) -> Vec<String> {
    result.iter().map(|item| to_string(&item.outcome).unwrap()).collect()
}

#[test]
fn a_result_has_what_its_accessors_say_in_this_order() {
    let result = stopping(1).run([1, 2], |n| Ok::<_, String>(n * 2));
    assert_eq!(
        timeless(&to_string(&result).unwrap()),
        concat!(
            r#"{"total":2,"succeeded":2,"failed":0,"skipped":0,"elapsed_seconds":0.5,"workers":1,"stopped":null,"items":["#,
            r#"{"index":0,"item":1,"outcome":{"Ok":2},"attempts":1},"#,
            r#"{"index":1,"item":2,"outcome":{"Ok":4},"attempts":1}]}"#
        )
    );
    assert_eq!(to_value(&result).unwrap()["elapsed_seconds"], result.elapsed().as_secs_f64());
    let nothing = collecting(1).run([0; 0], |_| Ok::<(), ()>(()));
    let json = to_value(&nothing).unwrap();
    assert_eq!((&json["total"], &json["items"], &json["stopped"]), (&json!(0), &json!([]), &Value::Null));
}

#[test]
fn every_outcome_is_a_result() {
    let op = |&n: &i32| match n {
        0 => Ok("a value"),
        1 => Err("an error"),
        2 => panic!("number {n}"),
        _ => panic_any(4_u64),
    };
    let result = collecting(2).run(0..4, op);
    assert_eq!(result.stopped(), None);
    let expected = [
        r#"{"Ok":"a value"}"#,
        r#"{"Err":{"Failed":"an error"}}"#,
        r#"{"Err":{"Panicked":"number 2"}}"#,
        r#"{"Err":{"Panicked":"non-string panic payload"}}"#,
    ];
    assert_eq!(outcomes(&result), expected);
}

#[test]
fn a_refusal_is_its_text_and_what_was_skipped_is_a_word() {
    let limiter = limiter_fn(|| Err(LimiterError::new("the quota is \"used up\"")));
    let executor = BatchExecutor::builder().rate_limiter(limiter).build().unwrap();
    let result = executor.run([1, 2], |_| Ok::<(), ()>(()));
    assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 0 }));
    assert_eq!(
        outcomes(&result),
        [r#"{"Err":{"RateLimiter":"the quota is \"used up\""}}"#, r#"{"Err":"Skipped"}"#]
    );
    assert_eq!(to_value(&result).unwrap()["items"][1]["attempts"], 0);
}

#[test]
fn attempts_are_told_of_every_item() {
    let retry = Retry::delays(|| [Duration::ZERO; 2].into_iter());
    let op = |n: &usize, cx: &mut ItemContext<'_>| {
        if *n == cx.attempt() { Ok(()) } else { Err("no") }
    };
    let result = collecting(2).batch([1, 2, 3, 3]).retry(retry).run_with(op);
    assert_eq!(result.stopped(), None);
    let json = to_value(&result).unwrap();
    let attempts: Vec<&Value> =
        json["items"].as_array().unwrap().iter().map(|item| &item["attempts"]).collect();
    assert_eq!(attempts, [1, 2, 3, 3]);
}

#[test]
fn items_values_and_errors_may_be_borrowed_and_of_any_shape() {
    #[derive(Debug, serde::Serialize)]
    struct Refused<'a> {
        status: u16,
        body: &'a str,
    }

    let text = String::from("one two");
    let op = |word: &&str| {
        let borrowed = &text[..3];
        if *word == "two" { Err(Refused { status: 429, body: borrowed }) } else { Ok((borrowed, word.len())) }
    };
    let result = collecting(1).run(text.split(' '), op);
    assert_eq!(result.stopped(), None);
    let items: Vec<String> = result.iter().map(|item| to_string(&item).unwrap()).collect();
    let expected = [
        r#"{"index":0,"item":"one","outcome":{"Ok":["one",3]}}"#,
        r#"{"index":1,"item":"two","outcome":{"Err":{"Failed":{"status":429,"body":"one"}}}}"#,
    ];
    assert_eq!(items, expected);
}

#[test]
fn a_batch_that_stopped_says_why_and_holds_what_it_had_done() {
    let result = stopping(1).run([1, 2, 3, 4], |&n| if n == 2 { Err("no") } else { Ok(n) });
    assert_eq!(
        timeless(&to_string(&result).unwrap()),
        concat!(
            r#"{"total":4,"succeeded":1,"failed":1,"skipped":2,"elapsed_seconds":0.5,"workers":1,"#,
            r#""stopped":{"ItemFailed":{"index":1}},"items":["#,
            r#"{"index":0,"item":1,"outcome":{"Ok":1},"attempts":1},"#,
            r#"{"index":1,"item":2,"outcome":{"Err":{"Failed":"no"}},"attempts":1},"#,
            r#"{"index":2,"item":3,"outcome":{"Err":"Skipped"},"attempts":0},"#,
            r#"{"index":3,"item":4,"outcome":{"Err":"Skipped"},"attempts":0}]}"#
        )
    );
    let refused = stopping(1).batch([1, 2]).run_tasks([|| Ok::<(), ()>(())]);
    assert_eq!(
        timeless(&to_string(&refused).unwrap()),
        concat!(
            r#"{"total":2,"succeeded":0,"failed":0,"skipped":2,"elapsed_seconds":0.5,"workers":0,"#,
            r#""stopped":{"LengthMismatch":{"tasks":1,"items":2}},"items":["#,
            r#"{"index":0,"item":1,"outcome":{"Err":"Skipped"},"attempts":0},"#,
            r#"{"index":1,"item":2,"outcome":{"Err":"Skipped"},"attempts":0}]}"#
        )
    );
}

#[test]
fn an_item_that_waited_for_another_attempt_has_its_last_error() {
    let token = CancelToken::new();
    let retry = Retry::delays(|| [Duration::MAX].into_iter());
    let result = stopping(1).batch([1]).retry(retry).cancel_on(&token).run(|_| {
        token.cancel();
        Err::<(), _>("busy")
    });
    let json = to_value(&result).unwrap();
    assert_eq!(json["items"][0]["outcome"], json!({ "Err": { "Interrupted": "busy" } }));
    assert_eq!(
        (&json["failed"], &json["skipped"], &json["stopped"]),
        (&json!(0), &json!(1), &json!("Cancelled"))
    );
    assert_eq!(json["items"][0]["attempts"], 1);
}

#[test]
fn an_error_of_a_batch_has_its_text_and_what_its_accessors_say() {
    let result = stopping(1).run([1, 2, 3, 4], |&n| if n == 2 { Err("no") } else { Ok(n) });
    let error = result.into_result().unwrap_err();
    assert_eq!(
        to_string(&error).unwrap(),
        format!(
            concat!(
                r#"{{"message":"{}","stopped":{{"ItemFailed":{{"index":1}}}},"index":1,"#,
                r#""total":4,"succeeded":1,"failed":1,"skipped":2}}"#
            ),
            error
        )
    );
    let collected =
        collecting(1).run([1, 2], |&n| if n == 2 { Err("no") } else { Ok(n) }).into_values().unwrap_err();
    let json = to_value(&collected).unwrap();
    assert_eq!(
        (&json["stopped"], &json["index"]),
        (&Value::Null, &json!(1)),
        "the first failure, whatever stopped"
    );
    let refused = stopping(1).batch([1, 2]).run_tasks([|| Ok::<(), String>(())]).into_result().unwrap_err();
    let json = to_value(&refused).unwrap();
    assert_eq!(json["stopped"], json!({ "LengthMismatch": { "tasks": 1, "items": 2 } }));
    assert_eq!(json["index"], Value::Null);
}

#[test]
fn every_reason_to_stop_is_a_word_or_a_word_and_its_number() {
    let reasons = [
        (StopReason::ItemFailed { index: 3 }, r#"{"ItemFailed":{"index":3}}"#),
        (StopReason::TooManyFailures { limit: 9 }, r#"{"TooManyFailures":{"limit":9}}"#),
        (StopReason::Cancelled, r#""Cancelled""#),
        (StopReason::DeadlineExceeded, r#""DeadlineExceeded""#),
        (StopReason::LengthMismatch { tasks: 1, items: 2 }, r#"{"LengthMismatch":{"tasks":1,"items":2}}"#),
        (StopReason::Journal, r#""Journal""#),
        (StopReason::OutOfMemory, r#""OutOfMemory""#),
    ];
    for (reason, expected) in reasons {
        assert_eq!(to_string(&reason).unwrap(), expected);
    }
}

#[test]
fn progress_has_its_fields_and_its_time_in_seconds() {
    let mut told = Vec::new();
    let _ = collecting(1)
        .batch(0..2)
        .on_progress(|p| {
            assert_eq!(to_value(p).unwrap()["elapsed_seconds"], p.elapsed.as_secs_f64());
            told.push(to_string(p).unwrap());
        })
        .run(|&n| if n == 0 { Ok(()) } else { Err("no") });
    assert_eq!(
        timeless(&told[1]),
        concat!(
            r#"{"completed":2,"total":2,"total_hint":2,"succeeded":1,"failed":1,"running":0,"waiting":0,"retries":0,"#,
            r#""recorded":0,"workers":1,"elapsed_seconds":0.5,"paused_for_seconds":null}"#
        )
    );
}

#[test]
fn progress_has_the_rest_of_a_pause_in_seconds() {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let pause = RetryDecision::PauseAll(Duration::from_millis(3_500));
    let mut told = Vec::new();
    let result = executor
        .batch([()])
        .retry(Retry::delays(|| std::iter::once(Duration::ZERO)).when(move |_: &&str| pause))
        .on_tick(Duration::from_secs(1), |p| told.push(to_value(p).unwrap()["paused_for_seconds"].clone()))
        .run_with(|(), cx| if cx.attempt() == 1 { Err("429") } else { Ok(()) });
    assert!(result.is_success());
    assert_eq!(json!(told), json!([2.5, 1.5, 0.5]));
}

#[test]
fn a_stream_says_how_it_ended() {
    let op = |&n: &i32| if n == 2 { Err("no") } else { Ok(n) };
    let streamed = stopping(2).batch(0..9).stream(op, |results| results.count());
    let expected = r#"{"output":3,"stopped":{"ItemFailed":{"index":2}},"succeeded":2,"failed":1}"#;
    assert_eq!(to_string(&streamed).unwrap(), expected);

    let token = CancelToken::new();
    token.cancel();
    let streamed = stopping(2).batch(0..9).cancel_on(&token).stream(op, |results| results.count());
    assert_eq!(to_value(streamed).unwrap()["stopped"], "Cancelled");
    let streamed = stopping(2).batch(0..2).stream(op, |results| results.count());
    assert_eq!(to_value(streamed).unwrap()["stopped"], Value::Null);
}

#[cfg(feature = "journal")]
#[test]
fn a_stream_says_what_is_wrong_with_its_journal() {
    let path = std::env::temp_dir().join(format!("json-of-a-stream-{}.jsonl", std::process::id()));
    let journal = Journal::open(&path, Plan::of(["a"]).unwrap()).unwrap();
    let executor = stopping(1);
    let batch = executor.batch(["b"]).journal(&journal);
    let streamed = batch.stream(|n| Ok::<_, String>((*n).to_owned()), |results| results.count());
    let json = to_value(&streamed).unwrap();
    assert_eq!(json["journal_error"].as_str(), streamed.journal_error());
    assert!(json["journal_error"].is_string(), "{json}");
    drop(journal); // Windows removes no open file
    std::fs::remove_file(path).unwrap();
}

#[cfg(feature = "journal")]
#[test]
fn a_result_says_what_is_wrong_with_its_journal() {
    let path = std::env::temp_dir().join(format!("json-of-a-result-{}.jsonl", std::process::id()));
    let journal = Journal::open(&path, Plan::of(["a"]).unwrap()).unwrap();
    let result = stopping(1).batch(["b"]).journal(&journal).run(|n| Ok::<_, String>((*n).to_owned()));
    let json = to_value(&result).unwrap();
    assert!(json["journal_error"].is_string(), "{json}");
    assert_eq!(json["journal_error"].as_str(), result.journal_error());
    assert!(format!("{result:?}").contains("journal_error: "), "{result:?}");
    drop(journal); // Windows removes no open file
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_timeline_in_numbers_says_its_seconds() {
    let result = BatchExecutor::new().batch(["x"]).record_timeline().run(|_| Ok::<_, String>(()));
    assert_eq!(result.stopped(), None);
    let timeline = result.timeline().unwrap();
    let (stats, span) = (json!(&timeline.stats()), json!(&timeline.spans()[0]));
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!((&stats["items"], &stats["retries"], &stats["workers"]), (&1.into(), &0.into(), &1.into()));
    assert!(number(&stats["run_time"]["p99_seconds"]) <= number(&stats["elapsed_seconds"]));
    assert_eq!(
        (&span["id"], &span["ending"], &span["note"]),
        (&"x".into(), &"Succeeded".into(), &Value::Null)
    );
    assert!(number(&span["started_seconds"]) <= number(&span["ended_seconds"]));
    let intervals = json!(&timeline.intervals());
    assert_eq!(intervals[0]["start_seconds"], 0.0);
}

/// Two items of 3 s, of which the second waits 7 s for its permit and fails.
#[test]
fn each_number_of_an_interval_has_its_own_name() {
    let executor = BatchExecutor::builder().workers(1).stop_on_error(false).clock(TestClock::new());
    let limit = Limit::rate(RateLimit::every(Duration::from_secs(10)));
    let result = executor.build().unwrap().batch(0..2).limit(limit).record_timeline().run(|n| {
        nap(Duration::from_secs(3));
        if *n == 1 { Err("no") } else { Ok(()) }
    });
    let intervals = result.timeline().unwrap().intervals();
    let sum = |of: fn(&Interval) -> f64| {
        intervals.iter().map(|part| of(part) * part.length.as_secs_f64()).sum::<f64>()
    };
    let sums = [sum(|part| part.busy_workers), sum(|part| part.waiting_items), sum(|part| part.rate)];
    let is_near = |(sum, expected): (&f64, f64)| (sum - expected).abs() < 1e-6;
    assert!(sums.iter().zip([6.0, 7.0, 2.0]).all(is_near), "{sums:?}");
    assert_eq!(intervals.iter().map(|part| part.failed).sum::<usize>(), 1);
    assert!(intervals.windows(2).all(|pair| pair[0].start + pair[0].length == pair[1].start));
    let json = json!(intervals[0]);
    let mut names: Vec<&String> = json.as_object().unwrap().keys().collect();
    names.sort_unstable();
    let expected = ["busy_workers", "failed", "length_seconds", "rate", "start_seconds", "waiting_items"];
    assert_eq!(names, expected);
    assert_eq!(json["length_seconds"], intervals[0].length.as_secs_f64());
}

/// Each time of a span differs from the others here.
#[test]
fn each_number_of_a_timeline_has_its_own_name() {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let result = executor
        .batch(["x", "y"])
        .limit(Limit::rate(RateLimit::every(Duration::from_secs(10))).named("rate"))
        .retry(Retry::delays(|| std::iter::once(Duration::from_secs(5))))
        .record_timeline()
        .run_with(|item, cx| {
            nap(Duration::from_secs(3));
            if *item == "y" && cx.attempt() == 1 { Err("busy") } else { Ok(()) }
        });
    let timeline = result.timeline().unwrap();
    let span = |index: usize, attempt: usize, times: [f64; 4], ending: &str, limit: Option<&str>| {
        let ([queued, taken, started, ended], id) = (times, ["x", "y"][index]);
        json!({
            "id": id, "index": index, "attempt": attempt, "worker": 0, "queued_seconds": queued,
            "taken_seconds": taken, "started_seconds": started, "ended_seconds": ended, "ending": ending,
            "waited_for": limit, "note": null,
        })
    };
    let spans = [
        span(0, 1, [0.0, 0.0, 0.0, 3.0], "Succeeded", None),
        span(1, 1, [0.0, 3.0, 10.0, 13.0], "Retried", Some("rate")),
        span(1, 2, [18.0, 18.0, 20.0, 23.0], "Succeeded", Some("rate")),
    ];
    assert_eq!(json!(timeline.spans()), json!(spans));
    let quantiles = |p50: f64, max: f64| json!({ "p50_seconds": p50, "p90_seconds": max, "p99_seconds": max, "max_seconds": max });
    let stats = json!({
        "items": 2, "attempts": 3, "succeeded": 2, "failed": 0, "panicked": 0, "refused": 0, "retries": 1, "sampled": 3,
        "workers": 1, "elapsed_seconds": 23.0, "throughput": 2.0 / 23.0, "utilisation": 9.0 / 23.0,
        "run_time": quantiles(3.0, 3.0), "limiter_wait": quantiles(2.0, 7.0), "queue_wait": quantiles(0.0, 3.0),
    });
    assert_eq!(json!(timeline.stats()), stats);
}
