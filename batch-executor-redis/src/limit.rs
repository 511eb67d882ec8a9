//! A rate limit that many processes share.

use std::time::{Duration, Instant};

use batch_executor::{ConfigError, LimiterError, RateLimit, RateLimiter};
use redis::{Client, RedisResult};

use crate::absence::{Absence, is_away};
use crate::connections::Connections;
use crate::schedule::Schedule;

const TIMEOUT: Duration = Duration::from_secs(1);

/// What happens to an item while Redis cannot be reached, does not answer in time, or cannot serve now.
///
/// Anything else that Redis refuses, such as a wrong password, is an error in either case.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each limit, and a box would be in its interface"
)]
pub enum Away {
    /// It gets no permit, and fails.
    Fail,
    /// It gets a permit of this limit, which is this machine's own: the [share](RateLimit::split) of one of all machines.
    ///
    /// Redis is asked again once a second, by one worker. If only some machines cannot reach it, these use their shares beside the
    /// whole that the others have.
    Local(RateLimit),
}

/// This many permits per period for all processes together, evenly spaced.
///
/// What [`RateLimit`] is to one process, this is to all that name the same key on the same server: the same algorithm,
/// with its one number in Redis, where a script takes the next permit by the server's own clock. Nothing is asked of the clocks of the
/// machines. In any span of time, permits never number more than the span divided by the interval, plus the burst; who asks next gets the
/// next, whichever machine it is. The interval is rounded up to a whole microsecond.
///
/// `reserve` is one round trip, on a connection of its own for each thread that asks at the same time. It waits for it: at most the two
/// time-outs, and a batch that is cancelled meanwhile ends so much later. A permit that is given, but whose answer is lost, is lost too; none
/// is given twice. Permits are used a little late, by the way back from the server and by what a thread takes to wake up, and never
/// early. So a service that counts what arrives may find in one period the rate, the burst and one for each worker, as with
/// [`RateLimit`].
///
/// The key expires by itself once nothing of it is needed. If Redis loses it, in a restart or because a replica that had not seen the last
/// permits took over, the schedule begins anew, and permits that are waited for come on top, once. If the server's clock is set back, all wait so
/// much longer. One server holds the key; a cluster is not supported.
///
/// ```no_run
/// use batch_executor::{BatchExecutor, RateLimit, Workers};
/// use batch_executor_redis::{Away, RedisLimit, redis};
/// use std::time::Duration;
///
/// let client = redis::Client::open("redis://10.0.0.5/")?;
/// let limit = RedisLimit::new(client, "limits:geocoder", 50, Duration::from_secs(1))?
///     .when_away(Away::Local(RateLimit::per_second(50).split(8)));    // 8 machines
///
/// let executor = BatchExecutor::builder().workers(Workers::auto()).rate_limiter(limit).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RedisLimit {
    schedule: Schedule,
    connections: Connections,
    when_away: Away,
    absence: Absence,
}

impl RedisLimit {
    /// This many permits in every period of this length, for all who name this key. Nothing is asked of the server yet.
    ///
    /// Processes that share a key should name the same limit; the schedule of the key moves by the interval of the process that asks. Passwords, TLS
    /// and, where something on the way forgets connections that are idle, TCP keepalives are settings of the client.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ZeroPermits`] or [`ConfigError::ZeroPeriod`].
    pub fn new(
        client: Client,
        key: impl Into<String>,
        permits: u32,
        per: Duration,
    ) -> Result<Self, ConfigError> {
        RateLimit::new(permits, per)?;
        Ok(RedisLimit {
            schedule: Schedule::new(key.into(), permits, per),
            connections: Connections::new(client, TIMEOUT),
            when_away: Away::Fail,
            absence: Absence::default(),
        })
    }

    /// This many permits may be used together after a time without use, by all processes together. Default 1.
    ///
    /// # Panics
    ///
    /// If `permits` is 0.
    #[must_use]
    #[track_caller]
    pub fn burst(mut self, permits: u32) -> Self {
        assert!(permits > 0, "a burst of 0 permits would never let anything start");
        self.schedule.burst(permits);
        self
    }

    /// What happens while Redis is away. Default: items [fail](Away::Fail).
    #[must_use]
    pub fn when_away(mut self, when_away: Away) -> Self {
        self.when_away = when_away;
        self
    }

