//! Items that fail and are tried again: how often, when, and what of it shows.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    BatchExecutor, CancelToken, ItemError, LimiterError, RateLimiter, Retry, RetryDecision, StopReason,
    TestClock, limiter_fn,
};

use crate::common::{
    Census, Gate, Meeting, Peak, Register, Way, assert_counts_add_up, assert_each_outcome_at_its_index,
    cancelled_behind, collecting, ran_to_its_end, stopped, wait_until, within_a_minute,
};

const EVER: Duration = Duration::MAX;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// This many retries, without a delay.
fn at_once<E>(retries: usize) -> Retry<'static, E> {
    Retry::delays(move || iter::repeat_n(Duration::ZERO, retries))
}

#[test]
fn there_are_as_many_retries_as_delays() {
    within_a_minute(|| {
        for way in Way::all() {
            for retries in 0..4 {
                let (executor, census) = (way.collecting(), Census::of(20));
                let batch = way.batch(&executor, 0..20usize).retry(at_once(retries));
                let result = batch.run(|&n| {
                    census.count(n);
                    Err::<(), _>(n)
                });
                let result = ran_to_its_end(result);
                assert_eq!((census.runs(), result.failed()), (vec![retries + 1; 20], 20), "{way:?}");
                assert!((0..20).all(|index| result.attempts(index) == retries + 1));
            }
        }
    });
}

#[test]
fn an_item_is_tried_until_it_succeeds_and_the_attempts_are_numbered() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, seen) = (way.stopping(), Mutex::new(vec![Vec::new(); 40]));
            let result = way.batch(&executor, 0..40usize).retry(at_once(9)).run_with(|&n, cx| {
                seen.lock().unwrap()[n].push(cx.attempt());
                if cx.attempt() > n % 5 { Ok(n * n) } else { Err(n) }
            });
            let result = ran_to_its_end(result);
            assert_each_outcome_at_its_index(&result, |&n| Some(n * n));
            for (n, attempts) in seen.into_inner().unwrap().into_iter().enumerate() {
                assert!(attempts.into_iter().eq(1..=n % 5 + 1), "{way:?}");
                assert_eq!(result.attempts(n), n % 5 + 1);
            }
            assert_eq!(result.attempts(40), 0, "beyond the last item");
        }
    });
}

/// Due times run against the order of items.
#[test]
fn outcomes_are_in_input_order_however_items_come_back() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, came_back) = (way.collecting(), Mutex::new(Vec::new()));
            let retry = Retry::delays(|| iter::once(EVER)).when(|n: &usize| match n % 4 {
                0 => RetryDecision::GiveUp,
                _ => RetryDecision::RetryAfter(MS(40 - *n as u64)),
            });
            let batch = way.batch(&executor, 0..40usize).retry(retry);
            let result = batch.run_with(|&n, cx| {
                if cx.attempt() == 1 {
                    return Err(n);
                }
                came_back.lock().unwrap().push(n);
                Ok(n + 1)
            });
            let result = ran_to_its_end(result);
            assert_each_outcome_at_its_index(&result, |&n| (n % 4 != 0).then_some(n + 1));
            let mut came_back = came_back.into_inner().unwrap();
            assert_ne!(came_back, (0..40).filter(|n| n % 4 != 0).collect::<Vec<_>>(), "{way:?}");
            came_back.sort_unstable();
            assert!(came_back.into_iter().eq((0..40).filter(|n| n % 4 != 0)));
        }
    });
}

/// Plans that look random: how often each item fails.
fn plans() -> impl Iterator<Item = Vec<usize>> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 40).expect("24 bits")
    };
    iter::repeat_with(move || {
        let rare = 1 + next() % 12;
        (0..24).map(|_| if next() % rare == 0 { next() % 5 } else { next() % 3 }).collect()
    })
}

const RETRIES: usize = 2;

/// Outcomes are those of a loop that tries each item to its end before it goes on to the next.
fn assert_is_like_a_loop(executor: &BatchExecutor, limit: usize, plan: &[usize]) {
    let census = Census::of(plan.len());
    let retry = Retry::delays(|| iter::repeat_n(Duration::from_micros(30), RETRIES));
    let result = executor.batch(0..plan.len()).retry(retry).run_with(|&n, cx| {
        census.count(n);
        if cx.attempt() > plan[n] { Ok(n) } else { Err(n) }
    });
    let lost: Vec<usize> = (0..plan.len()).filter(|&n| plan[n] > RETRIES).collect();
    let Some(&last) = lost.get(limit - 1) else {
        let result = ran_to_its_end(result);
        assert_each_outcome_at_its_index(&result, |n| (plan[*n] <= RETRIES).then_some(*n));
        return;
    };
    let (reason, partial) = stopped(result);
    let expected = if limit == 1 {
        StopReason::ItemFailed { index: last }
    } else {
        StopReason::TooManyFailures { limit }
    };
    assert_eq!(reason, expected, "{plan:?}");
    for (n, item) in partial.iter().enumerate() {
        let (runs, to_the_end) = (census.runs()[n], plan[n].min(RETRIES) + 1);
        assert_eq!(partial.attempts(n), runs);
        assert!(runs <= to_the_end);
        match item.outcome {
            Ok(value) => assert!(*value == n && plan[n] <= RETRIES && runs == to_the_end),
            Err(ItemError::Failed(error)) => {
                assert!(*error == n && plan[n] > RETRIES && runs == to_the_end, "item {n}");
            }
            Err(ItemError::Interrupted(Some(error))) => {
                assert!(*error == n && n > last && (1..to_the_end).contains(&runs), "item {n}");
            }
            Err(error) => assert!(n > last && runs == 0 && matches!(error, ItemError::Skipped), "item {n}"),
        }
    }
}

