//! Whether an item that failed is tried again, and when.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::panic;
use crate::sync::Mutex;

/// The answer of [`Retry::when`] to an item's error.
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
/// assert_eq!((result.is_success(), result.attempts(0)), (true, 3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryDecision {
    /// Do not retry: the error is the item's outcome.
    GiveUp,
    /// Retry after the next of the delays. If no delay is left, the error is the outcome.
    Retry,
    /// Retry after this time, instead of the next of the delays, which it uses up.
    RetryAfter(Duration),
    /// Retry after this time, and start no item of the batch until then: the server has said that it gets too many requests.
    ///
    /// Holds back items that already have their permit, too, and calls the limiter's
    /// [`pause`](crate::RateLimiter::pause), so that other batches with this limiter wait as well. Answers to requests
    /// that were under way at the same time are one pause, the longest of them. With
    /// [`Workers::adaptive`](crate::Workers::adaptive) there are fewer workers afterwards.
    ///
    /// The first pause that an item asks for uses up none of its delays, and each further one uses
    /// up one. But if other items have succeeded when it is refused again, its first pause uses up
    /// one, too: while other items succeed, an item has no more attempts than retries and one
    /// (without any retries: two). From then on it waits alone, and the batch does not pause, until
    /// another item is refused.
    PauseAll(Duration),
}

/// Which failed items are tried again, and when: for [`Batch::retry`](crate::Batch::retry).
///
/// Delays come from [`exponential`](Retry::exponential) or from any iterator; there are as many retries as delays. An
/// item is tried again if its operation returned an error, or the `init` of [`try_run_init`](crate::Batch::try_run_init)
/// did, or if the [item timeout](crate::Batch::item_timeout) cut off its async attempt. Panics and refusals of the rate
/// limiter are never retried.
///
/// A struct can hold one, such as `Retry<'static, ApiError>`, and give a clone of it to each batch. `'a` is the lifetime
/// that its closures may borrow for.
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
/// });
/// assert_eq!(result.values().copied().collect::<Vec<_>>(), [4, 2, 1]);
/// assert_eq!([0, 1, 2, 3].map(|index| result.attempts(index)), [1, 4, 2, 1]);
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[must_use = "it is given to `Batch::retry`"]
pub struct Retry<'a, E> {
    delays: Delays<'a>,
    when: Option<Arc<When<'a, E>>>,
}

type When<'a, E> = dyn Fn(&E) -> RetryDecision + Send + Sync + 'a;

#[derive(Clone)]
enum Delays<'a> {
    Exponential(Exponential),
    Made(Arc<dyn Source + 'a>),
}

impl<'a, E> Retry<'a, E> {
    /// At most `retries` retries. Before the k-th, an item waits for a random part of `first` × 2^(k-1), or of `max` if
    /// that is less.
    ///
    /// This is "full jitter" (Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015): items that
    /// failed together do not come back together. With `usize::MAX` retries, items are tried until something stops the
    /// batch, such as a [`timeout`](crate::Batch::timeout).
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let twice = Retry::exponential(Duration::from_millis(1), Duration::from_secs(1), 2);
    /// let result = BatchExecutor::new().batch(["x"]).retry(twice).run(|_| Err::<(), _>("no"));
    /// assert_eq!(result.attempts(0), 3);
    /// ```
    pub fn exponential(first: Duration, max: Duration, retries: usize) -> Self {
        Retry { delays: Delays::Exponential(Exponential { first, max, retries }), when: None }
    }

