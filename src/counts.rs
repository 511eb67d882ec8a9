//! How many items a batch has decided, as numbers and as a line for people.

use std::fmt;
use std::time::Duration;

/// How many items were decided, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
    /// Those of them that an earlier run has decided.
    pub(crate) recorded: usize,
}

impl Counts {
    pub(crate) const SUCCEEDED: Counts = Counts { succeeded: 1, failed: 0, recorded: 0 };
    pub(crate) const FAILED: Counts = Counts { succeeded: 0, failed: 1, recorded: 0 };

    pub(crate) fn decided(self) -> usize {
        self.succeeded + self.failed
    }

    pub(crate) fn add(&mut self, more: Counts) {
        self.succeeded += more.succeeded;
        self.failed += more.failed;
        self.recorded += more.recorded;
    }
}

/// Counts in one line for people, with the time if it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountsLine {
    pub(crate) total: usize,
    pub(crate) counts: Counts,
    pub(crate) elapsed: Option<Duration>,
}

impl CountsLine {
    pub(crate) fn skipped(&self) -> usize {
        self.total - self.counts.decided()
    }
}

impl fmt::Display for CountsLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { succeeded, failed, .. } = self.counts;
        write!(f, "{succeeded} of {} succeeded", self.total)?;
        if failed > 0 {
            write!(f, ", {failed} failed")?;
        }
        if self.skipped() > 0 {
            write!(f, ", {} skipped", self.skipped())?;
        }
        let Some((time, unit)) = self.elapsed.map(readable) else { return Ok(()) };
        write!(f, " in {time:.1} {unit}")
    }
}

/// A duration in the unit that a person would give it in, with one decimal.
fn readable(time: Duration) -> (f64, &'static str) {
    let seconds = time.as_secs_f64();
    match seconds {
        0.999_95.. => (seconds, "s"),
        0.000_999_95.. => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_unit_that_suits_it() {
        let line = |time| CountsLine { total: 0, counts: Counts::default(), elapsed: Some(time) }.to_string();
        assert_eq!(line(Duration::from_millis(1900)), "0 of 0 succeeded in 1.9 s");
        assert_eq!(line(Duration::from_micros(2500)), "0 of 0 succeeded in 2.5 ms");
        assert_eq!(line(Duration::from_nanos(300)), "0 of 0 succeeded in 0.3 µs");
        assert_eq!(line(Duration::from_micros(999_960)), "0 of 0 succeeded in 1.0 s", "it is rounded");
        assert_eq!(line(Duration::from_nanos(999_960)), "0 of 0 succeeded in 1.0 ms");
        assert_eq!(line(Duration::from_nanos(999_940)), "0 of 0 succeeded in 999.9 µs");
    }
}
