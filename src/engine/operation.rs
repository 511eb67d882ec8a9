//! What a batch is given: the user's code, and the steps that were asked for.

use std::marker::PhantomData;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::context::ItemContext;
use crate::control::Control;
use crate::journal_hook::JournalHook;
use crate::limit::Limit;
use crate::panic::{self, Panic};
use crate::retry::Retry;
use crate::sync::Instant;
use crate::sync::atomic::AtomicUsize;
use crate::timeline::recorder::NameOf;
use crate::workers::Workers;

use super::Engine;
use super::parking::Dispatcher;
use super::report::{OnProgress, Tick};
use super::results::Flow;
use super::schedule::{OnFailure, Refusal};
use super::shared::SlotsOf;
use crate::slots::{Claim, Halt, Order};

/// What was asked for.
pub(crate) struct Settings<'a, I, T, E> {
    pub(crate) workers: Workers,
    pub(crate) on_failure: OnFailure,
    pub(crate) on_progress: Option<OnProgress<'a>>,
    pub(crate) on_tick: Option<Tick<'a>>,
    pub(crate) bar: Option<Tick<'a>>,
    pub(crate) tokens: Vec<CancelToken>,
    pub(crate) controls: Vec<Control>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) item_timeout: Option<Duration>,
    /// Whether workers get numbers: the operation sees its context.
    pub(crate) numbered: bool,
    /// Whether each worker of a stream keeps something of the user's.
    pub(crate) has_state: bool,
    /// What items are called in the timeline, if there is to be one, and how many spans that may have.
    pub(crate) name_of: Option<NameOf<'a, I>>,
    pub(crate) spans: usize,
    pub(crate) retry: Option<Retry<'a, E>>,
    pub(crate) limits: Vec<Limit<'a, I>>,
    pub(crate) journal: Option<Box<dyn JournalHook<I, T, E> + Send + 'a>>,
    pub(crate) flow: Flow,
    pub(super) foreseen: Foreseen,
}

/// What is known of the items of a batch before any is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Foreseen {
    /// How many there are.
    pub(super) items: Option<usize>,
    /// How many an earlier run has decided.
    pub(super) recorded: usize,
}

/// A few megabytes, and a page that opens at once.
const SPANS: usize = 100_000;

impl<I, T, E> Settings<'_, I, T, E> {
    /// Those of the executor.
    pub(crate) fn new(engine: &Engine) -> Self {
        Settings {
            workers: engine.workers,
            on_failure: engine.on_failure,
            on_progress: None,
            on_tick: None,
            bar: None,
            tokens: Vec::new(),
            controls: Vec::new(),
            deadline: None,
            timeout: None,
            item_timeout: None,
            numbered: false,
            has_state: false,
            name_of: None,
            spans: SPANS,
            retry: None,
            limits: Vec::new(),
            journal: None,
            flow: Flow { window: None, order: Order::Input },
            foreseen: Foreseen::default(),
        }
    }

    /// The deadline of a batch that began then.
    pub(super) fn deadline_since(&self, since: Instant) -> Option<Instant> {
        let timeout = self.timeout.and_then(|timeout| since.checked_add(timeout));
        [self.deadline, timeout].into_iter().flatten().min()
    }

    /// Whether the batch asks for nothing but its outcomes.
    pub(super) fn are_plain(&self) -> bool {
        let Settings {
            on_progress,
            on_tick,
            bar,
            tokens,
            controls,
            deadline,
            timeout,
            item_timeout,
            name_of,
            retry,
            limits,
            journal,
            ..
        } = self;
        let is_told = on_progress.is_some() || on_tick.is_some() || bar.is_some();
        let is_watched = is_told || name_of.is_some() || journal.is_some() || item_timeout.is_some();
        let may_stop = !tokens.is_empty() || !controls.is_empty() || deadline.is_some() || timeout.is_some();
        !is_watched && !may_stop && retry.is_none() && limits.is_empty()
    }

    /// Drops its parts one by one, whatever their destructors do.
    pub(super) fn discard(self) -> Result<(), Panic> {
        let Settings { retry, journal, .. } = self;
        panic::discard(retry).and(panic::discard(journal))
    }
}

/// The types of a batch.
pub(crate) trait Kinds {
    type Item;
    type Value;
    type Error;
    /// Each worker has its own.
    type State;
}

pub(super) type Item<O> = <<O as Operation>::Kinds as Kinds>::Item;
type State<O> = <<O as Operation>::Kinds as Kinds>::State;
pub(super) type Value<O> = <<O as Operation>::Kinds as Kinds>::Value;
pub(super) type Failure<O> = <<O as Operation>::Kinds as Kinds>::Error;

