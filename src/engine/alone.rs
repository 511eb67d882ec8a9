//! A batch that one thread runs, with nothing around it: no schedule, no lock, and no look at the clock but at the end. So a
//! batch of one item costs little more than the item.

use crate::clock;
use crate::context::ItemContext;
use crate::counts::Counts;
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::result::Summary;
use crate::sync::Instant;
use crate::sync::atomic::AtomicUsize;
use crate::trace::Trace;

use super::ResultOf;
use super::ending::finish;
use super::operation::{Operation, made};
use super::schedule::{OnFailure, Stop};
use super::shared::SlotsOf;
use crate::slots::{Claim, Halt};

/// Runs all items on this thread, until as many have failed as the batch allows.
pub(super) fn run_alone<O: Operation>(
    since: Instant,
    (slots, mut claim): (SlotsOf<O>, Claim),
    on_failure: OnFailure,
    operation: O,
) -> Result<ResultOf<O>, Panic> {
    let (total, trace) = (claim.len(), Trace::begin("batch", Some(claim.len()), 1));
    let _within = trace.enter();
    let (stop_at, mut state, mut stop, mut failed) =
        (AtomicUsize::new(usize::MAX), None, Stop::new(on_failure), 0);
    while claim.len() > 0 && claim.index() < stop.line() {
        let Some(error) = run_some(&slots, &mut claim, &stop_at, &mut state, &operation) else { break };
        stop.failed(slots.decide(&mut claim, Err(error), || ()));
        failed += 1;
    }
    let ended = panic::catch(|| drop(state));
    let counts = Counts { succeeded: total - claim.len() - failed, failed, recorded: 0 };
    trace.end(counts);
    let (stopped, elapsed) = (stop.reason(|_| false), clock::since(since));
    let summary = Summary { counts, stopped, elapsed, workers: total.min(1), ..Summary::default() };
    let parts = slots.into_parts(vec![claim], |_| Err(ItemError::Skipped));
    finish(ended.and(operation.discard()).map(|()| summary), Ok(parts))
}

/// Decides items up to the first without a value; what that one came to.
#[inline]
fn run_some<O: Operation>(
    slots: &SlotsOf<O>,
    claim: &mut Claim,
    stop_at: &AtomicUsize,
    state: &mut Option<O::State>,
    operation: &O,
) -> Option<ItemError<O::Error>> {
    let ended = panic::catch(|| {
        let state = match made(state, operation) {
            Ok(state) => state,
            Err(error) => return Some(Halt::Error(error)),
        };
        let op = |index, item: &O::Item| {
            operation.run(
                item,
                &mut ItemContext { state, index, attempt: 1, worker: 0, end: stop_at, deadline: None },
            )
        };
        slots.decide_while::<false>(claim, usize::MAX, stop_at, op, || ())
    });
    match ended {
        Ok(None | Some(Halt::Gate)) => None,
        Ok(Some(Halt::Error(error))) => Some(ItemError::Failed(error)),
        Err(panic) => Some(ItemError::Panicked(panic)),
    }
}
