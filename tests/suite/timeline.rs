//! The timeline of a batch: a span for each attempt, true to what happened; bounded; and the numbers that come of it.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{
    Census, MEANT, Meeting, Way, assert_survived, collecting, nap, silence_meant_panics, stopped, stopping,
};
use batch_executor::{
    AdaptiveWorkers, Batch, BatchExecutor, Ending, Interval, ItemError, Limit, LimiterError, More, Quantiles,
    RateLimit, RateLimiter, Retry, RetryDecision, Span, TestClock, Timeline, Workers, limiter_fn,
};

const MS: Duration = Duration::from_millis(1);

/// An operation that takes so long.
#[allow(clippy::unnecessary_wraps, reason = "as operations are")]
fn takes<E>(time: Duration) -> Result<(), E> {
    thread::sleep(time);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a count of a few hundred")]
fn number(count: usize) -> f64 {
    count as f64
}

/// What must hold of any timeline.
#[track_caller]
fn assert_possible(timeline: &Timeline, workers: usize) {
    let mut by_worker: HashMap<usize, Vec<&Span>> = HashMap::new();
    for span in timeline.spans() {
        let times = [span.queued(), span.taken(), span.started(), span.ended(), timeline.elapsed()];
        assert!(times.is_sorted(), "{span:?}");
        assert!(span.worker() < workers, "{span:?}");
        by_worker.entry(span.worker()).or_default().push(span);
    }
    assert!(timeline.spans().is_sorted_by_key(Span::started), "by the time when they started");
    for spans in by_worker.values_mut() {
        spans.sort_by_key(|span| (span.started(), span.ended()));
        for pair in spans.windows(2) {
            // An item that waits for a permit holds no worker.
            let begins =
                if pair[1].limiter_wait() > Duration::ZERO { pair[1].started() } else { pair[1].taken() };
            assert!(pair[0].ended() <= begins, "one worker, two things at a time: {pair:?}");
        }
    }
}

#[test]
fn every_item_has_a_span_on_every_way() {
    for way in Way::with_threads() {
        let executor = way.collecting();
        let result = way
            .batch(&executor, 0..1_000)
            .record_timeline()
            .run(|n| Ok::<_, String>(n + 1))
            .into_result()
            .unwrap();
        let timeline = result.timeline().unwrap();
        let mut indices: Vec<usize> = timeline.spans().iter().map(Span::index).collect();
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..1_000), "{way:?}");
        assert!(timeline.spans().iter().all(|span| span.id() == span.index().to_string()), "{way:?}");
        assert!(timeline.spans().iter().all(|span| (span.attempt(), span.note()) == (1, None)), "{way:?}");
        assert!(timeline.is_complete());
        assert_possible(timeline, result.workers());
    }
}

#[test]
fn a_batch_that_is_not_asked_records_nothing() {
    let result =
        stopping(2).batch(0..9).timeline_spans(3).run(|n| Ok::<_, String>(*n)).into_result().unwrap();
    assert!(result.timeline().is_none());
}

#[test]
fn a_span_says_how_its_attempt_ended() {
    for workers in [1, 3] {
        let permits = AtomicUsize::new(0);
        let limiter = limiter_fn(move || match permits.fetch_add(1, Ordering::SeqCst) {
            3 => Err(LimiterError::new("no more today")),
            _ => Ok(Duration::ZERO),
        });
        let executor = BatchExecutor::builder()
            .workers(workers)
            .stop_on_error(false)
            .rate_limiter(limiter)
            .build()
            .unwrap();
        let result = executor
            .batch(["fine", "bad", "loud", "late", "last"])
            .record_timeline()
            .run(|id| match *id {
                "bad" => Err("bad"),
                "loud" => panic!("boom"),
                _ => Ok(()),
            })
            .into_result()
            .unwrap();
        let timeline = result.timeline().unwrap();
        for item in &result {
            let span = timeline.spans().iter().find(|span| span.index() == item.index).unwrap();
            let expected = match &item.outcome {
                Ok(()) => (Ending::Succeeded, None),
                Err(ItemError::Panicked(_)) => (Ending::Panicked, Some("boom")),
                Err(ItemError::RateLimiter(_)) => (Ending::Refused, Some("no more today")),
                Err(_) => (Ending::Failed, None),
            };
            assert_eq!((span.id(), span.ending(), span.note()), (*item.item, expected.0, expected.1));
        }
        assert_eq!(timeline.failures().count(), 3);
        assert!(timeline.failures().map(Span::ended).is_sorted());
    }
}

