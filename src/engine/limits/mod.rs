//! Limits that see the item: what it needs of each, and which items may start. Items that wait for a limit hold no worker.

mod admission;
mod meter;
mod turnstile;

use crate::limit::Limit;
use crate::listeners::Listener;
use crate::slots::Claim;
use crate::sync::{Instant, Mutex, MutexGuard};

use meter::Demand;
pub(super) use turnstile::{Changes, Permit, Turnstile};

use super::schedule::Waiting;

/// The order in which items start, as far as they wait for each other. Fresh items are numbered as they come, from 0; an item that is
/// tried again comes after a fresh one, by the number of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    number: u64,
    /// 0 for a fresh item. Items that are tried again have numbers from 1, as they come.
    retry: u64,
}

/// The limits of a batch, and who waits for them.
pub(super) struct Limits<'a, I> {
    all: Vec<Limit<'a, I>>,
    /// The meters of the limits that every item needs: while items wait there, no other needs to be claimed.
    for_all: Vec<usize>,
    turnstile: Mutex<Turnstile<'a>>,
}

impl<'a, I> Limits<'a, I> {
    pub(super) fn new(
        limits: Vec<Limit<'a, I>>,
        began: Instant,
        most_reserved: usize,
        listener: Option<Listener>,
    ) -> Self {
        let mut turnstile = Turnstile::new(began, most_reserved, listener);
        let for_all = limits.iter().filter(|limit| limit.is_for_all());
        let for_all = for_all.map(|limit| limit.meter(&mut turnstile)).collect();
        Limits { all: limits, for_all, turnstile: Mutex::new(turnstile) }
    }

    /// Where one item passes at a time.
    fn lock(&self) -> MutexGuard<'_, Turnstile<'a>> {
        self.turnstile.lock()
    }

    pub(super) fn waiting(&self, turnstile: &Turnstile<'a>) -> Waiting {
        Waiting {
            parked: turnstile.parked(),
            below: turnstile.stopped_at(),
            is_ready: turnstile.is_ready(),
            due: turnstile.due(),
            is_closed: self.for_all.iter().any(|meter| turnstile.has_fresh(*meter)),
        }
    }

    /// When no worker is left: the items that still wait.
    pub(super) fn end(&self) -> Vec<Claim> {
        let mut turnstile = self.lock();
        let all = turnstile.parked_where(|_| true);
        turnstile.remove_all(all)
    }

    /// What the item needs. Asks the user's functions, which may panic.
    fn demands(&self, item: &I, turnstile: &mut Turnstile<'a>) -> Vec<Demand> {
        let mut demands = Vec::with_capacity(self.all.len());
        for limit in &self.all {
            limit.demands(item, 1, turnstile, &mut |meter, cost| demands.push(Demand::new(meter, cost)));
        }
        demands
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
