//! One row, run: repetitions in which each contestant has its turn, and what comes of them.

use std::time::Duration;

use crate::options::Options;
use crate::peers::{Contestant, contestants};
use crate::row::Row;
use crate::sample::median;
use crate::work::{Op, Work, nothing, skewed, sleeping, spinning};

/// Where a batch is quicker than this, each timing comes after an untimed batch of the same contestant, so that nobody
/// pays for what the one before it left in the caches, or for its threads that still look for work.
const WARM_UP_BELOW: Duration = Duration::from_millis(2);

/// How long and how often everybody may run in a row.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// For ours and for rayon.
    main: Duration,
    /// For each other peer; a slow one gets fewer repetitions.
    other: Duration,
    repetitions: usize,
}

impl Budget {
    pub fn new(quick: bool) -> Self {
        let millis = Duration::from_millis;
        if quick {
            Budget { main: millis(150), other: millis(60), repetitions: 100 }
        } else {
            Budget { main: millis(1_800), other: millis(700), repetitions: 1_000 }
        }
    }

    fn of(self, name: &str) -> Duration {
        if name == "ours" || name.starts_with("rayon") { self.main } else { self.other }
    }
}

/// A contestant with what it has done so far.
struct Turn<O> {
    contestant: Contestant<O>,
    /// Microseconds, one for each repetition that it took part in.
    times: Vec<f64>,
    /// Ours divided by its, of the same repetition.
    ratios: Vec<f64>,
    spent: Duration,
}

/// What one peer came to in one row.
#[derive(Debug, Clone)]
pub struct Score {
    pub name: &'static str,
    pub micros: f64,
    /// The median of the ratios of single repetitions: our time divided by its.
    pub ratio: f64,
}

/// Runs the row; ours is the first score.
pub fn hold(row: &Row, options: &Options) -> Vec<Score> {
    match row.work {
        Work::Nothing => hold_with(row, options, nothing()),
        Work::Spin(time) => hold_with(row, options, spinning(time)),
        Work::Skewed(time) => hold_with(row, options, skewed(time, row.items)),
        Work::Sleep(time) => hold_with(row, options, sleeping(time)),
    }
}

fn hold_with<O: Op>(row: &Row, options: &Options, op: O) -> Vec<Score> {
    let budget = Budget::new(options.quick);
    let wanted = |c: &Contestant<O>| c.name == "ours" || options.wants_peer(c.name);
    let mut turns: Vec<Turn<O>> = contestants(row).into_iter().filter(wanted).map(Turn::new).collect();
    for turn in &mut turns {
        turn.contestant.check(row.items, op);
    }
    for repetition in 0..budget.repetitions {
        if turns[0].spent > budget.main {
            break;
        }
        repeat(&mut turns, repetition, row.items, op, budget);
    }
    turns.iter().filter_map(Turn::score).collect()
}

/// Everybody once, starting with another one each time.
fn repeat<O: Op>(turns: &mut [Turn<O>], repetition: usize, items: usize, op: O, budget: Budget) {
    let count = turns.len();
    let mut timed = vec![None; count];
    for step in 0..count {
        let at = (repetition + step) % count;
        timed[at] = turns[at].take(items, op, budget);
    }
    let Some(ours) = timed[0] else { return };
    for (turn, time) in turns.iter_mut().zip(timed) {
        turn.ratios.extend(time.map(|time| ours / time));
    }
}

impl<O: Op> Turn<O> {
    fn new(contestant: Contestant<O>) -> Self {
        Turn { contestant, times: Vec::new(), ratios: Vec::new(), spent: Duration::ZERO }
    }

    /// One timing in microseconds, unless its time is spent. Three it gets in any case.
    fn take(&mut self, items: usize, op: O, budget: Budget) -> Option<f64> {
        if self.spent > budget.of(self.contestant.name) && self.times.len() >= 3 {
            return None;
        }
        let quick = self.times.last().is_none_or(|last| *last < WARM_UP_BELOW.as_secs_f64() * 1e6);
        if quick {
            self.spent += self.contestant.time(items, op);
        }
        let time = self.contestant.time(items, op);
        self.spent += time;
        let micros = time.as_secs_f64() * 1e6;
        self.times.push(micros);
        Some(micros)
    }

    fn score(&self) -> Option<Score> {
        let (micros, ratio) = (median(&self.times)?, median(&self.ratios)?);
        Some(Score { name: self.contestant.name, micros, ratio })
    }
}
