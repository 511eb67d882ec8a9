//! Promise 11: an idle worker gets the items of another worker's claim that are not started yet, at the latest when that worker
//! ends the item it is in.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use batch_executor::{AdaptiveWorkers, Batch, BatchExecutor, Workers};

use crate::common::within_a_minute;

const ITEMS: usize = 20_000;

/// In the midst of quick ones, where a claim has hundreds of items. They are slow enough for others to come on a busy machine.
const SLOW: std::ops::Range<usize> = 10_000..10_020;

/// Which thread ran each of the slow items.
#[derive(Default)]
struct Runs(Mutex<Vec<ThreadId>>);

impl Runs {
    /// They are slow until a second worker has come.
    fn run(&self, item: usize) {
        if SLOW.contains(&item) {
            let mut runs = self.0.lock().expect("no item panics");
            runs.push(thread::current().id());
            let is_shared = runs.iter().any(|thread| *thread != runs[0]);
            drop(runs);
            thread::sleep(Duration::from_millis(if is_shared { 0 } else { 60 }));
        }
    }

    /// No worker ran all of them, as the owner of their claim would have done by itself.
    #[track_caller]
    fn assert_shared(self) {
        let runs = self.0.into_inner().expect("no item panics");
        assert_eq!(runs.len(), SLOW.len());
        assert!(runs.iter().any(|thread| *thread != runs[0]), "one worker ran all");
    }
}

/// What one worker runs from this item on is slow, where claims have tens of items. Others have the last ones in no time.
const SLOW_FROM: usize = 19_000;

/// The worker that is slow, and how many items it has run since.
#[derive(Default)]
struct SlowWorker(Mutex<Option<(ThreadId, usize)>>);

impl SlowWorker {
    const ROUNDS: usize = 6;
    /// The item that makes it slow, the one behind it, and some where the others are late on a busy machine.
    const MOST: usize = 4 * Self::ROUNDS;

    fn run(&self, item: usize) {
        if item < SLOW_FROM {
            return;
        }
        let (me, mut slow) = (thread::current().id(), self.0.lock().expect("no item panics"));
        let (worker, runs) = slow.get_or_insert((me, 0));
        let is_slow = *worker == me && *runs < Self::MOST;
        *runs += usize::from(*worker == me);
        drop(slow);
        if is_slow {
            thread::sleep(Duration::from_millis(60));
        }
    }

    fn runs(self) -> usize {
        self.0.into_inner().expect("no item panics").expect("one worker came there").1
    }
}

fn executor() -> BatchExecutor {
    BatchExecutor::builder().workers(4).build().expect("four workers are fine")
}

/// Runs a batch with these steps.
#[track_caller]
fn assert_is_shared(
    steps: impl for<'b> FnOnce(
        Batch<'b, std::ops::Range<usize>, usize, String>,
    ) -> Batch<'b, std::ops::Range<usize>, usize, String>,
) {
    let (executor, runs) = (executor(), Runs::default());
    let result = steps(executor.batch(0..ITEMS)).run(|&item| {
        runs.run(item);
        Ok(item)
    });
    assert!(result.values().copied().eq(0..ITEMS));
    runs.assert_shared();
}

#[test]
fn idle_workers_get_the_rest_of_a_claim() {
    within_a_minute(|| assert_is_shared(|batch| batch));
}

#[test]
fn idle_workers_get_the_rest_of_a_claim_of_a_batch_with_progress() {
    within_a_minute(|| assert_is_shared(|batch| batch.on_progress(|_| ())));
}

#[test]
fn idle_workers_get_the_rest_of_a_claim_of_a_batch_with_a_timeline() {
    within_a_minute(|| {
        let (executor, mut runs) = (executor(), 0);
        for _ in 0..SlowWorker::ROUNDS {
            let slow = SlowWorker::default();
            let batch = executor.batch(0..ITEMS).record_timeline().timeline_spans(100);
            let result = batch.run(|&item| {
                slow.run(item);
                Ok::<_, String>(())
            });
            assert!(result.is_success());
            runs += slow.runs();
        }
        assert!(runs <= SlowWorker::MOST, "the slow worker ran {runs} items in all rounds");
    });
}

