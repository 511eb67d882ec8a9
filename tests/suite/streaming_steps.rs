//! What a batch has beside its operation, in a stream: limiters, retries, progress, adaptive workers, and threads that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{AdaptiveWorkers, Progress, Retry, limiter_fn};

use crate::common::streams::WINDOWS;
use crate::common::{Census, Gate, Meeting, Peak, Way, collecting, wait_until, within_a_minute};

/// A limiter that lets every item through and counts.
fn counted(permits: &Arc<AtomicUsize>) -> impl batch_executor::RateLimiter + use<> {
    let permits = Arc::clone(permits);
    limiter_fn(move || {
        permits.fetch_add(1, Ordering::SeqCst);
        Ok(Duration::ZERO)
    })
}

#[test]
fn every_item_that_starts_takes_one_permit_and_none_is_taken_for_others() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                for wanted in [5, 100] {
                    let (permits, started) = (Arc::default(), AtomicUsize::new(0));
                    let executor = way.builder().rate_limiter(counted(&permits)).build().unwrap();
                    let streamed = way.batch(&executor, 0..100usize).window(window).stream(
                        |_| Ok::<_, String>(started.fetch_add(1, Ordering::SeqCst)),
                        |results| results.take(wanted).count(),
                    );
                    assert_eq!(streamed.output, wanted, "{way:?}, window {window}");
                    let (permits, started) = (permits.load(Ordering::SeqCst), started.into_inner());
                    // An item that had its permit when the consumer left does not start any more.
                    assert!(permits >= started && permits <= started + 16, "{permits} for {started}");
                    assert!(wanted < 100 || (permits, started) == (100, 100));
                }
            }
        }
    });
}

#[test]
fn items_that_are_tried_again_keep_their_place_and_each_attempt_takes_a_permit() {
    within_a_minute(|| {
        for way in Way::all() {
            for (window, is_ordered) in
                WINDOWS.into_iter().flat_map(|window| [(window, true), (window, false)])
            {
                let (permits, tries) = (Arc::default(), Census::of(60));
                let executor = way.builder().rate_limiter(counted(&permits)).build().unwrap();
                let pause = Duration::from_micros(300);
                let batch = way
                    .batch(&executor, 0..60usize)
                    .window(window)
                    .retry(Retry::exponential(pause, pause, 2));
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream_with(
                    |&n, cx| {
                        tries.count(n);
                        if n % 7 == 2 && cx.attempt() <= 2 { Err("busy") } else { Ok(cx.attempt()) }
                    },
                    |results| results.map(|item| (item.item, item.outcome.unwrap())).collect::<Vec<_>>(),
                );
                let mut found = streamed.output;
                if !is_ordered {
                    found.sort_unstable();
                }
                let attempts = |n| if n % 7 == 2 { 3 } else { 1 };
                assert!(found.into_iter().eq((0..60).map(|n| (n, attempts(n)))), "{way:?}, window {window}");
                assert!(tries.runs().into_iter().eq((0..60).map(attempts)));
                assert_eq!(permits.load(Ordering::SeqCst), tries.total());
                assert_eq!((streamed.succeeded, streamed.failed, streamed.stopped), (60, 0, None));
            }
        }
    });
}

/// A size hint of its own, whatever comes.
struct Hinted<It> {
    items: It,
    hint: (usize, Option<usize>),
}

impl<It: Iterator> Iterator for Hinted<It> {
    type Item = It::Item;

    fn next(&mut self) -> Option<It::Item> {
        self.items.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hint
    }
}

#[test]
fn progress_is_told_of_every_decided_item_on_the_calling_thread_with_what_is_known_of_the_total() {
    const TOTAL: usize = 80;
    let hints = [
        (TOTAL, Some(TOTAL)), // exact
        (0, None),
        (0, Some(TOTAL)),
        (0, Some(1_000)),
        (TOTAL, None),
        (7, Some(7)),         // a lie
        (1_000, Some(1_000)), // another
        (0, Some(0)),
    ];
    within_a_minute(move || {
        for way in Way::all() {
            for window in WINDOWS {
                for hint in hints {
                    let (executor, mut seen) = (way.collecting(), Vec::<(Progress, bool)>::new());
                    let caller = thread::current().id();
                    let input = Hinted { items: 0..TOTAL, hint };
                    let batch = executor.batch(input).window(window).on_progress(|p| {
                        seen.push((*p, thread::current().id() == caller));
                    });
                    let streamed =
                        batch.stream(|&n| if n % 8 == 5 { Err(n) } else { Ok(n) }, |results| results.count());
                    assert_eq!(streamed.output, TOTAL, "{way:?}, window {window}, {hint:?}");
                    assert!(seen.iter().all(|(_, is_on_caller)| *is_on_caller));
                    assert!(seen.iter().map(|(p, _)| p.completed).eq(1..=TOTAL), "one call for each");
                    let is_too_small = hint.1.is_some_and(|most| most < TOTAL);
                    for (p, _) in &seen {
                        assert_eq!(p.completed, p.succeeded + p.failed);
                        assert!(p.total >= p.completed, "{p:?}");
                        assert!(p.total_hint.is_none_or(|total| total >= p.completed), "{p:?}");
                        assert!(is_too_small || p.total_hint.is_none_or(|total| total == p.total), "{p:?}");
                        assert!(p.total_hint.is_some() || p.eta().is_none(), "{p:?}");
                        if hint == (TOTAL, Some(TOTAL)) {
                            assert_eq!(p.total_hint, Some(TOTAL));
                        }
                        // Unless it is exact, it is known when the input has ended: not while some is to be pulled.
                        if hint.1 != Some(hint.0) && p.total_hint.is_some() {
                            assert_eq!(p.total, TOTAL, "{p:?}");
                        }
                    }
                    let (last, _) = seen.last().unwrap();
                    assert_eq!((last.succeeded, last.failed), (70, 10), "{last:?}");
                }
            }
        }
    });
}

