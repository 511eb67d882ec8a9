//! Where the time of the items goes: computing, waiting for a core, waiting at the limiter, or waiting for something else.
//! From that follows how many workers are enough, whatever they wait for.

use super::number::{count, float};

/// Waiting below this part of the computing is taken for none: clocks are read at slightly different moments, and a virtual core is
/// taken away for a while. One worker more for that comes and goes, and each time it goes a core may be idle for a millisecond: at a
/// twentieth, items of 1 ms took 1.05 of the best number's time on 2 cores, and 1.01 at a tenth.
const NO_WAIT: f64 = 0.1;

/// What Goetz's formula is exceeded by. In the simulator the best fixed number is 1.1 to 1.4 times his.
const HEADROOM: f64 = 1.4;

/// And in standard deviations of how many are ready to compute at once, which matters where there are few cores.
const SPREAD: f64 = 2.0;

/// A part of the time at the limiter from which on the limiter sets the pace.
const PACED: f64 = 0.05;

/// One claim alone says nothing; two, faded, are more than this.
const LEAST_CLAIMS: f64 = 1.5;

/// One claim, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From the claim until it was done.
    pub(super) cycle: f64,
    /// Of that, at the limiter.
    pub(super) paced: f64,
    pub(super) cpu: f64,
    /// Ready to compute, and without a core. On a busy machine work that computes would else be taken to wait.
    pub(super) delay: f64,
    /// How many claims ran beside it.
    pub(super) running: f64,
}

impl Times {
    /// For anything but a core.
    pub(super) fn waits(&self) -> f64 {
        (self.cycle - self.cpu - self.delay).max(0.0)
    }
}

/// Sums over the last claims that were measured, older ones fading.
#[derive(Debug, Default)]
pub(super) struct Share {
    claims: f64,
    cycle: f64,
    paced: f64,
    cpu: f64,
    waits: f64,
    /// Claim-seconds of those beside.
    running: f64,
}

impl Share {
    /// Counts a claim in, and lets older ones fade so that twice the number of workers are remembered.
    pub(super) fn add(&mut self, times: &Times, workers: usize) {
        let kept = 1.0 - 1.0 / (2.0 * float(workers)).max(16.0);
        let fade = |sum: &mut f64, new: f64| *sum = *sum * kept + new;
        fade(&mut self.claims, 1.0);
        fade(&mut self.cycle, times.cycle);
        fade(&mut self.paced, times.paced);
        fade(&mut self.cpu, times.cpu);
        fade(&mut self.waits, times.waits() - times.paced);
        fade(&mut self.running, times.running * times.cycle);
    }

    /// The mean seconds from claim to completion.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.claims > 0.0).then(|| self.cycle / self.claims)
    }

    /// This many workers are as good as any larger number, by what is measured.
    pub(super) fn enough(&self, cpus: usize) -> usize {
        self.for_the_cores(cpus).min(self.for_the_limiter())
    }

    /// Goetz: cores x (1 + waiting / computing).
    fn for_the_cores(&self, cpus: usize) -> usize {
        if self.cpu <= 0.0 || self.claims < LEAST_CLAIMS {
            return usize::MAX;
        }
        let waits = if self.waits < NO_WAIT * self.cpu { 0.0 } else { self.waits };
        let (cores, ratio) = (float(cpus), waits / self.cpu);
        count(cores * (1.0 + HEADROOM * ratio) + SPREAD * (cores * ratio).sqrt()).max(cpus)
    }

    /// Little: as many as are not at the limiter, which is its rate times the seconds of an item.
    fn for_the_limiter(&self) -> usize {
        let paced = self.paced / self.cycle;
        if self.claims < LEAST_CLAIMS || paced.is_nan() || paced < PACED {
            return usize::MAX;
        }
        let busy = self.running / self.cycle * (1.0 - paced);
        count(busy + SPREAD * busy.sqrt()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(cycle: f64, paced: f64, cpu: f64, delay: f64) -> Share {
        let mut share = Share::default();
        for _ in 0..100 {
            share.add(&Times { cycle, paced, cpu, delay, running: 32.0 }, 4);
        }
        share
    }

    #[test]
    fn computing_needs_the_cores_and_no_more() {
        assert_eq!(share(0.01, 0.0, 0.01, 0.0).enough(8), 8);
        assert_eq!(share(0.04, 0.0, 0.01, 0.03).enough(8), 8, "time without a core is no waiting");
        let waiting = [0.09, 0.11].map(|part| share(1.0 + part, 0.0, 1.0, 0.0).enough(2));
        assert_eq!(waiting, [2, 3], "below a tenth it is none");
    }

    #[test]
    fn waiting_nine_times_as_long_as_computing_needs_ten_times_the_cores_and_headroom() {
        assert_eq!(share(0.01, 0.0, 0.001, 0.0).enough(2), 36);
    }

    #[test]
    fn where_nothing_is_measured_nothing_is_enough() {
        assert_eq!(Share::default().enough(8), usize::MAX);
        assert_eq!(share(0.01, 0.0, 0.0, 0.0).enough(8), usize::MAX);
    }

    #[test]
    fn those_at_the_limiter_are_too_many() {
        assert_eq!(share(0.1, 0.05, 0.0, 0.0).enough(8), 24);
        assert_eq!(share(10.0, 9.999, 0.0, 0.0).enough(8), 1);
        assert_eq!(share(0.1, 0.001, 0.0, 0.0).enough(8), usize::MAX);
    }

    #[test]
    fn what_was_fades() {
        let mut share = share(1.0, 0.0, 0.0, 0.0);
        for _ in 0..100 {
            share.add(&Times { cycle: 0.1, paced: 0.0, cpu: 0.0, delay: 0.0, running: 1.0 }, 4);
        }
        assert!((share.mean().unwrap() - 0.1).abs() < 0.01);
    }
}
