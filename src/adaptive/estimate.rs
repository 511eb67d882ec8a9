//! How long items take at some number of workers, and what one such estimate says against another.

use super::number::float;

/// Claims that wait for more than this part of their time are compared by their waiting alone: computing takes as long
/// at any number of workers, and cores that are short are seen elsewhere.
const WAITING: f64 = 0.2;

/// Nothing is taken to be shorter, in seconds.
const SHORTEST: f64 = 1e-7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Waiting,
    Computing,
}

impl Kind {
    /// By the part of the time that is spent waiting.
    pub(super) fn of(waits: f64) -> Self {
        if waits > WAITING { Kind::Waiting } else { Kind::Computing }
    }
}

/// The time of an item, or its age, if it is not over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) seconds: f64,
    pub(super) over: bool,
}

/// The mean and the variance of the logarithms of the shortest `part` of the times, by Kaplan and Meier's estimator, which
/// takes into account of what still runs that it has not ended at its age. `None` if too little has ended.
pub(super) fn typical(lives: &mut [Life], part: f64) -> Option<(f64, f64)> {
    lives.sort_unstable_by(|a, b| a.seconds.total_cmp(&b.seconds).then(b.over.cmp(&a.over)));
    let (mut still, mut sum, mut squares) = (1.0, 0.0, 0.0);
    for (left, life) in (1..=lives.len()).rev().zip(lives.iter()).filter(|(_, life)| life.over) {
        let after = still * (1.0 - 1.0 / float(left));
        let ended = (1.0 - after).min(part) - (1.0 - still);
        let ln = life.seconds.max(SHORTEST).ln();
        sum += ended * ln;
        squares += ended * ln * ln;
        still = after;
        if 1.0 - still >= part - 1e-9 {
            let mean = sum / part;
            return Some((mean, (squares / part - mean * mean).max(0.0)));
        }
    }
    None
}

/// The mean logarithm of this many of the shortest times, if all were over.
pub(super) fn at_least(lives: &mut [Life], shortest: usize) -> Option<f64> {
    if lives.is_empty() {
        return None;
    }
    lives.select_nth_unstable_by(shortest - 1, |a, b| a.seconds.total_cmp(&b.seconds));
    let sum: f64 = lives[..shortest].iter().map(|life| life.seconds.max(SHORTEST).ln()).sum();
    Some(sum / float(shortest))
}

/// What a cohort said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    /// The logarithm of an item's typical time: of its waiting, for the waiting kind.
    pub(super) ln_time: f64,
    /// Its variance between claims.
    pub(super) variance: f64,
    /// The logarithm of how many ran at once.
    pub(super) ln_running: f64,
    pub(super) claims: f64,
    /// The part of the time that was spent computing, and waiting.
    pub(super) used: f64,
    pub(super) waits: f64,
    pub(super) kind: Kind,
}

impl Estimate {
    /// Whether the items are so different that comparing says nothing.
    pub(super) fn is_of_another_kind(&self, base: &Estimate) -> bool {
        const ANOTHER: f64 = 0.4;
        (self.used - base.used).abs() > ANOTHER || self.kind != base.kind
    }

    /// The two taken together, each by its claims.
    pub(super) fn and(&self, newer: &Estimate) -> Estimate {
        const MOST_CLAIMS: f64 = 128.0;
        let weight = newer.claims / (self.claims + newer.claims);
        let mean = |old: f64, new: f64| old + weight * (new - old);
        Estimate {
            ln_time: mean(self.ln_time, newer.ln_time),
            variance: mean(self.variance, newer.variance),
            ln_running: mean(self.ln_running, newer.ln_running),
            claims: (self.claims + newer.claims).min(MOST_CLAIMS),
            used: mean(self.used, newer.used),
            waits: mean(self.waits, newer.waits),
            kind: newer.kind,
        }
    }

    pub(super) fn against(&self, base: &Estimate, noise: &Noise) -> Comparison {
        let step = self.ln_running - base.ln_running;
        let slower = match base.kind {
            Kind::Waiting => (1.0 - base.waits + base.waits * (self.ln_time - base.ln_time).exp()).ln(),
            Kind::Computing => self.ln_time - base.ln_time,
        };
        let error = (noise.variance * (1.0 / self.claims + 1.0 / base.claims)).sqrt();
        Comparison { step, gain: step - slower, error }
    }
}