#[test]
fn the_lowest_item_whose_last_attempt_fails_is_the_reason_for_any_worker_count() {
    within_a_minute(|| {
        for workers in 1..=8 {
            let executor = crate::common::stopping(workers);
            plans().take(100).for_each(|plan| assert_is_like_a_loop(&executor, 1, &plan));
        }
        for way in Way::all() {
            let executor = way.stopping();
            plans().take(30).for_each(|plan| assert_is_like_a_loop(&executor, 1, &plan));
        }
    });
}

#[test]
fn an_item_counts_once_towards_the_failure_limit_and_only_by_its_last_attempt() {
    within_a_minute(|| {
        for limit in 2..5 {
            for workers in 1..=8 {
                let executor =
                    crate::common::builder().workers(workers).stop_after_failures(limit).build().unwrap();
                plans().take(40).for_each(|plan| assert_is_like_a_loop(&executor, limit, &plan));
            }
        }
    });
}

/// The item below a failure backs off for longer than everything else takes, and is still tried to its end.
#[test]
fn items_below_a_failure_are_tried_until_they_are_decided() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, census) = (way.stopping(), Census::of(100));
            let retry = Retry::delays(|| iter::repeat_n(MS(15), 2))
                .when(|n: &usize| if *n == 9 { RetryDecision::GiveUp } else { RetryDecision::Retry });
            let (reason, partial) = stopped(way.batch(&executor, 0..100usize).retry(retry).run(|&n| {
                census.count(n);
                if n == 2 || n == 9 { Err(n) } else { Ok(n) }
            }));
            assert_eq!(reason, StopReason::ItemFailed { index: 2 }, "{way:?}");
            assert_eq!((partial.attempts(2), partial.attempts(9)), (3, census.runs()[9]));
            assert!(partial.values().copied().take(2).eq(0..2));
            census.runs().iter().enumerate().for_each(|(n, runs)| assert!(n == 2 || *runs <= 1));
        }
    });
}

#[test]
fn progress_counts_an_item_once_and_ends_at_its_total() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let mut told = Vec::new();
            let batch =
                executor.batch(0..60usize).on_progress(|p| told.push((p.completed, p.total, p.failed)));
            let result = batch
                .retry(at_once(2))
                .run_with(|&n, cx| if n % 10 == 0 || cx.attempt() <= n % 3 { Err(n) } else { Ok(n) });
            assert_eq!(ran_to_its_end(result).failed(), 6);
            assert!(told.iter().map(|told| (told.0, told.1)).eq((1..=60).map(|n| (n, 60))), "{way:?}");
            assert_eq!(told.last(), Some(&(60, 60, 6)));
        }
    });
}

#[test]
fn every_attempt_takes_a_permit_of_its_own() {
    within_a_minute(|| {
        for way in Way::all() {
            let permits = Arc::new(AtomicUsize::new(0));
            let given = Arc::clone(&permits);
            let limiter = limiter_fn(move || {
                let number = given.fetch_add(1, Ordering::SeqCst) as u64;
                Ok(Duration::from_micros(number % 3 * 20))
            });
            let executor = way.builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
            let census = Census::of(50);
            let result = way.batch(&executor, 0..50usize).retry(at_once(3)).run_with(|&n, cx| {
                census.count(n);
                if cx.attempt() <= n % 6 { Err(n) } else { Ok(n) }
            });
            assert_counts_add_up(&ran_to_its_end(result));
            assert_eq!(permits.load(Ordering::SeqCst), census.total(), "{way:?}");
            assert_eq!(census.total(), (0..50).map(|n| (n % 6 + 1).min(4)).sum::<usize>());
        }
    });
}

#[test]
fn a_permit_that_is_refused_to_a_retry_is_the_items_outcome() {
    within_a_minute(|| {
        for way in Way::all() {
            let asked = AtomicUsize::new(0);
            let limiter = limiter_fn(move || match asked.fetch_add(1, Ordering::SeqCst) {
                0..30 => Ok(Duration::ZERO),
                _ => Err(LimiterError::new("used up")),
            });
            let executor = way.builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
            let (census, errors) = (Census::of(30), Register::default());
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO));
            let result = way.batch(&executor, 0..30usize).retry(retry).run(|&n| {
                census.count(n);
                Err::<(), _>(errors.make())
            });
            let result = ran_to_its_end(result);
            assert_eq!((result.failed(), census.total()), (30, 30), "{way:?}");
            for (n, runs) in census.runs().into_iter().enumerate() {
                assert!(matches!(result.outcomes()[n], Err(ItemError::RateLimiter(_))));
                assert_eq!(result.attempts(n), runs);
            }
            errors.assert_all_dropped(30);
        }
    });
}

