//! When the next item may start: limiters answer that question, and never wait themselves.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock;
use crate::error::{ConfigError, LimiterError};
use crate::listeners::{Listener, Listeners};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Gives permits to start items.
///
/// An executor asks once for every start of an item, on the worker that is about to start it, and then waits as long as
/// the answer says. A limiter hands out the *next* permit and says when it may be used, instead of saying "not now":
/// with threads that ask again and again one of them gets most of the permits and the rate falls short, with
/// reservations each is served in turn.
///
/// The limiter may be shared: clone an `Arc` of it into several executors, and they keep one limit between them.
///
/// ```
/// use batch_executor::{BatchExecutor, LimiterError, RateLimiter};
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
///
/// /// So many permits, and then no more.
/// struct Quota(AtomicU32);
///
/// impl RateLimiter for Quota {
///     fn reserve(&self) -> Result<Duration, LimiterError> {
///         let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
///         left.map(|_| Duration::ZERO).map_err(|_| LimiterError::new("the quota is used up"))
///     }
/// }
///
/// let executor = BatchExecutor::builder()
///     .stop_on_error(false)
///     .rate_limiter(Quota(AtomicU32::new(2)))
///     .build()?;
/// let result = executor.run(["a", "b", "c"], |_| Ok::<(), String>(()));
/// assert_eq!((result.succeeded(), result.failed()), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait RateLimiter: Send + Sync {
    /// Takes the next permit, and says how long it is until that may be used. Returns at once.
    ///
    /// # Errors
    ///
    /// When there is no permit to be had. The item that it was for fails with
    /// [`ItemError::RateLimiter`](crate::ItemError::RateLimiter).
    fn reserve(&self) -> Result<Duration, LimiterError>;

    /// Takes the next permit and sleeps until it may be used. For use outside an executor.
    ///
    /// # Errors
    ///
    /// Those of [`reserve`](RateLimiter::reserve).
    ///
    /// ```
    /// use batch_executor::{RateLimit, RateLimiter};
    ///
    /// let limit = RateLimit::per_second(1_000);
    /// for _ in 0..3 {
    ///     limit.acquire()?;
    ///     // call the service
    /// }
    /// # Ok::<(), batch_executor::LimiterError>(())
    /// ```
    fn acquire(&self) -> Result<(), LimiterError> {
        self.reserve().map(clock::sleep)
    }

    /// Holds every later permit back for at least so long, as after a 429. The default does nothing.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, RateLimit, RateLimiter};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let limit = Arc::new(RateLimit::every(Duration::from_millis(1)));
    /// let executor = BatchExecutor::builder().workers(4).rate_limiter(Arc::clone(&limit)).build()?;
    /// let result = executor.run(0..8, |n| {
    ///     if *n == 2 {
    ///         limit.pause(Duration::from_millis(20));     // the server said so: all wait, not only this one
    ///         return Err("429");
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(result.into_first_failure().unwrap().index, 2);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    fn pause(&self, _: Duration) {}

    /// TODO by the other branch.
    fn reserve_many(&self, permits: u64) -> Result<Duration, LimiterError> {
        let mut wait = Duration::ZERO;
        for _ in 0..permits {
            wait = wait.max(self.reserve()?);
        }
        Ok(wait)
    }

    /// How long these permits would have to be waited for, without taking them; `None` if the limiter cannot tell.
    ///
    /// A batch with several limits asks that first, so that an item takes its permits of all of them at the same time, and
    /// none before.
    fn wait_for(&self, _permits: u64) -> Option<Duration> {
        None
    }

    /// Whether a new limiter in the place of this one would give the same answers. A [`Limit::per_key`](crate::Limit::per_key)
    /// drops the limiters of keys that are not used any more, if they say so.
    fn is_unused(&self) -> bool {
        false
    }

    #[doc(hidden)]
    fn listen(&self, _: Listener) {}
}

macro_rules! limits_through_its_pointer {
    ($($pointer:ty),*) => {$(
        impl<L: RateLimiter + ?Sized> RateLimiter for $pointer {
            fn reserve(&self) -> Result<Duration, LimiterError> {
                (**self).reserve()
            }
            fn acquire(&self) -> Result<(), LimiterError> {
                (**self).acquire()
            }
            fn pause(&self, time: Duration) {
                (**self).pause(time);
            }
            fn reserve_many(&self, permits: u64) -> Result<Duration, LimiterError> {
                (**self).reserve_many(permits)
            }
            fn wait_for(&self, permits: u64) -> Option<Duration> {
                (**self).wait_for(permits)
            }
            fn is_unused(&self) -> bool {
                (**self).is_unused()
            }
            fn listen(&self, listener: Listener) {
                (**self).listen(listener);
            }
        }
    )*};
}

