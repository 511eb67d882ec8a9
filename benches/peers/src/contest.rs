//! One row, run: repetitions in which each contestant has its turn, and what comes of them.

use std::time::{Duration, Instant};

use crate::contestant::{Contestant, Field, OURS};
use crate::options::Options;
use crate::row::Row;
use crate::sample::median;
use crate::work::{Op, Work, nothing, skewed, sleeping, spinning};

/// Where a batch is quicker than this, each timing comes after an untimed batch of the same contestant, so that no contestant
/// pays for what the one before it left in the caches, or for its threads that still look for work.
const WARM_UP_BELOW: Duration = Duration::from_millis(2);

/// No contestant is checked with more items than this; how long those took says how long all of them will.
const MOST_CHECKED: usize = 10_000;

/// How long and how often everybody may run in a row.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// For ours, however it is called, and for rayon.
    main: Duration,
    /// For each other peer; a slow one gets fewer repetitions.
    other: Duration,
    repetitions: usize,
    /// Who would need longer than this for one batch is left out, unless it is ours.
    patience: Duration,
}

impl Budget {
    fn new(quick: bool) -> Self {
        let millis = Duration::from_millis;
        if quick {
            Budget { main: millis(150), other: millis(60), repetitions: 100, patience: millis(500) }
        } else {
            Budget { main: millis(1_800), other: millis(700), repetitions: 1_000, patience: millis(30_000) }
        }
    }

    /// How much of a row is over, from 0 to 1, when ours has taken this long.
    fn share(self, repetition: usize, ours: Duration) -> f64 {
        let repeated = repetition as f64 / self.repetitions as f64;
        repeated.max(ours.as_secs_f64() / self.main.as_secs_f64())
    }

    fn of(self, name: &str) -> Duration {
        if name.starts_with(OURS) || name.starts_with("rayon") { self.main } else { self.other }
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
    /// About what one batch takes.
    expected: Duration,
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
pub fn hold(field: &impl Field, row: &Row, options: &Options) -> Vec<Score> {
    match row.work {
        Work::Nothing => hold_with(field, row, options, nothing()),
        Work::Spin(time) => hold_with(field, row, options, spinning(time)),
        Work::Skewed(time) => hold_with(field, row, options, skewed(time, row.items)),
        Work::Sleep(time) => hold_with(field, row, options, sleeping(time)),
    }
}

fn hold_with<O: Op>(field: &impl Field, row: &Row, options: &Options, op: O) -> Vec<Score> {
    let budget = Budget::new(options.quick);
    let wanted = |c: &Contestant<O>| c.name == OURS || options.wants_peer(c.name);
    let admitted = field.contestants(row).into_iter().filter(wanted).map(|c| Turn::new(c, row.items, op));
    let is_borne = |turn: &Turn<O>| turn.contestant.name == OURS || turn.expected <= budget.patience;
    let mut turns: Vec<Turn<O>> = admitted.filter(is_borne).collect();
    for repetition in 0..budget.repetitions {
        if turns[0].spent > budget.main {
            break;
        }
        let over = budget.share(repetition, turns[0].spent);
        repeat(&mut turns, repetition, |turn| turn.take(row.items, op, budget, over));
    }
    turns.iter().filter_map(Turn::score).collect()
}

/// Everybody once, starting with another one each time.
fn repeat<O>(turns: &mut [Turn<O>], repetition: usize, take: impl Fn(&mut Turn<O>) -> Option<f64>) {
    let count = turns.len();
    let mut timed = vec![None; count];
    for step in 0..count {
        let at = (repetition + step) % count;
        timed[at] = take(&mut turns[at]);
    }
    let Some(ours) = timed[0] else { return };
    for (turn, time) in turns.iter_mut().zip(timed) {
        turn.ratios.extend(time.map(|time| ours / time));
    }
}

impl<O: Op> Turn<O> {
    /// Checks it, too.
    fn new(contestant: Contestant<O>, items: usize, op: O) -> Self {
        let checked = items.min(MOST_CHECKED);
        let since = Instant::now();
        contestant.check(checked, op);
        let expected = since.elapsed().mul_f64(items as f64 / checked as f64);
        Turn { contestant, times: Vec::new(), ratios: Vec::new(), spent: Duration::ZERO, expected }
    }

    /// One timing in microseconds, unless it is ahead of its budget: so much of the row is over. So who gets fewer
    /// repetitions gets them spread over all of the row's time, and everybody gets the first.
    fn take(&mut self, items: usize, op: O, budget: Budget, over: f64) -> Option<f64> {
        let name = self.contestant.name;
        if name != OURS && self.spent > budget.of(name).mul_f64(over) {
            return None;
        }
        if self.expected < WARM_UP_BELOW {
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
