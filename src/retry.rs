//! Whether an item that failed is tried again, and when.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::iter;
use std::time::Duration;

/// What is to be done about an item's error: the answer of [`Retry::when`].
///
/// ```
/// use batch_executor::{BatchExecutor, Retry, RetryDecision};
/// use std::time::Duration;
///
/// enum HttpError { NotFound, Unavailable { retry_after: Duration }, Timeout }
///
/// let retry = Retry::exponential(Duration::from_millis(1), Duration::from_millis(9), 5)
///     .when(|error: &HttpError| match error {
///         HttpError::NotFound => RetryDecision::GiveUp,
///         HttpError::Unavailable { retry_after } => RetryDecision::RetryAfter(*retry_after),
///         HttpError::Timeout => RetryDecision::Retry,
///     });
///
/// let result = BatchExecutor::new().batch(["page"]).retry(retry).run_with(|_, cx| match cx.attempt() {
///     1 => Err(HttpError::Timeout),
///     2 => Err(HttpError::Unavailable { retry_after: Duration::from_millis(2) }),
///     attempt => Ok(attempt),
/// });
/// assert!(result.is_ok_and(|result| result.attempts(0) == 3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryDecision {
    /// The error is the item's outcome.
    GiveUp,
    /// Again, after the next of the delays; without another delay the error is the outcome.
    Retry,
    /// Again, after this time instead of the next of the delays. It uses that delay up all the same.
    RetryAfter(Duration),
    /// Again, after this time, and until then nothing of the batch starts: the server has said that it is too much.
    ///
    /// Holds back items that already have their permit, too, and calls the limiter's
    /// [`pause`](crate::RateLimiter::pause), so that other batches with this limiter wait as well. Answers to requests
    /// that were under way at the same time are one pause, the longest of them. With
    /// [`Workers::adaptive`](crate::Workers::adaptive) there are fewer workers afterwards.
    ///
    /// Uses up no delay while the batch gets anywhere: only where no item has succeeded since the same item was last
    /// told to pause does it use up one, so that a server that refuses everything is not asked for ever.
    PauseAll(Duration),
}

/// When items that fail are tried again. Given to [`Batch::retry`](crate::Batch::retry).
///
/// Delays come from [`exponential`](Retry::exponential) or from any iterator; there are as many retries as delays. What
/// fails is the operation, with an error; a panic is never retried, nor is a refusal of the rate limiter.
///
/// ```
/// use batch_executor::{BatchExecutor, Retry, RetryDecision};
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// enum ApiError { NotFound, Busy, TooMany { retry_after: Duration } }
///
/// let retry = Retry::exponential(Duration::from_millis(1), Duration::from_millis(50), 5)
///     .when(|error: &ApiError| match error {
///         ApiError::NotFound => RetryDecision::GiveUp,
///         ApiError::Busy => RetryDecision::Retry,
///         ApiError::TooMany { retry_after } => RetryDecision::PauseAll(*retry_after),
///     });
///
/// let executor = BatchExecutor::builder().workers(4).stop_on_error(false).build()?;
/// let result = executor.batch(0..4).retry(retry).run_with(|&n, cx| match (n, cx.attempt()) {
///     (0, _) => Err(ApiError::NotFound),
///     (1, 1..=3) => Err(ApiError::Busy),
///     (2, 1) => Err(ApiError::TooMany { retry_after: Duration::from_millis(2) }),
///     (_, attempt) => Ok(attempt),
/// }).unwrap();
/// assert_eq!(result.values().copied().collect::<Vec<_>>(), [4, 2, 1]);
/// assert_eq!([0, 1, 2, 3].map(|index| result.attempts(index)), [1, 4, 2, 1]);
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Clone, Copy)]
#[must_use = "it is given to `Batch::retry`"]
pub struct Retry<B = Exponential, W = EveryFailure> {
    delays: B,
    when: W,
}

impl Retry {
    /// So many retries at most. Before the k-th, an item waits for a random part of `first` × 2^(k-1), or of `max` if
    /// that is less.
    ///
    /// This is "full jitter" (Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015): items that
    /// failed together do not come back together. With `usize::MAX` retries, items are tried until something stops the batch, such as a
    /// [`timeout`](crate::Batch::timeout).
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let twice = Retry::exponential(Duration::from_millis(1), Duration::from_secs(1), 2);
    /// let error = BatchExecutor::new().batch(["x"]).retry(twice).run(|_| Err::<(), _>("no")).unwrap_err();
    /// assert_eq!(error.partial().unwrap().attempts(0), 3);
    /// ```
    pub fn exponential(first: Duration, max: Duration, retries: usize) -> Self {
        Retry { delays: Exponential { first, max, retries }, when: EveryFailure }
    }
}

