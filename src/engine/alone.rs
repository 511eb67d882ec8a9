//! A batch that one thread runs, with nothing around it: no schedule, no lock, and no look at the clock but at the end. So a
//! batch of one item costs little more than the item.

use crate::clock;
use crate::counts::Counts;
use crate::error::ItemError;
use crate::panic;
use crate::result::Summary;
use crate::sync::Instant;
use crate::sync::atomic::AtomicUsize;
use crate::trace::Trace;

use super::ending::EndedOf;
use super::operation::{Kinds, Operation, Stretch};
use super::schedule::{OnFailure, Stop};
use super::shared::SlotsOf;
use crate::slots::{Claim, Halt};

/// Runs all items on this thread, until as many have failed as the batch allows.
pub(super) fn run_alone<K: Kinds>(
    since: Instant,
    (slots, mut claim): (SlotsOf<K>, Claim),
    on_failure: OnFailure,
    operation: &dyn Operation<Kinds = K>,
) -> EndedOf<K> {
    let (total, trace) = (claim.len(), Trace::begin("batch", Some(claim.len()), 1));
    let _within = trace.enter();
    let (stop_at, mut state, mut stop, mut failed) =
        (AtomicUsize::new(usize::MAX), None, Stop::new(on_failure), 0);
    let (most, gate, end) = (usize::MAX, &stop_at, &stop_at);
    let stretch = Stretch { most, gate, worker: 0, end, deadline: None, consumer: None };
    while claim.len() > 0 && claim.index() < stop.line() {
        let ended = panic::catch(|| operation.decide_while(&slots, &mut claim, &mut state, &stretch));
        let error = match ended {
            Ok(None | Some(Halt::Gate)) => break,
            Ok(Some(Halt::Error(error))) => ItemError::Failed(error),
            Err(panic) => ItemError::Panicked(panic),
        };
        stop.failed(slots.decide(&mut claim, Err(error), || ()));
        failed += 1;
    }
    let ended = panic::discard(state);
    let counts = Counts { succeeded: total - claim.len() - failed, failed, recorded: 0 };
    trace.end(counts);
    let (stopped, elapsed) = (stop.reason(|_| false), clock::since(since));
    let summary = Summary { counts, stopped, elapsed, workers: total.min(1), ..Summary::default() };
    let parts = slots.into_parts(vec![claim], |_| Err(ItemError::Skipped));
    (ended.map(|()| summary), Ok(parts))
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use crate::executor::BatchExecutor;

    #[test]
    fn no_items_need_no_worker() {
        let workers =
            |items| BatchExecutor::new().batch(0..items).workers(1).run(|n| Ok::<_, ()>(*n)).workers();
        assert_eq!([0, 1, 9].map(workers), [0, 1, 1]);
    }
}