    /// Delays from any iterator. `delays` is called for each item when it is to be tried again for the first time, on the worker. An
    /// iterator without end makes retries without end.
    ///
    /// ```
    /// use backon::{BackoffBuilder, FibonacciBuilder};
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let fixed = Retry::delays(|| [1, 2, 4].map(Duration::from_millis).into_iter());
    /// let fibonacci = Retry::delays(|| {
    ///     FibonacciBuilder::default().with_min_delay(Duration::from_millis(1)).with_max_times(2).build()
    /// });
    ///
    /// let executor = BatchExecutor::new();
    /// let result = executor.batch([7]).retry(fixed).run(|_| Err::<(), _>("no"));
    /// assert_eq!(result.attempts(0), 4);
    /// let result = executor.batch([7]).retry(fibonacci).run(|_| Err::<(), _>("no"));
    /// assert_eq!(result.attempts(0), 3);
    /// ```
    pub fn delays<D>(delays: impl Fn() -> D + Send + Sync + 'a) -> Self
    where
        D: Iterator<Item = Duration> + Send + 'a,
    {
        Retry { delays: Delays::Made(Arc::new(Made { make: delays, open: Mutex::default() })), when: None }
    }

    /// Decides about every error with `when`. Without it, every error is retried. The last call wins.
    ///
    /// Workers call it, several at a time. If it panics, the item is not tried again: the error is its outcome, and
    /// [`BatchResult::retry_panic`](crate::BatchResult::retry_panic) has the panic. Where the compiler cannot infer the
    /// type of the error, write it: `.when(|error: &MyError| ..)`.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Retry, RetryDecision};
    /// use std::time::Duration;
    ///
    /// struct Client { retry: Retry<'static, String> }
    ///
    /// let retry = Retry::exponential(Duration::from_millis(1), Duration::from_millis(9), 3)
    ///     .when(|error: &String| if error == "busy" { RetryDecision::Retry } else { RetryDecision::GiveUp });
    /// let client = Client { retry };
    /// let executor = BatchExecutor::new();
    /// for (answer, attempts) in [("busy", 4), ("gone", 1)] {
    ///     let batch = executor.batch(["page"]).retry(client.retry.clone());
    ///     assert_eq!(batch.run(|_| Err::<(), _>(answer.to_owned())).attempts(0), attempts);
    /// }
    /// ```
    pub fn when(mut self, when: impl Fn(&E) -> RetryDecision + Send + Sync + 'a) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    /// What is to be done about this error.
    pub(crate) fn decide(&self, error: &E) -> RetryDecision {
        self.when.as_ref().map_or(RetryDecision::Retry, |when| when(error))
    }

    /// The delays of one item.
    pub(crate) fn new_delays(&self) -> Box<dyn Iterator<Item = Duration> + Send + 'a> {
        match &self.delays {
            Delays::Exponential(delays) => Box::new(delays.delays()),
            Delays::Made(source) => Box::new(Opened { key: source.open(), source: Arc::clone(source) }),
        }
    }
}

impl<E> Clone for Retry<'_, E> {
    fn clone(&self) -> Self {
        Retry { delays: self.delays.clone(), when: self.when.clone() }
    }
}

impl<E> fmt::Debug for Retry<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Retry");
        if let Delays::Exponential(delays) = &self.delays {
            fields.field("delays", delays);
        }
        fields.field("asks", &self.when.is_some()).finish_non_exhaustive()
    }
}

/// Iterators of delays behind keys.
///
/// A closure that returns boxed iterators would be shorter. Its type would name their lifetime, and a trait object that
/// names a lifetime is invariant in it: then a `Retry<'static, E>` would be none for a shorter `'a`, nor a batch with
/// one. Keys name nothing. The lock is taken only when an item has failed.
trait Source: Send + Sync {
    fn open(&self) -> u64;
    fn next(&self, key: u64) -> Option<Duration>;
    fn close(&self, key: u64);
}

struct Made<F, D> {
    make: F,
    open: Mutex<Open<D>>,
}

struct Open<D> {
    next_key: u64,
    delays: HashMap<u64, D>,
}

impl<D> Default for Open<D> {
    fn default() -> Self {
        Open { next_key: 0, delays: HashMap::new() }
    }
}

impl<D, F> Source for Made<F, D>
where
    D: Iterator<Item = Duration> + Send,
    F: Fn() -> D + Send + Sync,
{
    fn open(&self) -> u64 {
        let delays = (self.make)();
        let mut open = self.open.lock();
        let key = open.next_key;
        open.next_key += 1;
        open.delays.insert(key, delays);
        key
    }

    fn next(&self, key: u64) -> Option<Duration> {
        // The iterator is the user's, and is called without the lock.
        let mut delays = self.open.lock().delays.remove(&key)?;
        let delay = panic::catch(|| delays.next());
        self.open.lock().delays.insert(key, delays);
        delay.unwrap_or_else(|panic| panic.resume())
    }

    fn close(&self, key: u64) {
        let delays = self.open.lock().delays.remove(&key);
        drop(delays);
    }
}