limits_through_its_pointer!(&L, Arc<L>, Box<L>);

/// A limiter from a function that does what [`RateLimiter::reserve`] says.
///
/// ```
/// use batch_executor::{BatchExecutor, limiter_fn};
/// use std::time::Duration;
///
/// let executor = BatchExecutor::builder()
///     .rate_limiter(limiter_fn(|| Ok(Duration::from_millis(1))))
///     .build()?;
/// assert!(executor.run(0..3, |_| Ok::<(), String>(())).is_success());
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
pub fn limiter_fn(reserve: impl Fn() -> Result<Duration, LimiterError> + Send + Sync) -> impl RateLimiter {
    LimiterFn(reserve)
}

struct LimiterFn<F>(F);

impl<F: Fn() -> Result<Duration, LimiterError> + Send + Sync> RateLimiter for LimiterFn<F> {
    fn reserve(&self) -> Result<Duration, LimiterError> {
        (self.0)()
    }
}

/// So many permits per period, evenly spaced.
///
/// `per_second(50)` gives one permit every 20 ms, not 50 at once and then a second of nothing; after a pause the first
/// one is there at once. [`burst`](RateLimit::burst) lets some pass together. In any span of time, permits never number
/// more than the span divided by the interval, plus the burst.
///
/// The algorithm is the generic cell rate algorithm (ITU-T I.371), kept in one atomic number; intervals are rounded up
/// to a whole nanosecond. `reserve` costs one clock reading and one atomic exchange, and takes no lock.
///
/// What is limited is when items *start*. A server may see requests that were held up on their way together with those
/// behind them, so leave its own limit some room: in one period it can see the rate, the burst, and one for each worker.
///
/// A permit that is used late is not made up for, so a single worker with an interval close to what a thread needs to
/// wake up (about 0.1 ms) stays somewhat below the rate; with more workers, or a burst of 2, it does not.
///
/// ```
/// use batch_executor::{RateLimit, RateLimiter};
/// use std::time::Duration;
///
/// let limit = RateLimit::per_minute(60).burst(2);
/// assert_eq!(limit.reserve()?, Duration::ZERO);
/// assert_eq!(limit.reserve()?, Duration::ZERO);              // the burst
/// assert!(limit.reserve()? > Duration::from_millis(900));    // then one a second
/// # Ok::<(), batch_executor::LimiterError>(())
/// ```
#[derive(Debug)]
pub struct RateLimit {
    /// So many in each `per`, as it was asked for: a share of it is worked out from these, and not from their quotient.
    permits: u32,
    per: Duration,
    burst: u32,
    gate: Gate,
    /// When it was used first, by the clock that it goes by.
    start: OnceLock<Instant>,
    /// Batches that wait for it.
    listeners: Listeners,
}

impl RateLimit {
    /// So many permits in every period of this length, evenly spaced.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ZeroPermits`] or [`ConfigError::ZeroPeriod`].
    ///
    /// ```
    /// use batch_executor::{ConfigError, RateLimit};
    /// use std::time::Duration;
    ///
    /// let from_settings = RateLimit::new(100, Duration::from_secs(15))?;
    /// assert_eq!(RateLimit::new(0, Duration::from_secs(1)).unwrap_err(), ConfigError::ZeroPermits);
    /// # Ok::<(), ConfigError>(())
    /// ```
    pub fn new(permits: u32, per: Duration) -> Result<Self, ConfigError> {
        if permits == 0 {
            return Err(ConfigError::ZeroPermits);
        }
        if per.is_zero() {
            return Err(ConfigError::ZeroPeriod);
        }
        let gate = Gate::new(interval(permits, per));
        Ok(RateLimit {
            permits,
            per,
            burst: 1,
            gate,
            start: OnceLock::new(),
            listeners: Listeners::default(),
        })
    }

    /// So many permits a second.
    ///
    /// # Panics
    ///
    /// If `permits` is 0.
    #[must_use]
    #[track_caller]
    pub fn per_second(permits: u32) -> Self {
        Self::or_panic(permits, Duration::from_secs(1))
    }

