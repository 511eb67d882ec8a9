//! A timeline in numbers.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "serde")]
use crate::seconds::as_seconds;

use super::recording::Timeline;
use super::span::{Ending, Times};

/// A timeline in numbers. Its text is a small table.
///
/// Counts, `throughput`, `utilisation` and the maxima are of all attempts; the other quantiles are of those that are
/// [kept as a sample](Timeline::sample), which are all unless there were too many.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let result = BatchExecutor::new().batch(0..500).record_timeline().run(|n| Ok::<_, String>(n + 1));
/// let stats = result.timeline().unwrap().stats();
/// assert_eq!((stats.items, stats.attempts, stats.retries), (500, 500, 0));
/// assert!(stats.utilisation <= 1.0);
/// println!("{stats}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Printed of a hundred items on four workers, with a limiter and some retries:
///
/// ```text
/// 100 items in 520 ms: 192.3/s, 4 workers, 38% utilised
/// 106 attempts: 97 succeeded, 3 failed, 6 tried again
///                     p50       p90       p99       max
/// run time        7.52 ms   9.61 ms   10.1 ms   10.1 ms
/// limiter wait    11.0 ms   14.8 ms   17.4 ms   17.5 ms
/// queue wait       254 ms    461 ms    507 ms    511 ms
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TimelineStats {
    /// Items of which an attempt has ended, also by a refusal.
    pub items: usize,
    /// Attempts at them.
    pub attempts: usize,
    /// How many of the attempts the quantiles look at.
    pub sampled: usize,
    /// Items with a value.
    pub succeeded: usize,
    /// Items whose last attempt failed.
    pub failed: usize,
    /// Items that panicked.
    pub panicked: usize,
    /// Items that got no permit.
    pub refused: usize,
    /// Attempts that failed and were followed by another, or were to be.
    pub retries: usize,
    /// How long the batch took.
    #[cfg_attr(feature = "serde", serde(rename = "elapsed_seconds", serialize_with = "as_seconds"))]
    pub elapsed: Duration,
    /// The largest number of workers that ran items at the same time; those that waited do not count.
    pub workers: usize,
    /// Items decided per second, over the whole time. 0 if no time has passed.
    pub throughput: f64,
    /// The part of the workers' time in which an operation ran: the sum of all run times, by `workers` times `elapsed`.
    pub utilisation: f64,
    /// How long operations ran. Attempts that [got no permit](Ending::Refused) are not among them.
    pub run_time: Quantiles,
    /// How long attempts waited for what they need of their limits, and then for a worker. They held none meanwhile.
    pub limiter_wait: Quantiles,
    /// How long attempts waited for a worker.
    pub queue_wait: Quantiles,
}

/// Some quantiles of a time: the shortest that at least this many hundredths of all did not exceed (*nearest rank*). Zero of
/// nothing.
///
/// ```
/// use batch_executor::{BatchExecutor, Quantiles};
///
/// let result = BatchExecutor::new().batch(0..500).record_timeline().run(|n| Ok::<_, String>(n + 1));
/// let Quantiles { p50, p99, max, .. } = result.timeline().unwrap().stats().run_time;
/// println!("half of them took up to {p50:?}, all but five up to {p99:?}, and none longer than {max:?}");
/// assert!(p50 <= p99 && p99 <= max);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Quantiles {
    /// The median.
    #[cfg_attr(feature = "serde", serde(rename = "p50_seconds", serialize_with = "as_seconds"))]
    pub p50: Duration,
    /// Nine in ten took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p90_seconds", serialize_with = "as_seconds"))]
    pub p90: Duration,
    /// 99 in 100 took no longer.
    #[cfg_attr(feature = "serde", serde(rename = "p99_seconds", serialize_with = "as_seconds"))]
    pub p99: Duration,
    /// The longest.
    #[cfg_attr(feature = "serde", serde(rename = "max_seconds", serialize_with = "as_seconds"))]
    pub max: Duration,
}

