//! The items of a batch, and the places for them and their outcomes.
//!
//! The places are the spare capacity of the vector that becomes the result. Each is written once, when its item is decided,
//! by the worker that took it: so outcomes are in input order by construction, no place has two owners, and a million
//! items are not written twice, which cost a million no-ops a quarter more. What a worker takes and does not
//! decide is written as `Skipped` when the worker lets go of it.

use std::collections::TryReserveError;
use std::convert::Infallible;
use std::mem::{self, MaybeUninit};
use std::slice;
use std::vec;

use crate::error::ItemError;
use crate::result::BatchItem;
use crate::sync::atomic::{AtomicUsize, Ordering};

use super::chunk::{Chunk, Places};
use super::supply::{Handout, LARGEST_CHUNK, Pulled, Supply};

type Place<I, T, E> = MaybeUninit<BatchItem<I, T, E>>;

/// All items, and room for them with their outcomes.
pub(super) struct Slots<I, T, E> {
    items: vec::IntoIter<I>,
    total: usize,
    decided: Vec<BatchItem<I, T, E>>,
    /// Places that were written, counted when whoever had them lets go of them.
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
        // SAFETY: `Rest` hands the places out from the front, each item with its place, so those below `taken` were handed
        // out. `InPlace` reaches each of its places once, counts those that were written, none that it has split off, and
        // nothing at all while they are lent. So no place is counted twice: as many as were taken are filled, hence all of
        // them. The loop above has written the others.
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

impl<I, T, E> Rest<'_, I, T, E> {
    fn len(&self) -> usize {
        self.places.len()
    }
}

impl<'a, I, T, E> Rest<'a, I, T, E> {
    /// Takes about `size` items off the front.
    fn take<'b>(&mut self, size: usize, buffer: &'b mut Vec<I>) -> Chunk<'b, InPlace<'a, I, T, E>> {
        let size = size.min(self.places.len()).min(LARGEST_CHUNK);
        let (places, rest) = mem::take(&mut self.places).split_at_mut(size);
        self.places = rest;
        let start = self.next;
        self.next += size;
        buffer.clear();
        buffer.extend(self.items.by_ref().take(size));
        Chunk::of(start, buffer, InPlace::new(places, self.filled))
    }
}

impl<'a, I, T, E> Supply for Rest<'a, I, T, E> {
    type Places = InPlace<'a, I, T, E>;
    type Source = Infallible;
    type Tray = Infallible;

    const IS_STREAM: bool = false;

    fn next(&self) -> usize {
        self.next
    }

    fn known(&self) -> (usize, bool) {
        (self.next + self.len(), true)
    }

    fn is_open(&self, end: usize) -> bool {
        self.len() > 0 && self.next < end
    }

    fn queued(&self) -> usize {
        self.len()
    }

    fn shared(&self) -> usize {
        self.len()
    }

    fn hand_out<'b>(&mut self, size: usize, buffer: &'b mut Vec<I>) -> Handout<'b, Self> {
        Handout::Items(self.take(size, buffer))
    }

    fn is_lent(&self) -> bool {
        false
    }

    fn is_lent_for_many(&self) -> bool {
        false
    }

    fn relieve(&mut self) -> Option<Infallible> {
        None
    }

    fn has_room_or_asks(&self) -> bool {
        true
    }

    fn give_back(&mut self, source: Infallible, _: Pulled) {
        match source {}
    }

    fn pull(source: &mut Infallible) -> Option<bool> {
        match *source {}
    }

    fn pulled<'b>(source: &Infallible, _: &'b mut Vec<I>) -> Chunk<'b, Self::Places> {
        match *source {}
    }

    fn take(tray: Infallible, _: &mut Vec<I>) -> Chunk<'_, Self::Places> {
        match tray {}
    }
}

/// Places in the vector that becomes the result.
pub(super) struct InPlace<'a, I, T, E> {
    places: slice::IterMut<'a, Place<I, T, E>>,
    /// How many of its places are, or will be, written here.
    size: usize,
    /// Whether its places are out of its sight; then it counts none.
    are_lent: bool,
    filled: Option<&'a AtomicUsize>,
}

impl<'a, I, T, E> InPlace<'a, I, T, E> {
    fn new(places: &'a mut [Place<I, T, E>], filled: &'a AtomicUsize) -> Self {
        InPlace { size: places.len(), places: places.iter_mut(), are_lent: false, filled: Some(filled) }
    }
}

impl<I, T, E> Places for InPlace<'_, I, T, E> {
    type Item = I;
    type Value = T;
    type Error = E;

    fn left(&self) -> usize {
        self.places.len()
    }

    #[inline]
    fn put(&mut self, id: I, outcome: Result<T, ItemError<E>>) {
        if let Some(place) = self.places.next() {
            place.write(BatchItem { id, outcome });
        } else {
            // There is a place for each item. Were they dropped here, they would have to be in memory before.
            mem::forget((id, outcome));
        }
    }

    /// Only the places, not what has to be counted when they are let go of.
    #[inline]
    fn lend(&mut self) -> Self {
        self.are_lent = true;
        InPlace { places: mem::take(&mut self.places), ..InPlace::default() }
    }

    #[inline]
    fn take_back(&mut self, mut lent: Self) {
        self.places = mem::take(&mut lent.places);
        self.are_lent = false;
    }

    fn split_first(&mut self) -> Self {
        let first = self.places.next().map(slice::from_mut).unwrap_or_default();
        self.size -= first.len();
        InPlace { size: first.len(), places: first.iter_mut(), are_lent: false, filled: self.filled }
    }

    fn give_up(&mut self, items: impl Iterator<Item = I>) {
        items.for_each(|item| self.put(item, Err(ItemError::Skipped)));
    }
}

impl<I, T, E> Default for InPlace<'_, I, T, E> {
    #[inline]
    fn default() -> Self {
        InPlace { places: slice::IterMut::default(), size: 0, are_lent: false, filled: None }
    }
}

impl<I, T, E> Drop for InPlace<'_, I, T, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(filled) = self.filled.filter(|_| !self.are_lent) {
            // Release: the places are read by whoever finds them counted.
            filled.fetch_add(self.size - self.places.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::NoValue;
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
        assert_eq!(chunk.settle(Err(error)), 1);
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
        chunk.settle(Err(ItemError::Panicked(ended.unwrap_err())));
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
