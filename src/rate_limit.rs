//! When the next item may start: limiters answer that question, and never wait themselves.

mod gate;
mod learner;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::{self, TestClock};
use crate::error::{ConfigError, LimiterError};
use crate::listeners::{Changed, Listener, Listeners};
use crate::sync::{Condvar, Instant, Mutex};

use gate::Gate;
pub(crate) use gate::Ticket;
use learner::Learner;

/// Gives permits to start items.
///
/// An executor asks once for every start of an item, one item at a time, and starts the item when the time is over
/// that the answer says. Meanwhile the item holds no worker. Of a limiter that is no [`RateLimit`], as many items as
/// there are workers may have their permits ahead. A limiter hands out the *next* permit and says when it may be used, instead of saying "not now":
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
/// /// This many permits, and then no more.
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
    /// Takes the next permit, and returns the time until it may be used. Never sleeps.
    ///
    /// # Errors
    ///
    /// When the limiter gives no permit. The item that asked for it fails with
    /// [`ItemError::RateLimiter`](crate::ItemError::RateLimiter).
    fn reserve(&self) -> Result<Duration, LimiterError>;

    /// Takes several permits, and returns the time until all of them may be used: for an action that costs more than one.
    /// Never sleeps. The default calls [`reserve`](RateLimiter::reserve) for each permit.
    ///
    /// With 0 permits the time is zero.
    ///
    /// # Errors
    ///
    /// When the limiter gives no more permits. Permits that the default has taken until then are lost.
    ///
    /// ```
    /// use batch_executor::{RateLimit, RateLimiter};
    /// use std::time::Duration;
    ///
    /// let tokens = RateLimit::per_minute(60_000);
    /// assert_eq!(tokens.reserve()?, Duration::ZERO);
    /// let wait = tokens.reserve_many(2_000)?;                    // for a prompt of 2,000 tokens
    /// assert!(wait > Duration::from_millis(1_900) && wait <= Duration::from_secs(2));
    /// # Ok::<(), batch_executor::LimiterError>(())
    /// ```
    fn reserve_many(&self, permits: u64) -> Result<Duration, LimiterError> {
        (0..permits).try_fold(Duration::ZERO, |wait, _| Ok(wait.max(self.reserve()?)))
    }

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

    /// Ends a [`pause`](RateLimiter::pause). The default does nothing.
    ///
    /// ```
    /// use batch_executor::{RateLimit, RateLimiter};
    /// use std::time::Duration;
    ///
    /// let limit = RateLimit::per_second(50);
    /// limit.pause(Duration::MAX);                                 // a Retry-After that cannot be meant
    /// assert!(limit.reserve()? > Duration::from_secs(60));
    /// limit.resume();
    /// assert!(limit.reserve()? <= Duration::from_millis(20));     // the one behind it
    /// # Ok::<(), batch_executor::LimiterError>(())
    /// ```
    fn resume(&self) {}

    /// The [`RateLimit`] that this is, or points to: an executor hears of its changes while it waits.
    #[doc(hidden)]
    fn as_rate_limit(&self) -> Option<&RateLimit> {
        None
    }
}

