//! One workload for all: each fixed number once, then the best of these, adaptive and auto by turns.

use std::time::Duration;

use batch_executor::{AdaptiveWorkers, Workers};

use crate::options::Options;
use crate::peers::{Make, PEERS};
use crate::row::{Course, Fame, Group, MOST, Row};
use crate::run::{self, Run};
use crate::sample::median;

/// A number that takes this many times as long as the best is not the best, and need not be waited for.
const HOPELESS: f64 = 2.5;
/// Those within this many times of the best are tried again: the noise of one timing may have decided between them.
const CLOSE: f64 = 1.1;
const FINALISTS: usize = 3;
/// Within this many times of the best is as good: the rest is noise.
const TIE: f64 = 1.02;
/// Auto and the peers are not run again once they have used so much.
const PATIENCE: f64 = 1.5;

/// Who says how many there are.
#[derive(Debug, Clone, Copy)]
pub enum Sizing {
    Workers(Workers),
    Peer(Make),
}

#[derive(Debug)]
pub struct Contender {
    pub sizing: Sizing,
    pub runs: Vec<Run>,
}

#[derive(Debug)]
pub struct Score {
    /// The fixed numbers by rising count.
    pub fixed: Vec<Contender>,
    /// The places of those that were run as often as the others, one of which is the best.
    finalists: Vec<usize>,
    pub adaptive: Contender,
    pub auto: Contender,
    pub peers: Vec<Contender>,
}

impl Contender {
    fn new(sizing: Sizing) -> Self {
        Contender { sizing, runs: Vec::new() }
    }

    /// The middle one of its times.
    pub fn seconds(&self) -> f64 {
        let times: Vec<f64> = self.runs.iter().map(|run| run.scaled()).collect();
        median(&times).expect("everybody has run")
    }

    pub fn slowest(&self) -> f64 {
        self.runs.iter().map(|run| run.scaled()).fold(0.0, f64::max)
    }

    pub fn is_whole(&self) -> bool {
        self.runs.iter().all(|run| run.is_whole())
    }

    /// 0 where the number is not fixed.
    pub fn count(&self) -> usize {
        if let Sizing::Workers(Workers::Fixed(count)) = self.sizing { count } else { 0 }
    }

    fn spent(&self) -> f64 {
        self.runs.iter().map(|run| run.seconds).sum()
    }

    fn take_if_patient(&mut self, row: &Row, seed: u64) {
        if self.spent() <= PATIENCE {
            self.take(row, seed, patience(row));
        }
    }

    fn take(&mut self, row: &Row, seed: u64, cut: Option<Duration>) {
        self.runs.push(run::time(row, self.sizing, seed, cut));
    }
}

impl Score {
    /// Everybody once on the same items, starting with another one each time.
    fn take_turn(&mut self, row: &Row, turn: usize, seed: u64) {
        let (peers, fixed) = (self.peers.len(), self.finalists.len());
        let everybody = 2 + peers + fixed;
        for step in 0..everybody {
            match (turn + step) % everybody {
                0 => self.adaptive.take(row, seed, None),
                1 => self.auto.take_if_patient(row, seed),
                place if place < 2 + peers => self.peers[place - 2].take_if_patient(row, seed),
                place => self.fixed[self.finalists[place - 2 - peers]].take(row, seed, None),
            }
        }
    }

    fn in_the_final(&self) -> impl Iterator<Item = &Contender> {
        self.finalists.iter().map(|place| &self.fixed[*place])
    }

    /// The least time of a fixed number.
    pub fn best_seconds(&self) -> f64 {
        self.in_the_final().map(Contender::seconds).fold(f64::INFINITY, f64::min)
    }

    /// The smallest fixed number that is as good as any.
    pub fn best(&self) -> &Contender {
        let most = self.best_seconds() * TIE;
        let as_good = self.in_the_final().filter(|contender| contender.seconds() <= most);
        as_good.min_by_key(|contender| contender.count()).expect("the best is as good as itself")
    }

    /// How many times as long as the best fixed number it took.
    pub fn ratio(&self, seconds: f64) -> f64 {
        seconds / self.best_seconds()
    }

    pub fn adaptive_ratio(&self) -> f64 {
        self.ratio(self.adaptive.seconds())
    }

    pub fn auto_ratio(&self) -> f64 {
        self.ratio(self.auto.seconds())
    }
}

pub fn hold(row: &Row, options: &Options) -> Score {
    let mut fixed = scout(row, options.seed);
    let finalists = finalists(&fixed);
    for finalist in &finalists {
        // Chosen for this time, so that it says too little.
        fixed[*finalist].runs.clear();
    }
    let adaptive = Contender::new(Sizing::Workers(AdaptiveWorkers::new().max(MOST).into()));
    let auto = Contender::new(Sizing::Workers(Workers::auto()));
    let peers = PEERS.map(|peer| Contender::new(Sizing::Peer(peer))).into();
    let mut score = Score { fixed, finalists, adaptive, auto, peers };
    for turn in 0..options.turns() {
        score.take_turn(row, turn, options.seed.wrapping_add(turn as u64));
    }
    score
}

/// Each fixed number once. Begins with the largest, since none is much worse on any of the workloads; two hopeless ones
/// say what those below them are, except to who looks at the picture.
fn scout(row: &Row, seed: u64) -> Vec<Contender> {
    let (mut best, mut hopeless, mut fixed) = (f64::INFINITY, 0, Vec::new());
    for count in row.counts().into_iter().rev() {
        let may_skip = row.fame == Fame::Plain && row.group != Group::Refusing;
        if hopeless == 2 && may_skip {
            break;
        }
        let mut contender = Contender::new(Sizing::Workers(Workers::Fixed(count)));
        let cut = best.is_finite().then(|| Duration::from_secs_f64((best * HOPELESS).max(0.1)));
        contender.take(row, seed, cut);
        hopeless = if contender.is_whole() { 0 } else { hopeless + 1 };
        best = best.min(contender.seconds());
        fixed.insert(0, contender);
    }
    fixed
}

/// Those that may be the best, by their place.
fn finalists(fixed: &[Contender]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..fixed.len()).filter(|place| fixed[*place].is_whole()).collect();
    places.sort_by(|a, b| fixed[*a].seconds().total_cmp(&fixed[*b].seconds()));
    let best = fixed[places[0]].seconds();
    places.retain(|place| fixed[*place].seconds() <= best * CLOSE);
    // Behind the best one, the smallest: where a curve is flat, that is where it becomes so.
    places[1..].sort_unstable();
    places.truncate(FINALISTS);
    places
}

/// What is left of uneven work cannot be worked out, so that is waited for.
fn patience(row: &Row) -> Option<Duration> {
    (row.course == Course::Even).then(|| Duration::from_secs_f64(PATIENCE))
}
