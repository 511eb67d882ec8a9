//! The items of a batch, and the places for them and their outcomes.
//!
//! The places are the spare capacity of the vector that becomes the result. Each is written once, when its item is decided,
//! by the worker that took it: so outcomes are in input order by construction, no place has two owners, and a million
//! items are not written twice, which cost a million no-ops a quarter more. What a worker takes and does not
//! decide is written as `Skipped` when the worker lets go of it.

use std::collections::TryReserveError;
use std::mem::{self, MaybeUninit};
use std::slice;
use std::vec;

use crate::error::ItemError;
use crate::result::BatchItem;
use crate::sync::atomic::{AtomicUsize, Ordering};

type Place<I, T, E> = MaybeUninit<BatchItem<I, T, E>>;

/// The most items that are taken at a time. More saves nothing, and leaves a core's own cache.
const LARGEST_CHUNK: usize = 4096;

/// All items, and room for them with their outcomes.
pub(super) struct Slots<I, T, E> {
    items: vec::IntoIter<I>,
    total: usize,
    decided: Vec<BatchItem<I, T, E>>,
    /// Places that were written in chunks, counted when their chunk is let go of.
    filled: AtomicUsize,
}

impl<I, T, E> Slots<I, T, E> {
    pub(super) fn new(items: Vec<I>) -> Result<Self, TryReserveError> {
        let mut decided = Vec::new();
        decided.try_reserve_exact(items.len())?;
        Ok(Slots { total: items.len(), items: items.into_iter(), decided, filled: AtomicUsize::new(0) })
    }

    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// What nobody has taken yet: at first, everything.
    pub(super) fn rest(&mut self) -> Rest<'_, I, T, E> {
        let next = self.taken();
        let places = &mut self.decided.spare_capacity_mut()[next..self.total];
        Rest { items: &mut self.items, places, next, filled: &self.filled }
    }

    fn taken(&self) -> usize {
        self.total - self.items.len()
    }

    /// All items with their outcomes. Those that nobody took are skipped.
    pub(super) fn into_decided(mut self) -> Vec<BatchItem<I, T, E>> {
        let taken = self.taken();
        assert_eq!(self.filled.load(Ordering::Acquire), taken, "a chunk was never let go of");
        let left = &mut self.decided.spare_capacity_mut()[taken..];
        for (item, place) in self.items.by_ref().zip(left) {
            place.write(BatchItem::skipped(item));
        }
        // SAFETY: `Rest` hands the places out from the front, each item with its place, so those below `taken` were in
        // chunks. A chunk counts its places as filled only after it has written every one. A place that `hold` takes out
        // of a chunk is no longer among those it counts, and is in a chunk of its own before it is counted. So no place is
        // counted twice: as many as were taken are filled, hence all of them. The loop above has written the others.
        #[allow(unsafe_code)]
        unsafe {
            self.decided.set_len(self.total);
        }
        self.decided
    }
}

/// What nobody has taken yet.
pub(super) struct Rest<'a, I, T, E> {
    items: &'a mut vec::IntoIter<I>,
    places: &'a mut [Place<I, T, E>],
    next: usize,
    filled: &'a AtomicUsize,
}

impl<'a, I, T, E> Rest<'a, I, T, E> {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The index of the first of them in the batch.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Takes about `size` items off the front: not more, and fewer where there are no more, or that is many. `buffer` is
    /// lent for them, and empty again when the chunk is let go of.
    pub(super) fn take<'b>(&mut self, size: usize, buffer: &'b mut Vec<I>) -> Chunk<'b, 'a, I, T, E> {
        let size = size.min(self.places.len()).min(LARGEST_CHUNK);
        let (places, rest) = mem::take(&mut self.places).split_at_mut(size);
        self.places = rest;
        buffer.clear();
        buffer.extend(self.items.by_ref().take(size));
        buffer.reverse();
        let start = self.next;
        self.next += size;
        Chunk { next: start, size, items: buffer, places: places.iter_mut(), filled: self.filled }
    }
}

/// What an item came to instead of a value.
#[derive(Debug)]
pub(super) enum NoValue<E> {
    Error(ItemError<E>),
    /// It may not start: the batch has stopped below it.
    Stopped,
}

/// Items that one worker has taken. Letting go of it decides those that are left: they are skipped.
pub(super) struct Chunk<'b, 'a, I, T, E> {
    /// The index of the first item that is left.
    next: usize,
    size: usize,
    /// The items that are left, the first of them last.
    items: &'b mut Vec<I>,
    places: slice::IterMut<'a, Place<I, T, E>>,
    filled: &'a AtomicUsize,
}