    /// How long a new connection may take to be there, password and all. Default 1 second. Looking the name of the server up is not in it.
    ///
    /// # Panics
    ///
    /// If `time` has no length.
    #[must_use]
    #[track_caller]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "a time-out of no length would let nothing be answered");
        self.connections.connect_timeout = time;
        self
    }

    /// How long an answer may take. Default 1 second. If it takes longer, the connection is closed, and what still comes is not read.
    ///
    /// # Panics
    ///
    /// If `time` has no length.
    #[must_use]
    #[track_caller]
    pub fn read_timeout(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "a time-out of no length would let nothing be answered");
        self.connections.read_timeout = time;
        self
    }

    /// Whether permits come from the local limit at present. Always false with [`Away::Fail`].
    ///
    /// ```
    /// use batch_executor::{RateLimit, RateLimiter};
    /// use batch_executor_redis::{Away, RedisLimit, redis};
    /// use std::time::Duration;
    ///
    /// let nobody_listens = redis::Client::open("redis://127.0.0.1:1/")?;
    /// let limit = RedisLimit::new(nobody_listens, "limits:geocoder", 50, Duration::from_secs(1))?
    ///     .burst(5)
    ///     .connect_timeout(Duration::from_millis(200))
    ///     .read_timeout(Duration::from_millis(200))
    ///     .when_away(Away::Local(RateLimit::per_second(5)));
    /// assert!(!limit.is_away());                           // no item has asked yet
    /// assert_eq!(limit.reserve()?, Duration::ZERO);
    /// assert!(limit.is_away());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.absence.is_on()
    }

    fn reserve_shared(&self, permits: u64) -> RedisResult<Duration> {
        self.connections.ask(|connection| self.schedule.reserve(connection, permits))
    }

    fn resume_shared(&self) -> RedisResult<Duration> {
        self.connections.ask(|connection| self.schedule.resume(connection))
    }

    fn pause_shared(&self, time: Duration) -> RedisResult<Duration> {
        self.connections.ask(|connection| self.schedule.pause(connection, time))
    }

    /// Redis if it is there, and else what is local.
    fn shared_or(
        &self,
        shared: impl FnOnce() -> RedisResult<Duration>,
        local: impl FnOnce() -> Result<Duration, LimiterError>,
    ) -> Result<Duration, LimiterError> {
        if !self.absence.asks(Instant::now()) {
            return local();
        }
        match shared() {
            Ok(wait) => {
                self.absence.ends();
                Ok(wait)
            }
            Err(error) if is_away(&error) => {
                self.absence.begins(Instant::now());
                local()
            }
            Err(error) => Err(LimiterError::new(error)),
        }
    }
}

impl RateLimiter for RedisLimit {
    /// The error inside is a [`redis::RedisError`].
    fn reserve(&self) -> Result<Duration, LimiterError> {
        self.reserve_many(1)
    }

    /// One round trip, however many they are; none for 0. More than the burst may be used when the last of them comes, at most after a
    /// hundred years. The error inside is a [`redis::RedisError`].
    fn reserve_many(&self, permits: u64) -> Result<Duration, LimiterError> {
        if permits == 0 {
            return Ok(Duration::ZERO);
        }
        match &self.when_away {
            Away::Fail => self.reserve_shared(permits).map_err(LimiterError::new),
            Away::Local(limit) => {
                self.shared_or(|| self.reserve_shared(permits), || limit.reserve_many(permits))
            }
        }
    }

    /// Permits that are asked for from now on, by any process, come after `time`. Several pauses at once are one: the longest. Where Redis is
    /// away, only this process hears of it, and with [`Away::Fail`] no process does.
    fn pause(&self, time: Duration) {
        // There is no one to tell of an error; the next permit that is asked for meets it too.
        let _ = match &self.when_away {
            Away::Fail => self.pause_shared(time).map_err(LimiterError::new),
            Away::Local(limit) => {
                limit.pause(time);
                self.shared_or(|| self.pause_shared(time), || Ok(time))
            }
        };
    }

    /// Permits that are asked for from now on, by any process, come as if the pauses that go on had ended now, behind those that were given in
    /// them. Items that wait for one of those, in this process or another, wait as long as they were told. Where Redis is away, only this
    /// process hears of it, and with [`Away::Fail`] none.
    fn resume(&self) {
        // An error has no place to go; the next permit that is asked for meets it too.
        let _ = match &self.when_away {
            Away::Fail => self.resume_shared().map_err(LimiterError::new),
            Away::Local(limit) => {
                limit.resume();
                self.shared_or(|| self.resume_shared(), || Ok(Duration::ZERO))
            }
        };
    }
}