#[test]
fn idle_adaptive_workers_get_the_rest_of_a_claim() {
    let workers = Workers::from(AdaptiveWorkers::new().min(4).max(4));
    within_a_minute(move || assert_is_shared(|batch| batch.workers(workers)));
}

/// Quick items need no more workers than there are cores, so few are there when slow ones come, and one of them holds those.
#[test]
fn more_adaptive_workers_come_for_the_rest_of_a_claim() {
    const QUICK: usize = 100_000;
    const SLOW: usize = 16;
    within_a_minute(|| {
        for _ in 0..3 {
            let (executor, ran) = (executor(), Mutex::new(HashSet::new()));
            let workers = AdaptiveWorkers::new().max(16);
            let result = executor.batch(0..QUICK + SLOW).workers(workers).run(|&item| {
                if item >= QUICK {
                    let mut ran = ran.lock().expect("no item panics");
                    ran.insert(thread::current().id());
                    let is_shared = ran.len() >= 3;
                    drop(ran);
                    // The rest of a claim is free when an item has ended, and the caller has looked around meanwhile.
                    thread::sleep(Duration::from_millis(if is_shared { 0 } else { 600 }));
                }
                Ok::<_, String>(())
            });
            assert!(result.is_success(), "{result}");
            assert!(
                ran.into_inner().expect("no item panics").len() >= 3,
                "one worker or two ran all slow items"
            );
        }
    });
}

#[test]
fn idle_workers_of_a_stream_get_the_rest_of_a_claim() {
    within_a_minute(|| {
        for is_ordered in [true, false] {
            let (executor, runs) = (executor(), Runs::default());
            let batch = executor.batch(0..ITEMS).window(8_000);
            let batch = if is_ordered { batch } else { batch.unordered() };
            let streamed = batch.stream(
                |&item| {
                    runs.run(item);
                    Ok::<_, String>(item)
                },
                |results| results.count(),
            );
            assert_eq!(streamed.output, ITEMS);
            runs.assert_shared();
        }
    });
}

/// With a deadline, a limiter or a retry a claim has one item, so an item that hangs holds back no other.
#[test]
fn with_a_deadline_every_other_item_is_decided_beside_one_that_hangs() {
    within_a_minute(|| {
        let (executor, others) = (executor(), AtomicUsize::new(0));
        let result = executor.batch(0..50).timeout(Duration::from_secs(20)).run_with(|&item, cx| {
            while item == 7 && others.load(Ordering::SeqCst) < 49 {
                if cx.is_cancelled() {
                    return Err("the others did not run");
                }
                thread::yield_now();
            }
            others.fetch_add(1, Ordering::SeqCst);
            Ok(item)
        });
        assert_eq!((result.succeeded(), result.stopped()), (50, None));
    });
}

#[cfg(feature = "journal")]
#[test]
fn idle_workers_of_a_resumed_batch_get_the_rest_of_a_claim() {
    use batch_executor::{Journal, Plan};

    within_a_minute(|| {
        let path = std::env::temp_dir().join(format!("promise-11-{}.jsonl", std::process::id()));
        let (executor, mut runs) = (executor(), 0);
        for _ in 0..SlowWorker::ROUNDS {
            let slow = SlowWorker::default();
            for round in ["first", "second"] {
                let journal = Journal::open(&path, Plan::of(0..ITEMS).unwrap()).unwrap();
                let batch = executor.batch(0..ITEMS).stop_on_error(false).journal(&journal);
                let result = batch.run(|&item| match round {
                    "first" if item >= SLOW_FROM => Err("later".to_owned()),
                    _ => {
                        slow.run(item);
                        Ok(item)
                    }
                });
                assert_eq!(result.failed(), if round == "first" { ITEMS - SLOW_FROM } else { 0 });
            }
            runs += slow.runs();
            std::fs::remove_file(&path).unwrap();
        }
        assert!(runs <= SlowWorker::MOST, "the slow worker ran {runs} items in all rounds");
    });
}