#[test]
fn attempts_at_an_item_follow_one_another_and_the_delay_is_no_wait_for_a_worker() {
    let retry = Retry::delays(|| [20 * MS; 3].into_iter());
    let result = collecting(2)
        .batch(["twice", "once"])
        .retry(retry)
        .record_timeline()
        .run_with(|id, cx| if *id == "twice" && cx.attempt() == 1 { Err("busy") } else { Ok(()) })
        .into_result()
        .unwrap();
    let timeline = result.timeline().unwrap();
    let twice: Vec<&Span> = timeline.spans().iter().filter(|span| span.id() == "twice").collect();
    let [first, second] = twice[..] else { panic!("{twice:?}") };
    assert_eq!((first.ending(), second.ending()), (Ending::Retried, Ending::Succeeded));
    assert_eq!((first.attempt(), second.attempt()), (1, 2));
    assert!(second.queued() >= first.ended() + 20 * MS, "{twice:?}");
    let stats = timeline.stats();
    assert_eq!((stats.items, stats.attempts, stats.retries, stats.succeeded), (2, 3, 1, 2));
}

#[test]
fn the_wait_for_a_permit_and_for_a_pause_is_told_apart_from_the_run() {
    let executor =
        BatchExecutor::builder().workers(2).rate_limiter(limiter_fn(|| Ok(10 * MS))).build().unwrap();
    let was_held_back = || {
        let pause = Retry::delays(|| [MS; 9].into_iter()).when(|_: &&str| RetryDecision::PauseAll(30 * MS));
        let result = executor
            .batch(0..4)
            .retry(pause)
            .record_timeline()
            .run_with(|n, cx| {
                thread::sleep(2 * MS);
                if (*n, cx.attempt()) == (0, 1) { Err("too many") } else { Ok(()) }
            })
            .into_result()
            .unwrap();
        let timeline = result.timeline().unwrap();
        assert!(timeline.spans().iter().all(|span| span.limiter_wait() >= 10 * MS), "{:?}", timeline.spans());
        assert!(timeline.spans().iter().all(|span| span.run_time() >= 2 * MS), "{:?}", timeline.spans());
        assert_possible(timeline, 2);
        timeline.spans().iter().any(|span| span.limiter_wait() >= 20 * MS)
    };
    // On a busy machine the others may be done before an item pauses them.
    assert!((0..50).any(|_| was_held_back()), "no item waited for the end of the pause");
}

#[test]
fn items_wait_in_the_queue_while_the_only_worker_is_busy() {
    let result = BatchExecutor::new()
        .batch(0..3)
        .record_timeline()
        .run(|_| takes::<String>(10 * MS))
        .into_result()
        .unwrap();
    let spans = result.timeline().unwrap().spans();
    assert!(spans[2].queue_wait() >= 20 * MS, "{spans:?}");
    assert!(spans.iter().all(|span| span.queued() == spans[0].queued()));
}

#[test]
fn what_the_retry_thinks_about_is_no_run_time() {
    let retry = Retry::delays(|| [Duration::ZERO].into_iter()).when(|_: &&str| {
        thread::sleep(20 * MS);
        RetryDecision::Retry
    });
    let result = collecting(1)
        .batch([1])
        .retry(retry)
        .record_timeline()
        .run_with(|_, cx| if cx.attempt() == 1 { Err("busy") } else { Ok(()) })
        .into_result()
        .unwrap();
    let [first, second] = result.timeline().unwrap().spans() else { panic!("not two attempts") };
    assert!(second.queued() >= first.ended() + 20 * MS, "{first:?} {second:?}");
}

#[test]
fn what_makes_ids_may_panic_when_it_goes_and_that_stops_nothing_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("gone wrong");
        }
    }
    for stream in [false, true] {
        let (executor, bomb) = (collecting(2), Bomb);
        let census = Census::of(50);
        let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
            let batch = executor.batch(0..50_usize).record_timeline_as(move |n| {
                let _ = &bomb;
                n.to_string()
            });
            let op = |n: &usize| {
                census.count(*n);
                Ok::<_, String>(())
            };
            if stream {
                let _ = batch.stream(op, |results| results.count());
            } else {
                let _ = batch.run(op);
            }
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref::<&str>(), Some(&"gone wrong"));
        census.assert_each_ran_once();
        assert_survived(executor);
    }
}

