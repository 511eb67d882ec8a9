//! The input of a stream: an iterator, out of which one worker at a time pulls.
//!
//! Whoever pulls has borrowed the iterator, so that nobody waits for it with a lock held, and puts each item where others
//! can take it before it asks for the next: the iterator may wait for something that comes of the items before.

use std::mem;

use super::chunk::Chunk;
use super::outlet::Parcel;
use super::supply::{Handout, ItemOf, LARGEST_CHUNK, Pulled, Supply};
use super::tray::{Taker, Tray};
use super::window::Window;

pub(super) struct Inlet<'a, It: Iterator, T, E> {
    source: Source<It>,
    /// How many items were pulled before it was lent last.
    pulled: usize,
    /// How many more whoever has borrowed it may pull.
    lent_for: usize,
    window: &'a Window,
    tray: &'a Tray<'a, It::Item, T, E>,
}

/// Boxed, to be lent cheaply.
enum Source<It> {
    Here(Box<It>),
    Ended(Box<It>),
    /// To somebody who pulls several items, and may have to be relieved of them.
    LentForMany,
    LentForOne,
}

/// The iterator, while somebody pulls.
pub(super) struct Lent<'a, It: Iterator, T, E> {
    source: Box<It>,
    tray: &'a Tray<'a, It::Item, T, E>,
}

impl<'a, It: Iterator, T, E> Inlet<'a, It, T, E> {
    pub(super) fn new(items: It, window: &'a Window, tray: &'a Tray<'a, It::Item, T, E>) -> Self {
        Inlet { source: Source::Here(Box::new(items)), pulled: 0, lent_for: 0, window, tray }
    }

    /// When nobody works any more: the iterator.
    pub(super) fn left(&mut self) -> Option<Box<It>> {
        match mem::replace(&mut self.source, Source::LentForOne) {
            Source::Here(source) | Source::Ended(source) => Some(source),
            Source::LentForMany | Source::LentForOne => None,
        }
    }
}

impl<'a, It: Iterator, T, E> Supply for Inlet<'a, It, T, E> {
    type Places = Parcel<'a, It::Item, T, E>;
    type Source = Lent<'a, It, T, E>;
    type Tray = &'a Tray<'a, It::Item, T, E>;

    const IS_STREAM: bool = true;

    fn next(&self) -> usize {
        self.pulled
    }

    fn known(&self) -> (usize, bool) {
        (self.pulled, matches!(self.source, Source::Ended(_)))
    }

    fn is_open(&self, end: usize) -> bool {
        // All that may be pulled now counts: that is for whoever pulls, and an end among it means that it was.
        self.pulled + self.lent_for < end && !matches!(self.source, Source::Ended(_))
    }

    fn queued(&self) -> usize {
        if self.is_lent() { 0 } else { self.window.room(self.pulled) }
    }

    /// Twice the window, so that all workers together may take all of it.
    fn shared(&self) -> usize {
        self.window.size().saturating_mul(2)
    }

    fn hand_out<'b>(&mut self, size: usize, _: &'b mut Vec<It::Item>) -> Handout<'b, Self> {
        let Source::Here(_) = self.source else { return Handout::Nothing };
        let most = size.min(LARGEST_CHUNK).min(self.window.room_or_ask(self.pulled));
        if most == 0 {
            return Handout::Nothing;
        }
        let lent = if most > 1 { Source::LentForMany } else { Source::LentForOne };
        self.lent_for = most;
        match mem::replace(&mut self.source, lent) {
            Source::Here(source) => Handout::Source(Lent { source, tray: self.tray }, most),
            _ => Handout::Nothing,
        }
    }

    fn is_lent(&self) -> bool {
        matches!(self.source, Source::LentForMany | Source::LentForOne)
    }

    fn is_lent_for_many(&self) -> bool {
        matches!(self.source, Source::LentForMany)
    }

    fn relieve(&mut self) -> Option<Self::Tray> {
        let is_laden = self.is_lent_for_many();
        if is_laden {
            self.source = Source::LentForOne;
        }
        is_laden.then_some(self.tray)
    }

    fn has_room_or_asks(&self) -> bool {
        !self.is_lent() && self.window.room_or_ask(self.pulled) > 0
    }

    fn give_back(&mut self, lent: Lent<'a, It, T, E>, pulled: Pulled) {
        self.pulled += pulled.items;
        self.lent_for = 0;
        self.source = if pulled.has_ended { Source::Ended(lent.source) } else { Source::Here(lent.source) };
    }

    fn pull(lent: &mut Lent<'a, It, T, E>) -> Option<bool> {
        lent.source.next().map(|item| lent.tray.put(item))
    }

    fn pulled<'b>(lent: &Lent<'a, It, T, E>, buffer: &'b mut Vec<ItemOf<Self>>) -> Chunk<'b, Self::Places> {
        lent.tray.take(Taker::Puller, buffer)
    }

    fn take(tray: Self::Tray, buffer: &mut Vec<ItemOf<Self>>) -> Chunk<'_, Self::Places> {
        tray.take(Taker::Other, buffer)
    }
}
