//! What an item's operation does: nothing, so much of the CPU, or sleep.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use crate::spin::{rounds_in, spin};

/// The outcome of one item, for everybody.
pub type Outcome = Result<u64, String>;

/// An operation. The same for everybody, and known to the compiler, so that no contestant calls it through a pointer; `'static`
/// because some peers ask for that.
pub trait Op: Fn(&u64) -> Outcome + Copy + Send + Sync + 'static {}
impl<F: Fn(&u64) -> Outcome + Copy + Send + Sync + 'static> Op for F {}

#[derive(Debug, Clone, Copy)]
pub enum Work {
    Nothing,
    Spin(Duration),
    /// One item in 64 takes 100 times as long as this; those are the last ones.
    Skewed(Duration),
    Sleep(Duration),
}

/// The operation that does nothing.
pub fn nothing() -> impl Op {
    |id: &u64| Ok(*id)
}

pub fn spinning(time: Duration) -> impl Op {
    let rounds = rounds_in(time);
    move |id: &u64| {
        spin(rounds);
        Ok(*id)
    }
}

pub fn skewed(time: Duration, items: usize) -> impl Op {
    let (short, long) = (rounds_in(time), rounds_in(time * 100));
    let first_long = (items - items / 64) as u64;
    move |id: &u64| {
        spin(if *id < first_long { short } else { long });
        Ok(*id)
    }
}

/// Sleeps for items in this range, and does nothing for the others.
pub fn napping(slow: Range<usize>, time: Duration) -> impl Op {
    let (first, end) = (slow.start as u64, slow.end as u64);
    move |id: &u64| {
        if (first..end).contains(id) {
            thread::sleep(time);
        }
        Ok(*id)
    }
}

pub fn sleeping(time: Duration) -> impl Op {
    move |id: &u64| {
        thread::sleep(time);
        Ok(*id)
    }
}