/// One iterator of a source.
struct Opened<'a> {
    source: Arc<dyn Source + 'a>,
    key: u64,
}

impl Iterator for Opened<'_> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.source.next(self.key)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.source.close(self.key);
    }
}

/// The delays of [`Retry::exponential`].
#[derive(Debug, Clone, Copy)]
struct Exponential {
    first: Duration,
    max: Duration,
    retries: usize,
}

impl Exponential {
    /// The longest that the delay before a retry may be; the first retry is 0.
    fn ceiling(&self, retry: usize) -> Duration {
        // More doublings of a nanosecond than these are more than there are in a `Duration`.
        (0..retry.min(94)).fold(self.first, |ceiling, _| ceiling.saturating_mul(2)).min(self.max)
    }

    fn delays(self) -> impl Iterator<Item = Duration> + Send {
        (0..self.retries).map(move |retry| part_of(self.ceiling(retry), random()))
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

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn ceilings_double_up_to_the_longest() {
        let delays = Exponential { first: MS(10), max: MS(70), retries: 9 };
        assert_eq!(
            [0, 1, 2, 3, 40, usize::MAX].map(|retry| delays.ceiling(retry)),
            [MS(10), MS(20), MS(40), MS(70), MS(70), MS(70)]
        );
        let none = Exponential { first: Duration::ZERO, max: MS(70), retries: 99 };
        assert_eq!(none.ceiling(40), Duration::ZERO);
        let short = Exponential { first: Duration::from_nanos(1), max: MS(3_600_000), retries: 99 };
        assert_eq!(short.ceiling(33), Duration::from_nanos(1 << 33));
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

    /// The chance that none of 300 delays comes near is less than one in 10^36.
    #[test]
    fn of_many_delays_the_longest_come_near_their_ceilings() {
        let exponential = Exponential { first: MS(1_000), max: MS(9_000), retries: 5 };
        let mut longest = [Duration::ZERO; 5];
        for _ in 0..300 {
            let delays = exponential.delays();
            longest.iter_mut().zip(delays).for_each(|(longest, delay)| *longest = delay.max(*longest));
        }
        let is_near = |(retry, longest): (usize, &Duration)| {
            let ceiling = exponential.ceiling(retry);
            (ceiling * 3 / 4..=ceiling).contains(longest)
        };
        assert!(longest.iter().enumerate().all(is_near), "{longest:?}");
    }

    #[test]
    fn each_item_has_an_iterator_of_its_own_that_goes_with_it() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let retry = Retry::<()>::delays(move || {
            let held = Arc::clone(&held);
            (1..=3).map(move |millis| MS(millis * u64::from(Arc::strong_count(&held) > 0)))
        });
        let (mut one, mut other) = (retry.new_delays(), retry.clone().new_delays());
        assert_eq!(
            [one.next(), one.next(), other.next(), one.next(), one.next()],
            [Some(MS(1)), Some(MS(2)), Some(MS(1)), Some(MS(3)), None]
        );
        assert_eq!(Arc::strong_count(&alive), 4);
        drop(one);
        assert_eq!(Arc::strong_count(&alive), 3);
        drop(retry);
        assert_eq!(other.next(), Some(MS(2)));
        drop(other);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// A struct holds one that borrows nothing, and batches that borrow take it.
    #[test]
    fn a_retry_that_borrows_nothing_is_one_that_may_borrow() {
        fn shortened<'a, E>(retry: Retry<'static, E>, _: &'a str) -> Retry<'a, E> {
            retry
        }
        let text = String::from("local");
        let retry = Retry::exponential(MS(1), MS(1), 1).when(|_: &u8| RetryDecision::GiveUp);
        assert_eq!(shortened(retry, &text).decide(&1), RetryDecision::GiveUp);
    }
}
