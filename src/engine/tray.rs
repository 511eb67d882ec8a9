//! Items that somebody has pulled out of a source and is still pulling: there to be taken by others, should the source keep it
//! waiting.

use std::mem;

use crate::sync::Mutex;

use super::chunk::Chunk;
use super::outlet::{Outlet, Parcel};

pub(super) struct Tray<'a, I, T, E> {
    outlet: &'a Outlet<'a, I, T, E>,
    state: Mutex<State<I>>,
}

struct State<I> {
    items: Vec<I>,
    /// The index of the first of them.
    start: usize,
    /// Whether somebody else has come for them.
    is_relieved: bool,
}

/// Who takes what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// Who has pulled it, and is done.
    Puller,
    /// Somebody else. Who pulls is to be done with its next item, which may be the first.
    Other,
}

impl<'a, I, T, E> Tray<'a, I, T, E> {
    pub(super) fn new(outlet: &'a Outlet<'a, I, T, E>) -> Self {
        Tray { outlet, state: Mutex::new(State { items: Vec::new(), start: 0, is_relieved: false }) }
    }

    /// One item more; whether whoever pulls may go on.
    pub(super) fn put(&self, item: I) -> bool {
        let mut state = self.state.lock();
        state.items.push(item);
        !state.is_relieved
    }

    /// Takes all of them. `buffer` is lent for them.
    pub(super) fn take<'b>(&self, taker: Taker, buffer: &'b mut Vec<I>) -> Chunk<'b, Parcel<'a, I, T, E>> {
        buffer.clear();
        let mut state = self.state.lock();
        state.is_relieved = taker == Taker::Other;
        mem::swap(&mut state.items, buffer);
        let start = state.start;
        state.start += buffer.len();
        drop(state);
        let parcel = Parcel::new(self.outlet, start, buffer.len());
        Chunk::of(start, buffer, parcel)
    }
}

#[cfg(test)]
mod tests {
    use super::super::outlet::Order;
    use super::super::stop::{OnFailure, Stop};
    use super::*;

    fn with_tray(test: impl FnOnce(&Tray<'_, char, (), ()>)) {
        let stop = Stop::new(OnFailure::GoOn, None, None);
        test(&Tray::new(&Outlet::new(Order::Input, 9, &stop)));
    }

    #[test]
    fn items_are_taken_in_order_and_keep_their_indices() {
        with_tray(|tray| {
            let mut buffer = Vec::new();
            assert!(tray.put('a') && tray.put('b'));
            let chunk = tray.take(Taker::Puller, &mut buffer);
            assert_eq!((chunk.next(), chunk.len()), (0, 2));
            drop(chunk);
            tray.put('c');
            assert_eq!(tray.take(Taker::Puller, &mut buffer).next(), 2);
            assert_eq!(tray.take(Taker::Puller, &mut buffer).len(), 0);
        });
    }

    #[test]
    fn who_is_relieved_is_done_with_its_next_item_even_if_that_is_its_first() {
        with_tray(|tray| {
            let mut buffer = Vec::new();
            assert_eq!(tray.take(Taker::Other, &mut buffer).len(), 0);
            assert!(!tray.put('a'));
            assert_eq!(tray.take(Taker::Puller, &mut buffer).len(), 1);
            assert!(tray.put('b'), "the next one may go on");
        });
    }
}
