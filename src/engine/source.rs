//! The user's iterator: a batch collects it, and the workers of a stream pull items out of it one by one.

use crate::panic;

use super::operation::Kinds;
use super::shared::Job;

impl<K: Kinds> Job<'_, K> {
    /// Pulls up to `most` items, the first of which has this index. Each can be claimed at once, by any worker: the iterator may
    /// wait for what comes of the items before.
    pub(super) fn pull(&self, index: usize, most: usize) {
        let Some(source) = &self.source else { return };
        let mut source = source.lock();
        let pulled = panic::catch(|| {
            for index in index..index + most {
                let Some(item) = source.items.next() else { return true };
                let claim = self.slots.fill(index, item);
                if !self.dispatcher.change().add(claim) {
                    break;
                }
            }
            false
        });
        drop(source);
        let has_ended = *pulled.as_ref().unwrap_or(&true);
        self.dispatcher.change().give_back_source(has_ended);
        if let Err(panic) = pulled {
            self.fail(panic);
        }
        if has_ended {
            self.dispatcher.signal();
        }
    }
}

/// This many bytes are there: no hint needs to be tried that asks for no more.
const CERTAINLY_THERE: usize = 64 * 1024;

/// All items. A size hint is taken for a hint: what it asks for is reserved if it can be. One that claims to be exact is
/// believed as far as memory goes: where it is a lie, and memory runs out for what comes beyond it, that is an abort.
///
/// Where there is no memory, those that were collected come back, but not the one for which there was no room.
pub(crate) fn collect<I>(mut items: impl Iterator<Item = I>) -> Result<Vec<I>, Vec<I>> {
    let (least, most) = items.size_hint();
    if most == Some(least) && has_room_for::<I>(least) {
        // Where the items are in a vector already, this keeps them there.
        return Ok(items.collect());
    }
    let mut collected = Vec::new();
    let _ = collected.try_reserve(least);
    loop {
        // An extension that cannot outgrow its room runs without a check for each item: 0.4 ns instead of 4.6.
        let room = collected.capacity() - collected.len();
        collected.extend(items.by_ref().take(room));
        if collected.len() < collected.capacity() {
            return Ok(collected);
        }
        let Some(item) = items.next() else { return Ok(collected) };
        if collected.try_reserve(1).is_err() {
            return Err(collected);
        }
        collected.push(item);
    }
}

fn has_room_for<I>(items: usize) -> bool {
    items.saturating_mul(size_of::<I>()) <= CERTAINLY_THERE || Vec::<I>::new().try_reserve(items).is_ok()
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_vector_stays_where_it_is() {
        let items: Vec<u64> = (0..100_000).collect();
        let place = items.as_ptr();
        let collected = collect(items.into_iter()).unwrap();
        assert_eq!((collected.as_ptr(), collected.len()), (place, 100_000));
    }

    #[test]
    fn without_a_hint_everything_comes_all_the_same() {
        let some = (0..1_000).filter(|n| n % 3 == 0);
        assert!(collect(some.clone()).unwrap().into_iter().eq(some));
        assert_eq!(collect(std::iter::empty::<u8>()).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn an_iterator_that_has_ended_is_not_asked_again() {
        for length in 0..40 {
            let (mut left, mut has_ended) = (length, false);
            let items = std::iter::from_fn(|| {
                assert!(!has_ended, "asked again after {length} items");
                has_ended = left == 0;
                left -= usize::from(!has_ended);
                (!has_ended).then_some(left)
            });
            assert_eq!(collect(items).unwrap().len(), length);
        }
    }
}
