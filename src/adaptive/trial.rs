//! What is done with a measured level: try more workers, try fewer, or stay.

use super::estimate::{Comparison, Estimate};
use super::levels::Levels;
use super::number::{count, float};
use super::{Controller, Course};

/// The least part of a raise that has to come back as items a second: a doubling has to bring 1.41 times as much. Work
/// that waits has 1, a saturated server 0.
const ELASTICITY: f64 = 0.5;

/// Where more than this part comes back, the next raise is to four times as many.
const STEEP: f64 = 0.7;

/// Fewer workers are as good if they bring this much more, as a logarithm: they are tried again and again, and small
/// errors would add up.
const NOTHING: f64 = 0.05;

/// Of standard errors: below the first it is worse, from the second on better. A false stop costs many workers, a false
/// raise few.
const RAISE: (f64, f64) = (-2.0, -0.25);
const CUT: (f64, f64) = (-1.0, 0.0);

/// Fewer workers are tried with m claims only if this many times m items are left. It costs nothing where the level does not
/// matter; else up to half of the throughput while it lasts, a twenty-fourth of the rest.
const BUDGET: usize = 12;

/// Four times as many are tried if the square of that is not more than this many times what is left.
const BOLD: usize = 16;

/// This many items must be left for each worker, to make up for a raise that is too much.
const LAST: usize = 3;

/// A factor of two, as a logarithm, is more than a queue that fills makes of the time of items.
const CHANGE: f64 = 0.7;

/// Levels that are nearer to each other than this have nothing between them that is worth a trial.
const NEAR: f64 = 1.4;

/// Fewer than what is held are tried only where this many times that much is left: it seldom brings something.
const DOWN: usize = 3;

/// How many times as many, or as few, are tried when a level is questioned.
const FINE: f64 = 1.25;

impl Comparison {
    /// By how many standard errors it is better than it must be: a raise has to bring its part, and fewer have to bring more.
    fn margin(&self) -> f64 {
        let least = if self.step > 0.0 { ELASTICITY * self.step } else { 0.0 };
        (self.gain - least) / self.error
    }

    /// Whether it is better, or worse; none where noise may have made of it what it is.
    fn verdict(&self) -> Option<bool> {
        let (worse, better) = if self.step > 0.0 { RAISE } else { CUT };
        let margin = self.margin();
        if margin >= better { Some(true) } else { (margin < worse).then_some(false) }
    }

    /// Whether items take another time at the same number of workers.
    fn is_another_time(&self) -> bool {
        (self.gain - self.step).abs() > CHANGE + 2.0 * self.error
    }

    /// Whether nearly all of a raise came back.
    fn is_steep(&self) -> bool {
        self.gain.abs() > STEEP * self.step.abs().max(0.1)
    }
}

impl Controller {
    /// Takes a measured level into account.
    pub(super) fn decide(&mut self, seen: Estimate) {
        let has_changed = |known: Estimate| {
            seen.is_of_another_kind(&known) || seen.against(&known, &self.noise).is_another_time()
        };
        match self.course {
            Course::Ramp => self.begin(seen),
            Course::Trial { from } => self.judge(from, seen),
            Course::Hold if self.levels.at(self.limit).is_some_and(has_changed) => self.begin(seen),
            Course::Hold => {
                self.levels.add(self.limit, seen);
                self.explore();
            }
        }
    }

    /// Nothing that was found about other work holds.
    fn begin(&mut self, seen: Estimate) {
        (self.levels, self.stride) = (Levels::default(), 2);
        self.levels.add(self.limit, seen);
        self.explore();
    }

    /// Compares the level that was tried with that from which it was tried.
    fn judge(&mut self, from: usize, seen: Estimate) {
        let Some(base) = self.levels.at(from) else { return self.begin(seen) };
        if seen.is_of_another_kind(&base) {
            return self.begin(seen);
        }
        let is_first = self.levels.at(self.limit).is_none();
        self.levels.add(self.limit, seen);
        let all = self.levels.at(self.limit).unwrap_or(seen);
        let by = all.against(&base, &self.noise);
        match by.verdict() {
            None if is_first && self.can_pay(self.limit) => return self.remeasure(),
            Some(true) => {}
            None if by.margin() >= if self.limit > from { -1.0 } else { 0.0 } => {}
            _ => return self.give_way(from, by),
        }
        let is_steep = self.limit > from && by.is_steep();
        if is_steep {
            let is_clear = |seen: Estimate| {
                let by = seen.against(&all, &self.noise);
                by.gain < -2.0 * by.error
            };
            self.levels.forget_above(self.limit, is_clear);
        }
        self.stride = if is_steep && self.limit >= 2 * from { 4 } else { 2 };
        self.levels.ask_soon();
        self.explore();
    }

    /// Gives a raise up as soon as the claims that still run have run too long for it to be worth it.
    pub(super) fn foresee(&mut self, now: f64) {
        let Course::Trial { from } = self.course else { return };
        let Some(base) = self.levels.at(from).filter(|_| from < self.limit) else { return };
        let Some(seen) = self.cohort.at_best(now, self.limit, &base) else { return };
        let by = seen.against(&base, &self.noise);
        if by.verdict() == Some(false) && by.gain < NOTHING {
            self.levels.add(self.limit, seen);
            self.give_way(from, by);
        }
    }

    /// Back; and at once to fewer, if more were worse.
    fn give_way(&mut self, from: usize, by: Comparison) {
        let is_clear = by.gain < -by.error;
        match self.untried(from).filter(|workers| *workers < from && is_clear) {
            Some(fewer) => self.set(fewer, Course::Trial { from }),
            None => self.set(from, Course::Hold),
        }
    }