#[test]
fn a_retry_that_is_due_waits_for_a_worker_that_is_busy() {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let retry = Retry::delays(|| [5 * MS].into_iter());
    let result = executor
        .batch(["again", "slow"])
        .retry(retry)
        .record_timeline()
        .run_with(|id, cx| match (*id, cx.attempt()) {
            ("again", 1) => Err("busy"),
            ("slow", _) => {
                nap(30 * MS);
                Ok(())
            }
            _ => Ok(()),
        })
        .into_result()
        .unwrap();
    let spans = result.timeline().unwrap().spans();
    let again = spans.iter().find(|span| span.attempt() == 2).unwrap();
    assert_eq!(again.queue_wait(), 25 * MS, "{spans:?}");
}

#[test]
fn a_batch_that_stops_has_the_timeline_of_what_ran() {
    let result =
        stopping(1).batch(0..100).record_timeline().run(|n| if *n == 7 { Err("seven") } else { Ok(()) });
    let (_, partial) = stopped(result);
    let timeline = partial.timeline().unwrap();
    assert!(timeline.spans().iter().map(Span::index).eq(0..=7));
    let without =
        collecting(1).batch(0..3).record_timeline().run(|_| Err::<(), _>("no")).into_result().unwrap();
    assert_eq!(without.timeline().unwrap().stats().failed, 3);
}

#[test]
fn a_stream_has_the_timeline_of_what_was_tried() {
    for way in Way::with_threads() {
        let executor = way.stopping();
        let streamed = way
            .batch(&executor, 0..500)
            .record_timeline()
            .stream(|n| Ok::<_, String>(*n), |results| results.by_ref().count());
        assert_eq!(streamed.output, 500);
        let timeline = streamed.timeline().unwrap();
        assert_eq!(timeline.spans().len(), 500);
        assert_possible(timeline, 300);
    }
    let plain = stopping(2).batch(0..5).stream(|n| Ok::<_, String>(*n), |results| results.by_ref().count());
    assert!(plain.timeline().is_none());
}

#[test]
fn tasks_have_the_ids_of_their_items() {
    let result = stopping(2)
        .batch(["one", "two"])
        .record_timeline()
        .run_tasks([1, 2].map(|n| move || Ok::<_, String>(n)))
        .into_result()
        .unwrap();
    let spans = result.timeline().unwrap().spans();
    let mut ids: Vec<_> = spans.iter().map(|span| (span.index(), span.id())).collect();
    ids.sort_unstable();
    assert_eq!(ids, [(0, "one"), (1, "two")]);
}

#[test]
fn above_the_number_of_spans_a_sample_remains_with_exact_counts_and_the_slowest() {
    let items = 20_000;
    for workers in [Workers::Sequential, Workers::Fixed(4)] {
        let result = collecting(workers)
            .batch(0..items)
            .record_timeline()
            .timeline_spans(500)
            .run(|n| match n {
                9_999 => takes(20 * MS),
                _ if n % 1_000 == 1 => Err("one"),
                _ => Ok(()),
            })
            .into_result()
            .unwrap();
        let (timeline, stats) = (result.timeline().unwrap(), result.timeline().unwrap().stats());
        assert!(!timeline.is_complete());
        assert!((100..=500).contains(&timeline.spans().len()), "{}", timeline.spans().len());
        assert_eq!((timeline.attempts(), stats.attempts, stats.items), (items, items, items));
        assert_eq!((stats.succeeded, stats.failed), (items - 20, 20));
        assert_eq!(stats.sampled, timeline.sample().count());
        let slowest: Vec<usize> = timeline.slowest().map(Span::index).collect();
        assert!(slowest.contains(&9_999), "{slowest:?}");
        assert!(stats.run_time.max >= 20 * MS);
        let mut failed: Vec<usize> = timeline.failures().map(Span::index).collect();
        failed.sort_unstable();
        assert!(failed.into_iter().eq((1..items).step_by(1_000)));
        let decided: f64 =
            timeline.intervals().iter().map(|part| part.rate * part.length.as_secs_f64()).sum();
        assert!((decided - 20_000.0).abs() < 1e-3, "{decided}");
        assert_possible(timeline, 4);
    }
}

