//! What other crates do to find how many requests may be under way, as plain values: each hears of every request that ended.
//!
//! Those of `tower-acc` are used as its documentation says, with its defaults, but with the limits of this table: from 1 to
//! the most. Vector's is written anew after its source, since `rate_limiter_aimd` 0.1.1 keeps its `Controller` private, behind
//! a service for `reqwest`.

use std::time::Duration;

use tower_acc::{Aimd, Algorithm, Gradient2, Vegas};

pub trait Peer: Send {
    /// How many requests may be under way.
    fn limit(&self) -> usize;

    /// One that took `rtt` ended at `now`, in seconds; `in_flight` with it.
    fn ended(&mut self, now: f64, rtt: f64, in_flight: usize, failed: bool);
}

/// A peer's name, and the function that makes one with this upper limit.
pub type Make = (&'static str, fn(usize) -> Box<dyn Peer>);

pub const PEERS: [Make; 4] = [
    ("AIMD", |most| {
        Box::new(Tower(Aimd::builder().min_limit(1).initial_limit(20.min(most)).max_limit(most).build()))
    }),
    ("Vegas", |most| Box::new(Tower(Vegas::builder().initial_limit(20.min(most)).max_limit(most).build()))),
    ("Gradient2", |most| {
        Box::new(Tower(Gradient2::builder().min_limit(1).initial_limit(20.min(most)).max_limit(most).build()))
    }),
    ("Vector", |most| Box::new(Vector::new(most))),
];

struct Tower<A>(A);

impl<A: Algorithm + Send> Peer for Tower<A> {
    fn limit(&self) -> usize {
        self.0.max_concurrency().max(1)
    }

    fn ended(&mut self, _: f64, rtt: f64, in_flight: usize, failed: bool) {
        self.0.update(Duration::from_secs_f64(rtt), in_flight, failed, false);
    }
}

/// One request more for each round without a longer time or an error, a tenth fewer after a round with one.
struct Vector {
    limit: usize,
    most: usize,
    /// Mean and variance of the rounds' mean times, the older ones fading.
    past: Option<(f64, f64)>,
    next_update: f64,
    /// Of this round.
    sum: f64,
    count: f64,
    had_error: bool,
    reached_limit: bool,
}

impl Vector {
    const DECREASE: f64 = 0.9;
    const ALPHA: f64 = 0.4;
    const DEVIATIONS: f64 = 2.5;

    fn new(most: usize) -> Self {
        Vector {
            limit: 1,
            most,
            past: None,
            next_update: 0.0,
            sum: 0.0,
            count: 0.0,
            had_error: false,
            reached_limit: false,
        }
    }

    fn manage(&mut self, (mean, variance): (f64, f64), current: f64) {
        let is_quick = self.reached_limit && !self.had_error && current <= mean;
        if self.limit < self.most && is_quick {
            self.limit += 1;
        } else if self.limit > 1 && (self.had_error || current >= mean + Self::DEVIATIONS * variance.sqrt()) {
            self.limit = ((self.limit as f64 * Self::DECREASE) as usize).max(1);
        }
    }
}

impl Peer for Vector {
    fn limit(&self) -> usize {
        self.limit
    }

    fn ended(&mut self, now: f64, rtt: f64, in_flight: usize, failed: bool) {
        self.had_error |= failed;
        self.reached_limit |= in_flight >= self.limit;
        (self.sum, self.count) = (self.sum + rtt, self.count + 1.0);
        let current = self.sum / self.count;
        let Some(past) = self.past else {
            (self.past, self.next_update) = (Some((current, 0.0)), now + current);
            return;
        };
        if now < self.next_update {
            return;
        }
        self.manage(past, current);
        let (difference, increment) = (current - past.0, Self::ALPHA * (current - past.0));
        let updated = (past.0 + increment, (1.0 - Self::ALPHA) * (past.1 + difference * increment));
        (self.past, self.next_update) = (Some(updated), now + updated.0);
        (self.sum, self.count, self.had_error, self.reached_limit) = (0.0, 0.0, false, false);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// The limit after rounds of requests that each take this time.
    fn after(peer: &mut dyn Peer, rounds: Range<usize>, rtt: f64, failed: bool) -> usize {
        for round in rounds {
            for _ in 0..peer.limit() {
                peer.ended(round as f64 * rtt, rtt, peer.limit(), failed);
            }
        }
        peer.limit()
    }

    #[test]
    fn each_of_them_grows_while_nothing_speaks_against_it_but_not_beyond_the_most() {
        for (name, make) in PEERS {
            let limit = after(&mut *make(64), 0..400, 0.01, false);
            assert!((21..=64).contains(&limit), "{name}: {limit}");
        }
    }

    #[test]
    fn those_that_hear_of_errors_give_way() {
        for name in ["AIMD", "Vegas", "Vector"] {
            let (_, make) = PEERS.into_iter().find(|(other, _)| *other == name).unwrap();
            let mut peer = make(64);
            let before = after(&mut *peer, 0..30, 0.01, false);
            assert!(after(&mut *peer, 30..35, 0.01, true) < before, "{name}");
        }
    }
}
