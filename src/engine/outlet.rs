//! Outcomes of a stream on their way to the consumer, in input order or as they come.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::mem;

use crate::error::ItemError;
use crate::result::BatchItem;
use crate::sync::Mutex;

use super::chunk::Places;
use super::stop::Stop;

/// In which order a stream hands its outcomes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Input,
    Completion,
}

type Items<I, T, E> = Vec<BatchItem<I, T, E>>;

pub(super) struct Outlet<'a, I, T, E> {
    order: Order,
    /// The most outcomes that spare vectors may have room for.
    most_spare: usize,
    stop: &'a Stop,
    state: Mutex<State<I, T, E>>,
}

struct State<I, T, E> {
    /// The one with the lowest place is on top.
    arrived: BinaryHeap<Segment<I, T, E>>,
    arrivals: usize,
    /// The place of what is handed on next.
    next: usize,
    /// Items that never started, and outcomes behind the end. They are the caller's to drop.
    unwanted: (Vec<I>, Items<I, T, E>),
    /// The lowest index of an item that never started.
    unstarted: usize,
    /// Vectors that the consumer has emptied, so that not every one that it frees was allocated on another thread: that
    /// took longer than all the rest of handing a few outcomes on.
    spares: Vec<Items<I, T, E>>,
    /// How many outcomes they have room for.
    spare: usize,
}

/// Outcomes of neighbours.
struct Segment<I, T, E> {
    /// In input order, the index of the first; otherwise, the number of segments that came before.
    place: usize,
    items: Items<I, T, E>,
}

impl<'a, I, T, E> Outlet<'a, I, T, E> {
    pub(super) fn new(order: Order, most_spare: usize, stop: &'a Stop) -> Self {
        let (arrived, unwanted) = (BinaryHeap::new(), (Vec::new(), Vec::new()));
        let (arrivals, next, unstarted, spares, spare) = (0, 0, usize::MAX, Vec::new(), 0);
        let state = State { arrived, arrivals, next, unwanted, unstarted, spares, spare };
        Outlet { order, most_spare, stop, state: Mutex::new(state) }
    }

    /// A vector for so many outcomes.
    fn vector(&self, size: usize) -> Items<I, T, E> {
        let mut state = self.state.lock();
        let mut items = state.spares.pop().unwrap_or_default();
        state.spare -= items.capacity();
        drop(state);
        items.reserve_exact(size);
        items
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Outcomes of items from the index `start` on. The consumer is told if it can go on with them.
    fn deliver(&self, start: usize, items: Items<I, T, E>) {
        let mut state = self.state.lock();
        let place = if self.order == Order::Input { start } else { state.arrivals };
        state.arrivals += 1;
        let is_next = place == state.next;
        state.arrived.push(Segment { place, items });
        drop(state);
        if is_next {
            self.stop.ring();
        }
    }

    /// Items from the index `start` on, which will never start.
    fn give_up(&self, start: usize, items: impl Iterator<Item = I>) {
        let mut state = self.state.lock();
        state.unwanted.0.extend(items);
        state.unstarted = state.unstarted.min(start);
    }

    /// When nobody works any more: whether there is an item before `end` that was pulled and never started.
    pub(super) fn has_skipped(&self, end: usize) -> bool {
        self.state.lock().unstarted < end
    }

    /// Takes a vector back that is empty.
    pub(super) fn recycle(&self, items: Items<I, T, E>) {
        let mut state = self.state.lock();
        if state.spare + items.capacity() <= self.most_spare {
            state.spare += items.capacity();
            state.spares.push(items);
        }
    }

    /// The outcomes that are next, if they are there. In input order, what lies behind `end` is not handed on.
    pub(super) fn take(&self, end: usize) -> Option<Items<I, T, E>> {
        let mut state = self.state.lock();
        let is_there = state.arrived.peek().is_some_and(|segment| segment.place == state.next);
        if !is_there || self.is_over(&state, end) {
            return None;
        }
        let Segment { place, mut items } = state.arrived.pop()?;
        if self.order == Order::Input {
            let beyond = items.split_off(items.len().min(end - place));
            state.unwanted.1.extend(beyond);
            state.next += items.len();
        } else {
            state.next += 1;
        }
        Some(items)
    }

    /// Whether everything before `end` has been handed on.
    pub(super) fn has_reached(&self, end: usize) -> bool {
        self.is_over(&self.state.lock(), end)
    }

    fn is_over(&self, state: &State<I, T, E>, end: usize) -> bool {
        self.order == Order::Input && state.next >= end
    }

    /// When nobody works any more: the items and outcomes that are not handed on.
    pub(super) fn left(&self) -> (Vec<I>, Items<I, T, E>) {
        let mut state = self.state.lock();
        let (unstarted, mut outcomes) = mem::take(&mut state.unwanted);
        outcomes.extend(mem::take(&mut state.arrived).into_iter().flat_map(|segment| segment.items));
        (unstarted, outcomes)
    }
}

/// Outcomes that one worker gathers, and delivers when it lets go of them.
pub(super) struct Parcel<'a, I, T, E> {
    /// The index of the first.
    start: usize,
    outcomes: Items<I, T, E>,
    /// How many are still to come.
    left: usize,
    outlet: Option<&'a Outlet<'a, I, T, E>>,
}

impl<'a, I, T, E> Parcel<'a, I, T, E> {
    pub(super) fn new(outlet: &'a Outlet<'a, I, T, E>, start: usize, size: usize) -> Self {
        Parcel { start, outcomes: outlet.vector(size), left: size, outlet: Some(outlet) }
    }

    fn deliver(&mut self) {
        let outcomes = mem::take(&mut self.outcomes);
        if let Some(outlet) = self.outlet.filter(|_| !outcomes.is_empty()) {
            let start = self.start;
            self.start += outcomes.len();
            outlet.deliver(start, outcomes);
        }
    }
}

impl<I, T, E> Places for Parcel<'_, I, T, E> {
    type Item = I;
    type Value = T;
    type Error = E;

    fn left(&self) -> usize {
        self.left
    }

    #[inline]
    fn put(&mut self, id: I, outcome: Result<T, ItemError<E>>) {
        self.outcomes.push(BatchItem { id, outcome });
        self.left -= 1;
    }

    fn split_first(&mut self) -> Self {
        self.deliver();
        let first = Parcel { start: self.start, outcomes: Vec::new(), left: 1, outlet: self.outlet };
        self.start += 1;
        self.left -= 1;
        first
    }

    fn give_up(&mut self, items: impl Iterator<Item = I>) {
        if let Some(outlet) = self.outlet.filter(|_| self.left > 0) {
            outlet.give_up(self.start + self.outcomes.len(), items);
        }
        self.left = 0;
    }
}

impl<I, T, E> Default for Parcel<'_, I, T, E> {
    fn default() -> Self {
        Parcel { start: 0, outcomes: Vec::new(), left: 0, outlet: None }
    }
}

impl<I, T, E> Drop for Parcel<'_, I, T, E> {
    fn drop(&mut self) {
        self.deliver();
    }
}

/// The one with the lowest place is the greatest.
impl<I, T, E> Ord for Segment<I, T, E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.place.cmp(&self.place)
    }
}

impl<I, T, E> PartialOrd for Segment<I, T, E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I, T, E> PartialEq for Segment<I, T, E> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl<I, T, E> Eq for Segment<I, T, E> {}