    /// From the level that is the best so far: tries what is not known yet, and holds it where all is.
    fn explore(&mut self) {
        let enough = self.enough();
        if self.limit > enough {
            self.levels = Levels::default();
            return self.set(enough, Course::Hold);
        }
        if let Some(workers) = self.better().or_else(|| self.untried(self.limit)) {
            return self.set(workers, Course::Trial { from: self.limit });
        }
        self.course = Course::Hold;
        match self.question().filter(|workers| *workers != self.limit) {
            Some(workers) => {
                self.set(workers, Course::Trial { from: self.limit });
                self.cohort.open(0, self.telling_claims());
            }
            None => self.remeasure(),
        }
    }

    /// What is tried of a level that has been held for long: a few more and a few less by turns, and half where no less was tried.
    fn question(&mut self) -> Option<usize> {
        if !self.levels.is_due() {
            return None;
        }
        let (limit, most, up) = (self.limit, self.enough().min(self.most), self.levels.question());
        let finer = match (up, self.levels.above(limit), self.levels.below(limit)) {
            (true, Some(above), _) if self.levels.at(above).is_none() => above,
            (true, ..) => count(float(limit) * FINE).max(limit + 1),
            (false, None, None) if limit > 2 => limit.div_ceil(2),
            (false, ..) => count(float(limit) / FINE),
        };
        let is_paid =
            if up { self.can_pay(limit) } else { self.can_pay(DOWN * limit.max(self.telling_claims())) };
        is_paid.then(|| finer.clamp(self.least, most))
    }

    /// This many claims show a difference of a fifth.
    fn telling_claims(&self) -> usize {
        count(self.noise.claims()).clamp(6, 512).max(self.limit / 2)
    }

    /// A level that all that was measured since shows to be better.
    fn better(&self) -> Option<usize> {
        let here = self.levels.at(self.limit)?;
        let others = self.levels.seen().filter(|(workers, _)| *workers != self.limit);
        let compared = others.map(|(workers, seen)| (workers, seen.against(&here, &self.noise)));
        let better = compared.filter(|(_, by)| by.verdict() == Some(true) && by.gain > NOTHING);
        Some(better.max_by(|(_, a), (_, b)| a.gain.total_cmp(&b.gain))?.0)
    }

    /// What is worth a trial, of what is not known: more, as long as that was not seen to bring nothing; else fewer.
    fn untried(&self, limit: usize) -> Option<usize> {
        let most = self.enough().min(self.most);
        let Some(above) = self.levels.above(limit) else {
            let more = Some(self.coarser(limit).min(most)).filter(|more| *more > limit);
            // What is near the most has nothing above it that is worth a trial.
            return more.map(|more| if float(more) * NEAR >= float(most) { most } else { more });
        };
        let below = match self.levels.below(limit) {
            None => limit / 2,
            Some(below) => between(below, limit)?,
        };
        let falls = |seen: Estimate| {
            let by = self.levels.at(limit).map(|here| seen.against(&here, &self.noise));
            by.is_none_or(|by| by.gain < NOTHING.min(ELASTICITY * by.step))
        };
        if self.levels.at(above).is_some_and(falls) {
            return Some(below.max(self.least)).filter(|fewer| *fewer < limit && self.can_pay(*fewer));
        }
        between(limit, above).filter(|more| *more < most && self.can_pay(*more))
    }

    /// What is tried above all that is known.
    fn coarser(&self, limit: usize) -> usize {
        let bold = limit.saturating_mul(self.stride);
        if bold <= self.most && bold.saturating_mul(bold) <= self.left.saturating_mul(BOLD) {
            return bold;
        }
        let twice = limit.saturating_mul(2).min(self.most);
        if twice.saturating_mul(LAST) <= self.left { twice } else { limit }
    }

    fn can_pay(&self, claims: usize) -> bool {
        claims.max(6).saturating_mul(BUDGET) <= self.left
    }
}

/// The number between two, by their ratio; none if they are near each other.
fn between(low: usize, high: usize) -> Option<usize> {
    let middle = count((float(low) * float(high)).sqrt()).clamp(low, high);
    (float(high) >= NEAR * float(low) && middle > low && middle < high).then_some(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(factor: f64, error: f64) -> Comparison {
        Comparison { step: 2.0_f64.ln(), gain: factor.ln(), error }
    }

    fn halved(factor: f64, error: f64) -> Comparison {
        Comparison { step: 0.5_f64.ln(), gain: factor.ln(), error }
    }

    #[test]
    fn a_doubling_pays_from_1_41_times_the_throughput_on() {
        assert_eq!([1.42, 1.40].map(|factor| doubled(factor, 1e-9).verdict()), [Some(true), Some(false)]);
        assert_eq!(
            [1.4, 1.2].map(|factor| doubled(factor, 0.2).verdict()),
            [Some(true), None],
            "it may be noise"
        );
    }

    #[test]
    fn fewer_are_taken_when_they_bring_more_and_noise_did_not_do_it() {
        assert_eq!([1.01, 0.99].map(|factor| halved(factor, 1e-9).verdict()), [Some(true), Some(false)]);
        assert_eq!(halved(0.95, 0.1).verdict(), None);
    }

    #[test]
    fn after_two_thirds_more_from_a_doubling_a_raise_is_steep() {
        assert!(doubled(1.65, 0.0).is_steep() && !doubled(1.6, 0.0).is_steep());
    }

    #[test]
    fn between_two_levels_is_the_middle_of_their_logarithms_unless_they_are_near() {
        let middles = [(4, 16), (8, 32), (6, 8), (1, 2)].map(|(low, high)| between(low, high));
        assert_eq!(middles, [Some(8), Some(16), None, None]);
    }
}