/// The user's code: what runs for each item, and what each worker keeps for it.
///
/// The engine calls it through `dyn Operation`, a claim at a time, so that the compiler makes the engine once for the types of a batch
/// and not for each closure.
pub(crate) trait Operation: Sync {
    type Kinds: Kinds;

    /// Makes a worker's state. An error is that of the item at hand.
    fn state(&self) -> Result<State<Self>, Failure<Self>>;

    fn run(
        &self,
        item: &Item<Self>,
        context: &mut ItemContext<'_, State<Self>>,
    ) -> Result<Value<Self>, Failure<Self>>;

    /// An attempt with this state has ended. `counts` if its item is decided; otherwise it is tried again.
    fn ended(&self, _state: &State<Self>, _counts: bool) {}

    /// Decides items of the claim, up to the first without a value.
    fn decide_while(
        &self,
        slots: &SlotsOf<Self::Kinds>,
        claim: &mut Claim,
        state: &mut Option<State<Self>>,
        stretch: &Stretch<'_>,
    ) -> Option<Halt<Failure<Self>>> {
        let state = match made(state, self) {
            Ok(state) => state,
            Err(error) => return Some(Halt::Error(error)),
        };
        let Stretch { most, gate, worker, end, deadline, consumer } = *stretch;
        let op = |index, item: &Item<Self>| {
            self.run(item, &mut ItemContext { state, index, attempt: 1, worker, end, deadline })
        };
        match consumer {
            Some(dispatcher) => slots.decide_while::<true>(claim, most, gate, op, || dispatcher.signal()),
            None => slots.decide_while::<false>(claim, most, gate, op, || ()),
        }
    }

    /// Drops its parts one by one, whatever their destructors do.
    fn discard(self) -> Result<(), Panic>
    where
        Self: Sized;
}

/// How far a worker may go in a claim, and what the operation's context tells of it.
pub(crate) struct Stretch<'s> {
    /// How many items.
    pub(super) most: usize,
    /// Items from this index on have to be looked at first.
    pub(super) gate: &'s AtomicUsize,
    pub(super) worker: usize,
    pub(super) end: &'s AtomicUsize,
    pub(super) deadline: Option<Instant>,
    /// Of a stream, what tells its consumer that the item it waits for is ready.
    pub(super) consumer: Option<&'s Dispatcher>,
}

/// An operation and what makes its state, as closures.
pub(crate) struct Steps<F, N, I, T, E, S> {
    pub(crate) op: F,
    pub(crate) init: N,
    pub(crate) types: Types<I, T, E, S>,
}

/// Names the types of a batch and holds none of them.
pub(crate) type Types<I, T, E, S> = PhantomData<fn(&I, &mut S) -> Result<T, E>>;

impl<I, T, E, S> Kinds for Types<I, T, E, S> {
    type Item = I;
    type Value = T;
    type Error = E;
    type State = S;
}

impl<F, N, I, T, E, S> Operation for Steps<F, N, I, T, E, S>
where
    F: Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
    N: Fn() -> Result<S, E> + Sync,
{
    type Kinds = Types<I, T, E, S>;

    fn state(&self) -> Result<S, E> {
        (self.init)()
    }

    #[inline]
    fn run(&self, item: &I, context: &mut ItemContext<'_, S>) -> Result<T, E> {
        (self.op)(item, context)
    }

    fn discard(self) -> Result<(), Panic> {
        let Steps { op, init, .. } = self;
        panic::discard(op).and(panic::discard(init))
    }
}

/// The user's state, made now if it is not there yet.
#[inline]
pub(super) fn made<'s, O: Operation + ?Sized>(
    state: &'s mut Option<State<O>>,
    operation: &O,
) -> Result<&'s mut State<O>, Failure<O>> {
    match state {
        Some(state) => Ok(state),
        None => Ok(state.insert(operation.state()?)),
    }
}

/// What is kept of an item that failed and is tried again.
pub(super) struct Past<'a, E> {
    /// How often it has been tried.
    pub(super) attempts: usize,
    /// When it is to be tried again.
    pub(super) due: Option<Instant>,
    /// What the last attempt came to.
    pub(super) error: Option<E>,
    pub(super) delays: Option<Box<dyn Iterator<Item = Duration> + Send + 'a>>,
    /// If it was refused for the sake of all.
    pub(super) refusal: Option<Refusal>,
    /// Whether it waits for a pause of all.
    pub(super) is_held: bool,
}

impl<E> Default for Past<'_, E> {
    fn default() -> Self {
        Past { attempts: 0, due: None, error: None, delays: None, refusal: None, is_held: false }
    }
}
