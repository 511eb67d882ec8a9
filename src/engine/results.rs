//! A stream's consumer: it draws outcomes, and the calling thread takes its part in the work until there is one.

use crate::batch_error::StopReason;
use crate::panic::{self, Panic};
use crate::pool::Invitation;
use crate::result::Summary;
use crate::stream::{Drawn, Feed, Results, Streamed};

use super::caller::{Caller, ItemOf};
use super::operation::{Failure, Item, Operation, Value};
use super::report::Report;
use super::schedule::Stop;
use super::shared::Job;
use crate::slots::{Order, Reader};

/// How much of a stream is under way at a time, and in which order it is handed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    /// None for one that follows from what the items take.
    pub(crate) window: Option<usize>,
    pub(crate) order: Order,
}

/// What the consumer leaves behind.
pub(super) struct Consumed<R> {
    output: Result<R, Panic>,
    drawn: Drawn,
    /// Whether it has got every item that there is.
    is_complete: bool,
}

/// Lets the consumer draw outcomes until it wants no more, and then lets what still runs come to its end. Helpers may then still
/// be pulling.
pub(super) fn consume<O: Operation, R>(
    operation: &O,
    job: &Job<'_, O::Kinds>,
    helpers: Option<&Invitation<'_>>,
    workers: usize,
    report: Option<Report<'_>>,
    reader: Reader,
    consume: impl FnOnce(&mut Results<'_, Item<O>, Value<O>, Failure<O>>) -> R,
) -> Consumed<R> {
    let mut caller = Caller::new(job, helpers, workers, report);
    let mut feed = FromSlots { operation, caller: &mut caller, reader };
    let mut results = Results::new(&mut feed);
    let output = panic::catch(|| consume(&mut results));
    let drawn = results.drawn();
    let is_complete = job.dispatcher.is_complete(drawn.counts.decided());
    job.dispatcher.close(None);
    let ended = caller.watch_to_the_end();
    let ended = ended.and(caller.leave());
    Consumed { output: and(output, ended), drawn, is_complete }
}

struct FromSlots<'f, 'c, 'j, O: Operation> {
    operation: &'f O,
    caller: &'f mut Caller<'c, 'j, O::Kinds>,
    reader: Reader,
}

impl<O: Operation> Feed<Item<O>, Value<O>, Failure<O>> for FromSlots<'_, '_, '_, O> {
    fn next(&mut self) -> Option<ItemOf<O::Kinds>> {
        let FromSlots { operation, caller, reader } = self;
        caller.job.dispatcher.hand_on(reader.taken());
        if caller.solo.is_some() {
            let next = caller.run_solo(*operation, reader);
            if next.is_some() {
                return next;
            }
        }
        caller.watch_for(reader).unwrap_or_else(|panic| panic.resume())
    }
}

impl<R> Consumed<R> {
    #[cfg(feature = "tokio")]
    pub(super) fn new(output: Result<R, Panic>, drawn: Drawn, is_complete: bool) -> Self {
        Consumed { output, drawn, is_complete }
    }

    /// Why the stream stopped, if it did before its consumer had enough of it. `lowest_undecided` is the lowest index of an item
    /// that was pulled and is undecided.
    pub(super) fn stopped(&self, stop: &Stop, in_order: bool, lowest_undecided: usize) -> Option<StopReason> {
        let handed_on = self.drawn.counts.decided();
        let has_seen_why = self.drawn.is_over || (in_order && handed_on >= stop.line_of_failures());
        if !has_seen_why {
            return None;
        }
        let is_missed =
            |line| if in_order { handed_on < line } else { line == usize::MAX || lowest_undecided < line };
        stop.reason(|line| !self.is_complete && is_missed(line))
    }

    /// How the stream ended. The output is dropped if something has panicked.
    pub(super) fn end(self, summary: Result<Summary, Panic>) -> Result<Streamed<R>, Panic> {
        let Drawn { counts, first_failure, .. } = self.drawn;
        let (summary, ended) = match summary {
            Ok(summary) => (Summary { counts, ..summary }, Ok(())),
            Err(panic) => (Summary::default(), Err(panic)),
        };
        and(self.output, ended).map(|output| Streamed::new(output, first_failure, summary))
    }
}

/// The output, unless something has panicked; then it is dropped.
fn and<R>(output: Result<R, Panic>, ended: Result<(), Panic>) -> Result<R, Panic> {
    let output = output?;
    match ended {
        Ok(()) => Ok(output),
        Err(panic) => {
            let _ = panic::discard(output);
            Err(panic)
        }
    }
}