impl<B> Retry<B> {
    /// Delays from any iterator; `delays` makes a new one for each item when it has failed for the first time. An iterator
    /// without end makes retries without end.
    ///
    /// ```
    /// use backon::{BackoffBuilder, FibonacciBuilder};
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let fixed = Retry::new(|| [1, 2, 4].map(Duration::from_millis).into_iter());
    /// let fibonacci = Retry::new(|| {
    ///     FibonacciBuilder::default().with_min_delay(Duration::from_millis(1)).with_max_times(2).build()
    /// });
    ///
    /// let executor = BatchExecutor::new();
    /// let error = executor.batch([7]).retry(fixed).run(|_| Err::<(), _>("no")).unwrap_err();
    /// assert_eq!(error.partial().unwrap().attempts(0), 4);
    /// let error = executor.batch([7]).retry(fibonacci).run(|_| Err::<(), _>("no")).unwrap_err();
    /// assert_eq!(error.partial().unwrap().attempts(0), 3);
    /// ```
    pub fn new<D>(delays: B) -> Self
    where
        B: Fn() -> D + Sync,
        D: Iterator<Item = Duration> + Send,
    {
        Retry { delays, when: EveryFailure }
    }
}

impl<B, W> Retry<B, W> {
    /// Asks `when` about every error. Without it, every one is retried. Where the compiler cannot tell the error's
    /// type, it has to be written: `.when(|error: &MyError| ..)`.
    ///
    /// It is asked on the workers, several at a time, so it has to be `Sync` when the batch runs. If it panics, the
    /// item is not tried again: the error is its outcome, and
    /// [`BatchResult::retry_panic`](crate::BatchResult::retry_panic) has the panic.
    pub fn when<E, V: Fn(&E) -> RetryDecision>(self, when: V) -> Retry<B, V> {
        Retry { delays: self.delays, when }
    }
}

impl<B: fmt::Debug, W> fmt::Debug for Retry<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("delays", &self.delays).finish_non_exhaustive()
    }
}

/// Every error is retried: a [`Retry`] without [`when`](Retry::when).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct EveryFailure;

/// No error is retried: a batch without [`retry`](crate::Batch::retry).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct NoRetry;

/// The delays of [`Retry::exponential`].
#[derive(Debug, Clone, Copy)]
pub struct Exponential {
    first: Duration,
    max: Duration,
    retries: usize,
}

impl Exponential {
    /// The longest that the delay before a retry may be; the first retry is 0.
    fn ceiling(&self, retry: usize) -> Duration {
        let doubled = u32::try_from(retry).ok().and_then(|retry| 2_u32.checked_pow(retry));
        doubled.map_or(self.max, |factor| self.first.saturating_mul(factor).min(self.max))
    }
}

/// A part of the time, as large as the number is in the range of all numbers.
fn part_of(time: Duration, number: u64) -> Duration {
    let nanos = (time.as_nanos() * u128::from(number >> 32)) >> 32;
    let (secs, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    Duration::new(u64::try_from(secs).unwrap_or(u64::MAX), u32::try_from(rest).unwrap_or(0))
}

/// Random enough to keep items apart. The standard library seeds its hashers from the system, and each one differently.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// What a batch does about the errors of its items: [`NoRetry`], or a [`Retry`] whose `when` takes them. For bounds; it is
/// not to be implemented elsewhere.
///
/// ```
/// use batch_executor::{Batch, BatchExecutor, EveryFailure, Exponential, NoRetry, Retry, RetryPolicy};
/// use std::{num::ParseIntError, str::Lines, time::Duration};
///
/// /// The sum of the lines, whatever the caller wants to be done about errors.
/// fn sum<R: RetryPolicy<ParseIntError>>(batch: Batch<'_, Lines<'_>, R>) -> Option<u32> {
///     batch.run(|line| line.parse::<u32>()).ok().map(|result| result.values().sum())
/// }
///
/// let executor = BatchExecutor::new();
/// assert_eq!(sum::<NoRetry>(executor.batch("1\n2".lines())), Some(3));
///
/// let retry = Retry::exponential(Duration::from_millis(1), Duration::from_millis(9), 1);
/// assert_eq!(sum::<Retry<Exponential, EveryFailure>>(executor.batch("1\nx".lines()).retry(retry)), None);
/// ```
#[diagnostic::on_unimplemented(
    message = "this retry cannot decide about errors of type `{E}`",
    note = "the `when` of a `Retry` takes a reference to the operation's error, and is `Sync`",
    note = "the delays of a `Retry` come from a function that is `Sync`, and are `Send`"
)]
pub trait RetryPolicy<E>: policy::Policy<E> {}