    /// So many permits a minute.
    ///
    /// # Panics
    ///
    /// If `permits` is 0.
    #[must_use]
    #[track_caller]
    pub fn per_minute(permits: u32) -> Self {
        Self::or_panic(permits, Duration::from_secs(60))
    }

    /// One permit per interval.
    ///
    /// # Panics
    ///
    /// If `interval` has no length.
    #[must_use]
    #[track_caller]
    pub fn every(interval: Duration) -> Self {
        Self::or_panic(1, interval)
    }

    /// So many permits may be used together after a time without use. Default 1.
    ///
    /// # Panics
    ///
    /// If `permits` is 0.
    #[must_use]
    #[track_caller]
    pub fn burst(mut self, permits: u32) -> Self {
        assert!(permits > 0, "a burst of 0 permits would never let anything start");
        self.burst = permits;
        self.gate.slack = self.gate.interval.saturating_mul(u64::from(permits - 1)).min(LONGEST_SLACK);
        self
    }

    /// The share of one of `count` machines that keep this limit together and know nothing of each other.
    ///
    /// A share has the whole permits of a period divided by `count`, so that in any such period all of them together
    /// get no more than the limit; what is left over is lost: of 50 a second, 4 machines get 12 each. Where that is
    /// much, say the same with a longer period, which the limit then holds for: of 3,000 a minute, 26 machines get 115
    /// each, but of 50 a second 1 each. Fewer permits than machines become a longer interval: of 3 a second, each of 4
    /// machines gets one in 1.34 seconds.
    ///
    /// A [`burst`](RateLimit::burst) that was set before is divided as well, down to 1. No split can tell the machines
    /// to take turns, so in one moment there may be `count` permits, one of each machine, where the limit as a whole
    /// has no burst. Permits that one machine does not use are not given to another.
    ///
    /// Count the machines that run at the same time, which may be fewer than there are [shards](crate::Shard).
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    ///
    /// ```
    /// use batch_executor::{RateLimit, RateLimiter};
    /// use std::time::Duration;
    ///
    /// let share = RateLimit::per_second(50).burst(8).split(4);      // 12 a second, 2 together
    /// assert_eq!(share.reserve()?, Duration::ZERO);
    /// assert_eq!(share.reserve()?, Duration::ZERO);
    /// assert!(share.reserve()? > Duration::from_millis(60));
    /// # Ok::<(), batch_executor::LimiterError>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn split(mut self, count: usize) -> Self {
        assert!(count > 0, "a rate limit has no share for one of 0 machines");
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.permits / count {
            0 => self.per = self.per.saturating_mul(count),
            share => self.permits = share,
        }
        self.gate.interval = interval(self.permits, self.per);
        let burst = self.burst / count;
        self.burst(burst.max(1))
    }

    #[track_caller]
    fn or_panic(permits: u32, per: Duration) -> Self {
        match RateLimit::new(permits, per) {
            Ok(limit) => limit,
            Err(error) => panic!("{error}"),
        }
    }

    fn now(&self) -> u64 {
        nanos(clock::since(*self.start.get_or_init(clock::now)))
    }
}

impl RateLimiter for RateLimit {
    fn reserve(&self) -> Result<Duration, LimiterError> {
        Ok(Duration::from_nanos(self.gate.reserve(self.now())))
    }

    fn wait_for(&self, permits: u64) -> Option<Duration> {
        Some(Duration::from_nanos(self.gate.wait_for(self.now(), permits)))
    }

    fn is_unused(&self) -> bool {
        self.gate.is_unused(self.now())
    }

    fn listen(&self, listener: Listener) {
        self.listeners.add(listener);
    }

    /// Permits asked for from now on come after `time`, evenly spaced and without a burst. Several pauses at once are
    /// one: the longest.
    fn pause(&self, time: Duration) {
        self.gate.pause(self.now(), nanos(time));
    }
}