#[test]
fn errors_of_earlier_attempts_are_dropped_and_the_last_is_kept() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, errors, items) = (way.collecting(), Register::default(), Register::default());
            let batch = way.batch(&executor, (0..40).map(|_| items.make())).retry(at_once(4));
            let result = ran_to_its_end(batch.run(|_| Err::<(), _>(errors.make())));
            assert_eq!((errors.made(), errors.dropped(), items.dropped()), (200, 160, 0), "{way:?}");
            drop(result);
            errors.assert_all_dropped(200);
            items.assert_all_dropped(40);
        }
    });
}

#[test]
fn retry_after_takes_the_place_of_a_delay_and_uses_it_up() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let retry = Retry::delays(|| iter::repeat_n(EVER, 3))
                .when(|wait: &Duration| RetryDecision::RetryAfter(*wait));
            let asked = Mutex::new(Vec::new());
            let result = way.batch(&executor, [MS(3)]).retry(retry).run(|wait| {
                asked.lock().unwrap().push(Instant::now());
                Err::<(), _>(*wait)
            });
            assert_eq!(ran_to_its_end(result).attempts(0), 4, "{way:?}");
            let asked = asked.into_inner().unwrap();
            assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= MS(3)));
        }
    });
}

#[test]
fn no_attempt_comes_before_its_delay_is_over() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, failed) = (way.collecting(), Mutex::new(vec![None; 30]));
            let retry = Retry::delays(|| [4, 1].map(MS).into_iter());
            let batch = way.batch(&executor, 0..30usize).retry(retry);
            let result = batch.run_with(|&n, cx| {
                let before = failed.lock().unwrap()[n].replace(Instant::now());
                let delay = [Duration::ZERO, MS(4), MS(1)][cx.attempt() - 1];
                assert!(before.is_none_or(|before: Instant| before.elapsed() >= delay), "too early");
                Err::<(), _>(n)
            });
            let result = ran_to_its_end(result);
            let as_told = |n: usize| matches!(result.outcomes()[n], Err(ItemError::Failed(_)));
            assert!((0..30).all(|n| as_told(n) && result.attempts(n) == 3), "{way:?}");
        }
    });
}

#[test]
fn an_item_that_backs_off_holds_no_worker() {
    within_a_minute(|| {
        for way in Way::all() {
            // As many back off for ever as there may be workers, and all others run nevertheless.
            let executor = way.stopping();
            let (backing_off, token) = (executor.workers_for(1_000).max(4), CancelToken::new());
            let (census, done) = (Census::of(backing_off + 100), Gate::default());
            let (reason, partial) = cancelled_behind(&done, &token, || {
                let items = 0..backing_off + 100;
                let retry = Retry::delays(|| iter::once(EVER));
                stopped(way.batch(&executor, items).cancel_on(&token).retry(retry).run(|&n| {
                    census.count(n);
                    if census.total() == backing_off + 100 {
                        done.open();
                    }
                    if n < backing_off { Err(n) } else { Ok(n) }
                }))
            });
            assert_eq!(reason, StopReason::Cancelled, "{way:?}");
            census.assert_each_ran_once();
            assert_eq!((partial.failed(), partial.succeeded()), (0, 100));
            let interrupted = &partial.outcomes()[..backing_off];
            assert!(
                interrupted.iter().all(|outcome| matches!(outcome, Err(ItemError::Interrupted(Some(_)))))
            );
        }
    });
}

/// A back-off that held its worker would take 12.5 s.
#[test]
fn back_offs_overlap() {
    within_a_minute(|| {
        let (executor, backing_off) = (collecting(8), Peak::default());
        let waiting: Vec<_> = (0..1_000).map(|_| Mutex::new(None)).collect();
        let retry = Retry::delays(|| iter::once(MS(100))).when(|n: &usize| {
            *waiting[*n].lock().unwrap() = Some(backing_off.enter());
            RetryDecision::Retry
        });
        let result = executor.batch(0..1_000usize).retry(retry).run_with(|&n, cx| {
            drop(waiting[n].lock().unwrap().take());
            if cx.attempt() == 1 { Err(n) } else { Ok(n) }
        });
        let result = ran_to_its_end(result);
        assert!(result.is_success() && (0..1_000).all(|n| result.attempts(n) == 2));
        assert!(backing_off.most() > 100, "{} at once, with 8 workers", backing_off.most());
        assert!(result.elapsed() >= MS(100));
        assert!(
            result.elapsed() < MS(4_000),
            "{:?}, a third of what one by one would take",
            result.elapsed()
        );
    });
}

#[test]
fn a_batch_ends_with_its_last_back_off_and_not_before() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            let retry = Retry::delays(|| iter::repeat_n(MS(5), 3));
            let batch = way.batch(&executor, 0..30).retry(retry);
            let result = batch.run_with(|n, cx| if *n == 29 && cx.attempt() < 4 { Err(()) } else { Ok(()) });
            let result = ran_to_its_end(result);
            assert!(result.is_success() && result.attempts(29) == 4, "{way:?}");
            assert!(result.elapsed() >= MS(15));
        }
    });
}

/// Grants at once, and counts.
#[derive(Default)]
struct Counting {
    permits: AtomicUsize,
    pauses: Mutex<Vec<Duration>>,
    paused_at: Mutex<Option<Instant>>,
}