#[test]
fn of_the_slowest_and_of_the_failures_there_are_a_hundred_at_most() {
    let result = collecting(1).batch(0..150).record_timeline().run(|_| Err::<(), _>("no"));
    let timeline = result.timeline().unwrap();
    let counts = (timeline.spans().len(), timeline.slowest().count(), timeline.failures().count());
    assert_eq!(counts, (150, 100, 100));
}

#[test]
fn the_time_that_a_batch_took_ends_before_anything_is_made_of_what_was_recorded() {
    /// Goes when the timeline is made.
    struct Goes<'t>(&'t Mutex<Option<Instant>>);
    impl Drop for Goes<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(Instant::now());
            thread::sleep(20 * MS);
        }
    }
    let (gone, since) = (Mutex::new(None), Instant::now());
    let goes = Goes(&gone);
    let executor = collecting(1);
    let batch = executor.batch(0..3).record_timeline_as(move |n| {
        let _ = &goes;
        n.to_string()
    });
    let result = batch.run(|n| Ok::<_, String>(*n)).into_result().unwrap();
    let gone = gone.lock().unwrap().unwrap();
    assert!(result.elapsed() <= gone - since, "{:?}", result.elapsed());
    assert_eq!(result.timeline().unwrap().elapsed(), result.elapsed());
}

#[test]
fn a_sample_of_retried_items_has_all_attempts_of_each() {
    let retry = Retry::delays(|| [Duration::ZERO; 2].into_iter());
    let result = collecting(3)
        .batch(0..3_000)
        .retry(retry)
        .record_timeline()
        .timeline_spans(300)
        .run_with(|_, cx| if cx.attempt() < 3 { Err("again") } else { Ok(()) })
        .into_result()
        .unwrap();
    let timeline = result.timeline().unwrap();
    let mut attempts: HashMap<usize, Vec<usize>> = HashMap::new();
    timeline.sample().for_each(|span| attempts.entry(span.index()).or_default().push(span.attempt()));
    assert!(attempts.len() > 20, "{}", attempts.len());
    assert!(attempts.values().all(|attempts| *attempts == [1, 2, 3]), "{attempts:?}");
    assert_eq!((timeline.stats().retries, timeline.stats().attempts), (6_000, 9_000));
}

#[test]
fn an_item_that_cannot_say_what_it_is_called_is_called_that() {
    let result = stopping(2)
        .batch(0..3)
        .record_timeline_as(|n| if *n == 1 { panic!("nameless") } else { "x".repeat(10_000) })
        .run(|n| Ok::<_, String>(*n))
        .into_result()
        .unwrap();
    let mut spans: Vec<&Span> = result.timeline().unwrap().spans().iter().collect();
    spans.sort_by_key(|span| span.index());
    assert_eq!(spans[1].id(), "(no id: nameless)");
    assert_eq!(spans[0].id(), format!("{}…", "x".repeat(200)));
}

#[test]
fn notes_are_cut_off_as_ids_are() {
    silence_meant_panics();
    let long = "x".repeat(10_000);
    let result = collecting(1).batch([0, 1]).record_timeline().run(|n| {
        assert!(*n == 0, "{MEANT}{long}");
        Err::<(), _>(long.clone())
    });
    let timeline = result.timeline_with_errors().unwrap();
    let lengths = timeline.spans().iter().map(|span| span.note().unwrap().chars().count());
    assert_eq!(lengths.collect::<Vec<_>>(), [201, 201], "200 bytes and a mark");
}