/// In nanoseconds, rounded up.
fn interval(permits: u32, per: Duration) -> u64 {
    u64::try_from(per.as_nanos().div_ceil(u128::from(permits))).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A burst is cut off here, at 146 years of permits, so that a pause always has room beyond it.
const LONGEST_SLACK: u64 = u64::MAX / 4;

/// The algorithm, with the clock left out: all times are nanoseconds since any one moment.
#[derive(Debug)]
struct Gate {
    interval: u64,
    /// How far the schedule may lie in the future and a permit still be free now: the burst, less one, in time.
    slack: u64,
    /// When the schedule is free again (the "theoretical arrival time").
    free_at: AtomicU64,
}

impl Gate {
    fn new(interval: u64) -> Self {
        Gate { interval, slack: 0, free_at: AtomicU64::new(0) }
    }

    /// Takes the next permit; how long until it may be used. A `now` from the past only makes that longer.
    fn reserve(&self, now: u64) -> u64 {
        let next = |free_at: u64| free_at.max(now).saturating_add(self.interval);
        let mut free_at = self.free_at.load(Ordering::Relaxed);
        while let Err(moved) =
            self.free_at.compare_exchange_weak(free_at, next(free_at), Ordering::Relaxed, Ordering::Relaxed)
        {
            free_at = moved;
        }
        free_at.saturating_sub(self.slack).saturating_sub(now)
    }

    /// How long it is until these permits may be used at once; if they are more than the burst, until that is there.
    fn wait_for(&self, now: u64, permits: u64) -> u64 {
        let before = self.interval.saturating_mul(permits.saturating_sub(1)).min(self.slack);
        let free_at = self.free_at.load(Ordering::Relaxed).max(now).saturating_add(before);
        free_at.saturating_sub(self.slack).saturating_sub(now)
    }

    /// Whether no permit that was taken is felt any more.
    fn is_unused(&self, now: u64) -> bool {
        self.free_at.load(Ordering::Relaxed) <= now
    }

    fn pause(&self, now: u64, time: u64) {
        let until = now.saturating_add(time).saturating_add(self.slack);
        self.free_at.fetch_max(until, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn permits_are_evenly_spaced() {
        let gate = Gate::new(10);
        let waits: Vec<u64> = (0..4).map(|_| gate.reserve(100)).collect();
        assert_eq!(waits, [0, 10, 20, 30]);
    }

    #[test]
    fn time_without_use_saves_no_permits_up() {
        let gate = Gate::new(10);
        assert_eq!((gate.reserve(0), gate.reserve(1_000), gate.reserve(1_000)), (0, 0, 10));
    }

    #[test]
    fn a_burst_passes_together_and_then_the_rate_holds() {
        let gate = Gate { slack: 20, ..Gate::new(10) };
        let waits: Vec<u64> = (0..5).map(|_| gate.reserve(100)).collect();
        assert_eq!(waits, [0, 0, 0, 10, 20]);
    }

    #[test]
    fn in_any_window_there_are_no_more_permits_than_rate_and_burst() {
        let gate = Gate { slack: 30, ..Gate::new(10) };
        let mut used: Vec<u64> = (0..200).map(|k| k * k % 700).map(|now| now + gate.reserve(now)).collect();
        used.sort_unstable();
        for (first, &from) in used.iter().enumerate() {
            for (last, &to) in used.iter().enumerate().skip(first) {
                let permits = (last - first + 1) as u64;
                assert!(permits <= (to - from) / 10 + 4, "{permits} permits in {from}..={to}");
            }
        }
    }

    #[test]
    fn a_pause_holds_every_later_permit_back_and_nine_pauses_are_one() {
        let gate = Gate { slack: 20, ..Gate::new(10) };
        for _ in 0..9 {
            gate.pause(100, SECOND);
        }
        assert_eq!((gate.reserve(100), gate.reserve(100)), (SECOND, SECOND + 10));
    }

    #[test]
    fn a_burst_of_one_is_none() {
        let slack = |burst| RateLimit::every(Duration::from_nanos(10)).burst(burst).gate.slack;
        assert_eq!((slack(1), slack(2), slack(6)), (0, 10, 50));
    }

    #[test]
    fn times_beyond_the_clock_saturate() {
        let gate = Gate::new(u64::MAX);
        assert_eq!((gate.reserve(5), gate.reserve(5)), (0, u64::MAX - 5));
        gate.pause(u64::MAX, u64::MAX);
        assert_eq!(gate.reserve(5), u64::MAX - 5);

        let limit = RateLimit::every(Duration::MAX);
        limit.pause(Duration::MAX);
        assert!(limit.reserve().unwrap() > Duration::from_secs(86_400 * 365 * 500));
    }

    #[test]
    fn a_clock_that_lags_behind_gives_no_permit_twice() {
        let gate = Gate::new(10);
        assert_eq!((gate.reserve(100), gate.reserve(40), gate.reserve(100)), (0, 70, 20));
    }

    #[test]
    fn an_uneven_rate_is_rounded_down_and_never_up() {
        assert_eq!(RateLimit::per_second(3).gate.interval, 333_333_334);
        assert_eq!(RateLimit::per_second(u32::MAX).gate.interval, 1);
        assert_eq!(RateLimit::per_minute(2).gate.interval, 30 * SECOND);
        assert_eq!(RateLimit::new(1, Duration::MAX).unwrap().gate.interval, u64::MAX);
    }

    /// How many permits there are before this time, in nanoseconds, for whoever takes all that there are.
    fn permits_before(end: u64, limit: &RateLimit) -> usize {
        (0..1_000).map(|_| limit.gate.reserve(0)).take_while(|wait| *wait < end).count()
    }

    #[test]
    fn in_a_period_the_shares_together_give_no_more_than_the_whole() {
        for permits in [1, 2, 3, 7, 12, 50, 97] {
            for burst in [1, 2, 5, 40] {
                let whole = || RateLimit::per_second(permits).burst(burst);
                for machines in 1..=(permits as usize) {
                    let given = machines * permits_before(SECOND, &whole().split(machines));
                    let most = permits_before(SECOND, &whole());
                    assert!(
                        given <= most,
                        "{machines} machines, {permits} a second, burst {burst}: {given} > {most}"
                    );
                    assert!(given + machines > permits as usize, "none of {machines} loses a whole permit");
                }
            }
        }
    }

    #[test]
    fn with_fewer_permits_than_machines_each_gets_one_where_the_whole_has_one_for_each() {
        for (permits, machines) in [(1, 2), (3, 4), (7, 50), (1, 1_000), (49, 50)] {
            let share = RateLimit::per_second(permits).split(machines);
            let time = SECOND * machines as u64 / u64::from(permits);
            assert_eq!(permits_before(time, &share), 1, "{permits} a second, {machines} machines");
            assert!(share.gate.interval - time <= 1, "and no later than that");
        }
    }

    #[test]
    fn a_share_is_rounded_down_in_the_period_of_the_limit() {
        let interval = |limit: RateLimit| limit.gate.interval;
        assert_eq!(interval(RateLimit::per_second(50).split(4)), 83_333_334);
        assert_eq!(interval(RateLimit::per_second(50).split(26)), SECOND);
        assert_eq!(interval(RateLimit::per_minute(3_000).split(26)), (60 * SECOND).div_ceil(115));
        assert_eq!(interval(RateLimit::per_second(3).split(4)), 1_333_333_334);
        assert_eq!(interval(RateLimit::every(Duration::from_secs(2)).split(3)), 6 * SECOND);
        assert_eq!(interval(RateLimit::per_second(50).split(1)), interval(RateLimit::per_second(50)));
        assert_eq!(
            interval(RateLimit::per_second(100).split(5).split(4)),
            interval(RateLimit::per_second(5))
        );
    }

    #[test]
    fn a_burst_is_split_too_and_one_set_afterwards_is_the_shares_own() {
        let free = |limit: RateLimit| (0..1_000).take_while(|_| limit.gate.reserve(0) == 0).count();
        assert_eq!(free(RateLimit::per_second(50).burst(9).split(4)), 2);
        assert_eq!(free(RateLimit::per_second(50).burst(3).split(4)), 1);
        assert_eq!(free(RateLimit::per_second(50).split(4).burst(9)), 9);
        assert_eq!(free(RateLimit::per_second(1).burst(9).split(3).split(3)), 1);
    }

    #[test]
    fn a_share_too_small_for_the_clock_saturates() {
        let never = RateLimit::every(Duration::MAX).burst(u32::MAX).split(usize::MAX);
        assert_eq!((never.gate.reserve(5), never.gate.reserve(5)), (0, u64::MAX - 5));
        assert_eq!(RateLimit::per_second(1).split(usize::MAX).gate.interval, SECOND * u64::from(u32::MAX));
    }

    #[test]
    fn what_was_taken_before_a_split_stays_taken() {
        let limit = RateLimit::per_second(10);
        limit.pause(Duration::from_secs(9));
        assert!(limit.split(2).reserve().unwrap() > Duration::from_secs(5));
    }
}
