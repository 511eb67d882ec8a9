//! What is done with a measured level: try more workers, try fewer, or stay.

use super::Controller;
use super::course::{Course, Pauses};
use super::estimate::{Comparison, Estimate};
use super::number::{count, float};

/// The least part of a raise that has to come back as items a second: a doubling has to bring 1.32 times as much. Work
/// that waits has 1, a saturated server 0.
const ELASTICITY: f64 = 0.4;

/// Fewer items a second than this, as a logarithm, are a reason to go back at once.
const FALL: f64 = 0.3;

/// Where more than this part comes back, the next raise is to four times as many.
const STEEP: f64 = 0.7;

/// Fewer workers are as good if they bring this much more, as a logarithm: they are tried again and again, and small
/// errors would add up.
const NOTHING: f64 = 0.05;

/// Fewer workers are tried with m claims only if so many times m items are left. It costs nothing where the level does not
/// matter; else up to half of the throughput while it lasts, a twenty-fourth of the rest.
const BUDGET: usize = 12;

/// The same for work that computes, which seldom gains from it.
const COMPUTING_BUDGET: usize = 32;

impl Comparison {
    /// Whether a raise was worth it, as far as noise lets one say: a false stop costs many workers, a false raise few.
    fn pays(&self) -> bool {
        self.gain >= ELASTICITY * self.step.max(0.1) - self.error
    }

    /// How many times the workers to try next.
    fn stride(&self) -> usize {
        if self.gain.abs() > STEEP * self.step.abs().max(0.1) { 4 } else { 2 }
    }

    /// Whether fewer are as good, beyond what noise could have made of it.
    fn loses_nothing(&self) -> bool {
        self.gain >= NOTHING + self.error
    }

    /// Whether fewer are nearly as good.
    fn is_flat(&self) -> bool {
        self.gain >= ELASTICITY * self.step.min(-0.1) + self.error
    }
}

impl Controller {
    /// Takes a measured level into account.
    pub(super) fn decide(&mut self, seen: Estimate) {
        let base = self.base.unwrap_or(seen);
        let by = seen.against(&base, &self.noise);
        match self.course {
            Course::Ramp => self.begin(seen),
            Course::Up { from } => self.judge_raise(from, seen, by),
            Course::Down { from } => self.judge_cut(from, seen, by),
            Course::Hold | Course::Relief if seen.is_of_another_kind(&base) => self.begin(seen),
            Course::Hold | Course::Relief => self.hold_on(base.and(&seen)),
        }
    }

    /// Nothing that was found about other work holds.
    fn begin(&mut self, seen: Estimate) {
        let fall = self.first.take().and_then(|first| first.against(&seen, &self.noise));
        (self.base, self.pauses, self.saturated) = (Some(seen), Pauses::default(), false);
        match fall.filter(|by| by.gain < -FALL - by.error) {
            Some(by) => self.retreat(by),
            None => self.grow(2),
        }
    }

    /// Those that were started without evidence are in each other's way: the first items, when few ran, took so much less
    /// that there were more items a second. By Little's law, as many were served then as the time has grown by less.
    fn retreat(&mut self, by: Comparison) {
        let served = float(self.limit) * (by.gain - by.step).exp();
        self.saturated = true;
        self.set(self.cpus.max(count(2.0 * served)).min(self.limit), Course::Hold);
    }

    /// Tries with so many times the workers, if that could help.
    fn grow(&mut self, times: usize) {
        let enough = self.enough();
        if self.limit >= enough.min(self.most) {
            return self.set(enough, Course::Hold);
        }
        self.set(self.limit.saturating_mul(times).min(enough), Course::Up { from: self.limit });
    }

    fn judge_raise(&mut self, from: usize, seen: Estimate, by: Comparison) {
        if !by.pays() {
            return self.give_way(from, seen, by.gain);
        }
        (self.base, self.saturated) = (Some(seen), false);
        (self.pauses.pause, self.pauses.looked_again) = (0, false);
        self.grow(by.stride());
    }

    /// Gives a raise up as soon as the claims that still run have run too long for it to be worth it.
    pub(super) fn foresee(&mut self, now: f64) {
        let (Course::Up { from }, Some(base)) = (self.course, self.base) else { return };
        let Some(seen) = self.cohort.at_best(now, self.limit, &base) else { return };
        let by = seen.against(&base, &self.noise);
        if !by.pays() && by.gain < NOTHING {
            self.give_way(from, seen, by.gain);
        }
    }