impl RateLimiter for Counting {
    fn reserve(&self) -> Result<Duration, LimiterError> {
        self.permits.fetch_add(1, Ordering::SeqCst);
        Ok(Duration::ZERO)
    }

    fn pause(&self, time: Duration) {
        self.pauses.lock().expect("no panic").push(time);
        *self.paused_at.lock().expect("no panic") = Some(Instant::now());
    }
}

#[test]
fn nine_answers_at_once_are_one_pause() {
    const PAUSE: Duration = Duration::from_millis(300);

    within_a_minute(|| {
        for workers in [9, 12] {
            let (limiter, meeting) = (Arc::new(Counting::default()), Meeting::default());
            let builder = crate::common::builder().workers(workers).rate_limiter(Arc::clone(&limiter));
            let clock = TestClock::new();
            let executor = builder.clock(clock.clone()).build().unwrap();
            let retry = Retry::delays(iter::empty).when(|(): &()| RetryDecision::PauseAll(PAUSE));
            let result = executor.batch(0..9).retry(retry).run_with(|_, cx| {
                if cx.attempt() == 1 {
                    meeting.of(9);
                    return Err(());
                }
                Ok(clock.elapsed())
            });
            let result = ran_to_its_end(result);
            assert_eq!(*limiter.pauses.lock().unwrap(), [PAUSE], "told of more than one pause");
            assert_eq!(limiter.permits.load(Ordering::SeqCst), 18);
            assert!((0..9).all(|n| result.attempts(n) == 2));
            assert!(
                result.values().all(|again| *again == PAUSE),
                "an item starts again when the one pause ends"
            );
        }
    });
}

#[test]
fn a_longer_answer_lengthens_the_pause_and_a_second_round_is_another() {
    within_a_minute(|| {
        let (limiter, meeting) = (Arc::new(Counting::default()), Meeting::default());
        let executor =
            crate::common::builder().workers(3).rate_limiter(Arc::clone(&limiter)).build().unwrap();
        let retry = Retry::delays(|| iter::repeat_n(Duration::ZERO, 3))
            .when(|millis: &u64| RetryDecision::PauseAll(MS(*millis)));
        let result = executor.batch(0..3).retry(retry).run_with(|&n, cx| match (cx.attempt(), n) {
            (1, _) => {
                meeting.of(3);
                Err(if n == 2 { 9 } else { 5 })
            }
            (2, 0) => {
                wait_until("the longest of the first round has come", || {
                    limiter.pauses.lock().unwrap().contains(&MS(9))
                });
                Err(7)
            }
            _ => Ok(()),
        });
        assert!(ran_to_its_end(result).is_success());
        let mut told = limiter.pauses.lock().unwrap().clone();
        assert_eq!(told.pop(), Some(MS(7)), "the second round");
        // The answer that came first was told, and 9 ms was news whenever it came.
        assert!(told == [MS(9)] || told == [MS(5), MS(9)], "{told:?}");
    });
}

/// Item 1 sleeps on a permit when item 0 is told that it is too much.
fn start_behind_a_pause(permit: Duration, pause: Duration) -> Option<Duration> {
    let (asked, calls) = (Arc::new(Gate::default()), AtomicUsize::new(0));
    let reserved = Arc::clone(&asked);
    let limiter = limiter_fn(move || match calls.fetch_add(1, Ordering::SeqCst) {
        1 => {
            reserved.open();
            Ok(permit)
        }
        _ => Ok(Duration::ZERO),
    });
    let executor = crate::common::builder().workers(2).rate_limiter(limiter).build().expect("good settings");
    let (answered, started) = (Mutex::new(None), Mutex::new(None));
    let retry = Retry::delays(iter::empty).when(|(): &()| {
        *answered.lock().expect("no panic") = Some(Instant::now());
        RetryDecision::PauseAll(pause)
    });
    let result = executor.batch(0..2).retry(retry).run_with(|&n, cx| {
        if (n, cx.attempt()) == (0, 1) {
            asked.pass();
            return Err(());
        }
        if n == 1 {
            *started.lock().expect("no panic") = Some(Instant::now());
        }
        Ok(())
    });
    assert!(ran_to_its_end(result).is_success());
    let (answered, started) =
        (answered.into_inner().expect("no panic"), started.into_inner().expect("no panic"));
    started.expect("it ran").checked_duration_since(answered.expect("it paused"))
}

#[test]
fn a_pause_holds_back_an_item_that_sleeps_on_its_permit_already() {
    within_a_minute(|| {
        let pause = MS(150);
        // On a slow machine the permit may come before the answer does.
        let waited =
            (0..10).find_map(|round| start_behind_a_pause(MS(50) * (round + 1), pause + MS(50) * round));
        assert!(waited.expect("an answer while the other slept") >= pause, "{waited:?}");
    });
}

