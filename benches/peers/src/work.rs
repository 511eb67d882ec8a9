//! What an item's operation does: nothing, so much of the CPU, or sleep.

use std::hint::black_box;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// The outcome of one item, for everybody.
pub type Outcome = Result<u64, String>;

/// An operation. The same for everybody, and known to the compiler, so that nobody calls it through a pointer; `'static`
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

/// Keeps the CPU busy for so many rounds; [`rounds_in`] says how many. No clock in it: a clock read is a large part of
/// a microsecond, and costs more when two cores ask.
#[inline]
pub fn spin(rounds: u64) {
    let mut state = rounds;
    for _ in 0..rounds {
        state = black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
    }
}

/// How many rounds of [`spin`] take so long on an undisturbed core of this machine. Measured once.
pub fn rounds_in(time: Duration) -> u64 {
    static A_MILLISECOND: OnceLock<f64> = OnceLock::new();
    let a_millisecond = *A_MILLISECOND.get_or_init(calibrate);
    (a_millisecond * time.as_secs_f64() * 1e3).round().max(1.0) as u64
}

/// The quickest of many tries: what disturbs a try only makes it longer.
fn calibrate() -> f64 {
    const ROUNDS: u32 = 100_000;
    let one_try = || {
        let since = Instant::now();
        spin(u64::from(ROUNDS));
        since.elapsed()
    };
    let quickest = (0..100).map(|_| one_try()).min().unwrap_or_default();
    f64::from(ROUNDS) / (quickest.as_secs_f64() * 1e3)
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

pub fn sleeping(time: Duration) -> impl Op {
    move |id: &u64| {
        thread::sleep(time);
        Ok(*id)
    }
}
