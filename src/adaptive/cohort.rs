//! The claims that began after the limit changed, from which the new limit is judged; what ran before says nothing about
//! it. And the claims that began before it was first changed, which the first judgement is compared with.

use super::estimate::{Estimate, Kind, Life, at_least, typical};
use super::number::{count, float};
use super::share::Times;

/// The part of a cohort that has to be done before it is judged. Those that take longest would cost most to wait for.
const DONE: f64 = 0.7;

/// Claims whose waiting is above this part of their time count where waiting is compared.
const SOME_WAIT: f64 = 0.1;

/// A cohort is given up when this many times its size were completed since it opened: it waits for stragglers.
const GIVE_UP: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Claim {
    began: f64,
    items: f64,
    /// What it took, and whether it gave a value.
    done: Option<(Times, bool)>,
}

/// Its claims, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Cohort {
    number: u32,
    skip: usize,
    size: usize,
    claims: Vec<Claim>,
    done: usize,
    /// How many have to be done for the next judgement.
    ripe: usize,
    /// Of claims of any cohort, since it was opened.
    completions: usize,
    /// Kept for its memory.
    lives: Vec<Life>,
}

impl Cohort {
    /// Begins anew with `size` claims, after those of the next `skip`.
    pub(super) fn open(&mut self, skip: usize, size: usize) {
        self.number = self.number.wrapping_add(1);
        (self.skip, self.size) = (skip, size);
        self.ripe = count((DONE * float(self.size)).ceil());
        self.claims.clear();
        (self.done, self.completions) = (0, 0);
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Takes a claim that begins in, if there is room; its place.
    pub(super) fn admit(&mut self, now: f64, items: usize) -> Option<usize> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.claims.len() == self.size {
            return None;
        }
        self.claims.push(Claim { began: now, items: float(items.max(1)), done: None });
        Some(self.claims.len() - 1)
    }

    /// A claim of any cohort was done.
    pub(super) fn count_completion(&mut self) {
        self.completions += 1;
    }

    /// The claim at that place was done.
    pub(super) fn completed(&mut self, place: usize, times: Times, has_value: bool) {
        let Some(claim) = self.claims.get_mut(place) else { return };
        claim.done = Some((times, has_value));
        self.done += 1;
    }

    /// Whether it will not come to a judgement in good time.
    pub(super) fn is_lost(&self) -> bool {
        self.done == self.size || self.completions > GIVE_UP * self.size
    }

    /// What the claims say, as soon as enough are done to say it. If they say nothing, more have to be done.
    pub(super) fn estimate(&mut self, now: f64) -> Option<Estimate> {
        if self.done < self.ripe {
            return None;
        }
        let seen = self.reckon(now);
        if seen.is_none() {
            self.ripe = (self.done + (self.size / 16).max(1)).min(self.size);
        }
        seen
    }

    fn reckon(&mut self, now: f64) -> Option<Estimate> {
        let done = || self.claims.iter().filter_map(|claim| claim.done.as_ref());
        let mean = |of: fn(&Times) -> f64| done().map(|(times, _)| of(times)).sum::<f64>() / float(self.done);
        let (cycle, cpu, ln_running) =
            (mean(|times| times.cycle), mean(|times| times.cpu), mean(|times| times.running.ln()));
        let waits = (mean(Times::waits) / cycle).clamp(0.0, 1.0);
        let kind = Kind::of(waits);
        let (ln_time, variance) = typical(self.look_at(kind, now), DONE)?;
        Some(Estimate {
            ln_time,
            variance,
            ln_running,
            claims: float(self.lives.len()),
            used: cpu / cycle,
            waits,
            kind,
        })
    }

    /// What the claims would say at best, if all that run ended now with all workers at work; none until all have begun.
    pub(super) fn at_best(&mut self, now: f64, limit: usize, base: &Estimate) -> Option<Estimate> {
        if self.claims.len() < self.size {
            return None;
        }
        let lives = self.look_at(base.kind, now);
        let claims = float(lives.len());
        let ln_time = at_least(lives, count(DONE * claims).max(1))?;
        Some(Estimate { ln_time, ln_running: float(limit).ln(), claims, ..*base })
    }

    fn look_at(&mut self, kind: Kind, now: f64) -> &mut [Life] {
        self.lives.clear();
        self.lives.extend(self.claims.iter().filter_map(|claim| claim.life(kind, now)));
        &mut self.lives
    }
}

impl Claim {
    /// How long it took for an item, or has taken so far. What fails is no throughput.
    fn life(&self, kind: Kind, now: f64) -> Option<Life> {
        let Some((times, has_value)) = self.done else {
            return Some(Life { seconds: (now - self.began) / self.items, over: false });
        };
        let (seconds, counts) = match kind {
            Kind::Computing => (times.cycle, true),
            Kind::Waiting => (times.waits(), times.waits() > SOME_WAIT * times.cycle),
        };
        (counts && has_value).then(|| Life { seconds: seconds / self.items, over: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(skip: usize, size: usize) -> Cohort {
        let mut cohort = Cohort::default();
        cohort.open(skip, size);
        cohort
    }

    fn waited(seconds: f64) -> Times {
        Times { cycle: seconds, paced: 0.0, cpu: 0.0, delay: 0.0, running: 4.0 }
    }

    #[test]
    fn it_takes_those_that_begin_after_the_skipped_ones_until_it_is_full() {
        let mut cohort = cohort(2, 4);
        let places: Vec<_> = (0..8).map(|_| cohort.admit(0.0, 1)).collect();
        assert_eq!(places, [None, None, Some(0), Some(1), Some(2), Some(3), None, None]);
    }

    #[test]
    fn it_says_something_when_seven_in_ten_are_done() {
        let mut cohort = cohort(0, 10);
        (0..10).for_each(|_| assert!(cohort.admit(0.0, 1).is_some()));
        for place in 0..7 {
            assert!(cohort.estimate(0.01).is_none());
            cohort.completed(place, waited(0.01), true);
        }
        let seen = cohort.estimate(0.01).unwrap();
        assert!((seen.ln_time - 0.01_f64.ln()).abs() < 1e-9 && seen.kind == Kind::Waiting);
    }

    #[test]
    fn a_claim_of_several_items_counts_for_the_time_of_one() {
        let mut cohort = cohort(0, 4);
        for place in 0..4 {
            cohort.admit(0.0, 10);
            cohort.completed(place, waited(0.01), true);
        }
        assert!((cohort.estimate(0.01).unwrap().ln_time - 0.001_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn it_is_lost_when_many_others_are_completed_before_it() {
        let mut cohort = cohort(0, 4);
        (0..32).for_each(|_| cohort.count_completion());
        assert!(!cohort.is_lost());
        cohort.count_completion();
        assert!(cohort.is_lost());
    }
}
