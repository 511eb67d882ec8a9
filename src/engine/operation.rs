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
use crate::timeline::recorder::NameOf;
use crate::workers::Workers;

use super::Engine;
use super::report::{OnProgress, Tick};
use super::results::Flow;
use super::schedule::{OnFailure, Refusal};
use crate::slots::Order;

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
        panic::catch(|| drop(retry)).and(panic::catch(|| drop(journal)))
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

/// The user's code: what runs for each item, and what each worker keeps for it.
pub(crate) trait Operation: Kinds<Item: Send, Value: Send, Error: Send> + Sync {
    /// Makes a worker's state. An error is that of the item at hand.
    fn state(&self) -> Result<Self::State, Self::Error>;

    fn run(
        &self,
        item: &Self::Item,
        context: &mut ItemContext<'_, Self::State>,
    ) -> Result<Self::Value, Self::Error>;

    /// An attempt with this state has ended. `counts` if its item is decided; otherwise it is tried again.
    #[inline]
    fn ended(&self, _state: &Self::State, _counts: bool) {}

    /// Drops its parts one by one, whatever their destructors do.
    fn discard(self) -> Result<(), Panic>;
}

/// An operation and what makes its state, as closures.
pub(crate) struct Steps<F, N, I, T, E, S> {
    pub(crate) op: F,
    pub(crate) init: N,
    pub(crate) types: Types<I, T, E, S>,
}

/// Names the types of a batch and holds none of them.
pub(crate) type Types<I, T, E, S> = PhantomData<fn(&I, &mut S) -> Result<T, E>>;

impl<F, N, I, T, E, S> Kinds for Steps<F, N, I, T, E, S> {
    type Item = I;
    type Value = T;
    type Error = E;
    type State = S;
}

impl<F, N, I, T, E, S> Operation for Steps<F, N, I, T, E, S>
where
    I: Send,
    T: Send,
    E: Send,
    F: Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
    N: Fn() -> Result<S, E> + Sync,
{
    fn state(&self) -> Result<S, E> {
        (self.init)()
    }

    #[inline]
    fn run(&self, item: &I, context: &mut ItemContext<'_, S>) -> Result<T, E> {
        (self.op)(item, context)
    }

    fn discard(self) -> Result<(), Panic> {
        let Steps { op, init, .. } = self;
        panic::catch(|| drop(op)).and(panic::catch(|| drop(init)))
    }
}

/// The user's state, made now if it is not there yet.
#[inline]
pub(super) fn made<'s, O: Operation>(
    state: &'s mut Option<O::State>,
    operation: &O,
) -> Result<&'s mut O::State, O::Error> {
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
