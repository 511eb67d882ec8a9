//! Items out of an iterator into a vector.

use std::collections::TryReserveError;

/// All items. A size hint is taken for a hint: what it asks for is reserved if it can be, and nothing relies on it.
pub(crate) fn collect<I>(mut items: impl Iterator<Item = I>) -> Result<Vec<I>, TryReserveError> {
    let (least, most) = items.size_hint();
    let mut collected = Vec::new();
    let has_room = collected.try_reserve(least).is_ok();
    if has_room && most == Some(least) {
        // Where the items are in a vector already, this keeps them there.
        return Ok(items.collect());
    }
    loop {
        // An extension that cannot outgrow its room runs without a check for each item.
        let room = collected.capacity() - collected.len();
        collected.extend(items.by_ref().take(room));
        if collected.len() < collected.capacity() {
            return Ok(collected);
        }
        let Some(item) = items.next() else { return Ok(collected) };
        collected.try_reserve(1)?;
        collected.push(item);
    }
}