#[test]
fn in_a_pause_nothing_starts() {
    within_a_minute(|| {
        for way in Way::all() {
            let (limiter, pause) = (Arc::new(Counting::default()), MS(30));
            let executor = way.builder().rate_limiter(Arc::clone(&limiter)).build().unwrap();
            let (answered, began) = (Mutex::new(None), Mutex::new(Vec::new()));
            let retry = Retry::delays(iter::empty).when(|(): &()| {
                *answered.lock().unwrap() = Some(Instant::now());
                RetryDecision::PauseAll(pause)
            });
            let result = way.batch(&executor, 0..200).retry(retry).run_with(|&n, cx| {
                began.lock().unwrap().push(Instant::now());
                if (n, cx.attempt()) == (3, 1) { Err(()) } else { Ok(()) }
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "{way:?}");
            // It began between the answer and the limiter's pause. Each worker may have been let into one item before.
            let end = answered.into_inner().unwrap().unwrap() + pause;
            let begin = limiter.paused_at.lock().unwrap().unwrap();
            let began = began.into_inner().unwrap();
            assert!(began.iter().any(|began| *began >= end));
            let during = began.iter().filter(|began| **began > begin && **began < end).count();
            assert!(during <= result.workers(), "{during} began in the pause, {way:?}");
        }
    });
}

/// Every second item is refused once, and there are no delays.
#[test]
fn the_first_pause_of_an_item_uses_up_no_retry() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, census) = (way.stopping(), Census::of(50));
            let retry = Retry::delays(iter::empty).when(|(): &()| RetryDecision::PauseAll(Duration::ZERO));
            let result = way.batch(&executor, 0..50usize).retry(retry).run_with(|&n, cx| {
                census.count(n);
                if n % 2 == 0 && cx.attempt() == 1 { Err(()) } else { Ok(()) }
            });
            assert!(ran_to_its_end(result).is_success(), "{way:?}");
            assert_eq!(census.total(), 75);
        }
    });
}

/// A service that always refuses some items, and each again only after others have succeeded since.
struct Service {
    refused: &'static [usize],
    succeeded: AtomicUsize,
    /// How many had to have succeeded at each refusal of an item.
    seen: Vec<Mutex<usize>>,
}

impl Service {
    fn that_refuses(refused: &'static [usize]) -> Self {
        let seen = (0..ITEMS).map(|_| Mutex::new(0)).collect();
        Service { refused, succeeded: AtomicUsize::new(0), seen }
    }

