//! The consumer's side of a stream: it draws outcomes, and has the caller take its part in the work until there are some.

use std::collections::VecDeque;

use crate::batch_error::StopReason;
use crate::panic::{self, Panic};
use crate::pool::Invitation;
use crate::result::{BatchItem, Counts, Summary, discard_each};
use crate::stream::{Feed, Results, Streamed};
use crate::sync::Instant;

use super::coordinate::Coordinator;
use super::inlet::Inlet;
use super::job::{Job, SupplyFor, stopped_by_journal};
use super::outlet::{Order, Outlet};
use super::stop::Stop;
use super::tally::Report;
use super::window::Window;
use super::work::Work;

/// How much of a stream is under way at a time, and in which order it is handed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    /// None for one that follows from the number of workers.
    pub(crate) window: Option<usize>,
    pub(crate) order: Order,
}

impl Flow {
    /// How many items may be at work at once, of an iterator that has at most so many.
    pub(super) fn at_once(self, items: Option<usize>) -> usize {
        items.unwrap_or(usize::MAX).min(self.window.unwrap_or(usize::MAX)).max(1)
    }
}

pub(super) type OutletOf<'a, W> = Outlet<'a, <W as Work>::Item, <W as Work>::Value, <W as Work>::Error>;
pub(crate) type ResultsOf<'r, W> = Results<'r, <W as Work>::Item, <W as Work>::Value, <W as Work>::Error>;
type BatchItemOf<W> = BatchItem<<W as Work>::Item, <W as Work>::Value, <W as Work>::Error>;
type InletOf<'a, W, It> = Inlet<'a, It, <W as Work>::Value, <W as Work>::Error>;

/// What goes from the workers to the consumer, and how much of it at a time.
pub(super) struct Channel<'a, W: Work> {
    pub(super) outlet: &'a OutletOf<'a, W>,
    pub(super) window: &'a Window,
    pub(super) stop: &'a Stop,
}

/// What the consumer leaves behind.
pub(super) struct Consumed<W: Work, O> {
    output: Result<O, Panic>,
    counts: Counts,
    /// Whether it has seen the end.
    is_over: bool,
    /// Whether that was the end of the input, then.
    is_complete: bool,
    /// What was ready, and not asked for.
    ready: VecDeque<BatchItemOf<W>>,
}

impl<W: Work> Channel<'_, W> {
    /// Lets the consumer draw outcomes until it wants no more, and then lets what still runs come to its end. Helpers may then
    /// still be pulling.
    pub(super) fn consume<S: SupplyFor<W>, O>(
        &self,
        job: &Job<'_, W, S>,
        helpers: Option<&Invitation<'_>>,
        seats: usize,
        report: Option<Report<'_>>,
        consume: impl FnOnce(&mut ResultsOf<'_, W>) -> O,
    ) -> Consumed<W, O> {
        let mut coordinator = Coordinator::new(job, helpers, seats, report);
        let mut drawn = Drawn { coordinator: &mut coordinator, from: self };
        let mut results = Results::new(&mut drawn);
        let output = panic::catch(|| consume(&mut results));
        let (counts, is_over, ready) = results.end();
        let (pulled, has_ended) = job.carve.status(0).known;
        let is_complete = has_ended && counts.decided() == pulled;
        self.stop.close(None);
        let ended = coordinator.watch_to_the_end();
        let ended = ended.and(coordinator.leave());
        Consumed { output: and(output, ended), counts, is_over, is_complete, ready }
    }
}

/// Where the consumer draws outcomes from.
struct Drawn<'d, 'c, 'j, W: Work, S: SupplyFor<W>> {
    coordinator: &'d mut Coordinator<'c, 'j, W, S>,
    from: &'d Channel<'d, W>,
}

impl<W: Work, S: SupplyFor<W>> Feed<W::Item, W::Value, W::Error> for Drawn<'_, '_, '_, W, S> {
    fn next(&mut self, spent: Vec<BatchItemOf<W>>) -> Option<Vec<BatchItemOf<W>>> {
        let Channel { outlet, stop, .. } = *self.from;
        outlet.recycle(spent);
        if outlet.has_reached(stop.end_by_failures()) {
            return None;
        }
        let found = self.coordinator.watch(|| outlet.take(stop.end_by_failures()));
        found.unwrap_or_else(|panic| panic.resume())
    }

    fn handed_on(&mut self) {
        if self.from.window.hand_on() {
            self.from.stop.call_one();
        }
    }
}

impl<W: Work, O> Consumed<W, O> {
    /// How the stream ended, when nobody works any more, and everything that is left of it is dropped.
    pub(super) fn end<It: Iterator<Item = W::Item> + Send>(
        self,
        mut job: Job<'_, W, InletOf<'_, W, It>>,
        channel: &Channel<'_, W>,
        since: Instant,
    ) -> Result<Streamed<O>, Panic> {
        let Consumed { output, counts, is_over, is_complete, ready } = self;
        let (ended, summary) = job.end(since);
        let source = job.carve.rest().left();
        let ended = ended.and(panic::catch(|| drop(source)));
        let (unstarted, outcomes) = channel.outlet.left();
        let ended = ended.and(panic::drop_each(unstarted));
        let ended = ended.and(discard_each(outcomes)).and(discard_each(ready));
        let stopped = stopped_by_journal(&summary);
        let stopped = stopped.or_else(|| channel.stopped(counts.decided(), is_over, is_complete));
        let summary = Summary { counts, ..summary };
        and(output, ended).map(|output| Streamed::new(output, stopped, summary))
    }
}

impl<W: Work> Channel<'_, W> {
    /// Why the stream stopped, if it did before its consumer had enough of it.
    fn stopped(&self, handed_on: usize, is_over: bool, is_complete: bool) -> Option<StopReason> {
        let in_order = self.outlet.order() == Order::Input;
        let has_seen_why = is_over || (in_order && handed_on >= self.stop.end_by_failures());
        if !has_seen_why {
            return None;
        }
        let is_missed =
            |end| if in_order { handed_on < end } else { end == usize::MAX || self.outlet.has_skipped(end) };
        self.stop.reason(|end| !is_complete && is_missed(end))
    }
}

/// The output, unless something has panicked; then it is dropped.
pub(super) fn and<O>(output: Result<O, Panic>, ended: Result<(), Panic>) -> Result<O, Panic> {
    let output = output?;
    match ended {
        Ok(()) => Ok(output),
        Err(panic) => {
            let _ = panic::catch(|| drop(output));
            Err(panic)
        }
    }
}
