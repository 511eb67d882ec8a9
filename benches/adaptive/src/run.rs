//! One timing of a workload on this many workers.

use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, RateLimit, Workers};

use crate::contest::Sizing;
use crate::dice::Dice;
use crate::gate::Gate;
use crate::row::{MOST, Row};

#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    /// How much of it was done; less than 1 if it was cut short, or if items failed.
    pub share: f64,
}

impl Run {
    /// How long all of it takes, at the rate that it had.
    pub fn scaled(self) -> f64 {
        self.seconds / self.share
    }

    pub fn is_whole(self) -> bool {
        self.share >= 1.0
    }
}

/// Starting the threads is part of the time, ending them is not. No item starts later than `cut`.
pub fn time(row: &Row, sizing: Sizing, seed: u64, cut: Option<Duration>) -> Run {
    let (mut spent, mut done) = (Duration::ZERO, 0);
    for batch in 0..row.batches {
        let left = cut.map(|cut| cut.saturating_sub(spent));
        let (seconds, items) = one_batch(row, sizing, seed.wrapping_add(batch as u64), left);
        spent += seconds;
        done += items;
    }
    // One item at least, lest nothing done in some time count as nothing done ever.
    Run { seconds: spent.as_secs_f64(), share: done.max(1) as f64 / (row.items * row.batches) as f64 }
}

fn one_batch(row: &Row, sizing: Sizing, seed: u64, cut: Option<Duration>) -> (Duration, usize) {
    let (workers, gate) = match sizing {
        Sizing::Workers(workers) => (workers, None),
        // Its threads stand at a gate that lets as many pass as the peer says.
        Sizing::Peer((_, make)) => (Workers::Fixed(MOST), Some(Gate::new(make(MOST)))),
    };
    let executor = executor(row, workers);
    let op = (row.op)();
    let since = Instant::now();
    let result = executor.run(0..row.items, |index| {
        if cut.is_some_and(|cut| since.elapsed() > cut) {
            return Err("cut short");
        }
        let item = || op(&mut Dice::new(seed, *index), *index);
        let has_succeeded = gate.as_ref().map_or_else(item, |gate| gate.pass(item));
        if has_succeeded { Ok(()) } else { Err("failed") }
    });
    let spent = since.elapsed();
    (spent, result.succeeded())
}

fn executor(row: &Row, workers: Workers) -> BatchExecutor {
    let mut builder = BatchExecutor::builder().workers(workers).stop_on_error(false);
    if let Some(per_second) = row.limit {
        builder = builder.rate_limiter(RateLimit::per_second(per_second));
    }
    builder.build().expect("good settings")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::{Sizing, Workers, time};
    use crate::row::{Group, Row, ms, op};

    #[test]
    fn a_whole_run_runs_every_item_of_every_batch() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let row = Row::new(Group::Tiny, "", 10, move || {
            let count = Arc::clone(&counted);
            op(move |_, index| {
                count.fetch_add(index, Ordering::Relaxed);
            })
        });
        assert!(time(&row.batches(3), Sizing::Workers(Workers::Fixed(2)), 1, None).is_whole());
        assert_eq!(count.load(Ordering::Relaxed), 3 * 45);
    }

    #[test]
    fn a_run_that_was_cut_says_how_much_it_did() {
        let row = Row::new(Group::Waiting, "", 10_000, || op(|_, _| thread::sleep(ms(5.0))));
        let run = time(&row, Sizing::Workers(Workers::Fixed(2)), 1, Some(Duration::from_millis(50)));
        assert!(!run.is_whole());
        assert!(run.scaled() > 24.0, "{run:?}");
    }
}
