//! A rate that is learnt: from servers that do not tell what they allow, and only refuse what is too much. All of it by a test clock.

#![allow(
    clippy::cast_precision_loss,
    clippy::unchecked_time_subtraction,
    reason = "times and counts of a simulation are small, and go on"
)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use batch_executor::{BatchExecutor, Limit, RateLimit, RateLimiter, Retry, RetryDecision, TestClock};

use crate::common::{nap, wait_until};

const SECOND: Duration = Duration::from_secs(1);

/// Admits this many permits in any second, and refuses all others.
struct Server {
    clock: TestClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    allowed: u64,
    /// What was admitted in the last second, and its sum.
    recent: VecDeque<(Duration, u64)>,
    in_use: u64,
    admitted: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Server {
    fn new(clock: &TestClock, allowed: u64) -> Self {
        Server { clock: clock.clone(), state: Mutex::new(State { allowed, ..State::default() }) }
    }

    fn ask(&self, cost: u64) -> Result<(), &'static str> {
        let now = self.clock.elapsed();
        let state = &mut *self.state.lock().expect("no operation panics");
        while let Some((_, cost)) = state.recent.front().filter(|(at, _)| now.saturating_sub(*at) >= SECOND) {
            state.in_use -= cost;
            state.recent.pop_front();
        }
        if state.in_use + cost > state.allowed {
            state.refused.push(now);
            return Err("429");
        }
        state.in_use += cost;
        state.recent.push_back((now, cost));
        state.admitted.push(now);
        Ok(())
    }

    fn allow(&self, allowed: u64) {
        self.state.lock().expect("no operation panics").allowed = allowed;
    }

    fn refused_since(&self, time: Duration) -> usize {
        self.state.lock().expect("no operation panics").refused.iter().filter(|at| **at >= time).count()
    }

    fn admitted_between(&self, from: Duration, to: Duration) -> usize {
        self.state
            .lock()
            .expect("no operation panics")
            .admitted
            .iter()
            .filter(|at| (from..to).contains(at))
            .count()
    }
}

/// An overload is over after a second; 50 refusals in a row would be too many for an item.
fn slow_down<'a>() -> Retry<'a, &'static str> {
    Retry::delays(|| [SECOND; 50].into_iter()).when(|_| RetryDecision::PauseAll(SECOND))
}

fn executor(clock: &TestClock, workers: usize) -> BatchExecutor {
    BatchExecutor::builder().workers(workers).clock(clock.clone()).build().expect("good settings")
}

/// This many seconds of work for a server. How much longer than with the right limit it took, and what was refused.
fn run(start: u32, allowed: u64, seconds: u64, workers: usize) -> (f64, usize) {
    let clock = TestClock::new();
    let server = Server::new(&clock, allowed);
    let result = executor(&clock, workers)
        .batch(0..allowed * seconds)
        .retry(slow_down())
        .limit(Limit::rate(RateLimit::learning(start)))
        .run(|_| server.ask(1));
    assert!(result.is_success(), "{result}");
    (clock.elapsed().as_secs_f64() / seconds as f64, server.refused_since(Duration::ZERO))
}

#[test]
fn an_unknown_limit_is_learnt_from_below_and_from_above() {
    for (start, allowed) in [(1, 5), (3, 20), (20, 20), (23, 20), (400, 20), (5, 5), (100, 5)] {
        // Threads hand over to each other at every item: where there are many, one worker is enough.
        for workers in if allowed == 5 { vec![1, 4] } else { vec![1] } {
            let (ratio, refused) = run(start, allowed, 90, workers);
            assert!(
                ratio <= 1.2,
                "{start} at first, {allowed} allowed: {ratio} of the time, {workers} workers"
            );
            assert!(refused <= 10, "{start} at first, {allowed} allowed: {refused} refusals");
        }
    }
}

#[test]
fn what_has_been_learnt_is_tried_ever_more_rarely() {
    let clock = TestClock::new();
    let server = Server::new(&clock, 10);
    let result = executor(&clock, 1)
        .batch(0..10 * 1_200)
        .retry(slow_down())
        .limit(Limit::rate(RateLimit::learning(2)))
        .run(|_| server.ask(1));
    assert!(result.is_success());
    let whole = clock.elapsed();
    assert!(whole < 1_300 * SECOND, "{whole:?}");
    let refused = server.state.lock().unwrap().refused.clone();
    let quiet = refused.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(quiet > 200 * SECOND, "{refused:?}");
    let (first, second) =
        (refused.iter().filter(|at| **at < whole / 2).count(), server.refused_since(whole / 2));
    assert!(first <= 10 && second <= 2, "{refused:?}");
}

