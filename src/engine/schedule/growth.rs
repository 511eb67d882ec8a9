//! Work that makes more work: which item pushed which, and so which of two items a plain queue would have met first.
//!
//! Items are numbered as they come. A plain queue meets them by depth: first those of the batch, then all that these pushed.
//! Of one depth it meets them in the order of the items that pushed them, and of one such item in the order in which it pushed
//! them. What an item pushes comes after the item, and so do the items that come after it, with all that they push: so a failure
//! stops what is behind it, and nothing before it can come from there.

use std::cmp::Ordering;
use std::vec::Drain;

/// Of an item that no other has pushed.
const NONE: usize = usize::MAX;

/// Where an item comes from.
#[derive(Debug, Clone, Copy)]
struct Origin {
    parent: usize,
    depth: usize,
}

#[derive(Debug)]
pub(in crate::engine) struct Growth {
    /// Of each item, in the order in which they came.
    origins: Vec<Origin>,
    /// The failures that a plain queue would have met first, in its order: at most as many as stop the batch.
    first_failures: Vec<usize>,
    /// Nothing behind this item starts.
    line: Option<usize>,
    moves: usize,
    /// What each worker has started last, by its number.
    running: Vec<usize>,
    /// Workers, with what is news for them: items from this number on are not wanted.
    ends: Vec<(usize, usize)>,
}

impl Growth {
    /// None without memory.
    pub(in crate::engine) fn of(items: usize, workers: usize) -> Option<Self> {
        let mut origins = Vec::new();
        origins.try_reserve(items).ok()?;
        origins.resize(items, Origin { parent: NONE, depth: 0 });
        let running = vec![NONE; workers];
        Some(Growth { origins, first_failures: Vec::new(), line: None, moves: 0, running, ends: Vec::new() })
    }

    /// How many workers there may ever be.
    pub(in crate::engine) fn most_workers(&self) -> usize {
        self.running.len()
    }

    /// How many items there have been.
    pub(super) fn arrived(&self) -> usize {
        self.origins.len()
    }

    /// Whether there is memory for one more.
    pub(super) fn has_room(&mut self) -> bool {
        self.origins.try_reserve(1).is_ok()
    }

    /// The next item comes, which that one has pushed.
    pub(super) fn arrives_from(&mut self, parent: usize) {
        self.origins.push(Origin { parent, depth: self.origins[parent].depth + 1 });
    }

    /// Which of two items a plain queue would have met first. Those that one item has pushed came in its order.
    fn order(&self, mut one: usize, mut other: usize) -> Ordering {
        let depth = self.origins[one].depth;
        let by_depth = depth.cmp(&self.origins[other].depth);
        if by_depth.is_ne() {
            return by_depth;
        }
        while self.origins[one].parent != self.origins[other].parent {
            (one, other) = (self.origins[one].parent, self.origins[other].parent);
        }
        one.cmp(&other)
    }

    /// The last item that may run, if there is a last one: a failure.
    pub(super) fn line(&self) -> Option<usize> {
        self.line
    }

    /// How often the line has moved.
    pub(super) fn moves(&self) -> usize {
        self.moves
    }

    pub(super) fn is_behind_line(&self, index: usize) -> bool {
        self.line.is_some_and(|line| self.order(index, line).is_gt())
    }

    /// The item failed, and the batch stops if it allows no more failures.
    pub(super) fn failed(&mut self, index: usize, limit: usize) {
        let at = self.first_failures.partition_point(|other| self.order(*other, index).is_lt());
        self.first_failures.insert(at, index);
        self.first_failures.truncate(limit);
        let line = self.first_failures.get(limit - 1).copied();
        if line != self.line {
            (self.line, self.moves) = (line, self.moves + 1);
        }
    }

    /// A worker starts an item.
    pub(super) fn starts(&mut self, worker: usize, index: usize) {
        if let Some(running) = self.running.get_mut(worker) {
            *running = index;
            self.ends.push((worker, usize::MAX));
        }
    }

    /// The line has moved, or the batch is closed: workers hear of it that run what is not wanted any more.
    pub(super) fn tell_running(&mut self, is_closed: bool) {
        for (worker, index) in self.running.iter().enumerate().filter(|(_, index)| **index != NONE) {
            if is_closed || self.is_behind_line(*index) {
                self.ends.push((worker, 0));
            }
        }
    }

    /// What is news for workers.
    pub(in crate::engine) fn take_ends(&mut self) -> Drain<'_, (usize, usize)> {
        self.ends.drain(..)
    }

    /// The places of all items, by their numbers, where a plain queue would have had them.
    pub(in crate::engine) fn places(&self) -> Vec<usize> {
        let (mut first_child, mut next) = (vec![NONE; self.arrived()], vec![NONE; self.arrived()]);
        let mut roots = 0;
        for (index, Origin { parent, .. }) in self.origins.iter().enumerate().rev() {
            match first_child.get_mut(*parent) {
                Some(first) => next[index] = std::mem::replace(first, index),
                None => roots += 1,
            }
        }
        let mut queue: Vec<usize> = (0..roots).collect();
        let (mut places, mut place) = (vec![0; self.arrived()], 0);
        while let Some(&index) = queue.get(place) {
            places[index] = place;
            let mut child = first_child[index];
            while child != NONE {
                queue.push(child);
                child = next[child];
            }
            place += 1;
        }
        places
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    /// Two items, and what they push: 2 and 4 come from 0, 3 and 5 from 1, 6 from 3.
    fn growth() -> Growth {
        let mut growth = Growth::of(2, 2).unwrap();
        for parent in [0, 1, 0, 1, 3] {
            assert!(growth.has_room());
            growth.arrives_from(parent);
        }
        growth
    }

    #[test]
    fn items_are_in_the_order_of_a_plain_queue_however_they_came() {
        let growth = growth();
        assert_eq!(growth.places(), [0, 1, 2, 4, 3, 5, 6]);
        for one in 0..7 {
            for other in 0..7 {
                let places = growth.places();
                assert_eq!(growth.order(one, other), places[one].cmp(&places[other]), "{one} and {other}");
            }
        }
    }

    #[test]
    fn the_line_is_at_the_failure_that_a_plain_queue_would_have_met_first() {
        let mut growth = growth();
        growth.failed(5, 1);
        growth.failed(3, 1);
        growth.failed(6, 1);
        assert_eq!((growth.line(), growth.moves()), (Some(3), 2));
        let behind: Vec<_> = (0..7).filter(|index| growth.is_behind_line(*index)).collect();
        assert_eq!(behind, [5, 6]);
        let mut growth = self::growth();
        growth.failed(6, 2);
        assert_eq!(growth.line(), None);
        growth.failed(2, 2);
        growth.failed(3, 2);
        assert_eq!(growth.line(), Some(3), "the second of three");
    }

    #[test]
    fn workers_hear_of_what_is_not_wanted_any_more() {
        let mut growth = growth();
        growth.starts(0, 2);
        growth.starts(1, 3);
        assert_eq!(growth.take_ends().collect::<Vec<_>>(), [(0, usize::MAX), (1, usize::MAX)]);
        growth.failed(4, 1);
        growth.tell_running(false);
        assert_eq!(growth.take_ends().collect::<Vec<_>>(), [(1, 0)]);
        growth.tell_running(true);
        assert_eq!(growth.take_ends().collect::<Vec<_>>(), [(0, 0), (1, 0)]);
    }
}