#[test]
fn ids_are_what_a_programmer_sees_without_quotation_marks() {
    let id = |text: &str| {
        let result =
            stopping(1).batch([text]).record_timeline().run(|_| Ok::<_, String>(())).into_result().unwrap();
        result.timeline().unwrap().spans()[0].id().to_owned()
    };
    assert_eq!((id("plain"), id(""), id("a \"b\"")), ("plain".into(), String::new(), r#"a \"b\""#.into()));
    assert_eq!(id(&"é".repeat(1_000)), format!("{}…", "é".repeat(100)));
    let pairs =
        stopping(1).batch([("a", 1)]).record_timeline().run(|_| Ok::<_, String>(())).into_result().unwrap();
    assert_eq!(pairs.timeline().unwrap().spans()[0].id(), r#"("a", 1)"#);
}

/// What the documentation says, from the spans alone.
struct Independent<'t>(&'t Timeline);

impl Independent<'_> {
    fn times(&self, of: impl Fn(&Span) -> Duration, counts: impl Fn(&Span) -> bool) -> Vec<Duration> {
        let mut times: Vec<_> = self.0.spans().iter().filter(|span| counts(span)).map(of).collect();
        times.sort();
        times
    }

    /// By counting, for each time, how many are not longer.
    #[track_caller]
    fn check(times: &[Duration], seen: &Quantiles) {
        for (hundredths, quantile) in [(50, seen.p50), (90, seen.p90), (99, seen.p99), (100, seen.max)] {
            let not_longer = times.iter().filter(|time| **time <= quantile).count();
            let shorter = times.iter().filter(|time| **time < quantile).count();
            assert!(not_longer * 100 >= hundredths * times.len(), "{quantile:?} is not long enough");
            assert!(shorter * 100 < hundredths * times.len(), "{quantile:?} is longer than it need be");
            assert!(times.contains(&quantile));
        }
    }

    fn count(&self, ending: Ending) -> usize {
        self.0.spans().iter().filter(|span| span.ending() == ending).count()
    }
}

#[test]
fn statistics_equal_those_that_are_computed_from_the_spans() {
    let retry = Retry::delays(|| [MS; 2].into_iter());
    let permits = AtomicUsize::new(0);
    let limiter = limiter_fn(move || match permits.fetch_add(1, Ordering::SeqCst) % 50 {
        49 => Err(LimiterError::new("no")),
        n => Ok(Duration::from_micros(20 * n as u64)),
    });
    let executor =
        BatchExecutor::builder().workers(3).stop_on_error(false).rate_limiter(limiter).build().unwrap();
    let result = executor
        .batch(0..400_u64)
        .retry(retry)
        .record_timeline()
        .run_with(|n, cx| {
            thread::sleep(Duration::from_micros(n % 7 * 50));
            match n % 10 {
                3 if cx.attempt() == 1 => Err("busy"),
                4 => Err("never"),
                5 => panic!("panicked at {n}"),
                _ => Ok(()),
            }
        })
        .into_result()
        .unwrap();
    let (timeline, stats) = (result.timeline().unwrap(), result.timeline().unwrap().stats());
    let own = Independent(timeline);
    Independent::check(&own.times(Span::run_time, |span| span.ending() != Ending::Refused), &stats.run_time);
    Independent::check(&own.times(Span::limiter_wait, |_| true), &stats.limiter_wait);
    Independent::check(&own.times(Span::queue_wait, |_| true), &stats.queue_wait);
    let counts = [stats.succeeded, stats.failed, stats.panicked, stats.refused, stats.retries];
    let endings = [Ending::Succeeded, Ending::Failed, Ending::Panicked, Ending::Refused, Ending::Retried];
    assert_eq!(counts, endings.map(|ending| own.count(ending)));
    assert_eq!(stats.attempts, timeline.spans().len());
    let busy: f64 = timeline.spans().iter().map(|span| span.run_time().as_secs_f64()).sum();
    let elapsed = result.elapsed().as_secs_f64();
    assert!((stats.utilisation - busy / (number(result.workers()) * elapsed)).abs() < 1e-9);
    let decided = number(result.succeeded() + result.failed());
    assert!((stats.throughput - decided / elapsed).abs() < 1e-6 * stats.throughput);
    assert_eq!((stats.workers, stats.elapsed), (result.workers(), result.elapsed()));
    assert_eq!((stats.succeeded, stats.items), (result.succeeded(), 400));
    let ended: f64 =
        timeline.intervals().iter().map(|part| part.busy_workers * part.length.as_secs_f64()).sum();
    assert!((ended - busy).abs() < 1e-6, "{ended} and {busy}");
    let last = timeline.intervals().pop().unwrap();
    assert!(last.start + last.length <= result.elapsed(), "{last:?}");
    assert_possible(timeline, 3);
}

#[test]
fn the_limit_of_workers_is_told_over_time() {
    let fixed =
        stopping(3).batch(0..50).record_timeline().run(|n| Ok::<_, String>(*n)).into_result().unwrap();
    assert_eq!(fixed.timeline().unwrap().limits(), [(Duration::ZERO, 3)]);
    let adaptive = collecting(AdaptiveWorkers::new().min(1).max(16))
        .batch(0..200)
        .record_timeline()
        .run(|_| takes::<String>(3 * MS))
        .into_result()
        .unwrap();
    let limits = adaptive.timeline().unwrap().limits();
    assert!(limits.len() > 1, "{limits:?}");
    assert!(limits.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 != pair[1].1), "{limits:?}");
    assert_eq!(limits.iter().map(|(_, limit)| *limit).max(), Some(16), "{limits:?}");
}