    /// `workers` may have succeeded and not told of it yet: each one item, since items are slow enough to be claimed one by one.
    fn ask(&self, n: usize, workers: usize) -> Result<(), ()> {
        if !self.refused.contains(&n) {
            if workers > 0 {
                thread::sleep(Duration::from_micros(500));
            }
            self.succeeded.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let (mut seen, there) = (self.seen[n].lock().expect("no panic"), ITEMS - self.refused.len());
        let enough = |&succeeded: &usize| succeeded >= (*seen + workers).min(there);
        let succeeded = || Some(self.succeeded.load(Ordering::SeqCst)).filter(enough);
        wait_until("others have succeeded", || *seen == 0 || succeeded().is_some());
        *seen = self.succeeded.load(Ordering::SeqCst) + 1;
        Err(())
    }
}

const ITEMS: usize = 400;

/// Else one item that can never succeed would hold back all others for ever.
#[test]
fn an_item_that_alone_is_refused_pauses_all_once_and_uses_up_a_delay_each_time() {
    within_a_minute(|| {
        for way in Way::all() {
            for retries in [1, 3] {
                let (limiter, service) = (Arc::new(Counting::default()), Service::that_refuses(&[5]));
                let builder = way.builder().stop_on_error(false).rate_limiter(Arc::clone(&limiter));
                let executor = builder.build().unwrap();
                let workers = executor.workers_for(ITEMS).max(64) + 1;
                let asked = AtomicUsize::new(0);
                let longer = |(): &()| RetryDecision::PauseAll(MS(2 << asked.fetch_add(1, Ordering::SeqCst)));
                let retry = Retry::delays(move || iter::repeat_n(EVER, retries)).when(longer);
                let batch = way.batch(&executor, 0..ITEMS).retry(retry);
                let result = ran_to_its_end(batch.run(|&n| {
                    let is_lone = !way.is_parallel();
                    service.ask(n, if is_lone { 0 } else { workers })
                }));
                assert_eq!((result.succeeded(), result.failed()), (ITEMS - 1, 1), "{way:?}");
                assert_eq!(result.attempts(5), retries + 1, "{way:?}");
                assert_eq!(limiter.pauses.lock().unwrap().len(), 1, "{way:?}");
            }
        }
    });
}

/// The same in a stream, and where the item's end stops the batch: all items before it are done.
#[test]
fn an_item_that_alone_is_refused_ends_in_streams_and_where_a_failure_stops() {
    within_a_minute(|| {
        for way in Way::all() {
            let (workers, is_lone) = (way.stopping().workers_for(ITEMS).max(64) + 1, !way.is_parallel());
            let retry =
                || Retry::delays(|| iter::repeat_n(EVER, 3)).when(|(): &()| RetryDecision::PauseAll(MS(2)));
            let ask = |service: &Service, n| service.ask(n, if is_lone { 0 } else { workers });
            // One worker alone does not pull others meanwhile.
            for is_ordered in [true, false].into_iter().filter(|_| !is_lone) {
                let (service, executor, census) =
                    (Service::that_refuses(&[5]), way.collecting(), Census::of(ITEMS));
                let batch = way.batch(&executor, 0..ITEMS).window(ITEMS).retry(retry());
                let batch = if is_ordered { batch } else { batch.unordered() };
                let op = |&n: &usize| {
                    census.count(n);
                    ask(&service, n)
                };
                let streamed = batch.stream(op, |results| results.count());
                assert_eq!((streamed.output, streamed.failed), (ITEMS, 1), "{way:?}");
                assert_eq!((census.runs()[5], census.total()), (4, ITEMS + 3), "{way:?}");
            }
            let (service, executor) = (Service::that_refuses(&[5]), way.stopping());
            let batch = way.batch(&executor, 0..ITEMS).retry(retry());
            let (reason, partial) = stopped(batch.run(|&n| ask(&service, n)));
            assert_eq!((reason, partial.attempts(5)), (StopReason::ItemFailed { index: 5 }, 4), "{way:?}");
            assert!(partial.outcomes()[..5].iter().all(Result::is_ok));
        }
    });
}

/// Each of them would else be a sign for the others that the server refuses all.
#[test]
fn several_items_that_are_always_refused_come_to_an_end_each_by_itself() {
    const REFUSED: &[usize] = &[0, 30, 31, 32, 160];
    within_a_minute(|| {
        for way in Way::all() {
            let limiter = Arc::new(Counting::default());
            let builder = way.builder().stop_on_error(false).rate_limiter(Arc::clone(&limiter));
            let executor = builder.build().unwrap();
            let retry =
                Retry::delays(|| iter::repeat_n(EVER, 3)).when(|(): &()| RetryDecision::PauseAll(MS(1)));
            let batch = way.batch(&executor, 0..ITEMS).retry(retry);
            let result = ran_to_its_end(batch.run(|n| if REFUSED.contains(n) { Err(()) } else { Ok(()) }));
            assert_eq!((result.succeeded(), result.failed()), (ITEMS - 5, 5), "{way:?}");
            let attempts: Vec<_> = REFUSED.iter().map(|&n| result.attempts(n)).collect();
            assert!(attempts.iter().all(|&attempts| attempts <= 5), "{attempts:?}, {way:?}");
            let pauses = limiter.pauses.lock().unwrap().len();
            assert!(pauses <= attempts.iter().sum(), "{pauses} pauses, {way:?}");
        }
    });
}

/// Eight items fail until all others have succeeded, and have retries without end and without delay: more than most of these
/// ways have workers.
#[test]
fn items_that_are_always_due_again_keep_no_other_from_running() {
    within_a_minute(|| {
        for way in Way::all() {
            let (done, vain) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let op = |&n: &usize| match n {
                0..8 if done.load(Ordering::SeqCst) < 52 => {
                    vain.fetch_add(1, Ordering::SeqCst);
                    Err(n)
                }
                _ => {
                    done.fetch_add(1, Ordering::SeqCst);
                    Ok(n)
                }
            };
            let executor = way.collecting();
            let batch = || way.batch(&executor, 0..60).retry(at_once(usize::MAX)).timeout(MS(20_000));
            assert!(ran_to_its_end(batch().run(op)).is_success(), "{way:?}");
            // One worker alone does not pull meanwhile: the input may wait for what comes of the item.
            for is_ordered in [true, false].into_iter().filter(|_| way.is_parallel()) {
                done.store(0, Ordering::SeqCst);
                let batch = if is_ordered { batch() } else { batch().unordered() };
                let streamed = batch.window(60).stream(op, |results| results.count());
                assert_eq!((streamed.output, streamed.stopped), (60, None), "{is_ordered}, {way:?}");
            }
            // Some hundred, and more while a worker that pulls is kept from running.
            let vain = vain.into_inner();
            assert!(vain < 250_000, "{vain} retries in vain, {way:?}");
        }
    });
}

/// 30 of 300 are dead, and come first.
#[test]
fn dead_items_at_the_front_and_others_take_turns() {
    within_a_minute(|| {
        for workers in [1, 8] {
            let tried = Mutex::new(Vec::new());
            let result = collecting(workers).batch(0..300usize).retry(at_once(5)).run_with(|&n, cx| {
                tried.lock().unwrap().push((n, cx.attempt()));
                if n < 30 { Err(n) } else { Ok(n) }
            });
            assert_eq!(ran_to_its_end(result).failed(), 30);
            let tried = tried.into_inner().unwrap();
            let first_good = tried.iter().position(|(n, _)| *n >= 30).unwrap();
            assert!(first_good <= 60 + 2 * workers, "{first_good} attempts came before the first good item");
            // Neither do the retries wait until all others have run; with more workers, one that is
            // kept from running may be late.
            let last_dead = tried.iter().rposition(|(n, _)| *n < 30).unwrap();
            assert!(workers > 1 || last_dead <= 302, "{last_dead} of {}", tried.len());
        }
    });
}

#[test]
fn pauses_use_up_retries_where_the_batch_gets_nowhere() {
    within_a_minute(|| {
        for way in Way::all() {
            for retries in [0, 3] {
                let (executor, census) = (way.collecting(), Census::of(12));
                let retry = Retry::delays(|| iter::repeat_n(EVER, retries))
                    .when(|(): &()| RetryDecision::PauseAll(Duration::from_micros(100)));
                let result = way.batch(&executor, 0..12usize).retry(retry).run(|&n| {
                    census.count(n);
                    Err::<(), _>(())
                });
                let result = ran_to_its_end(result);
                assert_eq!(result.failed(), 12);
                // The first pause of each uses up nothing.
                assert_eq!(census.runs(), vec![retries + 2; 12], "{way:?}");
            }
        }
    });
}

#[test]
fn give_up_is_the_end_at_once() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, census) = (way.collecting(), Census::of(20));
            let retry =
                Retry::delays(|| iter::repeat(Duration::ZERO)).when(|attempt: &usize| match attempt {
                    2 => RetryDecision::GiveUp,
                    _ => RetryDecision::Retry,
                });
            let batch = way.batch(&executor, 0..20usize).retry(retry);
            let result = batch.run_with(|&n, cx| {
                census.count(n);
                Err::<(), _>(cx.attempt())
            });
            assert_eq!((census.runs(), ran_to_its_end(result).failed()), (vec![2; 20], 20), "{way:?}");
        }
    });
}

