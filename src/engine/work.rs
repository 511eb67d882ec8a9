//! What a batch does with its items: the operation, the state that it works with, and what is done about errors.

use std::marker::PhantomData;
use std::time::Duration;

use crate::context::ItemContext;
use crate::keep::policy::Keep;
use crate::panic::{self, Panic};
use crate::retry::RetryPolicy;
use crate::retry::policy::Policy;
use crate::sync::Instant;

/// The types of a batch and what is done with them.
pub(crate) trait Work: Sync {
    type Item: Send;
    type Value: Send;
    type Error: Send;
    /// Each worker has its own.
    type State;
    type Retry: RetryPolicy<Self::Error>;
    type Keep: Keep<Self::Item, Self::Value, Self::Error>;

    fn state(&self) -> Self::State;

    fn run(
        &self,
        item: &Self::Item,
        context: &mut ItemContext<'_, Self::State>,
    ) -> Result<Self::Value, Self::Error>;

    fn retry(&self) -> &Self::Retry;

    fn keep(&self) -> &Self::Keep;

    /// Drops its parts one by one, whatever their destructors do.
    fn discard(self) -> Result<(), Panic>;
}

/// The delays of one item.
pub(super) type DelaysOf<W> = <<W as Work>::Retry as Policy<<W as Work>::Error>>::Each;

/// Whether an item may be tried again at all.
pub(super) const fn retries<W: Work>() -> bool {
    <W::Retry as Policy<W::Error>>::RETRIES
}

/// Whether outcomes are recorded, and those that are need no run.
pub(super) const fn keeps<W: Work>() -> bool {
    <W::Keep as Keep<W::Item, W::Value, W::Error>>::KEEPS
}

/// Makes what a worker keeps.
pub(crate) type Init<'a, S> = Box<dyn Fn() -> S + Sync + 'a>;

/// The steps that a user gives.
pub(crate) struct Steps<'a, I, T, E, S, R, K, F> {
    pub(crate) op: F,
    pub(crate) init: Init<'a, S>,
    pub(crate) retry: R,
    pub(crate) keep: K,
    pub(crate) types: Types<I, T, E>,
}

/// Names the types of a batch and holds none of them.
pub(crate) type Types<I, T, E> = PhantomData<fn(&I) -> Result<T, E>>;

impl<I, T, E, S, R, K, F> Work for Steps<'_, I, T, E, S, R, K, F>
where
    I: Send,
    T: Send,
    E: Send,
    R: RetryPolicy<E>,
    K: Keep<I, T, E>,
    F: Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
{
    type Item = I;
    type Value = T;
    type Error = E;
    type State = S;
    type Retry = R;
    type Keep = K;

    fn state(&self) -> S {
        (self.init)()
    }

    #[inline]
    fn run(&self, item: &I, context: &mut ItemContext<'_, S>) -> Result<T, E> {
        (self.op)(item, context)
    }

    fn retry(&self) -> &R {
        &self.retry
    }

    fn keep(&self) -> &K {
        &self.keep
    }

    fn discard(self) -> Result<(), Panic> {
        let Steps { op, init, retry, keep, .. } = self;
        let ended = panic::catch(|| drop(op));
        let ended = ended.and(panic::catch(|| drop(init)));
        let ended = ended.and(panic::catch(|| drop(retry)));
        ended.and(panic::catch(|| drop(keep)))
    }
}

/// What is kept of an item that failed and is tried again.
pub(super) struct Past<E, D> {
    /// How often it has been tried.
    pub(super) attempts: usize,
    /// When it is to be tried again.
    pub(super) due: Instant,
    /// What the last attempt came to.
    pub(super) error: E,
    pub(super) memory: Memory<D>,
}

impl<E, D> Past<E, D> {
    /// Drops its parts one by one, whatever their destructors do.
    pub(super) fn discard(self) -> Result<(), Panic> {
        let Past { error, memory, .. } = self;
        panic::catch(|| drop(error)).and(panic::catch(|| drop(memory)))
    }
}

/// Drops what is left of items that are not tried again.
pub(super) fn forget_each<E, D>(kept: Vec<Past<E, D>>) -> Result<(), Panic> {
    let mut ended = Ok(());
    for past in kept {
        ended = ended.and(past.discard());
    }
    ended
}

/// What is remembered of an item from one failure to the next.
pub(super) struct Memory<D> {
    delays: D,
    /// How many items had succeeded when it was last told that all should pause.
    paused_at: Option<usize>,
}

impl<D: Iterator<Item = Duration>> Memory<D> {
    pub(super) fn new(delays: D) -> Self {
        Memory { delays, paused_at: None }
    }

    /// Uses up the next delay.
    pub(super) fn next_delay(&mut self) -> Option<Duration> {
        self.delays.next()
    }

    /// Whether a pause, now that so many items have succeeded, is to use up a delay: where the batch got nowhere since this
    /// item's last pause.
    pub(super) fn pauses_in_vain(&mut self, succeeded: usize) -> bool {
        self.paused_at.replace(succeeded) == Some(succeeded)
    }
}