    /// Back, and not asked again soon. If the raise brought something, more are tried next, else fewer.
    fn give_way(&mut self, from: usize, seen: Estimate, gain: f64) {
        (self.rejected, self.saturated) = (Some(seen), true);
        self.pauses.longer();
        self.pauses.downwards = gain < NOTHING;
        self.set(from, Course::Hold);
    }

    fn judge_cut(&mut self, from: usize, seen: Estimate, by: Comparison) {
        if by.loses_nothing() {
            (self.base, self.saturated, self.pauses.pause) = (Some(seen), true, 1);
            return self.go_down();
        }
        self.pauses.held = 0;
        self.saturated |= by.is_flat();
        self.limit = from;
        if self.saturated {
            return self.set(from, Course::Hold);
        }
        self.grow(by.stride());
    }

    /// Tries with half the workers, if the rest of the batch can pay for it.
    fn go_down(&mut self) {
        let half = self.limit.div_ceil(2);
        if half < self.limit && self.can_pay(half, BUDGET) {
            return self.set(half, Course::Down { from: self.limit });
        }
        self.pauses.held = 0;
        self.set(self.limit, Course::Hold);
    }

    fn can_pay(&self, claims: usize, times: usize) -> bool {
        claims.max(6).saturating_mul(times) <= self.left
    }

    fn hold_on(&mut self, seen: Estimate) {
        self.base = Some(seen);
        self.course = Course::Hold;
        let (enough, due) = (self.enough(), self.pauses.count_judgement());
        if self.limit > enough {
            self.set(enough, Course::Hold);
        } else if self.was_rejected_wrongly(&seen) {
            self.grow(2);
        } else if self.saturated {
            if due { self.question() } else { self.remeasure() }
        } else if self.limit < enough.min(self.most) {
            self.grow(2);
        } else if self.pauses.held >= 2 && self.limit == enough && !self.pauses.computing_tried {
            self.question_computing();
        } else {
            self.remeasure();
        }
    }

    /// A raise is often judged by the first claims of all, which are few and the quickest. Once it is compared again
    /// with what has been measured since.
    fn was_rejected_wrongly(&mut self, seen: &Estimate) -> bool {
        let Some(rejected) = self.rejected.take().filter(|_| !self.pauses.looked_again) else { return false };
        let wrongly = rejected.against(seen, &self.noise).pays();
        if wrongly {
            (self.pauses.looked_again, self.pauses.pause) = (true, 0);
        }
        wrongly
    }

    /// Tries with fewer and with more workers by turns.
    fn question(&mut self) {
        let downwards = self.pauses.downwards;
        (self.pauses.held, self.pauses.downwards) = (0, !downwards);
        if downwards {
            self.go_down();
        } else if self.limit < self.enough().min(self.most) {
            self.grow(2);
        } else {
            self.pauses.longer(); // the answer is known: more would bring nothing
            self.remeasure();
        }
    }

    /// Asks once whether workers that compute are in each other's way, by memory or by what they share.
    fn question_computing(&mut self) {
        let claims = count(self.noise.claims()).clamp(6, 512).max(self.limit / 2);
        if self.limit < 3 || !self.can_pay(claims, COMPUTING_BUDGET) {
            return self.remeasure();
        }
        self.pauses.computing_tried = true;
        self.set(self.limit.div_ceil(2), Course::Down { from: self.limit });
        self.cohort.open(0, claims);
    }
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
    fn a_doubling_pays_from_1_32_times_the_throughput_on() {
        assert!(doubled(1.33, 0.0).pays() && !doubled(1.31, 0.0).pays());
        assert!(doubled(1.1, 0.2).pays(), "it may be noise");
    }

    #[test]
    fn after_two_thirds_more_from_a_doubling_the_next_raise_is_to_four_times_as_many() {
        assert_eq!([1.65, 1.6].map(|factor| doubled(factor, 0.0).stride()), [4, 2]);
        assert_eq!([0.6, 0.63].map(|factor| halved(factor, 0.0).stride()), [4, 2]);
    }

    #[test]
    fn fewer_are_taken_when_they_bring_more_and_noise_did_not_do_it() {
        assert!(halved(1.06, 0.0).loses_nothing() && !halved(1.04, 0.0).loses_nothing());
        assert!(!halved(1.06, 0.1).loses_nothing());
    }

    #[test]
    fn half_the_workers_with_nearly_the_throughput_are_flat() {
        assert!(halved(0.8, 0.0).is_flat() && !halved(0.7, 0.0).is_flat());
    }
}