impl Quantiles {
    /// Of these. The longest is handed in: it may be of more than these.
    fn of(mut times: Vec<u64>, max: u64) -> Self {
        times.sort_unstable();
        let rank = |hundredths: usize| {
            let rank = (times.len() * hundredths).div_ceil(100).max(1);
            Duration::from_nanos(times.get(rank - 1).copied().unwrap_or(0))
        };
        Quantiles { p50: rank(50), p90: rank(90), p99: rank(99), max: Duration::from_nanos(max) }
    }
}

impl Timeline {
    /// Counts, rates and quantiles. Sorts the spans three times.
    #[must_use]
    pub fn stats(&self) -> TimelineStats {
        let (totals, workers, elapsed) = (&self.totals, self.workers, self.elapsed());
        let times = |of: fn(&Times) -> u64| self.sample().map(|span| of(span.times())).collect();
        let ran = self.sample().filter(|span| span.ending() != Ending::Refused);
        let run_times = ran.map(|span| span.times().run_time()).collect();
        let decided = totals.attempts - totals.ended(Ending::Retried);
        TimelineStats {
            items: totals.items,
            attempts: totals.attempts,
            sampled: self.sample().count(),
            succeeded: totals.ended(Ending::Succeeded),
            failed: totals.ended(Ending::Failed),
            panicked: totals.ended(Ending::Panicked),
            refused: totals.ended(Ending::Refused),
            retries: totals.ended(Ending::Retried),
            elapsed,
            workers,
            throughput: per_second(decided, elapsed),
            utilisation: utilisation(totals.busy, workers, elapsed),
            run_time: Quantiles::of(run_times, totals.longest_run),
            limiter_wait: Quantiles::of(times(Times::limiter_wait), totals.longest_limiter_wait),
            queue_wait: Quantiles::of(times(Times::queue_wait), totals.longest_queue_wait),
        }
    }
}

/// Of this many workers, busy for this many nanoseconds in all.
fn utilisation(busy: u64, workers: usize, elapsed: Duration) -> f64 {
    let busy = Duration::from_nanos(busy).as_secs_f64();
    if busy > 0.0 { busy / (number(workers) * elapsed.as_secs_f64()) } else { 0.0 }
}

fn per_second(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { number(count) / time.as_secs_f64() }
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn number(count: usize) -> f64 {
    count as f64
}

impl fmt::Display for TimelineStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (elapsed, percent) = (ThreeDigits(self.elapsed), self.utilisation * 100.0);
        let (items, rate, workers) = (self.items, self.throughput, self.workers);
        writeln!(f, "{items} items in {elapsed}: {rate:.1}/s, {workers} workers, {percent:.0}% utilised")?;
        self.write_counts(f)?;
        if self.sampled < self.attempts {
            write!(f, "\nquantiles are those of a sample of {}", self.sampled)?;
        }
        write!(f, "\n{:13}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p90", "p99", "max")?;
        write!(f, "\nrun time     {}", self.run_time)?;
        write!(f, "\nlimiter wait {}", self.limiter_wait)?;
        write!(f, "\nqueue wait   {}", self.queue_wait)
    }
}

impl TimelineStats {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attempts: {} succeeded", self.attempts, self.succeeded)?;
        let others = [
            (self.failed, "failed"),
            (self.panicked, "panicked"),
            (self.refused, "without a permit"),
            (self.retries, "tried again"),
        ];
        others
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// One line of a table.
impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [self.p50, self.p90, self.p99, self.max]
            .into_iter()
            .try_for_each(|time| write!(f, "{:>10}", ThreeDigits(time)))
    }
}

/// A duration in the unit that a person would give it in.
struct ThreeDigits(Duration);

