//! Work that makes more work: what an operation pushes while its item runs, and the order of a plain queue in the end.
//!
//! Items are numbered as they come, and start as soon as a worker is free. When the batch is over, they get the places that a
//! plain queue would have given them, and so does all that speaks of their numbers.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::batch_error::StopReason;
use crate::context::ItemContext;
use crate::panic::{self, Panic};
use crate::result::{BatchResult, Summary};
use crate::slots::{Grower, Slots};
use crate::sync::{Instant, Mutex};
use crate::trace::Trace;
use crate::workers::MAX_WORKERS;

use super::ending::finish;
use super::operation::{Operation, Settings, Types};
use super::parking::{Dispatcher, Held};
use super::schedule::{Growth, Schedule};
use super::{Engine, collect};

/// What [`Batch::run_growing`](crate::Batch::run_growing) lends the operation, so that it can add items to the batch.
///
/// Threads that the operation starts and waits for may push, too.
///
/// ```
/// use batch_executor::{BatchExecutor, ItemContext, More};
///
/// fn halve(n: &u32, _: &mut ItemContext<'_>, more: &More<u32>) -> Result<u32, String> {
///     if n % 2 == 0 {
///         more.push(n / 2);
///     }
///     Ok(*n)
/// }
///
/// let result = BatchExecutor::new().batch([12, 7]).run_growing(halve);
/// assert_eq!(result.into_values()?, [12, 7, 6, 3]);
/// # Ok::<(), batch_executor::BatchError>(())
/// ```
pub struct More<I> {
    garden: Garden<I>,
    /// The number of the item that is being run.
    parent: usize,
    /// Where attempts may be repeated: what this one has pushed. It comes when it is known that there will be no other.
    held: Option<Mutex<Vec<I>>>,
}

impl<I> More<I> {
    /// Adds an item to the batch, behind all that were pushed before.
    ///
    /// It may start at once, on any worker. In a batch with a [`retry`](crate::Batch::retry) it may
    /// start when this attempt has ended and is not repeated. A push takes a fraction of a
    /// microsecond, and wakes a worker that is idle. It does not wait until other items are done, so
    /// nothing bounds how many there are.
    ///
    /// # Errors
    ///
    /// Where there is no memory for another item, the item is dropped and the batch stops with
    /// [`StopReason::OutOfMemory`].
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let result = BatchExecutor::new().batch([3]).run_growing(|n: &u32, _, more| {
    ///     (0..*n).for_each(|smaller| more.push(smaller));
    ///     Ok::<_, String>(())
    /// });
    /// assert_eq!(result.items(), [3, 0, 1, 2, 0, 0, 1, 0]);
    /// ```
    pub fn push(&self, item: I) {
        let refused = match &self.held {
            None => self.garden.add(self.parent, item),
            Some(held) => {
                let mut held = held.lock();
                if held.try_reserve(1).is_ok() {
                    held.push(item);
                    return;
                }
                Err(item)
            }
        };
        if let Err(item) = refused {
            self.garden.dispatcher.close(Some(StopReason::OutOfMemory));
            drop(item);
        }
    }

    /// The attempt has ended. What it has pushed comes now, unless there will be another attempt.
    fn ended(&self, counts: bool) {
        let Some(held) = &self.held else { return };
        let items = mem::take(&mut *held.lock());
        if !counts {
            return panic::drop_each(items).unwrap_or_else(|panic| panic.resume());
        }
        let refused: Vec<I> =
            items.into_iter().filter_map(|item| self.garden.add(self.parent, item).err()).collect();
        if !refused.is_empty() {
            self.garden.dispatcher.close(Some(StopReason::OutOfMemory));
            panic::drop_each(refused).unwrap_or_else(|panic| panic.resume());
        }
    }
}

impl<I> fmt::Debug for More<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("More").field("from", &self.parent).finish_non_exhaustive()
    }
}

/// Where new items go: into slots, and into the schedule. It borrows nothing of the batch, so that the operation may name it.
struct Garden<I> {
    grower: Grower<I>,
    dispatcher: Arc<Dispatcher>,
}

impl<I> Garden<I> {
    /// The item comes from the one with the number `parent`. Hands it back if there is no memory for it.
    fn add(&self, parent: usize, item: I) -> Result<(), I> {
        let mut schedule = self.dispatcher.change();
        if !schedule.has_room_to_grow() {
            return Err(item);
        }
        let claim = self.grower.fill(item)?;
        schedule.push(parent, claim);
        Ok(())
    }
}

/// The user's operation, for which each worker has a [`More`].
struct Growing<F, I, T, E> {
    op: F,
    garden: Garden<I>,
    has_retry: bool,
    types: Types<I, T, E, More<I>>,
}

