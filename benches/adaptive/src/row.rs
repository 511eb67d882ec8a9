//! A workload: what each of this many items does.

use std::time::Duration;

use crate::dice::Dice;
use crate::machine::cores;

/// The most workers that anybody gets here.
pub const MOST: usize = 128;

/// What one item does; it gets its index. Whether it succeeded.
pub type Op = Box<dyn Fn(&mut Dice, usize) -> bool + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Waiting,
    Cpu,
    Mixed,
    Lock,
    Flat,
    Declining,
    Refusing,
    Rate,
    Phases,
    Tiny,
}

/// Whether a part of the items says how long all of them take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    Even,
    Uneven,
}

/// Whether it is in the picture, and in a quick run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fame {
    Plain,
    Pictured,
}

pub struct Row {
    pub group: Group,
    pub name: String,
    pub items: usize,
    /// This many batches one after another, each on a new executor, make one timing.
    pub batches: usize,
    /// Items a second, by the executor's own limiter.
    pub limit: Option<u32>,
    pub course: Course,
    pub fame: Fame,
    /// The operation of one batch, with a new backend, lock or whatever it has.
    pub op: Box<dyn Fn() -> Op>,
}

impl Row {
    pub fn new(group: Group, name: impl Into<String>, items: usize, op: impl Fn() -> Op + 'static) -> Self {
        let course = if group == Group::Phases { Course::Uneven } else { Course::Even };
        let (name, op) = (name.into(), Box::new(op));
        Row { group, name, items, batches: 1, limit: None, course, fame: Fame::Plain, op }
    }

    pub fn batches(mut self, batches: usize) -> Self {
        self.batches = batches;
        self
    }

    pub fn limit(mut self, per_second: u32) -> Self {
        self.limit = Some(per_second);
        self
    }

    pub fn pictured(mut self) -> Self {
        self.fame = Fame::Pictured;
        self
    }

    /// The fixed numbers that are tried: the powers of 2 and the number of cores, as far as there are items.
    pub fn counts(&self) -> Vec<usize> {
        let powers = (0..=MOST.ilog2()).map(|exponent| 1 << exponent);
        let mut counts: Vec<usize> = powers.chain([cores().min(MOST)]).map(|n| n.min(self.items)).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}

pub fn op(item: impl Fn(&mut Dice, usize) + Send + Sync + 'static) -> Op {
    Box::new(move |dice, index| {
        item(dice, index);
        true
    })
}

pub fn ms(milliseconds: f64) -> Duration {
    Duration::from_secs_f64(milliseconds / 1e3)
}
