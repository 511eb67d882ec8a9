//! What a candidate must be able to show: its ordinary ways of running a batch, for the checks to look at.

use std::sync::Arc;
use std::time::Duration;

/// What an item's operation is. Shared and `'static`, since some candidates ask for that.
pub type Op = Arc<dyn Fn(u64) -> Result<u64, String> + Send + Sync>;

/// An input without end.
pub type Endless = Box<dyn Iterator<Item = u64> + Send>;

/// What a caller holds of an item after the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Value(u64),
    Failed(String),
    /// With its message.
    Panicked(String),
}

impl From<Result<u64, String>> for Seen {
    fn from(outcome: Result<u64, String>) -> Self {
        outcome.map_or_else(Seen::Failed, Seen::Value)
    }
}

/// What a caller holds after a batch that was to stop at the first error.
#[derive(Debug, Default)]
pub struct Stopped {
    /// The error that came back.
    pub error: Option<String>,
    /// The values that are in hand beside it.
    pub values: Vec<u64>,
}

pub trait Candidate {
    const NAME: &'static str;
    /// How it was used, in Markdown.
    const IDIOM: &'static str;

    /// The ordinary way to every outcome. An item that nothing is known of is left out. May panic where the candidate
    /// does.
    fn collect(workers: usize, items: Vec<u64>, op: Op) -> Vec<Seen>;

    /// The ordinary way to stop at the first error.
    fn stop(workers: usize, items: Vec<u64>, op: Op) -> Stopped;

    /// On this many workers, as many items, each of which meets the others, so that all workers are busy, and then runs a
    /// batch of four on the same pool. How many of the inner items have run.
    fn nested(workers: usize) -> usize;

    /// The lengths of words that are borrowed from the stack, if it takes such items. None if the compiler refuses
    /// them: the one verdict that comes from a signature, and not from a run.
    fn borrow(words: &[String]) -> Option<usize>;

    /// How often it reported progress for this many items, if it can.
    fn progress(items: u64) -> Option<u64>;

    /// How long this many items take when one may start every `gap`, if it can say so.
    fn paced(items: u64, gap: Duration) -> Option<Duration>;

    /// How long two workers take for this many items, each of which fails once and is tried again after `delay`, if it can do that.
    fn backed_off(_items: u64, _delay: Duration) -> Option<Duration> {
        None
    }

    /// A batch on two workers, cancelled from another thread after so long, if it can be. Returns when the batch has.
    fn cancelled(_items: Vec<u64>, _op: Op, _after: Duration) -> Option<()> {
        None
    }

    /// The outcomes of the first `wanted` items, in input order and while the others are still to come, if it has such a thing; on
    /// two workers.
    fn first_of(_items: Endless, _wanted: usize) -> Option<Vec<u64>> {
        None
    }

    /// Runs this many items, of which all but `done` fail, and then again what is left; how often the operation was called the second
    /// time, if it remembers.
    fn resumed(_items: u64, _done: u64) -> Option<usize> {
        None
    }

    /// Of how many items it tells afterwards when they ran and where, if it does.
    fn recorded(_items: u64) -> Option<usize> {
        None
    }

    /// A batch of three where nothing was set up, on a thread that is none of the candidate's. May panic.
    fn bare() -> Vec<u64>;
}
