//! How many items of a stream may be under way: pulled out of the input, and not yet handed on to the consumer.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Set while somebody waits for room.
const WANTED: usize = 1;

/// One item that was handed on.
const ONE: usize = 2;

/// The greatest count, of which the lowest bit is taken by `WANTED`.
const MOST: usize = usize::MAX / ONE;

pub(super) struct Window {
    size: usize,
    /// How many items were handed on, and whether somebody waits for room, in one word: so that nobody can miss the one
    /// while it looks at the other.
    gate: AtomicUsize,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        Window { size: size.min(MOST), gate: AtomicUsize::new(0) }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many more items may be pulled, after so many.
    pub(super) fn room(&self, pulled: usize) -> usize {
        self.left(pulled, self.gate.load(Ordering::Acquire))
    }

    /// The same. If there is none, whoever hands the next item on is told that somebody waits for it.
    pub(super) fn room_or_ask(&self, pulled: usize) -> usize {
        match self.room(pulled) {
            0 => self.left(pulled, self.gate.fetch_or(WANTED, Ordering::AcqRel)),
            room => room,
        }
    }

    /// One more item was handed on; whether somebody waits for that.
    #[inline]
    pub(super) fn hand_on(&self) -> bool {
        let is_wanted = self.gate.fetch_add(ONE, Ordering::AcqRel) & WANTED != 0;
        if is_wanted {
            self.gate.fetch_and(!WANTED, Ordering::AcqRel);
        }
        is_wanted
    }

    fn left(&self, pulled: usize, gate: usize) -> usize {
        self.size.saturating_sub(pulled.wrapping_sub(gate / ONE) & MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_items_are_under_way_than_the_window_holds() {
        let window = Window::new(2);
        assert_eq!([0, 1, 2, 3].map(|pulled| window.room(pulled)), [2, 1, 0, 0]);
        window.hand_on();
        assert_eq!([1, 2, 3].map(|pulled| window.room(pulled)), [2, 1, 0]);
    }

    #[test]
    fn who_waits_for_room_is_told_of_it_once() {
        let window = Window::new(1);
        assert_eq!(window.room_or_ask(0), 1);
        assert!(!window.hand_on(), "nobody waits");
        assert_eq!(window.room_or_ask(2), 0);
        assert!(window.hand_on(), "somebody does");
        assert_eq!(window.room_or_ask(2), 1);
        assert!(!window.hand_on(), "and has been told");
    }

    #[test]
    fn a_window_without_end_has_always_room() {
        assert!(Window::new(usize::MAX).room(usize::MAX / 2 - 1) > 0);
    }

    #[test]
    fn a_count_that_is_used_up_begins_again() {
        let window = Window { size: 3, gate: AtomicUsize::new(usize::MAX - WANTED) };
        assert_eq!([MOST + 2, MOST + 3].map(|pulled| window.room(pulled)), [1, 0]);
        window.hand_on();
        assert_eq!(window.room(MOST + 3), 1);
    }
}