#[test]
fn of_an_input_without_end_the_total_stays_unknown() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, mut calls) = (way.collecting(), 0);
            let batch = executor.batch(std::iter::repeat(1)).window(8).on_progress(|p| {
                calls += 1;
                assert_eq!((p.total_hint, p.eta(), p.completed), (None, None, calls));
            });
            let streamed = batch.stream(|n| Ok::<_, String>(*n), |results| results.take(50).count());
            assert_eq!(streamed.output, 50, "{way:?}");
            assert!((50..=50 + 8).contains(&calls), "{calls} calls");
        }
    });
}

#[test]
fn items_that_wait_get_more_workers_than_a_stream_began_with_and_never_more_than_the_most() {
    within_a_minute(|| {
        let executor = collecting(AdaptiveWorkers::new().min(1).max(24));
        let (peak, begun) = (Peak::default(), executor.workers_for(usize::MAX));
        let streamed = executor.batch(0..1_500).window(200).stream(
            |_| {
                let _inside = peak.enter();
                thread::sleep(Duration::from_millis(5));
                Ok::<_, String>(())
            },
            |results| results.count(),
        );
        assert_eq!(streamed.output, 1_500);
        assert!(peak.most() > begun && peak.most() <= 24, "{} from {begun}", peak.most());
    });
}

/// Nothing completes before they have met.
#[test]
fn items_that_wait_for_each_other_get_there() {
    const TOGETHER: usize = 16;
    within_a_minute(|| {
        let (executor, meeting) = (collecting(AdaptiveWorkers::new().max(64)), Meeting::default());
        let streamed = executor.batch(0..).window(100).stream(
            |&n: &usize| {
                if n < TOGETHER {
                    meeting.of(TOGETHER);
                }
                Ok::<_, String>(())
            },
            |results| results.take(200).filter(|item| item.outcome.is_ok()).count(),
        );
        assert_eq!(streamed.output, 200);
    });
}

#[test]
fn the_threads_of_a_stream_end_with_its_executor() {
    within_a_minute(|| {
        let executor = batch_executor::BatchExecutor::builder()
            .workers(4)
            .thread_name("strm")
            .keep_alive(Duration::from_secs(3600))
            .build()
            .unwrap();
        let (meeting, gate) = (Meeting::default(), Gate::default());
        let streamed = executor.batch(0..).window(50).stream(
            |&n: &usize| {
                if n < 4 {
                    meeting.of(4);
                    gate.pass();
                }
                Ok::<_, String>(())
            },
            |results| {
                wait_until("four threads are there", || crate::common::threads_named("strm").len() == 4);
                gate.open();
                results.take(30).count()
            },
        );
        assert_eq!(streamed.output, 30);
        drop(executor);
        wait_until("they have ended", || crate::common::threads_named("strm").is_empty());
    });
}

/// Says that there are seven items.
struct Lies(std::ops::Range<usize>);

impl Iterator for Lies {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (7, Some(7))
    }
}

#[test]
fn more_items_are_never_completed_than_the_total_hint_says_there_are() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let batch = executor.batch(Lies(0..20)).on_progress(|p| {
                assert!(p.total_hint.is_none_or(|total| total >= p.completed), "{p:?}, {way:?}");
            });
            assert_eq!(batch.stream(|&n| Ok::<_, String>(n), |results| results.count()).output, 20);
        }
    });
}

#[test]
fn a_hint_that_proves_too_small_is_forgotten_when_more_items_come() {
    within_a_minute(|| {
        let (executor, has_come, mut seen) = (collecting(2), AtomicBool::new(false), Vec::new());
        // When the twelfth is pulled, the eleventh is known.
        let items = (0..100).inspect(|n| has_come.store(*n >= 11, Ordering::SeqCst));
        let input = Hinted { items, hint: (10, Some(10)) };
        let batch = executor.batch(input).window(50).on_progress(|p| seen.push((p.completed, p.total_hint)));
        let streamed = batch.stream(
            |n| {
                if *n == 9 {
                    wait_until("more have come", || has_come.load(Ordering::SeqCst));
                }
                Ok::<_, String>(())
            },
            |results| results.count(),
        );
        assert_eq!(streamed.output, 100);
        assert_eq!(seen[9], (10, None), "{seen:?}");
    });
}

/// A caller that runs quick items by itself would have a third.
#[test]
fn only_as_many_states_live_as_there_are_workers() {
    struct State<'a>(&'a AtomicUsize);
    impl Drop for State<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    within_a_minute(|| {
        let (alive, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for _ in 0..4 {
            let streamed = collecting(2).batch(0..30_000).stream_init(
                || {
                    most.fetch_max(alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    State(&alive)
                },
                |_, _| Ok::<_, String>(()),
                |results| results.count(),
            );
            assert_eq!(streamed.output, 30_000);
        }
        let (alive, most) = (alive.into_inner(), most.into_inner());
        assert!(alive == 0 && most <= 2, "{alive}, {most}");
    });
}