#[test]
fn nothing_that_ran_has_a_timeline_without_spans() {
    let empty = stopping(2)
        .batch(Vec::<u8>::new())
        .record_timeline()
        .run(|_| Ok::<_, String>(()))
        .into_result()
        .unwrap();
    let timeline = empty.timeline().unwrap();
    assert!(timeline.spans().is_empty() && timeline.intervals().is_empty() && timeline.is_complete());
    assert_eq!((timeline.stats().throughput, timeline.stats().run_time), (0.0, Quantiles::default()));
    let (mut page, mut trace) = (Vec::new(), Vec::new());
    timeline.write_html(&mut page).unwrap();
    timeline.write_chrome_trace(&mut trace).unwrap();
    assert!(!page.is_empty() && !trace.is_empty());
}

#[test]
#[should_panic(expected = "a timeline of 0 spans would show nothing")]
fn a_timeline_without_room_is_refused() {
    let _: Batch<_, (), ()> = stopping(1).batch([1]).timeline_spans(0);
}

#[test]
fn items_of_workers_that_run_together_overlap() {
    let both_run = Meeting::default();
    let result = stopping(2)
        .batch([0, 1])
        .record_timeline()
        .run(|_| {
            both_run.of(2);
            Ok::<_, String>(())
        })
        .into_result()
        .unwrap();
    let spans = result.timeline().unwrap().spans();
    let [one, other] = spans else { panic!("{spans:?}") };
    assert_ne!(one.worker(), other.worker());
    assert!(one.started() < other.ended() && other.started() < one.ended(), "{spans:?}");
}

#[test]
fn items_that_a_growing_batch_begins_with_have_waited_since_then() {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let limit = RateLimit::per_second(1_000);
    let result = executor.batch(0..3_u32).record_timeline().run_growing(|_, _, _: &More<u32>| {
        limit.pause(20 * MS);
        limit.acquire()
    });
    let spans = result.timeline().unwrap().spans();
    assert_eq!(spans.iter().map(Span::queue_wait).collect::<Vec<_>>(), [Duration::ZERO, 20 * MS, 40 * MS]);
}

#[test]
fn the_first_failures_are_those_that_ended_first() {
    let executor = BatchExecutor::builder().workers(2).stop_on_error(false).clock(TestClock::new());
    let executor = executor.build().unwrap();
    let both_run = Meeting::default();
    let result = executor.batch([5_u64, 1, 2]).record_timeline().run(|seconds| {
        if *seconds != 2 {
            both_run.of(2);
        }
        nap(Duration::from_secs(*seconds));
        Err::<(), _>("no")
    });
    let failures: Vec<_> = result.timeline().unwrap().failures().map(Span::index).collect();
    assert_eq!(failures, [1, 2, 0]);
}

/// Of attempts, not of items.
#[test]
fn the_statistics_say_that_they_are_those_of_a_sample() {
    for (spans, is_sample) in [(2_900, true), (3_000, false)] {
        let executor = stopping(1);
        let batch = executor.batch(0..1_000).retry(Retry::delays(|| [Duration::ZERO; 2].into_iter()));
        let batch = batch.record_timeline().timeline_spans(spans);
        let result = batch.run_with(|_, cx| if cx.attempt() < 3 { Err("busy") } else { Ok(()) });
        let stats = result.timeline().unwrap().stats();
        assert!(stats.sampled > 1_000);
        assert_eq!(stats.to_string().contains("quantiles are those of a sample of "), is_sample, "{stats}");
    }
}

/// Beyond that, it keeps a sample.
#[test]
fn as_many_attempts_as_there_is_room_for_are_kept() {
    for (items, is_complete) in [(999, true), (1_000, true), (1_001, false)] {
        let result =
            stopping(1).batch(0..items).record_timeline().timeline_spans(1_000).run(|_| Ok::<_, String>(()));
        let timeline = result.timeline().unwrap();
        assert_eq!((timeline.is_complete(), timeline.spans().len() == items), (is_complete, is_complete));
    }
}