macro_rules! limits_through_its_pointer {
    ($($pointer:ty),*) => {$(
        impl<L: RateLimiter + ?Sized> RateLimiter for $pointer {
            fn reserve(&self) -> Result<Duration, LimiterError> {
                (**self).reserve()
            }
            fn reserve_many(&self, permits: u64) -> Result<Duration, LimiterError> {
                (**self).reserve_many(permits)
            }
            fn acquire(&self) -> Result<(), LimiterError> {
                (**self).acquire()
            }
            fn pause(&self, time: Duration) {
                (**self).pause(time);
            }
            fn resume(&self) {
                (**self).resume();
            }
            fn as_rate_limit(&self) -> Option<&RateLimit> {
                (**self).as_rate_limit()
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

/// A number of permits per period, evenly spaced.
///
/// `per_second(50)` gives one permit every 20 ms, not 50 together and then none for a second. After a quiet time the first
/// permit comes without a wait. [`burst`](RateLimit::burst) lets some pass together. In any span of time, permits never number
/// more than the span divided by the interval, plus the burst; where items take several permits at once, plus what one of them
/// takes.
///
/// The algorithm is the generic cell rate algorithm (ITU-T I.371); intervals are rounded up to a whole nanosecond.
/// `reserve` costs one reading of the clock and a lock that is held for some nanoseconds, and `reserve_many` no more,
/// however many permits it takes.
///
/// The rate may change while items wait for permits ([`set`](RateLimit::set)), and a pause may end early
/// ([`resume`](RateLimiter::resume)). Waiting executors and [`acquire`](RateLimiter::acquire) follow immediately. A caller
/// that sleeps for the time that [`reserve`](RateLimiter::reserve) returned sleeps that long; its permit is given either
/// way, and never to two callers.
///
/// The limit counts when items *start*. A server may see requests that were delayed on their way together with later
/// ones, so leave some room below its own limit: in one period it can see the rate, the burst, and one for each worker.
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
pub struct RateLimit {
    pace: Mutex<Pace>,
    /// When it was used first, by the clock that it goes by.
    start: OnceLock<Instant>,
    /// Those that wait in `acquire` sleep here, until permits come at other times than before.
    changed: Condvar,
    /// The batches that wait for it.
    batches: Listeners,
}

#[derive(Debug)]
struct Pace {
    /// This many in each `per`, as it was asked for: a share of it is worked out from these, and not from their quotient.
    permits: u32,
    per: Duration,
    gate: Gate,
    learning: Option<Learning>,
}

/// What a limit that learns has besides.
#[derive(Debug)]
struct Learning {
    learner: Learner,
    /// The first permit that came, or comes, after the rate fell last.
    first: Ticket,
}

impl Pace {
    fn new(permits: u32, per: Duration) -> Result<Self, ConfigError> {
        if permits == 0 {
            return Err(ConfigError::ZeroPermits);
        }
        if per.is_zero() {
            return Err(ConfigError::ZeroPeriod);
        }
        Ok(Pace { permits, per, gate: Gate::new(interval(permits, per)), learning: None })
    }

    /// Learns the rate from now on, from the one that was asked for.
    fn learn(&mut self) {
        let learner = Learner::new(interval(self.permits, self.per));
        self.learning = Some(Learning { learner, first: self.gate.next() });
    }

    /// Takes `permits` permits, at least one: the last of them.
    fn take(&mut self, now: u64, permits: u64) -> Ticket {
        if let Some(Learning { learner, .. }) = &mut self.learning {
            if learner.starts(now, permits) {
                self.gate.set(now, learner.interval());
            }
        }
        self.gate.take(now, permits)
    }

    /// Whether the rate falls with this pause. The refusal may be of this permit.
    fn pause(&mut self, now: u64, time: u64, refused: Option<Ticket>) -> bool {
        let gate = &mut self.gate;
        let falls = self.learning.as_mut().is_some_and(|Learning { learner, first }| {
            let is_new = refused.map_or_else(|| gate.has_come(*first, now), |refused| refused >= *first);
            let falls = is_new && learner.falls(now, time);
            if falls {
                *first = gate.first_to_come(now);
                gate.set(now, learner.interval());
            }
            falls
        });
        gate.pause(now, time);
        falls
    }
}

impl RateLimit {
    /// This many permits in every period of this length, evenly spaced.
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
        let pace = Mutex::new(Pace::new(permits, per)?);
        Ok(RateLimit {
            pace,
            start: OnceLock::new(),
            changed: Condvar::default(),
            batches: Listeners::default(),
        })
    }

    /// This many permits a second.
    ///
    /// # Panics
    ///
    /// If `permits` is 0.
    #[must_use]
    #[track_caller]
    pub fn per_second(permits: u32) -> Self {
        Self::or_panic(permits, Duration::from_secs(1))
    }

    /// This many permits a minute.
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

    /// A rate that the limiter learns: for a server that does not tell what it allows.
    ///
    /// It begins with `start` permits a second, and doubles each second in which most of them are used. When it hears of a
    /// refusal it falls, and then rises again while nothing is refused: fast up to a plateau a little below the rate that was
    /// refused, where it stays, and then beyond, to see whether the server allows more by now. Each time that a refusal confirms
    /// the plateau, it stays there twice as long, half an hour at most. This is the curve of CUBIC (RFC 9438), as in the adaptive
    /// retry mode of AWS's clients.
    ///
    /// It hears of a refusal by [`pause`](RateLimiter::pause): answer 429 with [`PauseAll`](crate::RetryDecision::PauseAll), and the
    /// executor tells the limiters of that attempt. Other answers, such as [`RetryAfter`](crate::RetryDecision::RetryAfter), tell it nothing.
    /// Attempts that began before it fell last count as the same refusal; so do pauses that are called from elsewhere until the first
    /// permit after the fall has come.
    ///
    /// Where a server counts by the second, learning takes about four refusals in the first minute. After that, one batch takes
    /// at most a fifth longer than with the right limit, and one of some minutes a tenth. Further refusals come ever more rarely. A server that
    /// counts by the minute is learnt in some minutes. If you know the limit, set it: learning cannot beat that.
    ///
    /// The rate never falls below a thousandth of `start`. An unused rate does not rise. Everything else is as for any other
    /// limit: [`burst`](RateLimit::burst), costs, batches that share it. [`split`](RateLimit::split) divides `start`.
    /// [`set`](RateLimit::set) starts learning anew, at the rate that it sets.
    ///
    /// # Panics
    ///
    /// If `start` is 0.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Limit, RateLimit, Retry, RetryDecision, TestClock};
    /// use std::{sync::Mutex, time::Duration};
    ///
    /// let clock = TestClock::new();
    /// let executor = BatchExecutor::builder().workers(4).clock(clock.clone()).build()?;
    /// let seen = Mutex::new(Vec::new());
    /// let server = |_: &i32| {                                        // 50 in any second, and it does not say so
    ///     let (mut seen, now) = (seen.lock().unwrap(), clock.elapsed());
    ///     seen.retain(|at| now - *at < Duration::from_secs(1));
    ///     if seen.len() < 50 { Ok(seen.push(now)) } else { Err("429") }
    /// };
    /// let slow_down = |_: &&str| RetryDecision::PauseAll(Duration::from_secs(1));
    /// let result = executor
    ///     .batch(0..5_000)
    ///     .retry(Retry::exponential(Duration::from_secs(1), Duration::from_secs(9), 9).when(slow_down))
    ///     .limit(Limit::rate(RateLimit::learning(10)))
    ///     .run(server);
    /// assert!(result.is_success());
    /// assert!(clock.elapsed() < Duration::from_secs(120), "the right limit takes 100 seconds");
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn learning(start: u32) -> Self {
        let mut limit = Self::per_second(start);
        limit.pace.get_mut().learn();
        limit
    }

    /// This many permits may be used together after a time without use. Default 1.
    ///
    /// # Panics
    ///
    /// If `permits` is 0.
    #[must_use]
    #[track_caller]
    pub fn burst(mut self, permits: u32) -> Self {
        assert!(permits > 0, "a burst of 0 permits would never let anything start");
        self.pace.get_mut().gate.burst = permits;
        self
    }

    /// The share of one of `count` machines that keep this limit together and know nothing of each other.
    ///
    /// A share has the permits of a period divided by `count`, rounded down, so that in any such period all machines
    /// together get no more than the limit. The remainder is lost: of 50 a second, 4 machines get 12 each. If the remainder
    /// is large, give the rate for a longer period, for which the limit then holds: of 3,000 a minute, 26 machines get 115
    /// each, but of 50 a second 1 each. Fewer permits than machines become a longer interval: of 3 a second, each of 4
    /// machines gets one in 1.33 seconds.
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
        let pace = self.pace.get_mut();
        let Pace { permits, per, gate, learning } = &mut *pace;
        match *permits / count {
            0 => *per = per.saturating_mul(count),
            share => *permits = share,
        }
        (gate.interval, gate.burst) = (interval(*permits, *per), (gate.burst / count).max(1));
        if learning.is_some() {
            pace.learn();
        }
        self
    }

    /// Changes the rate: from now on, the limit gives `permits` in each period `per`. The [burst](RateLimit::burst) stays.
    ///
    /// Reserved permits come at the new rate, in their order. The first of them comes after the same part of the new
    /// interval that was left of the old one: half of the old becomes half of the new. Waiting executors and
    /// [`acquire`](RateLimiter::acquire) follow immediately. A pause keeps its length.
    ///
    /// Of a limit that was [split](RateLimit::split), this is the rate of the share. One that [learns](RateLimit::learning) goes on
    /// from this rate, as if it had started with it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ZeroPermits`] or [`ConfigError::ZeroPeriod`]; the rate is then as it was.
    ///
    /// ```
    /// use batch_executor::{RateLimit, RateLimiter};
    /// use std::time::Duration;
    ///
    /// let limit = RateLimit::per_minute(1);
    /// limit.reserve()?;
    /// limit.set(1_000, Duration::from_secs(1))?;                  // what the server's headers say by now
    /// assert!(limit.reserve()? <= Duration::from_millis(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, permits: u32, per: Duration) -> Result<(), ConfigError> {
        let Pace { gate: Gate { interval, .. }, .. } = Pace::new(permits, per)?;
        let now = self.nanos(clock::now());
        let mut pace = self.pace.lock();
        (pace.permits, pace.per) = (permits, per);
        pace.gate.set(now, interval);
        if pace.learning.is_some() {
            pace.learn();
        }
        drop(pace);
        self.tell(Changed::Rate);
        Ok(())
    }

    #[track_caller]
    fn or_panic(permits: u32, per: Duration) -> Self {
        match RateLimit::new(permits, per) {
            Ok(limit) => limit,
            Err(error) => panic!("{error}"),
        }
    }

    fn nanos(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(*self.start.get_or_init(|| time)))
    }

    /// Takes `permits` permits, at least 1: the last of them, and how long it is until that may be used.
    pub(crate) fn take(&self, now: Instant, permits: u64) -> (Ticket, Duration) {
        let now = self.nanos(now);
        let mut pace = self.pace.lock();
        let ticket = pace.take(now, permits);
        (ticket, Duration::from_nanos(pace.gate.left(ticket, now)))
    }

    /// How long it is until this permit may be used, which may have changed since it was taken.
    pub(crate) fn left(&self, ticket: Ticket, now: Instant) -> Duration {
        Duration::from_nanos(self.pace.lock().gate.left(ticket, self.nanos(now)))
    }

    /// How long it is until these permits may be used at once, if they are taken then; if they are more than the burst, until
    /// that is there.
    pub(crate) fn wait_for(&self, permits: u64, now: Instant) -> Duration {
        Duration::from_nanos(self.pace.lock().gate.wait_for(permits, self.nanos(now)))
    }

    /// Whether a new limit would give the same permits.
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        let now = self.nanos(now);
        let Pace { gate, learning, .. } = &*self.pace.lock();
        gate.is_unused(now) && learning.as_ref().is_none_or(|learning| learning.learner.is_new())
    }

    /// As [`pause`](RateLimiter::pause), for a refusal of this permit, if it is known.
    pub(crate) fn pause_after(&self, refused: Option<Ticket>, time: Duration) {
        let now = self.nanos(clock::now());
        if self.pace.lock().pause(now, nanos(time), refused) {
            self.tell(Changed::Rate);
        }
    }

    /// Waits until this permit may be used, which may change meanwhile.
    fn wait_by(&self, clock: &TestClock, ticket: Ticket) {
        loop {
            let now = clock.now();
            let left = self.left(ticket, now);
            if left.is_zero() {
                return;
            }
            clock.wait(now.checked_add(left), || self.left(ticket, now) != left);
        }
    }

    /// Has all that wait look again.
    fn tell(&self, what: Changed) {
        self.changed.notify_all();
        clock::of_test().iter().for_each(TestClock::changed);
        self.batches.tell(what);
    }

    /// The batch hears of changes.
    pub(crate) fn listen(&self, batch: Listener) {
        self.batches.add(batch);
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pace { permits, per, gate, learning } = &*self.pace.lock();
        let mut text = f.debug_struct("RateLimit");
        text.field("permits", permits).field("per", per).field("burst", &gate.burst);
        if learning.is_some() {
            text.field("learnt_interval", &Duration::from_nanos(gate.interval));
        }
        text.finish_non_exhaustive()
    }
}

