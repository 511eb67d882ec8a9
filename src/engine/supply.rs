//! What there is to be worked on and nobody has taken yet, as those who hand it out see it.

use super::chunk::{Chunk, Places};

/// The most items that are taken at a time. More saves nothing, and leaves a core's own cache.
pub(super) const LARGEST_CHUNK: usize = 4096;

pub(super) type ItemOf<S> = <<S as Supply>::Places as Places>::Item;

pub(super) trait Supply {
    type Places: Places;

    /// How many items there are to be taken now.
    fn len(&self) -> usize;

    /// The index of the first of them.
    fn next(&self) -> usize;

    /// How many items the workers have to share among them.
    fn shared(&self) -> usize;

    /// Takes about `size` items off the front: not more, and fewer where there are no more, or that is many. `buffer` is
    /// lent for them.
    fn take<'b>(&mut self, size: usize, buffer: &'b mut Vec<ItemOf<Self>>) -> Chunk<'b, Self::Places>;
}