#[test]
fn without_retry_nothing_is_tried_again_and_what_never_began_has_no_attempt() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            let (_, partial) =
                stopped(way.batch(&executor, 0..2_000).run(|n| if *n == 0 { Err(()) } else { Ok(()) }));
            for (n, item) in partial.iter().enumerate() {
                let skipped = matches!(item.outcome, Err(ItemError::Skipped));
                assert_eq!(partial.attempts(n), usize::from(!skipped), "{way:?}");
            }
        }
    });
}

/// What stopped the batch leaves those that back off above it with their last error, and at once.
#[test]
fn items_that_back_off_above_a_failure_are_interrupted_and_keep_their_error() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, waiting) = (way.stopping(), AtomicBool::new(false));
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO)).when(|n: &usize| match n {
                0 if waiting.load(Ordering::SeqCst) => RetryDecision::GiveUp,
                0 => RetryDecision::RetryAfter(MS(1)),
                _ => {
                    waiting.store(true, Ordering::SeqCst);
                    RetryDecision::RetryAfter(EVER)
                }
            });
            let result = way.batch(&executor, 0..10usize).retry(retry).run(|n| Err::<(), _>(*n));
            let (reason, partial) = stopped(result);
            assert_eq!(reason, StopReason::ItemFailed { index: 0 }, "{way:?}");
            assert_eq!((partial.failed(), partial.skipped()), (1, 9), "{way:?}");
            let mut interrupted = 0;
            for (n, item) in partial.iter().enumerate().skip(1) {
                match item.outcome {
                    Err(ItemError::Interrupted(Some(error))) => {
                        interrupted += 1;
                        assert_eq!((*error, partial.attempts(n)), (n, 1));
                    }
                    other => assert!(matches!(other, Err(ItemError::Skipped)) && partial.attempts(n) == 0),
                }
            }
            assert!(interrupted > 0, "{way:?}");
        }
    });
}

#[test]
fn all_workers_take_part_in_the_second_round() {
    within_a_minute(|| {
        for way in Way::all().into_iter().filter(Way::is_parallel) {
            let (executor, meeting) = (way.stopping(), Meeting::default());
            let workers = executor.workers_for(100).min(4);
            let retry = Retry::delays(|| iter::once(MS(20)));
            let batch = way.batch(&executor, 0..workers).retry(retry);
            let result = batch.run_with(|&n, cx| {
                if cx.attempt() == 1 {
                    return Err(n);
                }
                meeting.of(workers);
                Ok(n)
            });
            assert!(ran_to_its_end(result).is_success(), "{way:?}");
        }
    });
}

#[test]
fn items_below_a_failure_wait_out_their_back_off() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, first) = (way.stopping(), Mutex::new(None));
            let retry = Retry::delays(|| iter::once(MS(50)))
                .when(|n: &usize| if *n == 0 { RetryDecision::Retry } else { RetryDecision::GiveUp });
            let outcome = way.batch(&executor, 0..100usize).retry(retry).run_with(|&n, cx| match n {
                0 if cx.attempt() == 1 => {
                    *first.lock().unwrap() = Some(Instant::now());
                    Err(n)
                }
                0 => Ok(first.lock().unwrap().unwrap().elapsed()),
                _ => Err(n),
            });
            let (reason, partial) = stopped(outcome);
            assert_eq!(reason, StopReason::ItemFailed { index: 1 }, "{way:?}");
            assert!(*partial.outcomes()[0].as_ref().unwrap() >= MS(50), "{way:?}");
        }
    });
}

/// Even items wait for another attempt for ever, odd ones succeed.
#[test]
fn an_item_that_waits_for_another_attempt_when_the_batch_stops_is_undecided() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, waiting) = (way.collecting(), CancelToken::new(), Gate::default());
            let (asked, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
            let retry = Retry::delays(|| iter::repeat(EVER)).when(|_: &usize| {
                if asked.fetch_add(1, Ordering::SeqCst) == 9 {
                    waiting.open();
                }
                RetryDecision::Retry
            });
            let (reason, partial) = cancelled_behind(&waiting, &token, || {
                let batch = executor.batch(0..20usize).cancel_on(&token).retry(retry);
                let batch =
                    batch.on_progress(|p| told.lock().unwrap().push((p.completed, p.succeeded, p.failed)));
                stopped(batch.run(|&n| if n % 2 == 0 { Err(n) } else { Ok(n) }))
            });
            assert_eq!(reason, StopReason::Cancelled, "{way:?}");
            assert_eq!((partial.failed(), partial.skipped()), (0, partial.total() - partial.succeeded()));
            for n in (0..20).step_by(2) {
                assert!(
                    matches!(partial.outcomes()[n], Err(ItemError::Interrupted(Some(error))) if error == n)
                );
                assert_eq!(partial.attempts(n), 1, "{way:?}");
            }
            // A call for each item that is decided, and for no other.
            let told = told.into_inner().unwrap();
            assert!(told.into_iter().eq((1..=partial.succeeded()).map(|n| (n, n, 0))), "{way:?}");
            let error = partial.failures().next();
            assert!(error.is_none(), "{way:?}");
        }
    });
}