impl RateLimiter for RateLimit {
    fn reserve(&self) -> Result<Duration, LimiterError> {
        self.reserve_many(1)
    }

    /// As many as there are take no longer than one. More than the [burst](RateLimit::burst) have to come: they may be used
    /// when the last of them has.
    fn reserve_many(&self, permits: u64) -> Result<Duration, LimiterError> {
        Ok(if permits == 0 { Duration::ZERO } else { self.take(clock::now(), permits).1 })
    }

    fn acquire(&self) -> Result<(), LimiterError> {
        if let Some(clock) = clock::of_test() {
            self.wait_by(&clock, self.take(clock.now(), 1).0);
            return Ok(());
        }
        let mut now = self.nanos(clock::now());
        let mut pace = self.pace.lock();
        let ticket = pace.take(now, 1);
        loop {
            let left = pace.gate.left(ticket, now);
            if left == 0 {
                return Ok(());
            }
            (pace, _) = self.changed.wait_for(pace, Duration::from_nanos(left));
            now = self.nanos(clock::now());
        }
    }

    /// Permits asked for from now on come after `time`, evenly spaced and without a burst. Of several overlapping pauses,
    /// the longest counts.
    fn pause(&self, time: Duration) {
        self.pause_after(None, time);
    }

    /// All pauses end now. Permits that were held back come from now on, in their order and evenly spaced, and those that
    /// are asked for later come behind them. Waiting executors and [`acquire`](RateLimiter::acquire) continue immediately. So
    /// does a batch that paused for a [`PauseAll`](crate::RetryDecision::PauseAll) and has this limit.
    fn resume(&self) {
        let now = self.nanos(clock::now());
        let mut pace = self.pace.lock();
        pace.gate.resume(now);
        if let Some(Learning { learner, .. }) = &mut pace.learning {
            learner.resumes(now);
        }
        drop(pace);
        self.tell(Changed::Resumed);
    }

