//! Work that goes on at the same speed for everybody in it: cores, and servers that share their time.
//!
//! A clock of its own runs at that speed, and each entry ends at a mark on it, so that a change of speed is one number.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

#[derive(Debug, Clone, Copy)]
pub(crate) struct At(pub(crate) f64);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    clock: f64,
    speed: f64,
    marks: BinaryHeap<Reverse<(At, usize)>>,
}

impl Shared {
    pub(crate) fn len(&self) -> f64 {
        self.marks.len() as f64
    }

    pub(crate) fn enter(&mut self, worker: usize, work: f64) {
        self.marks.push(Reverse((At(self.clock + work), worker)));
    }

    pub(crate) fn set_speed(&mut self, speed: f64) {
        self.speed = speed;
    }

    /// How long until the first one is done.
    pub(crate) fn next(&self) -> f64 {
        let first = self.marks.peek();
        first.map_or(f64::INFINITY, |Reverse((at, _))| (at.0 - self.clock).max(0.0) / self.speed)
    }

    pub(crate) fn advance(&mut self, seconds: f64) {
        self.clock += seconds * self.speed;
    }

    pub(crate) fn leave(&mut self) -> Option<usize> {
        self.marks.pop().map(|Reverse((_, worker))| worker)
    }
}