#[test]
fn a_limit_that_changes_is_followed_up_and_down() {
    for (before, after, workers) in [(20, 4, 4), (20, 10, 1), (4, 12, 1), (2, 10, 1)] {
        let clock = TestClock::new();
        let server = Server::new(&clock, before);
        let result = executor(&clock, workers)
            .batch(0..60 * before + 400 * after)
            .retry(slow_down())
            .limit(Limit::rate(RateLimit::learning(10)))
            .run(|n| {
                if *n == 60 * before {
                    server.allow(after);
                }
                server.ask(1)
            });
        assert!(result.is_success());
        let whole = clock.elapsed();
        assert!(whole <= 460 * SECOND * 12 / 10, "{before}, then {after}: {whole:?}");
        let last = server.admitted_between(whole - 60 * SECOND, whole) as u64;
        assert!(last >= 50 * after, "{before}, then {after}: {last} in the last minute");
        assert!(server.refused_since(Duration::ZERO) <= 40, "{}", server.refused_since(Duration::ZERO));
    }
}

#[test]
fn an_outage_is_outlasted_and_does_not_spoil_the_rate() {
    let clock = TestClock::new();
    let server = Server::new(&clock, 10);
    let is_down = || (60 * SECOND..120 * SECOND).contains(&clock.elapsed());
    let endless = Retry::delays(|| std::iter::repeat(SECOND)).when(|_| RetryDecision::PauseAll(SECOND));
    let result = executor(&clock, 4)
        .batch(0..10 * 200)
        .retry(endless)
        .limit(Limit::rate(RateLimit::learning(10)))
        .run(|_| if is_down() { Err("503") } else { server.ask(1) });
    assert!(result.is_success());
    // Two fifths more than the outage and what the limit takes. Mostly it is 279 s, and up to 326 s where threads ask in another order.
    assert!(clock.elapsed() < (60 + 200) * SECOND * 14 / 10, "{:?}", clock.elapsed());
}

/// Two that are told to wait for almost two minutes would have one permit a minute.
#[test]
fn it_never_falls_below_a_thousandth_of_its_first_rate() {
    let (clock, again, begun) = (TestClock::new(), Mutex::new(Vec::new()), AtomicUsize::new(0));
    let retry = Retry::delays(|| std::iter::once(SECOND)).when(|_| RetryDecision::PauseAll(110 * SECOND));
    let executor = executor(&clock, 2);
    let batch = executor.batch(0..2).retry(retry).limit(Limit::rate(RateLimit::learning(100)));
    let result = batch.run_with(|_, cx| {
        if cx.attempt() == 1 {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < 2 {
                nap(SECOND / 1_000);
            }
            return Err("429");
        }
        again.lock().unwrap().push(clock.elapsed());
        Ok(())
    });
    assert!(result.is_success());
    let again = again.into_inner().unwrap();
    assert_eq!(again[1] - again[0], 10 * SECOND, "{again:?}");
}

#[test]
fn an_item_that_is_refused_alone_is_tried_at_the_rate_all_the_same() {
    let clock = TestClock::new();
    let tried = Mutex::new(Vec::new());
    let result = executor(&clock, 1)
        .batch(0..1)
        .retry(
            Retry::delays(|| std::iter::repeat_n(Duration::from_millis(1), 5_000))
                .when(|_| RetryDecision::PauseAll(Duration::from_millis(1))),
        )
        .limit(Limit::rate(RateLimit::learning(100)))
        .run(|_| {
            tried.lock().unwrap().push(clock.elapsed());
            Err::<(), _>("never")
        });
    assert_eq!(result.failed(), 1);
    let tried = tried.into_inner().unwrap();
    assert_eq!(tried.len(), 5_002, "the first pause uses up no delay");
    let longest = tried.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest <= SECOND / 100, "a hundred a second: {longest:?}");
}

#[test]
fn costs_are_learnt_in_permits() {
    let clock = TestClock::new();
    let server = Server::new(&clock, 10_000);
    let cost = |n: &u64| 100 + n % 7 * 100;
    let items = 10_000 * 90 / 400;
    let result = executor(&clock, 2)
        .batch(0..items)
        .retry(slow_down())
        .limit(Limit::rate(RateLimit::learning(2_000)).cost(cost))
        .run(|n| server.ask(cost(n)));
    assert!(result.is_success());
    assert!(clock.elapsed() < 90 * SECOND * 12 / 10, "{:?}", clock.elapsed());
    assert!(server.refused_since(Duration::ZERO) <= 10);
}

/// A limit for requests and one for tokens, both unknown: a refusal does not say for which of them it is.
#[test]
fn two_limits_are_learnt_together() {
    let clock = TestClock::new();
    let (requests, tokens) = (Server::new(&clock, 20), Server::new(&clock, 4_000));
    let cost = |n: &u64| 100 + n % 5 * 100; // 300 on average: 13 requests have 4,000
    let result = executor(&clock, 8)
        .batch(0..4_000 * 100 / 300)
        .retry(slow_down())
        .limit(Limit::rate(RateLimit::learning(50)))
        .limit(Limit::rate(RateLimit::learning(5_000)).cost(cost))
        .run(|n| requests.ask(1).and_then(|()| tokens.ask(cost(n))));
    assert!(result.is_success());
    assert!(clock.elapsed() < 130 * SECOND, "{:?}", clock.elapsed());
}