#[test]
fn a_batch_that_stops_while_all_items_wait_has_an_error_about_no_item() {
    let retry = Retry::delays(|| iter::repeat(EVER));
    let executor = BatchExecutor::new();
    let batch = executor.batch(0..3).retry(retry).timeout(MS(5));
    let error = batch.run(|_| Err::<(), _>("busy")).into_values().unwrap_err();
    assert_eq!((error.stopped(), error.index()), (Some(StopReason::DeadlineExceeded), None));
    assert_eq!((error.succeeded(), error.failed(), error.skipped()), (0, 0, 3));
}

#[test]
fn a_stream_hands_on_no_item_that_waits_for_another_attempt() {
    within_a_minute(|| {
        for way in Way::all() {
            for is_ordered in [true, false] {
                let (executor, token, waiting) = (way.collecting(), CancelToken::new(), Gate::default());
                let retry = Retry::delays(|| iter::repeat(EVER)).when(|_: &usize| {
                    waiting.open();
                    RetryDecision::Retry
                });
                let batch = way.batch(&executor, 0..).window(4).cancel_on(&token).retry(retry);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = cancelled_behind(&waiting, &token, || {
                    batch.stream(
                        |&n: &usize| if n == 3 { Err(n) } else { Ok(n) },
                        |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
                    )
                });
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled), "{way:?}");
                assert_eq!((streamed.succeeded, streamed.failed), (streamed.output.len(), 0), "{way:?}");
                assert!(!streamed.output.contains(&3));
                assert!(!is_ordered || streamed.output == [0, 1, 2], "{:?}, {way:?}", streamed.output);
            }
        }
    });
}

/// What a client keeps: one retry for all of its batches, a clone for each.
struct Client {
    retry: Retry<'static, &'static str>,
}

#[test]
fn a_struct_keeps_a_retry_and_its_batches_may_borrow() {
    within_a_minute(|| {
        let gone = String::from("gone");
        let delays = [Duration::ZERO; 2];
        let retry = Retry::delays(move || delays.into_iter())
            .when(|error: &&str| if *error == "gone" { RetryDecision::GiveUp } else { RetryDecision::Retry });
        let client = Client { retry };
        for way in Way::all() {
            let executor = way.collecting();
            let names = [gone.clone(), String::from("busy")];
            let batch = way.batch(&executor, names.iter()).retry(client.retry.clone());
            let result = ran_to_its_end(
                batch.run(|name| if **name == gone { Err::<(), _>("gone") } else { Err("busy") }),
            );
            assert_eq!([result.attempts(0), result.attempts(1)], [1, 3], "{way:?}");
        }
    });
}

#[test]
fn a_retry_may_borrow_from_its_caller() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, asked, made) = (way.collecting(), AtomicUsize::new(0), AtomicUsize::new(0));
            let retry = Retry::delays(|| {
                made.fetch_add(1, Ordering::SeqCst);
                iter::once(Duration::ZERO)
            })
            .when(|_: &usize| {
                asked.fetch_add(1, Ordering::SeqCst);
                RetryDecision::Retry
            });
            let batches = [retry.clone(), retry].map(|retry| way.batch(&executor, 0..10usize).retry(retry));
            for batch in batches {
                assert_eq!(ran_to_its_end(batch.run(|&n| Err::<(), _>(n))).failed(), 10, "{way:?}");
            }
            // Asked after each attempt; delays are made at the first failure of an item.
            assert_eq!((asked.into_inner(), made.into_inner()), (40, 20), "{way:?}");
        }
    });
}

#[test]
fn the_last_of_two_retries_holds_and_steps_may_stand_under_an_if() {
    for (is_patient, attempts) in [(false, 1), (true, 3)] {
        let executor = BatchExecutor::new();
        let mut batch = executor.batch([7]).retry(at_once(0));
        if is_patient {
            batch = batch.retry(at_once(2)).on_progress(|p| assert_eq!(p.total, 1)).workers(3);
        }
        assert_eq!(batch.run(|_| Err::<(), _>("no")).attempts(0), attempts);
    }
}

#[test]
fn the_last_answer_to_errors_counts() {
    for (first, last, attempts) in
        [(RetryDecision::Retry, RetryDecision::GiveUp, 1), (RetryDecision::GiveUp, RetryDecision::Retry, 3)]
    {
        let retry = at_once(2).when(move |_: &&str| first).when(move |_| last);
        let result = BatchExecutor::new().batch(0..1).retry(retry).run(|_| Err::<(), _>("down"));
        assert_eq!(result.attempts(0), attempts);
    }
}
