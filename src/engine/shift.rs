//! What one who works does from its first claim to its last.

use std::time::Duration;

use crate::panic;
use crate::result::Counts;
use crate::senses::Watch;
use crate::sync::Instant;

use super::carve::Claim;
use super::crew::Role;
use super::job::{Job, PastOf, SupplyFor};
use super::pace::Pace;
use super::stint::{ChunkOf, Desk, Stint};
use super::stop::Stop;
use super::supply::Pulled;
use super::work::{Work, retries};
use super::worker::{Calls, Worker};

/// What a worker keeps from claim to claim.
pub(super) struct Kit<'j, W: Work> {
    pace: Pace,
    pub(super) desk: Desk<'j, W>,
    trays: Trays<W>,
}

/// Lent to chunks for their items: those that were there, and those that a worker has pulled.
struct Trays<W: Work> {
    taken: Vec<W::Item>,
    pulled: Vec<W::Item>,
}

impl<'j, W: Work> Kit<'j, W> {
    pub(super) fn new<S: SupplyFor<W>>(job: &'j Job<'_, W, S>, pace: Pace) -> Self {
        Kit { pace, desk: Desk::new(job), trays: Trays { taken: Vec::new(), pulled: Vec::new() } }
    }
}

/// What a worker that takes turns is to do next.
pub(super) enum Turn {
    Worked,
    /// Nothing for so long.
    Wait(Duration),
    SentAway,
}

/// What there is for a worker to do.
enum Found<'b, W: Work, S: SupplyFor<W>> {
    /// These items, or one that has been tried before.
    Items(ChunkOf<'b, S>, Option<PastOf<W>>),
    /// It has been done: so many items were given up.
    GaveUp(Counts),
    /// Nothing for so long.
    Nothing(Duration),
    /// Nothing more for this one.
    End,
}

impl<'j, W: Work, S: SupplyFor<W>> Job<'j, W, S> {
    /// Works until there is nothing left to claim.
    pub(super) fn work(&'j self) {
        // Rung last of all, when this worker no longer counts as running.
        let _leaving = Ringing(self.stop);
        let _watched = self.watch.as_ref().map(Watch::enter);
        let _within = self.events.enter();
        let pace = if self.carve.adapts() { Pace::measured() } else { Pace::new() };
        let Kit { mut pace, mut desk, mut trays } = Kit::new(self, pace);
        let mut worker = Worker::new(&self.carve, Role::Helper);
        let mut since = Instant::now();
        loop {
            let changes = self.stop.changes();
            match self.find(&mut worker, self.claim_size(&pace), since, &mut trays) {
                Found::Items(chunk, past) => {
                    let items = chunk.len();
                    let stint = Stint { job: self, worker: &mut worker, desk: &mut desk, chunk };
                    stint.work(past, items);
                    let now = Instant::now();
                    pace.learn(items, now - since);
                    since = now;
                }
                Found::GaveUp(counts) => worker.did(counts),
                Found::Nothing(time) => {
                    worker.waited_in_vain = !self.stop.wait_for_change(changes, time);
                    since = Instant::now();
                }
                Found::End => break,
            }
        }
        drop(worker);
        self.discard(desk.state);
    }

    /// Works a short while, and tells of each item before the next one starts.
    pub(super) fn take_turn(&'j self, kit: &mut Kit<'j, W>, mut tell: impl FnMut(Counts)) -> Turn {
        let _within = self.events.enter();
        let Kit { pace, desk, trays } = kit;
        let mut worker = Worker::new(&self.carve, Role::Caller);
        let since = Instant::now();
        match self.find(&mut worker, self.claim_size(pace), since, trays) {
            Found::Items(chunk, past) => {
                let items = chunk.len();
                let stint = Stint { job: self, worker: &mut worker, desk, chunk };
                stint.work_one_by_one(past, tell);
                pace.learn(items, since.elapsed());
                Turn::Worked
            }
            Found::GaveUp(counts) => {
                worker.did(counts);
                tell(counts);
                Turn::Worked
            }
            Found::Nothing(time) => Turn::Wait(time),
            Found::End => Turn::SentAway,
        }
    }

    /// With a limiter or a retry every item may have to wait, so nobody holds more than one.
    fn claim_size(&self, pace: &Pace) -> usize {
        if self.limiter.is_some() || retries::<W>() { 1 } else { pace.size() }
    }

