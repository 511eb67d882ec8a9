//! Items that one worker has taken, on their way to their outcomes.

use std::mem;

use crate::error::ItemError;

/// Where the outcomes of some items go, one after another in the order of the items. The default has no place.
pub(super) trait Places: Default {
    type Item;
    type Value;
    type Error;

    /// How many are left.
    fn left(&self) -> usize;

    /// Fills the next one.
    fn put(&mut self, id: Self::Item, outcome: Result<Self::Value, ItemError<Self::Error>>);

    /// Takes the next one out, to be filled later.
    fn split_first(&mut self) -> Self;

    /// Moves into local variables what `put` changes. What gets it back is only [`take_back`](Places::take_back).
    #[inline]
    fn lend(&mut self) -> Self {
        mem::take(self)
    }

    #[inline]
    fn take_back(&mut self, lent: Self) {
        *self = lent;
    }

    /// The items of all that are left, which never started.
    fn give_up(&mut self, items: impl Iterator<Item = Self::Item>);
}

pub(super) type ErrorOf<P> = ItemError<<P as Places>::Error>;
type OutcomeOf<P> = Result<<P as Places>::Value, ErrorOf<P>>;

/// What an item came to instead of a value.
#[derive(Debug)]
pub(super) enum NoValue<E> {
    Error(ItemError<E>),
    /// It may not start: the batch has stopped below it.
    Stopped,
}

/// Items that one worker has taken. Letting go of it gives those up that are left.
pub(super) struct Chunk<'b, P: Places> {
    /// The index of the first item that is left.
    next: usize,
    /// The items that are left, the first of them last.
    items: &'b mut Vec<P::Item>,
    places: P,
}

impl<'b, P: Places> Chunk<'b, P> {
    /// These items, the first of which has the index `start`, with as many places. The vector is lent, and empty again when the
    /// chunk is let go of.
    pub(super) fn of(start: usize, items: &'b mut Vec<P::Item>, places: P) -> Self {
        items.reverse();
        Chunk { next: start, items, places }
    }
}

impl<P: Places> Chunk<'_, P> {
    /// How many items are left.
    pub(super) fn len(&self) -> usize {
        self.places.left()
    }

    /// The index of the first item that is left.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// The first item that is left.
    pub(super) fn first(&self) -> Option<&P::Item> {
        self.items.last()
    }

    /// Takes the first item that is left out of the chunk, undecided.
    pub(super) fn hold(&mut self) -> Option<Held<P>> {
        let item = self.items.pop()?;
        let (index, places) = (self.next, self.places.split_first());
        self.next += 1;
        Some(Held { index, item: Some(item), places })
    }

    /// Decides up to `most` items by what `op` makes of index and item, each after `admit` has let it start, for as long
    /// as there are values; what there was instead, if there was. The item without a value, be it that `op` unwound,
    /// is the first that is left.
    ///
    /// The value goes from `op` to its place with no variable in memory in between: stored in parts and read as a whole,
    /// it would take longer than all the rest (4.6 ns for a no-op instead of 1.1).
    #[inline]
    pub(super) fn decide_while(
        &mut self,
        most: usize,
        mut admit: impl FnMut(usize) -> Result<(), NoValue<P::Error>>,
        mut op: impl FnMut(usize, &P::Item) -> Result<P::Value, P::Error>,
    ) -> Option<NoValue<P::Error>> {
        let end = self.next + most;
        let mut lent = Lent::new(self);
        while lent.next < end {
            let item = lent.items.last()?;
            if let Err(instead) = admit(lent.next) {
                return Some(instead);
            }
            match op(lent.next, item) {
                Ok(value) => lent.put(Ok(value)),
                Err(error) => return Some(NoValue::Error(ItemError::Failed(error))),
            }
        }
        None
    }

    /// Decides the first item that is left; its index.
    pub(super) fn settle(&mut self, outcome: OutcomeOf<P>) -> usize {
        let index = self.next;
        Lent::new(self).put(outcome);
        index
    }
}

impl<P: Places> Drop for Chunk<'_, P> {
    fn drop(&mut self) {
        self.places.give_up(self.items.drain(..).rev());
    }
}

/// An item that was taken out of its chunk, with its place. Letting go of it gives it up, too.
pub(super) struct Held<P: Places> {
    index: usize,
    item: Option<P::Item>,
    places: P,
}

impl<P: Places> Held<P> {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// A chunk of this one item; `buffer` is lent for it.
    pub(super) fn into_chunk(mut self, buffer: &mut Vec<P::Item>) -> Chunk<'_, P> {
        buffer.clear();
        buffer.extend(self.item.take());
        Chunk::of(self.index, buffer, mem::take(&mut self.places))
    }
}

impl<P: Places> Drop for Held<P> {
    fn drop(&mut self) {
        self.places.give_up(self.item.take().into_iter());
    }
}

/// A chunk's state in local variables, which live in registers, and back in the chunk when this goes, also by unwinding.
/// In the chunk each item would wait for the one before it to be stored: 10,000 no-ops took a fifth longer.
struct Lent<'c, 'b, P: Places> {
    next: usize,
    items: Vec<P::Item>,
    places: P,
    owner: &'c mut Chunk<'b, P>,
}

impl<'c, 'b, P: Places> Lent<'c, 'b, P> {
    #[inline]
    fn new(owner: &'c mut Chunk<'b, P>) -> Self {
        let (items, places) = (mem::take(owner.items), owner.places.lend());
        Lent { next: owner.next, items, places, owner }
    }

    #[inline]
    fn put(&mut self, outcome: OutcomeOf<P>) {
        if let Some(id) = self.items.pop() {
            self.places.put(id, outcome);
            self.next += 1;
        } else {
            // There is an item. Were the outcome dropped here, it would have to be in memory before.
            mem::forget(outcome);
        }
    }
}

impl<P: Places> Drop for Lent<'_, '_, P> {
    #[inline]
    fn drop(&mut self) {
        self.owner.next = self.next;
        mem::swap(self.owner.items, &mut self.items);
        self.owner.places.take_back(mem::take(&mut self.places));
    }
}
