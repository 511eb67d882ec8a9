//! What there is to be worked on and nobody has taken yet, as those who hand it out see it.

use super::chunk::{Chunk, Places};

/// The most items that are taken at a time. More saves nothing, and leaves a core's own cache.
pub(super) const LARGEST_CHUNK: usize = 4096;

pub(super) type ItemOf<S> = <<S as Supply>::Places as Places>::Item;

/// What somebody gets who comes for items.
pub(super) enum Handout<'b, S: Supply + ?Sized> {
    Items(Chunk<'b, S::Places>),
    /// What to pull them out of, up to so many.
    Source(S::Source, usize),
    /// Nothing for now.
    Nothing,
}

/// What came of pulling.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pulled {
    /// How many items.
    pub(super) items: usize,
    /// Whether there are no more.
    pub(super) has_ended: bool,
}

/// Items that are there from the start; or that are pulled out of a source, by whoever has borrowed it, onto a tray.
pub(super) trait Supply {
    type Places: Places;
    type Source;
    type Tray;

    /// Whether items are pulled: there may be no end to them, and to pull one may wait for what comes of those before.
    const IS_STREAM: bool;

    /// The index of the first item that nobody has taken.
    fn next(&self) -> usize;

    /// How many items there were so far, and whether there will be no more.
    fn known(&self) -> (usize, bool);

    /// Whether there are items that nobody has taken, or may be later, if those from `end` on may not start.
    fn is_open(&self, end: usize) -> bool;

    /// About how many there are now.
    fn queued(&self) -> usize;

    /// How many items the workers have to share among them.
    fn shared(&self) -> usize;

    /// About `size` items: not more, and fewer where there are no more, or that is many. `buffer` is lent for them. If only room
    /// is missing, whoever makes some calls one of those who have nothing to do.
    fn hand_out<'b>(&mut self, size: usize, buffer: &'b mut Vec<ItemOf<Self>>) -> Handout<'b, Self>;

    /// Whether somebody has the source.
    fn is_lent(&self) -> bool;

    /// Whether somebody has it who pulls more than one item, and so may keep others waiting while it waits itself.
    fn is_lent_for_many(&self) -> bool;

    /// Where that one has put what it has pulled. It will be content with what it gets next.
    fn relieve(&mut self) -> Option<Self::Tray>;

    /// Whether the source could be borrowed now. If only room is missing, that is asked for as in `hand_out`.
    fn has_room_or_asks(&self) -> bool;

    fn give_back(&mut self, source: Self::Source, pulled: Pulled);

    /// Pulls one item; whether whoever pulls may go on. None at the end.
    fn pull(source: &mut Self::Source) -> Option<bool>;

    /// Takes all that was pulled, when whoever did that is done.
    fn pulled<'b>(source: &Self::Source, buffer: &'b mut Vec<ItemOf<Self>>) -> Chunk<'b, Self::Places>;

    /// Takes all that is on the tray of somebody who is relieved.
    fn take(tray: Self::Tray, buffer: &mut Vec<ItemOf<Self>>) -> Chunk<'_, Self::Places>;
}