/// All but the last are equally long, and the last has half to three halves of that. Of these lengths, half end in a part of an
/// interval that is too short to be one.
#[test]
fn intervals_have_all_that_happened_however_short_the_last_is() {
    for length in (100..140).map(|length| length * MS) {
        let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
        let limit = RateLimit::per_second(1_000);
        let result = executor.batch([()]).record_timeline().run(|()| {
            limit.pause(length);
            limit.acquire()
        });
        let intervals = result.timeline().unwrap().intervals();
        let sum = |of: fn(&Interval) -> f64| -> f64 {
            intervals.iter().map(|part| of(part) * part.length.as_secs_f64()).sum()
        };
        let all = (sum(|part| part.busy_workers), sum(|part| part.rate));
        assert!((all.0 - length.as_secs_f64()).abs() < 1e-9, "{length:?}: {} s busy", all.0);
        assert!((all.1 - 1.0).abs() < 1e-9, "{length:?}: {} items", all.1);
        let (last, others) = intervals.split_last().unwrap();
        let whole = others[0].length;
        assert!(others.iter().all(|part| part.length == whole), "{length:?}");
        assert!(
            (whole / 2..whole * 3 / 2).contains(&last.length),
            "{length:?}: {:?}, {whole:?}",
            last.length
        );
    }
}

/// Also those that are not kept, of which only the sums remain.
#[test]
fn attempts_of_one_worker_do_not_overlap() {
    let executor = stopping(1);
    let batch = executor.batch(0..20_000).record_timeline().timeline_spans(1);
    let result = batch.run(|n| Ok::<_, String>(*n)).into_result().unwrap();
    let timeline = result.timeline().unwrap();
    let busy = |part: &Interval| part.busy_workers * part.length.as_secs_f64();
    let busy: f64 = timeline.intervals().iter().map(busy).sum();
    assert!(busy <= timeline.elapsed().as_secs_f64() * (1.0 + 1e-9), "{busy} s of {:?}", timeline.elapsed());
    assert!(timeline.stats().utilisation <= 1.0, "{}", timeline.stats().utilisation);
}

/// An interval that is not whole is none, but for the first.
#[test]
fn a_batch_that_is_shorter_than_an_interval_has_one() {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let result = executor.batch([()]).record_timeline().run(|()| {
        nap(Duration::from_nanos(1));
        Ok::<_, String>(())
    });
    let intervals = result.timeline().unwrap().intervals();
    assert_eq!(intervals.iter().map(|part| part.length).collect::<Vec<_>>(), [Duration::from_nanos(1)]);
}

#[test]
fn of_two_permits_a_span_names_the_one_that_was_due_last() {
    for is_first in [false, true] {
        let executor = BatchExecutor::builder().workers(2).clock(TestClock::new()).build().unwrap();
        let after = |seconds| limiter_fn(move || Ok(Duration::from_secs(seconds)));
        let (late, soon) = (Limit::rate(after(10)).named("late"), Limit::rate(after(1)).named("soon"));
        let [one, other] = if is_first { [late, soon] } else { [soon, late] };
        let result =
            executor.batch([0]).limit(one).limit(other).record_timeline().run(|n| Ok::<_, String>(*n));
        assert_eq!(result.timeline().unwrap().spans()[0].waited_for(), Some("late"));
    }
}

#[test]
fn a_span_says_for_which_limit_its_item_waited() {
    let executor = BatchExecutor::builder().workers(4).clock(TestClock::new()).build().unwrap();
    let limit = |key: &char| {
        let limit = Limit::rate(RateLimit::per_minute(6));
        if *key == 'a' { limit.named("host a") } else { limit }
    };
    let key = |item: &&str| item.chars().next().unwrap();
    let batch =
        executor.batch(["a1", "a2", "b1", "b2"]).limit(Limit::per_key(key, limit).named("other hosts"));
    let result = batch.record_timeline().run(|item| Ok::<_, String>(item.len()));
    let spans = result.timeline().unwrap().spans();
    let mut waited: Vec<_> = spans.iter().map(|span| (span.id(), span.waited_for())).collect();
    waited.sort_unstable();
    assert_eq!(waited, [("a1", None), ("a2", Some("host a")), ("b1", None), ("b2", Some("other hosts"))]);

    let result = executor.batch(0..2).limit(Limit::rate(RateLimit::per_minute(6))).record_timeline();
    let result = result.run(|n| Ok::<_, String>(*n));
    let spans = result.timeline().unwrap().spans();
    assert_eq!([spans[0].waited_for(), spans[1].waited_for()], [None, Some("rate")]);
}
