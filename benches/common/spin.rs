//! Work for a CPU: this many rounds of arithmetic, which take as long as it takes to compute them, however many threads
//! share the cores. A loop that waits for the clock would be done no later when it never ran.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Keeps the CPU busy for this many rounds; [`rounds_in`] says how many. No clock in it: a clock read is a large part of
/// a microsecond, and costs more when two cores ask. Never inlined, so that the same machine code runs in each executor.
#[inline(never)]
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