impl<'a, I, T, E> Chunk<'_, 'a, I, T, E> {
    /// How many items are left.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The index of the first item that is left.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Takes the first item that is left out of the chunk, undecided.
    pub(super) fn hold(&mut self) -> Option<Held<'a, I, T, E>> {
        let (item, place) = (self.items.pop()?, self.places.next()?);
        let (index, filled) = (self.next, self.filled);
        self.next += 1;
        self.size -= 1;
        Some(Held { index, item: Some(item), place: slice::from_mut(place).iter_mut(), filled })
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
        mut admit: impl FnMut(usize) -> Result<(), NoValue<E>>,
        mut op: impl FnMut(usize, &I) -> Result<T, E>,
    ) -> Option<NoValue<E>> {
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
    pub(super) fn decide(&mut self, error: ItemError<E>) -> usize {
        let index = self.next;
        Lent::new(self).put(Err(error));
        index
    }
}

impl<I, T, E> Drop for Chunk<'_, '_, I, T, E> {
    fn drop(&mut self) {
        while self.len() > 0 {
            self.decide(ItemError::Skipped);
        }
        // Release: the places are read by whoever finds them counted.
        self.filled.fetch_add(self.size, Ordering::Release);
    }
}

/// An item that was taken out of its chunk, with its place. Letting go of it, too, decides that it is skipped.
pub(super) struct Held<'a, I, T, E> {
    index: usize,
    item: Option<I>,
    place: slice::IterMut<'a, Place<I, T, E>>,
    filled: &'a AtomicUsize,
}

impl<'a, I, T, E> Held<'a, I, T, E> {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// A chunk of this one item; `buffer` is lent for it.
    pub(super) fn into_chunk<'b>(mut self, buffer: &'b mut Vec<I>) -> Chunk<'b, 'a, I, T, E> {
        self.lend(buffer)
    }

    fn lend<'b>(&mut self, buffer: &'b mut Vec<I>) -> Chunk<'b, 'a, I, T, E> {
        buffer.clear();
        buffer.extend(self.item.take());
        let (size, places) = (buffer.len(), mem::take(&mut self.place));
        Chunk { next: self.index, size, items: buffer, places, filled: self.filled }
    }
}

impl<I, T, E> Drop for Held<'_, I, T, E> {
    fn drop(&mut self) {
        if self.item.is_some() {
            drop(self.lend(&mut Vec::new()));
        }
    }
}

/// A chunk's state in local variables, which live in registers, and back in the chunk when this goes, also by unwinding.
/// In the chunk each item would wait for the one before it to be stored: 10,000 no-ops took a fifth longer.
struct Lent<'c, 'b, 'a, I, T, E> {
    next: usize,
    items: Vec<I>,
    places: slice::IterMut<'a, Place<I, T, E>>,
    owner: &'c mut Chunk<'b, 'a, I, T, E>,
}

impl<'c, 'b, 'a, I, T, E> Lent<'c, 'b, 'a, I, T, E> {
    #[inline]
    fn new(owner: &'c mut Chunk<'b, 'a, I, T, E>) -> Self {
        let (items, places) = (mem::take(owner.items), mem::take(&mut owner.places));
        Lent { next: owner.next, items, places, owner }
    }

    #[inline]
    fn put(&mut self, outcome: Result<T, ItemError<E>>) {
        if let (Some(id), Some(place)) = (self.items.pop(), self.places.next()) {
            place.write(BatchItem { id, outcome });
            self.next += 1;
        } else {
            // There is a place for each item. Were the outcome dropped here, it would have to be in memory before.
            mem::forget(outcome);
        }
    }
}