impl fmt::Display for ThreeDigits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (time, unit) = match self.0.as_nanos() {
            0..1_000 => (seconds * 1e9, "ns"),
            1_000..999_500 => (seconds * 1e6, "µs"),
            999_500..999_500_000 => (seconds * 1e3, "ms"),
            _ => (seconds, "s"),
        };
        let decimals = match time {
            _ if unit == "ns" => 0,
            99.95.. => 0,
            9.995.. => 1,
            _ => 2,
        };
        f.pad(&format!("{time:.decimals$} {unit}"))
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_shortest_time_that_so_many_did_not_exceed() {
        let of = |count: u64| Quantiles::of((1..=count).rev().collect(), count);
        let nanos = |[p50, p90, p99, max]: [u64; 4]| Quantiles {
            p50: Duration::from_nanos(p50),
            p90: Duration::from_nanos(p90),
            p99: Duration::from_nanos(p99),
            max: Duration::from_nanos(max),
        };
        assert_eq!(of(0), Quantiles::default());
        assert_eq!(of(1), nanos([1, 1, 1, 1]));
        assert_eq!(of(10), nanos([5, 9, 10, 10]));
        assert_eq!(of(1_000), nanos([500, 900, 990, 1_000]));
        assert_eq!(of(1_001), nanos([501, 901, 991, 1_001]));
    }

    #[test]
    fn utilisation_is_busy_time_of_all_the_time_that_workers_had() {
        let (second, half) = (Duration::from_secs(1), 500_000_000);
        assert!((utilisation(half, 1, second) - 0.5).abs() < 1e-12);
        assert!((utilisation(half, 4, second) - 0.125).abs() < 1e-12);
        assert!(utilisation(0, 0, Duration::ZERO).abs() < f64::EPSILON);
        assert!(per_second(9, Duration::ZERO).abs() < f64::EPSILON);
    }

    #[test]
    fn a_time_is_told_with_three_digits() {
        let told = |nanos| ThreeDigits(Duration::from_nanos(nanos)).to_string();
        assert_eq!([0, 999, 1_000, 12_340].map(told), ["0 ns", "999 ns", "1.00 µs", "12.3 µs"]);
        assert_eq!([9_996, 99_960, 999_499].map(told), ["10.0 µs", "100 µs", "999 µs"], "it is rounded");
        assert_eq!([999_500, 999_500_000].map(told), ["1.00 ms", "1.00 s"]);
        assert_eq!([1_234_000, 65_000_000_000].map(told), ["1.23 ms", "65.0 s"]);
    }

    #[test]
    fn the_text_is_a_table() {
        let ms = Duration::from_millis;
        let times = Quantiles { p50: ms(7), p90: ms(9), p99: ms(10), max: ms(1_200) };
        let stats = TimelineStats {
            items: 100,
            attempts: 106,
            sampled: 106,
            succeeded: 97,
            failed: 3,
            panicked: 0,
            refused: 0,
            retries: 6,
            elapsed: ms(520),
            workers: 4,
            throughput: 192.3,
            utilisation: 0.384,
            run_time: times,
            limiter_wait: times,
            queue_wait: Quantiles::default(),
        };
        let table = "\
100 items in 520 ms: 192.3/s, 4 workers, 38% utilised
106 attempts: 97 succeeded, 3 failed, 6 tried again
                    p50       p90       p99       max
run time        7.00 ms   9.00 ms   10.0 ms    1.20 s
limiter wait    7.00 ms   9.00 ms   10.0 ms    1.20 s
queue wait         0 ns      0 ns      0 ns      0 ns";
        assert_eq!(stats.to_string(), table);
        let sampled = TimelineStats { sampled: 50, ..stats };
        assert!(sampled.to_string().contains("\nquantiles are those of a sample of 50\n"));
        let unlucky = TimelineStats { panicked: 1, refused: 2, ..stats };
        let counts = "106 attempts: 97 succeeded, 3 failed, 1 panicked, 2 without a permit, 6 tried again\n";
        assert!(unlucky.to_string().contains(counts), "{unlucky}");
    }
}
