//! Items that no worker has claimed yet: all of them at first, or as they are pulled.

use std::collections::VecDeque;
use std::mem;

use crate::slots::Claim;

#[derive(Debug)]
pub(super) struct Fresh {
    /// What comes first, and what follows.
    first: Option<Claim>,
    queue: VecDeque<Claim>,
    /// How many items are in the queue.
    queued: usize,
    /// The index of the next item that no worker has claimed.
    next: usize,
    input: Input,
}

/// Where more items come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// One of the workers may pull.
    Idle,
    /// A worker pulls, and may pull this many items more.
    Lent(usize),
    /// There are no more.
    Ended,
}

impl Fresh {
    /// All items of a batch.
    pub(super) fn all(claim: Claim) -> Self {
        Fresh {
            queued: claim.len(),
            first: Some(claim),
            queue: VecDeque::new(),
            next: 0,
            input: Input::Ended,
        }
    }

    /// Those of a stream, of which none is there yet.
    pub(super) fn pulled() -> Self {
        Fresh { first: None, queue: VecDeque::new(), queued: 0, next: 0, input: Input::Idle }
    }

    /// How many items there have been so far, and whether there are no more.
    pub(super) fn known(&self) -> (usize, bool) {
        (self.next + self.queued, self.input == Input::Ended)
    }

    pub(super) fn next(&self) -> usize {
        self.next
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether there is something to claim now, below the stop line.
    pub(super) fn has_some(&self, stop_at: usize) -> bool {
        self.queued > 0 && self.next < stop_at
    }

    /// Whether there is or may be something to claim, below the stop line. What may be pulled now counts as pulled.
    pub(super) fn is_open(&self, stop_at: usize) -> bool {
        let pulls = match self.input {
            Input::Idle => self.next + self.queued < stop_at,
            Input::Lent(more) => self.next + self.queued + more < stop_at,
            Input::Ended => false,
        };
        pulls || self.has_some(stop_at)
    }

    /// Claims the next items, about `most`: never none, and fewer where they are no neighbours.
    pub(super) fn claim(&mut self, most: usize, stop_at: usize) -> Option<Claim> {
        let first = self.first.as_mut().filter(|_| self.next < stop_at)?;
        let claim = first.split_first(most.max(1));
        if first.len() == 0 {
            self.first = self.queue.pop_front();
        }
        (self.queued, self.next) = (self.queued - claim.len(), self.next + claim.len());
        (claim.len() > 0).then_some(claim)
    }

    pub(super) fn can_lend(&self, stop_at: usize) -> bool {
        self.input == Input::Idle && self.next + self.queued < stop_at
    }

    pub(super) fn lend(&mut self, most: usize) {
        self.input = Input::Lent(most);
    }

    /// The worker that pulls has put one more item into a slot.
    pub(super) fn add(&mut self, claim: Claim) {
        self.queued += claim.len();
        if let Input::Lent(more) = &mut self.input {
            *more -= claim.len();
        }
        let apart = match self.queue.back_mut().or(self.first.as_mut()) {
            Some(last) => last.join(claim).err(),
            None => self.first.replace(claim),
        };
        self.queue.extend(apart);
    }

    /// The caller has pulled and run items by itself, up to this index.
    pub(super) fn skip_to(&mut self, next: usize) {
        self.next = next;
    }

    pub(super) fn take_back(&mut self, has_ended: bool) {
        self.input = if has_ended { Input::Ended } else { Input::Idle };
    }

    /// These items do not start any more.
    pub(super) fn stop_where(&mut self, is_stopped: impl Fn(usize) -> bool) -> Vec<Claim> {
        let mut stopped = Vec::new();
        self.queued = 0;
        for mut claim in self.left() {
            while claim.len() > 0 {
                let item = claim.split_first(1);
                if is_stopped(item.index()) { stopped.push(item) } else { self.add(item) }
            }
        }
        stopped
    }

    /// When no worker is left.
    pub(super) fn left(&mut self) -> impl Iterator<Item = Claim> + use<> {
        self.first.take().into_iter().chain(mem::take(&mut self.queue))
    }
}