    /// Claims something to do, about so many items.
    #[inline]
    fn find<'b>(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        size: usize,
        since: Instant,
        trays: &'b mut Trays<W>,
    ) -> Found<'b, W, S> {
        self.stop.look_at_clock(since);
        let end = self.stop.end();
        let claim = worker.claim(since, size, end, &mut trays.taken);
        self.tell_of_claim(worker);
        match claim {
            Claim::Work(chunk, past) => Found::Items(chunk, past),
            Claim::Pull(source, most) => {
                if self.stop.end() != end {
                    self.stop.ring(); // the caller may have thought that this worker would leave
                }
                Found::Items(self.pull(worker, source, most, &mut trays.pulled), None)
            }
            Claim::GiveUp(waiters) => Found::GaveUp(self.give_up(worker, waiters, &mut trays.pulled)),
            Claim::Wait(time) => Found::Nothing(time),
            Claim::Leave => Found::End,
        }
    }

    /// Has others look at what a claim brought.
    fn tell_of_claim(&self, worker: &Worker<'_, S, PastOf<W>>) {
        if worker.role == Role::Helper && (self.reports || worker.moved_limit) {
            self.stop.ring();
        }
        self.call(worker.calls);
    }

    fn call(&self, calls: Calls) {
        match calls {
            Calls::Nobody => {}
            Calls::One => self.stop.call_one(),
            Calls::All => self.stop.call_all(),
        }
    }

    /// Pulls up to `most` items, one by one, and gives the source back.
    fn pull<'b>(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        mut source: S::Source,
        most: usize,
        buffer: &'b mut Vec<W::Item>,
    ) -> ChunkOf<'b, S> {
        let mut pulled = Pulled::default();
        let ended = panic::catch(|| {
            let mut goes_on = true;
            while goes_on && pulled.items < most {
                let got_one = S::pull(&mut source);
                pulled.items += usize::from(got_one.is_some());
                pulled.has_ended = got_one.is_none();
                goes_on = got_one.unwrap_or(false);
            }
        });
        pulled.has_ended |= ended.is_err();
        // Before others pull, and put their items there.
        let chunk = S::pulled(&source, buffer);
        worker.give_back(source, pulled, chunk.len(), self.stop.end());
        match ended {
            Err(panic) => self.fail(panic),
            Ok(()) if pulled.has_ended => self.stop.call_all(),
            Ok(()) => self.call(worker.calls),
        }
        chunk
    }
}

impl<W: Work, S: SupplyFor<W>> Stint<'_, '_, W, S> {
    /// Does what there is to do.
    #[inline]
    fn work(mut self, past: Option<PastOf<W>>, items: usize) {
        let counts = self.decide_some(past, items);
        self.worker.did(counts);
    }

    /// The same, and tells of each item before the next one starts.
    fn work_one_by_one(mut self, mut past: Option<PastOf<W>>, mut tell: impl FnMut(Counts)) {
        loop {
            let left = self.chunk.len();
            let counts = self.decide_some(past.take(), 1);
            if self.chunk.len() == left {
                return;
            }
            if counts.decided() > 0 {
                self.worker.did(counts);
                tell(counts);
            }
        }
    }

    /// Decides so many items, or has one wait for its next attempt.
    #[inline]
    fn decide_some(&mut self, past: Option<PastOf<W>>, most: usize) -> Counts {
        self.begin(past.as_ref());
        if retries::<W>() { self.try_one(past) } else { self.run(most) }
    }
}

/// Rings when it goes, also by unwinding.
struct Ringing<'s>(&'s Stop);

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::marker::PhantomData;

    use super::super::carve::{Carve, Team};
    use super::super::events::Events;
    use super::super::slots::Slots;
    use super::super::stop::OnFailure;
    use super::super::work::Steps;
    use super::*;
    use crate::context::ItemContext;
    use crate::keep::NoJournal;
    use crate::rate_limit::{RateLimit, RateLimiter};
    use crate::retry::{NoRetry, Retry, RetryPolicy};
    use crate::sync::Mutex;
    use crate::sync::atomic::AtomicUsize;

    /// How many items are claimed at first, and after a quick one.
    fn claim_sizes(limiter: Option<&dyn RateLimiter>, retry: impl RetryPolicy<()>) -> (usize, usize) {
        let mut slots = Slots::<(), (), ()>::new(vec![(); 9]).unwrap();
        let op = |(): &(), _: &mut ItemContext<'_>| Ok(());
        let job = Job {
            work: &Steps { op, init: Box::new(|| ()), retry, keep: NoJournal, types: PhantomData },
            limiter,
            stop: &Stop::new(OnFailure::GoOn, None, None),
            carve: Carve::new(
                slots.rest(),
                Team { workers: 1, controller: None, numbers: None, limits: None },
            ),
            watch: None,
            paced: AtomicUsize::new(0),
            waits: false,
            reports: false,
            events: Events::begin("batch", None, 1),
            recorder: None,
            halted: Mutex::default(),
            panicked: Mutex::default(),
        };
        let (first, mut quick) = (Pace::new(), Pace::new());
        quick.learn(1, Duration::from_nanos(1));
        (job.claim_size(&first), job.claim_size(&quick))
    }

    #[test]
    fn quick_items_are_claimed_several_at_a_time_unless_each_may_have_to_wait() {
        assert_eq!(claim_sizes(None, NoRetry), (1, 8));
        assert_eq!(claim_sizes(Some(&RateLimit::per_second(9)), NoRetry), (1, 1));
        assert_eq!(claim_sizes(None, Retry::new(iter::empty)), (1, 1));
    }
}
