//! The items of a result with their outcomes, one by one.

use std::fmt;
use std::iter::{Enumerate, FusedIterator, Zip};
use std::slice;
use std::vec;

use crate::error::Outcome;

use super::BatchItem;

type Pairs<I, O> = Enumerate<Zip<I, O>>;

/// The items of a [`BatchResult`](crate::BatchResult) with their outcomes, by reference, in input order. Returned by
/// [`BatchResult::iter`](crate::BatchResult::iter).
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let result = BatchExecutor::new().run(["a", "bc"], |word| Ok::<_, String>(word.len()));
/// let last = result.iter().next_back().unwrap();
/// assert_eq!((last.index, *last.item, last.outcome.as_ref().unwrap()), (1, "bc", &2));
/// assert_eq!(result.iter().len(), 2);
/// ```
pub struct BatchIter<'r, I, T, E> {
    pairs: Pairs<slice::Iter<'r, I>, slice::Iter<'r, Outcome<T, E>>>,
}

/// The items of a [`BatchResult`](crate::BatchResult) with their outcomes, by value, in input order. Made by `for item
/// in result`.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// for item in BatchExecutor::new().run(["a", "bc"], |word| Ok::<_, String>(word.len())) {
///     assert_eq!(item.outcome.unwrap(), item.index + 1);
/// }
/// ```
pub struct BatchIntoIter<I, T, E> {
    pairs: Pairs<vec::IntoIter<I>, vec::IntoIter<Outcome<T, E>>>,
}

impl<'r, I, T, E> BatchIter<'r, I, T, E> {
    pub(super) fn new(items: &'r [I], outcomes: &'r [Outcome<T, E>]) -> Self {
        BatchIter { pairs: items.iter().zip(outcomes).enumerate() }
    }
}

impl<I, T, E> BatchIntoIter<I, T, E> {
    pub(super) fn new(items: Vec<I>, outcomes: Vec<Outcome<T, E>>) -> Self {
        BatchIntoIter { pairs: items.into_iter().zip(outcomes).enumerate() }
    }
}

fn item<I, O>((index, (item, outcome)): (usize, (I, O))) -> BatchItem<I, O> {
    BatchItem { index, item, outcome }
}

impl<'r, I, T, E> Iterator for BatchIter<'r, I, T, E> {
    type Item = BatchItem<&'r I, &'r Outcome<T, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pairs.next().map(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pairs.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.pairs.nth(n).map(item)
    }
}

impl<I, T, E> DoubleEndedIterator for BatchIter<'_, I, T, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.pairs.next_back().map(item)
    }
}

impl<I, T, E> ExactSizeIterator for BatchIter<'_, I, T, E> {}
impl<I, T, E> FusedIterator for BatchIter<'_, I, T, E> {}

impl<I, T, E> Clone for BatchIter<'_, I, T, E> {
    fn clone(&self) -> Self {
        BatchIter { pairs: self.pairs.clone() }
    }
}

impl<I, T, E> Iterator for BatchIntoIter<I, T, E> {
    type Item = BatchItem<I, Outcome<T, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pairs.next().map(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pairs.size_hint()
    }
}

impl<I, T, E> DoubleEndedIterator for BatchIntoIter<I, T, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.pairs.next_back().map(item)
    }
}

impl<I, T, E> ExactSizeIterator for BatchIntoIter<I, T, E> {}
impl<I, T, E> FusedIterator for BatchIntoIter<I, T, E> {}

impl<I, T, E> fmt::Debug for BatchIter<'_, I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("left", &self.len()).finish_non_exhaustive()
    }
}

impl<I, T, E> fmt::Debug for BatchIntoIter<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIntoIter").field("left", &self.len()).finish_non_exhaustive()
    }
}