impl<F, I, T, E> Operation for Growing<F, I, T, E>
where
    I: Send,
    T: Send,
    E: Send,
    F: Fn(&I, &mut ItemContext<'_>, &More<I>) -> Result<T, E> + Sync,
{
    type Kinds = Types<I, T, E, More<I>>;

    fn state(&self) -> Result<More<I>, E> {
        let Garden { grower, dispatcher } = &self.garden;
        let garden = Garden { grower: grower.clone(), dispatcher: Arc::clone(dispatcher) };
        Ok(More { garden, parent: 0, held: self.has_retry.then(Mutex::default) })
    }

    fn run(&self, item: &I, context: &mut ItemContext<'_, More<I>>) -> Result<T, E> {
        let ItemContext { index, attempt, worker, deadline, .. } = *context;
        let (more, end) = (&mut *context.state, self.garden.dispatcher.end_for(worker));
        more.parent = index;
        (self.op)(item, &mut ItemContext { state: &mut (), index, attempt, worker, end, deadline }, more)
    }

    fn ended(&self, more: &More<I>, counts: bool) {
        more.ended(counts);
    }

    fn discard(self) -> Result<(), Panic> {
        panic::discard(self.op)
    }
}

impl Engine {
    /// One batch whose items push others, from its iterator to its result. As [`run`](Engine::run) in everything else.
    pub(crate) fn grow<I: Send, T: Send, E: Send>(
        &self,
        since: Instant,
        items: impl Iterator<Item = I>,
        mut settings: Settings<'_, I, T, E>,
        op: impl Fn(&I, &mut ItemContext<'_>, &More<I>) -> Result<T, E> + Sync,
    ) -> Result<BatchResult<I, T, E>, Panic> {
        let items = match collect(items) {
            Ok(items) => items,
            Err(items) => return Ok(BatchResult::out_of_memory(items)),
        };
        settings.numbered = true;
        let (report, recorder) = settings.observers(since, None);
        let (at_start, team) = (items.len(), settings.team(None, usize::MAX, recorder.is_some()));
        let most_workers = if settings.controls.is_empty() { team.most_workers() } else { MAX_WORKERS };
        let Some(growth) = Growth::of(at_start, most_workers) else {
            return Ok(BatchResult::out_of_memory(items));
        };
        let (slots, claim, grower) = match Slots::growing(items) {
            Ok(parts) => parts,
            Err(items) => return Ok(BatchResult::out_of_memory(items)),
        };
        let (workers, hears) = (team.limit, self.hears(report.as_ref(), &team, &settings));
        let schedule = Schedule::growing(claim, growth, settings.on_failure, team);
        let held = Held::new(schedule, since, hears, &settings, self);
        let Some(dispatcher) = held.share() else { unreachable!("a batch that grows is shared") };
        let garden = Garden { grower, dispatcher };
        let operation = Growing { op, garden, has_retry: settings.retry.is_some(), types: Types::default() };
        let trace = Trace::begin("batch", None, workers);
        let mut job = self.job(&operation, &held, &slots, &mut settings, recorder, trace);
        job.grow_from(at_start);
        let ended = self.work_on(&job, workers, report);
        let mut ending = job.end(ended);
        let (reason, places) = held.dispatcher().schedule().end_of_growth(&ending.left);
        ending.stopped(reason);
        let left = mem::take(&mut ending.left);
        let parts = panic::catch(|| slots.into_parts(left, |index| ending.of_undecided(index)));
        ending.also(settings.discard());
        let summary = ending.close().map(|summary| renumbered(summary, &places));
        finish((summary, parts.map(|parts| in_order(parts, places))), operation.discard())
    }
}

/// The summary speaks of items by their places in the result.
fn renumbered(mut summary: Summary, places: &[usize]) -> Summary {
    if let Some(StopReason::ItemFailed { index }) = &mut summary.stopped {
        *index = places[*index];
    }
    for trials in &mut summary.trials {
        trials.index = places[trials.index];
    }
    summary.trials.sort_unstable_by_key(|trials| trials.index);
    summary.timeline.iter_mut().for_each(|timeline| timeline.renumber(places));
    summary
}

/// Brings items and outcomes to their places.
fn in_order<I, O>((mut items, mut outcomes): (Vec<I>, Vec<O>), mut places: Vec<usize>) -> (Vec<I>, Vec<O>) {
    for at in 0..places.len() {
        while places[at] != at {
            let place = places[at];
            items.swap(at, place);
            outcomes.swap(at, place);
            places.swap(at, place);
        }
    }
    (items, outcomes)
}
