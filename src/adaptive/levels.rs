//! What was measured at each number of workers since the work is what it is: evidence for all that are tried later.

use super::estimate::Estimate;

/// What is known of one number of workers.
#[derive(Debug, Clone, Copy)]
struct Level {
    workers: usize,
    /// None if items failed there that do not fail with fewer.
    seen: Option<Estimate>,
}

/// The levels, the lowest first, and when one that is held is questioned.
#[derive(Debug, Default)]
pub(super) struct Levels {
    known: Vec<Level>,
    /// Judgements since the last question, and how many there are to be before the next one.
    held: u32,
    pause: u32,
    /// Whether the last question was for more.
    upwards: bool,
}

impl Levels {
    /// What is left of the weight of evidence after a judgement.
    const KEPT: f64 = 0.95;

    const LONGEST_PAUSE: u32 = 16;

    /// Levels above may be as good as this one has become, but for those that are clearly worse.
    pub(super) fn forget_above(&mut self, workers: usize, is_worse: impl Fn(Estimate) -> bool) {
        self.known.retain(|level| level.workers <= workers || level.seen.is_some_and(&is_worse));
    }

    /// Counts what a judgement said in.
    pub(super) fn add(&mut self, workers: usize, seen: Estimate) {
        let seen = self.at(workers).map_or(seen, |known| known.and(&seen));
        self.insert(workers, Some(seen));
    }

    /// Items failed at this level.
    pub(super) fn refuse(&mut self, workers: usize) {
        self.insert(workers, None);
    }

    /// All that is known grows older by a judgement.
    fn insert(&mut self, workers: usize, seen: Option<Estimate>) {
        self.known
            .iter_mut()
            .filter_map(|level| level.seen.as_mut())
            .for_each(|seen| seen.claims *= Self::KEPT);
        let level = Level { workers, seen };
        match self.known.binary_search_by_key(&workers, |level| level.workers) {
            Ok(place) => self.known[place] = level,
            Err(place) => self.known.insert(place, level),
        }
    }

    /// All levels at which items gave values.
    pub(super) fn seen(&self) -> impl Iterator<Item = (usize, Estimate)> {
        self.known.iter().filter_map(|level| Some((level.workers, level.seen?)))
    }

    pub(super) fn at(&self, workers: usize) -> Option<Estimate> {
        self.known.iter().find(|level| level.workers == workers)?.seen
    }

    /// The nearest known level above this one.
    pub(super) fn above(&self, workers: usize) -> Option<usize> {
        self.known.iter().map(|level| level.workers).find(|&level| level > workers)
    }

    pub(super) fn below(&self, workers: usize) -> Option<usize> {
        self.known.iter().rev().map(|level| level.workers).find(|&level| level < workers)
    }

    /// Counts a judgement of the level that is held; whether it is time to question it.
    pub(super) fn is_due(&mut self) -> bool {
        self.held += 1;
        self.held >= self.pause
    }

    /// It is questioned: twice as long until the next time. Whether the question is for more workers.
    pub(super) fn question(&mut self) -> bool {
        (self.held, self.pause) = (0, (self.pause * 2).clamp(1, Self::LONGEST_PAUSE));
        self.upwards = !self.upwards;
        self.upwards
    }

    /// Something better was found.
    pub(super) fn ask_soon(&mut self) {
        (self.held, self.pause) = (0, 0);
    }
}