/// One number of workers against another: all in natural logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    /// Of how many ran.
    pub(super) step: f64,
    /// Of items a second, by Little's law: how many ran over how long an item took.
    pub(super) gain: f64,
    /// The standard error of the gain.
    pub(super) error: f64,
}

/// How much claims differ, over all levels.
#[derive(Debug)]
pub(super) struct Noise {
    variance: f64,
    weight: f64,
}

/// Taken to be large until known better: four lucky claims decide nothing.
impl Default for Noise {
    fn default() -> Self {
        Noise { variance: 0.5, weight: 8.0 }
    }
}

impl Noise {
    pub(super) fn add(&mut self, seen: &Estimate) {
        const LONGEST_MEMORY: f64 = 64.0;
        /// The variance of the shortest part of the times is less than that of all.
        const CUT_OFF: f64 = 1.6;
        let weight = self.weight + seen.claims;
        self.variance = (self.variance * self.weight + CUT_OFF * seen.variance * seen.claims) / weight;
        self.weight = weight.min(LONGEST_MEMORY);
    }

    /// This many claims show a difference of a fifth.
    pub(super) fn claims(&self) -> f64 {
        40.0 * self.variance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(times: &[(f64, bool)]) -> Vec<Life> {
        times.iter().map(|&(seconds, over)| Life { seconds, over }).collect()
    }

    fn estimate(running: f64, seconds: f64, waits: f64) -> Estimate {
        let (ln_time, ln_running, kind) = (seconds.ln(), running.ln(), Kind::of(waits));
        Estimate { ln_time, variance: 0.0, ln_running, claims: 16.0, used: 1.0 - waits, waits, kind }
    }

    #[test]
    fn without_running_claims_it_is_the_mean_of_the_shortest() {
        let (mean, variance) =
            typical(&mut lives(&[(1.0, true), (1.0, true), (9.0, true), (1.0, true)]), 0.75).unwrap();
        assert!(mean.abs() < 1e-12 && variance.abs() < 1e-12);
    }

    #[test]
    fn what_still_runs_has_lasted_at_least_so_long() {
        let ended = typical(&mut lives(&[(1.0, true), (2.0, true), (2.0, true)]), 0.6).unwrap().0;
        let running =
            typical(&mut lives(&[(1.0, true), (2.0, true), (2.0, true), (1.5, false)]), 0.6).unwrap().0;
        assert!(running > ended);
        assert!(typical(&mut lives(&[(1.0, true), (2.0, false), (2.0, false)]), 0.6).is_none());
    }

    #[test]
    fn at_least_takes_ages_for_times() {
        let at_least = at_least(&mut lives(&[(1.0, false), (1.0, true), (50.0, false)]), 2).unwrap();
        assert!(at_least.abs() < 1e-12);
    }

    #[test]
    fn twice_the_workers_at_the_same_waiting_bring_twice_as_much_and_at_twice_the_waiting_nothing() {
        let (base, noise) = (estimate(8.0, 0.01, 1.0), Noise::default());
        let free = estimate(16.0, 0.01, 1.0).against(&base, &noise);
        assert!((free.gain - 2.0_f64.ln()).abs() < 1e-9 && (free.step - 2.0_f64.ln()).abs() < 1e-9);
        assert!(estimate(16.0, 0.02, 1.0).against(&base, &noise).gain.abs() < 1e-9);
    }

    #[test]
    fn only_the_waiting_part_of_the_time_grows() {
        let base = estimate(8.0, 0.01, 0.5);
        let by = estimate(16.0, 0.02, 0.5).against(&base, &Noise::default());
        assert!((by.gain - (2.0_f64 / 1.5).ln()).abs() < 1e-9);
    }

    #[test]
    fn noise_begins_large_and_follows_what_is_seen() {
        let mut noise = Noise::default();
        let before = noise.claims();
        (0..20).for_each(|_| noise.add(&estimate(8.0, 0.01, 1.0)));
        assert!(before >= 20.0 && noise.claims() < 1.0, "{before} {}", noise.claims());
    }
}