/// The time between two permits that the limit has learnt, as it prints it.
fn interval(limit: &RateLimit) -> String {
    let text = format!("{limit:?}");
    let (_, rest) = text.split_once("learnt_interval: ").expect("it learns");
    rest.split([',', '}']).next().unwrap_or_default().trim().to_owned()
}

/// All that began before the rate fell has met the same overload, however late it says so.
#[test]
fn refusals_of_one_overload_count_once_also_for_batches_that_share_the_limit() {
    let clock = TestClock::new();
    let limit = RateLimit::learning(64).burst(16);
    let executor = executor(&clock, 4);
    let before = interval(&limit);
    let all_run = Barrier::new(8);
    let fell = Mutex::new(Vec::new());
    let no_pause = || {
        Retry::delays(|| [Duration::ZERO; 3].into_iter())
            .when(|_: &&str| RetryDecision::PauseAll(Duration::ZERO))
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let result =
                    executor.batch(0..4).retry(no_pause()).limit(Limit::rate(&limit)).run_with(|_, cx| {
                        if cx.attempt() == 1 {
                            all_run.wait();
                            return Err("429");
                        }
                        fell.lock().unwrap().push(interval(&limit));
                        Ok(())
                    });
                assert!(result.is_success());
            });
        }
    });
    // The limit may hear of a refusal when another item of the same pause has begun again.
    let mut fell = fell.into_inner().unwrap();
    fell.retain(|now| *now != before);
    assert!(!fell.is_empty() && fell.iter().all(|now| *now == fell[0]), "{before}, then {fell:?}");
}

/// Though permits have come since the rate fell, and though it asks for a longer pause. By the machine's clock, since an item waits for
/// others to begin.
#[test]
fn a_refusal_that_comes_late_is_no_second_one() {
    let limit = RateLimit::learning(50);
    let millis = || {
        let text = interval(&limit);
        let (number, unit) = text.split_at(text.find(char::is_alphabetic).expect("a unit"));
        number.parse::<f64>().expect("a number") * if unit == "s" { 1000.0 } else { 1.0 }
    };
    let retry = Retry::delays(|| [Duration::from_millis(10); 9].into_iter());
    let retry = retry.when(|millis: &u64| RetryDecision::PauseAll(Duration::from_millis(*millis)));
    let (starts, seen) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begin = |count| wait_until("others begin", || starts.load(Ordering::SeqCst) >= count);
    let executor = BatchExecutor::builder().workers(6).build().unwrap();
    let result = executor.batch(0..8).limit(Limit::rate(&limit)).retry(retry).run_with(|n, cx| {
        let before = starts.fetch_add(1, Ordering::SeqCst);
        match (*n, cx.attempt()) {
            (0, 1) => {
                begin(2);
                return Err(100);
            }
            (1, 1) => {
                begin(before.max(2) + 3);
                wait_until("the rate has fallen", || millis() > 21.0);
                seen.lock().unwrap().push(millis());
                return Err(200);
            }
            (1, 2) => seen.lock().unwrap().push(millis()),
            _ => {}
        }
        Ok(())
    });
    assert!(result.is_success(), "{result}");
    let seen = seen.into_inner().unwrap();
    assert!(seen[1] <= seen[0] * 1.01, "it fell again, {seen:?}");
}

#[test]
fn a_limit_that_is_set_goes_on_from_there_and_a_share_learns_from_its_share() {
    let limit = RateLimit::learning(10);
    limit.set(1_000, SECOND).unwrap();
    limit.reserve().unwrap();
    assert!(limit.reserve().unwrap() <= Duration::from_millis(1));
    let share = RateLimit::learning(1_000).split(100);
    share.reserve().unwrap();
    assert!(share.reserve().unwrap() > Duration::from_millis(90));
}

/// The server refuses nothing, so the rate does not fall either.
#[test]
fn a_rate_that_was_set_is_the_one_that_learning_begins_with() {
    let (clock, limit) = (TestClock::new(), RateLimit::learning(10));
    limit.set(1_000, SECOND).unwrap();
    let result = executor(&clock, 4).batch(0..1_000).limit(Limit::rate(&limit)).run(|_| Ok::<_, String>(()));
    assert!(result.is_success());
    assert!(clock.elapsed() < 2 * SECOND, "{:?}", clock.elapsed());
}

#[test]
fn what_is_not_used_does_not_rise() {
    let clock = TestClock::new();
    let limit = RateLimit::learning(100);
    let result = executor(&clock, 4)
        .batch(0..2_000)
        .limit(Limit::rate(RateLimit::per_second(20)))
        .limit(Limit::rate(&limit))
        .run(|_| Ok::<_, String>(()));
    assert!(result.is_success());
    assert!(format!("{limit:?}").contains("learnt_interval: 10ms"), "{limit:?}");
}