    fn as_rate_limit(&self) -> Option<&RateLimit> {
        Some(self)
    }
}

/// In nanoseconds, rounded up.
fn interval(permits: u32, per: Duration) -> u64 {
    u64::try_from(per.as_nanos().div_ceil(u128::from(permits))).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::thread;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// As if asked at the beginning of time.
    fn reserve(limit: &RateLimit, now: u64) -> u64 {
        let gate = &mut limit.pace.lock().gate;
        let ticket = gate.take(now, 1);
        gate.left(ticket, now)
    }

    fn interval_of(limit: &RateLimit) -> u64 {
        limit.pace.lock().gate.interval
    }

    #[test]
    fn a_burst_of_one_is_none() {
        let free = |burst| {
            let limit = RateLimit::every(Duration::from_nanos(10)).burst(burst);
            (0..100).take_while(|_| reserve(&limit, 0) == 0).count()
        };
        assert_eq!((free(1), free(2), free(6)), (1, 2, 6));
    }

    #[test]
    fn times_beyond_the_clock_saturate() {
        let limit = RateLimit::every(Duration::MAX);
        assert_eq!((reserve(&limit, 5), reserve(&limit, 5)), (0, u64::MAX - 5));
        limit.pace.lock().gate.pause(u64::MAX, u64::MAX);
        assert_eq!(reserve(&limit, 5), u64::MAX - 5);

        let limit = RateLimit::every(Duration::MAX);
        limit.pause(Duration::MAX);
        assert!(limit.reserve().unwrap() > Duration::from_secs(86_400 * 365 * 500));
    }

    #[test]
    fn an_uneven_rate_is_rounded_down_and_never_up() {
        assert_eq!(interval_of(&RateLimit::per_second(3)), 333_333_334);
        assert_eq!(interval_of(&RateLimit::per_second(u32::MAX)), 1);
        assert_eq!(interval_of(&RateLimit::per_minute(2)), 30 * SECOND);
        assert_eq!(interval_of(&RateLimit::new(1, Duration::MAX).unwrap()), u64::MAX);
    }

    /// How many permits there are before this time, in nanoseconds, for a caller that takes all that there are.
    fn permits_before(end: u64, limit: &RateLimit) -> usize {
        (0..1_000).map(|_| reserve(limit, 0)).take_while(|wait| *wait < end).count()
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
            assert!(interval_of(&share) - time <= 1, "and no later than that");
        }
    }

    #[test]
    fn a_share_is_rounded_down_in_the_period_of_the_limit() {
        let interval = |limit: RateLimit| interval_of(&limit);
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
        let free = |limit: RateLimit| (0..1_000).take_while(|_| reserve(&limit, 0) == 0).count();
        assert_eq!(free(RateLimit::per_second(50).burst(9).split(4)), 2);
        assert_eq!(free(RateLimit::per_second(50).burst(3).split(4)), 1);
        assert_eq!(free(RateLimit::per_second(50).split(4).burst(9)), 9);
        assert_eq!(free(RateLimit::per_second(1).burst(9).split(3).split(3)), 1);
    }

    #[test]
    fn a_share_too_small_for_the_clock_saturates() {
        let never = RateLimit::every(Duration::MAX).burst(u32::MAX).split(usize::MAX);
        assert_eq!((reserve(&never, 5), reserve(&never, 5)), (0, u64::MAX - 5));
        assert_eq!(interval_of(&RateLimit::per_second(1).split(usize::MAX)), SECOND * u64::from(u32::MAX));
    }

    #[test]
    fn a_limit_that_learns_goes_on_from_the_rate_that_is_set() {
        let clock = TestClock::new();
        let _entered = clock::enter(Some(&clock));
        let limit = RateLimit::learning(40);
        (0..100).for_each(|_| limit.acquire().unwrap());
        let learnt = interval_of(&limit);
        limit.set(40, Duration::from_secs(1)).unwrap();
        (0..20).for_each(|_| limit.acquire().unwrap());
        assert!(interval_of(&limit) > learnt, "{} after half a second, {learnt} before", interval_of(&limit));
    }

    /// As a client does that is told of a 429 outside of any batch.
    #[test]
    fn a_pause_from_elsewhere_lowers_a_learnt_rate_once_until_a_permit_has_come() {
        let clock = TestClock::new();
        let _entered = clock::enter(Some(&clock));
        let limit = RateLimit::learning(10);
        (0..5).for_each(|_| limit.acquire().unwrap());
        let before = interval_of(&limit);
        limit.pause(Duration::from_secs(1));
        let fallen = interval_of(&limit);
        assert!(fallen > before, "{before}, and then {fallen}");
        (0..3).for_each(|_| assert!(limit.reserve().unwrap() >= Duration::from_secs(1)));
        limit.pause(Duration::from_secs(2));
        assert_eq!(interval_of(&limit), fallen, "no permit has come since");
    }

    #[test]
    fn a_share_of_a_limit_that_learns_starts_at_its_part() {
        let rises = |limit: &RateLimit| {
            let clock = TestClock::new();
            let _entered = clock::enter(Some(&clock));
            let acquire = |_| {
                limit.acquire().unwrap();
                interval_of(limit)
            };
            (0..400).map(acquire).collect::<Vec<_>>()
        };
        let own = rises(&RateLimit::learning(50));
        assert_eq!(rises(&RateLimit::learning(100).split(2)), own);
        assert!(own[399] < own[0] / 2, "it has risen");
    }

    #[test]
    fn what_was_taken_before_a_split_stays_taken() {
        let limit = RateLimit::per_second(10);
        limit.pause(Duration::from_secs(9));
        assert!(limit.split(2).reserve().unwrap() > Duration::from_secs(5));
    }

    #[test]
    fn nothing_costs_nothing_and_many_cost_as_much_as_one_by_one() {
        struct OneByOne(RateLimit);

        impl RateLimiter for OneByOne {
            fn reserve(&self) -> Result<Duration, LimiterError> {
                self.0.reserve()
            }
        }

        let hourly = || RateLimit::every(Duration::from_secs(3_600)).burst(2);
        let (many, one_by_one) = (hourly(), OneByOne(hourly()));
        for permits in [0, 2, 0, 1, 5] {
            let [many, others] = [&many as &dyn RateLimiter, &one_by_one]
                .map(|limit| limit.reserve_many(permits).unwrap().as_secs().div_ceil(3_600));
            assert_eq!(many, others, "{permits}");
        }
        let forwarded: [Box<dyn RateLimiter>; 2] = [Box::new(&many), Box::new(Arc::new(hourly()))];
        for limit in forwarded {
            assert!(limit.reserve_many(u64::MAX).unwrap() > Duration::from_secs(86_400 * 365));
            limit.pause(Duration::MAX);
            limit.resume();
            assert!(limit.as_rate_limit().is_some());
        }
    }

    #[test]
    fn a_limiter_that_has_no_more_refuses_many_too() {
        let left = Mutex::new(3_u32);
        let limit = limiter_fn(move || {
            let mut left = left.lock();
            *left = left.checked_sub(1).ok_or_else(|| LimiterError::new("used up"))?;
            Ok(Duration::from_secs(u64::from(*left)))
        });
        assert_eq!(limit.reserve_many(2).unwrap(), Duration::from_secs(2), "the longest");
        assert_eq!(limit.reserve_many(2).unwrap_err().to_string(), "used up");
        limit.resume();
    }

    #[test]
    fn a_rate_of_nothing_is_refused_and_changes_nothing() {
        let limit = RateLimit::per_second(50);
        assert_eq!(limit.set(0, Duration::from_secs(1)), Err(ConfigError::ZeroPermits));
        assert_eq!(limit.set(1, Duration::ZERO), Err(ConfigError::ZeroPeriod));
        assert_eq!(interval_of(&limit), SECOND / 50);
        limit.set(10, Duration::from_secs(1)).unwrap();
        assert_eq!((interval_of(&limit), interval_of(&limit.split(2))), (SECOND / 10, SECOND / 5));
    }

    /// P9
    #[test]
    fn those_that_wait_in_acquire_hear_of_another_rate_and_of_the_end_of_a_pause() {
        let limit = RateLimit::every(Duration::from_secs(86_400));
        limit.acquire().unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| limit.acquire());
            limit.set(1_000, Duration::from_secs(1)).unwrap();
            waits.join().unwrap().unwrap();
            limit.pause(Duration::MAX);
            let waits = [(); 3].map(|()| scope.spawn(|| limit.acquire()));
            limit.resume();
            for wait in waits {
                wait.join().unwrap().unwrap();
            }
        });
    }

    /// The thread that sets it waits itself before those that wait have looked.
    #[test]
    fn those_that_wait_by_a_clock_for_tests_hear_of_another_rate_and_of_the_end_of_a_pause() {
        let (clock, limit) = (TestClock::new(), RateLimit::every(Duration::from_secs(86_400)));
        let second = Duration::from_secs(1);
        let _entered = clock::enter(Some(&clock));
        limit.acquire().unwrap();
        let changes: [fn(&RateLimit); 2] =
            [|limit| limit.set(1, Duration::from_secs(1)).unwrap(), |limit| limit.resume()];
        for change in changes {
            let (before, entered) = (clock.elapsed(), std::sync::Barrier::new(2));
            thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    let _entered = clock::enter(Some(&clock));
                    entered.wait();
                    limit.acquire().unwrap();
                    clock.elapsed()
                });
                entered.wait();
                clock::sleep(second);
                change(&limit);
                clock::sleep(7 * 86_400 * second);
                let waited_until = waits.join().unwrap();
                assert!(waited_until <= before + 2 * second, "{before:?}, and then {waited_until:?}");
            });
            limit.pause(Duration::from_secs(86_400));
        }
    }

    #[test]
    fn another_rate_holds_from_now_on_by_the_clock_of_the_batch() {
        let (clock, limit) = (TestClock::new(), RateLimit::every(Duration::from_secs(1)));
        let _entered = clock::enter(Some(&clock));
        (0..10).for_each(|_| limit.acquire().unwrap());
        limit.set(1, Duration::from_secs(10)).unwrap();
        assert_eq!(limit.reserve().unwrap(), Duration::from_secs(10), "a whole interval was left of the old");
    }

    #[test]
    fn a_rate_that_has_learnt_something_is_not_as_good_as_a_new_one() {
        let clock = TestClock::new();
        let _entered = clock::enter(Some(&clock));
        for (limit, is_forgotten) in [(RateLimit::per_second(10), true), (RateLimit::learning(10), false)] {
            (0..5).for_each(|_| limit.acquire().unwrap());
            limit.pause(Duration::from_secs(1));
            clock::sleep(Duration::from_secs(3_600));
            assert_eq!(limit.is_unused(clock::now()), is_forgotten, "{limit:?}");
        }
    }

    /// What was taken until then counts from the end of the pause on. If that is in an hour, the rate stays where it has fallen to.
    #[test]
    fn a_rate_that_learns_rises_again_after_a_pause_that_was_ended() {
        let clock = TestClock::new();
        let _entered = clock::enter(Some(&clock));
        let limit = RateLimit::learning(10);
        (0..5).for_each(|_| limit.acquire().unwrap());
        limit.pause(Duration::from_secs(3_600));
        limit.resume();
        let fallen = interval_of(&limit);
        (0..200).for_each(|_| limit.acquire().unwrap());
        assert!(interval_of(&limit) < fallen * 9 / 10, "{fallen} and now {}", interval_of(&limit));
        assert!(clock.elapsed() < Duration::from_secs(600));
    }
}