impl<I, T, E> Drop for Lent<'_, '_, '_, I, T, E> {
    #[inline]
    fn drop(&mut self) {
        self.owner.next = self.next;
        *self.owner.items = mem::take(&mut self.items);
        self.owner.places = mem::take(&mut self.places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panic;

    fn slots(items: usize) -> Slots<usize, usize, String> {
        Slots::new((0..items).collect()).unwrap()
    }

    /// Outcomes as text: the value, the error, or a dash for skipped.
    fn told(slots: Slots<usize, usize, String>) -> Vec<String> {
        let items = slots.into_decided();
        assert!(items.iter().enumerate().all(|(index, item)| item.id == index));
        items
            .into_iter()
            .map(|item| match item.outcome {
                Ok(value) => value.to_string(),
                Err(ItemError::Skipped) => "-".to_owned(),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    /// Any item may start.
    #[allow(clippy::unnecessary_wraps, reason = "others may not")]
    fn free(_: usize) -> Result<(), NoValue<String>> {
        Ok(())
    }

    #[test]
    fn items_keep_their_places_whoever_takes_them() {
        let mut slots = slots(7);
        let mut rest = slots.rest();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut first = rest.take(2, &mut one);
        let mut second = rest.take(3, &mut two);
        assert_eq!((rest.len(), rest.next()), (2, 5));
        assert!(second.decide_while(9, free, |index, item| Ok(index + item)).is_none());
        assert!(first.decide_while(9, free, |_, item| Ok(item * 100)).is_none());
        drop((first, second));
        assert_eq!(told(slots), ["0", "100", "4", "6", "8", "-", "-"]);
    }

    #[test]
    fn an_item_without_a_value_is_the_first_that_is_left() {
        let mut slots = slots(4);
        let mut buffer = Vec::new();
        let mut chunk = slots.rest().take(4, &mut buffer);
        let even = |_, &item: &usize| if item % 2 == 0 { Ok(item) } else { Err(format!("{item} is odd")) };
        let Some(NoValue::Error(error)) = chunk.decide_while(9, free, even) else { panic!("1 is odd") };
        assert_eq!(chunk.decide(error), 1);
        let below_3 = |index| if index < 3 { Ok(()) } else { Err(NoValue::Stopped) };
        assert!(matches!(chunk.decide_while(9, below_3, even), Some(NoValue::Stopped)));
        assert_eq!(chunk.len(), 1);
        drop(chunk);
        assert_eq!(told(slots), ["0", "1 is odd", "2", "-"]);
    }

    #[test]
    fn no_more_items_are_decided_than_asked_for() {
        let mut slots = slots(3);
        let mut buffer = Vec::new();
        let mut chunk = slots.rest().take(3, &mut buffer);
        assert!(chunk.decide_while(2, free, |_, &item| Ok(item)).is_none());
        assert_eq!(chunk.len(), 1);
        drop(chunk);
        assert_eq!(told(slots), ["0", "1", "-"]);
    }

    #[test]
    fn unwinding_loses_neither_item_nor_place() {
        let mut slots = slots(3);
        let mut buffer = Vec::new();
        let mut chunk = slots.rest().take(3, &mut buffer);
        let op = |index, &item: &usize| if index == 1 { panic!("at 1") } else { Ok(item) };
        let ended = panic::catch(|| chunk.decide_while(9, free, op));
        chunk.decide(ItemError::Panicked(ended.unwrap_err()));
        drop(chunk);
        assert_eq!(told(slots), ["0", "panicked: at 1", "-"]);
    }

    #[test]
    fn an_item_that_is_held_is_decided_later_by_whoever_has_it() {
        let mut slots = slots(4);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut chunk = slots.rest().take(4, &mut one);
        let (held, lost) = (chunk.hold().unwrap(), chunk.hold().unwrap());
        assert!(chunk.decide_while(9, free, |_, &item| Ok(item * 10)).is_none());
        drop(chunk);
        assert_eq!(held.index(), 0);
        let mut again = held.into_chunk(&mut two);
        assert_eq!((again.len(), again.next()), (1, 0));
        assert!(again.decide_while(1, free, |_, _| Ok(7)).is_none());
        drop((again, lost));
        assert_eq!(told(slots), ["7", "-", "20", "30"]);
    }

    #[test]
    #[should_panic(expected = "never let go of")]
    fn a_chunk_that_is_forgotten_is_noticed() {
        let mut slots = slots(3);
        let mut buffer = Vec::new();
        mem::forget(slots.rest().take(2, &mut buffer));
        slots.into_decided();
    }

    #[test]
    fn nobody_takes_more_than_a_cache_holds() {
        let mut slots = slots(3 * LARGEST_CHUNK);
        let mut buffer = Vec::new();
        assert_eq!(slots.rest().take(usize::MAX, &mut buffer).len(), 4096);
    }

    #[test]
    fn nothing_is_taken_from_nothing() {
        let mut slots = slots(0);
        let mut buffer = Vec::new();
        assert_eq!(slots.rest().take(9, &mut buffer).len(), 0);
        assert!(slots.into_decided().is_empty());
    }
}