impl<E, P: policy::Policy<E>> RetryPolicy<E> for P {}

pub(crate) mod policy {
    use std::time::Duration;

    use crate::retry::RetryDecision;

    /// Where the delays of an item come from.
    pub trait Delays: Sync {
        type Each: Iterator<Item = Duration> + Send;

        fn delays(&self) -> Self::Each;
    }

    /// What is to be done about an error.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot decide about errors of type `{E}`",
        note = "the `when` of a `Retry` takes a reference to the operation's error, and is `Sync`"
    )]
    pub trait When<E>: Sync {
        fn decide(&self, error: &E) -> RetryDecision;
    }

    pub trait Policy<E>: Sync {
        /// Whether there can be a second attempt at all.
        const RETRIES: bool;

        type Each: Iterator<Item = Duration> + Send;

        fn delays(&self) -> Self::Each;

        fn decide(&self, error: &E) -> RetryDecision;
    }
}

impl policy::Delays for Exponential {
    type Each = Box<dyn Iterator<Item = Duration> + Send>;

    fn delays(&self) -> Self::Each {
        let delays = *self;
        Box::new((0..self.retries).map(move |retry| part_of(delays.ceiling(retry), random())))
    }
}

impl<B, D> policy::Delays for B
where
    B: Fn() -> D + Sync,
    D: Iterator<Item = Duration> + Send,
{
    type Each = D;

    fn delays(&self) -> D {
        self()
    }
}

impl<E> policy::When<E> for EveryFailure {
    fn decide(&self, _: &E) -> RetryDecision {
        RetryDecision::Retry
    }
}

impl<E, F: Fn(&E) -> RetryDecision + Sync> policy::When<E> for F {
    fn decide(&self, error: &E) -> RetryDecision {
        self(error)
    }
}

impl<E, B: policy::Delays, W: policy::When<E>> policy::Policy<E> for Retry<B, W> {
    const RETRIES: bool = true;

    type Each = B::Each;

    fn delays(&self) -> B::Each {
        self.delays.delays()
    }

    fn decide(&self, error: &E) -> RetryDecision {
        self.when.decide(error)
    }
}

impl<E> policy::Policy<E> for NoRetry {
    const RETRIES: bool = false;

    type Each = iter::Empty<Duration>;

    fn delays(&self) -> Self::Each {
        iter::empty()
    }

    fn decide(&self, _: &E) -> RetryDecision {
        RetryDecision::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use super::policy::Delays;
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn ceilings_double_up_to_the_longest() {
        let delays = Exponential { first: MS(10), max: MS(70), retries: 9 };
        assert_eq!(
            [0, 1, 2, 3, 40, usize::MAX].map(|retry| delays.ceiling(retry)),
            [MS(10), MS(20), MS(40), MS(70), MS(70), MS(70)]
        );
        let long = Exponential { first: Duration::MAX, max: Duration::MAX, retries: 9 };
        assert_eq!(long.ceiling(3), Duration::MAX);
    }

    #[test]
    fn the_part_of_a_time_grows_with_the_number_from_nothing_to_all_of_it() {
        assert_eq!(part_of(MS(10), 0), Duration::ZERO);
        assert_eq!(part_of(MS(10), u64::MAX / 2 + 1), MS(5));
        assert!(part_of(MS(10), u64::MAX) > MS(9));
        assert!(part_of(Duration::MAX, u64::MAX) > Duration::MAX / 2);
    }

    #[test]
    fn delays_are_as_many_as_retries_within_their_ceilings_and_differ() {
        let exponential =
            Exponential { first: Duration::from_secs(1), max: Duration::from_secs(9), retries: 5 };
        let delays: Vec<Duration> = exponential.delays().collect();
        assert_eq!(delays.len(), 5);
        assert!(delays.iter().enumerate().all(|(retry, delay)| *delay <= exponential.ceiling(retry)));
        assert_ne!(delays, exponential.delays().collect::<Vec<_>>());
    }
}
