//! How many workers a running batch should have: events and times in, a limit out. No thread, lock or clock inside.
//!
//! Waiting is seen directly: while fewer workers have something to compute than there are cores, more cannot hurt the
//! cores, and are started at once, up to a point ([`ramp`]). What lies behind the waiting, a server, a lock or nothing,
//! shows when the claims that began after a change ([`cohort`]) are compared with those before ([`estimate`]): as many
//! more items a second as there are workers, or fewer. How many are enough for work that computes follows from the
//! measured times ([`share`]). Where nothing more is to be had the limit is held, and questioned seldom, and only where
//! the rest of the batch can pay for the question.
//!
//! Times are those since the batch began. What cannot be measured is left out: without CPU times every item waits, and
//! where nobody knows which threads have something to compute, they are taken to wait until something is completed.

mod cohort;
mod course;
mod crowd;
mod estimate;
mod number;
mod ramp;
mod share;
mod trial;

use std::time::Duration;

use self::cohort::{Cohort, FirstClaims};
use self::course::{Course, Pauses};
use self::crowd::Crowd;
use self::estimate::{Estimate, Noise};
use self::ramp::{Ramp, Sight};
use self::share::{Share, Times};

/// Where nothing is completed for so long, items may be waiting for others that have not started.
const STARVED: Duration = Duration::from_secs(1);

/// But not before so many times what a claim takes.
const STARVED_TIMES: f64 = 16.0;

/// The one that `Controller::new` opens.
const FIRST_COHORT: u32 = 1;

/// The fewest claims from which a raise is judged.
const FEWEST: usize = 12;

/// What is known beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) least: usize,
    pub(crate) most: usize,
    pub(crate) cpus: usize,
    pub(crate) items: Option<usize>,
}

/// One claim of a worker, from its start to its completion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    began: f64,
    area: f64,
    cohort: u32,
    place: Option<u32>,
}

impl Ticket {
    /// Whether the CPU time of this claim is wanted; the two clock readings cost as much as some items.
    pub(crate) fn measure(&self) -> bool {
        self.place.is_some()
    }
}

/// What a claim took. `started` is after the limiter's permit; CPU time and run delay are the thread's within the claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
    pub(crate) cpu: Option<Duration>,
    /// How long the thread was ready to compute and had no core.
    pub(crate) run_delay: Option<Duration>,
}

/// What there is to see at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity {
    /// Workers that have something to compute, on a core or waiting for one.
    pub(crate) runnable: Option<usize>,
    /// Items that nobody has claimed.
    pub(crate) queued: usize,
    /// Workers at the limiter.
    pub(crate) paced: usize,
}

/// Decides the worker limit of one batch.
#[derive(Debug)]
pub(crate) struct Controller {
    least: usize,
    most: usize,
    cpus: usize,
    burst: usize,
    /// Items that nobody has claimed.
    left: usize,
    limit: usize,
    /// The limit for the last items; 0 until then.
    finish: usize,
    course: Course,
    /// What ran before the limit was first changed, until it was compared with what ran then.
    first: Option<FirstClaims>,
    /// What the last level said, to compare with.
    base: Option<Estimate>,
    /// What a raise said that was given up last.
    rejected: Option<Estimate>,
    noise: Noise,
    /// More workers brought nothing more.
    saturated: bool,
    pauses: Pauses,
    cohort: Cohort,
    crowd: Crowd,
    share: Share,
    ramp: Ramp,
    last_completion: Duration,
}

impl Controller {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { least, most, cpus, items } = setup;
        let most = most.min(items.unwrap_or(most)).max(least).max(1);
        let mut controller = Controller {
            least: least.max(1),
            most,
            cpus: cpus.max(1),
            burst: ramp::burst(cpus, items),
            left: items.unwrap_or(usize::MAX),
            limit: 0,
            finish: 0,
            course: Course::Ramp,
            first: Some(FirstClaims::default()),
            base: None,
            rejected: None,
            noise: Noise::default(),
            saturated: false,
            pauses: Pauses::default(),
            cohort: Cohort::default(),
            crowd: Crowd::default(),
            share: Share::default(),
            ramp: Ramp::default(),
            last_completion: Duration::ZERO,
        };
        controller.set(cpus, Course::Ramp);
        controller.start_the_last_ones();
        controller
    }

    /// How many workers there may be now.
    /// It never goes beyond this.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.max(self.finish).min(self.most)
    }

    /// The last items of work that computes are all started, for the system to share the cores among them: better than one
    /// core with the last item and the others idle.
    fn start_the_last_ones(&mut self) {
        let without_worker = self.left.saturating_sub(self.limit.saturating_sub(self.crowd.running()));
        let computes = self.base.is_none_or(|base| base.used > 0.5);
        if self.finish == 0 && (1..=self.cpus).contains(&without_worker) && computes && !self.saturated {
            self.finish = self.limit.saturating_add(without_worker);
        }
    }

    /// A worker has claimed so many items.
    pub(crate) fn start(&mut self, now: Duration, items: usize) -> Ticket {
        self.left = self.left.saturating_sub(items);
        let began = now.as_secs_f64();
        let place = self.cohort.admit(began, items).and_then(|place| u32::try_from(place).ok());
        Ticket { began, area: self.crowd.enter(began), cohort: self.cohort.number(), place }
    }

    /// Items of a claim were handed back, and can be claimed again.
    pub(crate) fn handed_back(&mut self, items: usize) {
        self.left = self.left.saturating_add(items);
    }

    /// A claim was done.
    pub(crate) fn complete(&mut self, ticket: Ticket, sample: Sample) {
        let times = self.leave(&ticket, &sample);
        self.last_completion = sample.ended;
        self.start_the_last_ones();
        self.ramp.completed();
        self.cohort.count_completion();
        self.count_in(&ticket, times);
        if let Some(seen) = self.cohort.estimate(sample.ended.as_secs_f64()) {
            self.noise.add(&seen);
            self.decide(seen);
        } else if self.cohort.is_lost() {
            self.remeasure();
        }
    }

    /// Counts a claim in wherever it says something.
    fn count_in(&mut self, ticket: &Ticket, times: Times) {
        if ticket.measure() {
            self.share.add(&times, self.limit);
        }
        if let Some(first) = self.first.as_mut().filter(|_| ticket.cohort == FIRST_COHORT) {
            first.completed(times);
        }
        if let Some(place) = ticket.place.filter(|_| ticket.cohort == self.cohort.number()) {
            self.cohort.completed(place as usize, times);
        }
    }

    /// One claim less is running; what it took.
    fn leave(&mut self, ticket: &Ticket, sample: &Sample) -> Times {
        const SHORTEST: f64 = 1e-9;
        let ended = sample.ended.as_secs_f64();
        let cycle = (ended - ticket.began).max(SHORTEST);
        let paced = (sample.started.as_secs_f64() - ticket.began).clamp(0.0, cycle);
        let running = self.crowd.leave(ended, ticket.area, cycle);
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64().min(cycle);
        Times { cycle, paced, cpu: seconds(sample.cpu), delay: seconds(sample.run_delay), running }
    }

    /// Whether the next tick depends on how many workers have something to compute: finding out takes time.
    pub(crate) fn wants_runnable(&self, now: Duration) -> bool {
        self.may_burst() || now.saturating_sub(self.last_completion) > STARVED
    }

    /// Whether more workers may be started without evidence.
    fn may_burst(&self) -> bool {
        !self.saturated && self.limit < self.burst.min(self.most)
    }

    /// When `tick` is wanted next; not at all once nothing is left to start.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        (self.left > 0).then(|| self.ramp.next())
    }

    /// Looks around. `now` may be late.
    pub(crate) fn tick(&mut self, now: Duration, activity: Activity) {
        let Activity { runnable, queued, paced } = activity;
        let items_wait = queued > 0 && paced == 0;
        let idle = items_wait && self.sees_idle_cores(runnable);
        self.ramp.tick(now, idle);
        if idle {
            self.use_idle_cores();
        }
        self.foresee(now.as_secs_f64());
        if items_wait && self.is_starved(now, runnable) {
            self.last_completion = now;
            self.set(self.limit + (self.limit / 4).max(1), Course::Ramp);
        }
    }

    /// Where nobody knows what the workers do, they are taken to wait until something is known of the items: too many that
    /// compute cost a few hundredths while it lasts, too few that wait cost times.
    fn sees_idle_cores(&self, runnable: Option<usize>) -> bool {
        let (running, limit, cpus) = (self.crowd.running(), self.limit, self.cpus);
        let runnable = runnable.unwrap_or(if self.course == Course::Ramp { 0 } else { running });
        Sight { runnable, running, limit, cpus }.is_idle()
    }

    /// Starts more workers without evidence; again from there if what computed so far waits now.
    fn use_idle_cores(&mut self) {
        if !self.may_burst() {
            return;
        }
        match self.course {
            Course::Ramp if !self.ramp.has_stalled() => {}
            Course::Hold if self.ramp.was_idle_for(2) => {
                self.ramp.restart();
                (self.share, self.base, self.pauses) = (Share::default(), None, Pauses::default());
            }
            _ => return,
        }
        self.set(ramp::more(self.limit).min(self.burst), Course::Ramp);
    }

    /// Whether nothing has been completed for so long that the items may be waiting for some that have not started.
    fn is_starved(&self, now: Duration, runnable: Option<usize>) -> bool {
        let patience = STARVED.as_secs_f64().max(STARVED_TIMES * self.share.mean().unwrap_or(0.0));
        let computing = runnable.is_some_and(|runnable| runnable >= self.cpus.div_ceil(2));
        !computing && now.saturating_sub(self.last_completion).as_secs_f64() > patience
    }

    /// No thread could be started: there will not be more than the `workers` there are.
    pub(crate) fn refused(&mut self, workers: usize) {
        self.most = self.most.min(workers).max(self.least);
        if self.limit > self.most {
            self.set(self.most, Course::Hold);
        }
    }

    /// Somebody said that there are too many requests. Until the next judgement, the limit falls once for all who say so.
    pub(crate) fn overload(&mut self) {
        if self.course != Course::Relief {
            self.saturated = true;
            self.pauses.longer();
            self.set(self.limit / 2, Course::Relief);
        }
    }

    /// Goes to that limit, and opens a cohort: after a raise the second half of the claims it brings, since those that
    /// begin later find the fuller queue; else the first ones.
    fn set(&mut self, limit: usize, course: Course) {
        let (old, new) = (self.limit, limit.clamp(self.least, self.most));
        (self.limit, self.course) = (new, course);
        match new.saturating_sub(old) {
            0 => self.cohort.open(0, new.max(6)),
            more => {
                let size = more.div_ceil(2).max(FEWEST);
                self.cohort.open(more.saturating_sub(size), size);
            }
        }
    }

    fn remeasure(&mut self) {
        self.cohort.open(0, self.limit.max(6));
    }

    fn enough(&self) -> usize {
        self.share.enough(self.cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn controller(most: usize, cpus: usize, items: usize) -> Controller {
        Controller::new(Setup { least: 1, most, cpus, items: Some(items) })
    }

    /// Starts as many claims as the limit allows, and completes them all after `took`.
    fn round(controller: &mut Controller, now: &mut Duration, took: Duration, cpu: Option<Duration>) {
        let tickets: Vec<_> = (0..controller.limit()).map(|_| controller.start(*now, 1)).collect();
        let started = *now;
        *now += took;
        for ticket in tickets {
            controller.complete(ticket, Sample { started, ended: *now, cpu, run_delay: None });
        }
    }

    fn look(controller: &mut Controller, now: Duration, runnable: Option<usize>, paced: usize) -> usize {
        controller.tick(now, Activity { runnable, queued: 1_000, paced });
        controller.limit()
    }

    #[test]
    fn it_begins_with_a_worker_a_cpu_within_the_bounds() {
        assert_eq!(controller(256, 8, 1_000).limit(), 8);
        assert_eq!(controller(4, 8, 1_000).limit(), 4);
        assert_eq!(controller(256, 8, 3).limit(), 3);
        assert_eq!(Controller::new(Setup { least: 12, most: 64, cpus: 8, items: None }).limit(), 12);
    }

    #[test]
    fn while_all_wait_workers_are_started_before_anything_is_known() {
        let mut controller = controller(256, 2, 1_000);
        let mut seen = Vec::new();
        for tick in 1..6 {
            while controller.crowd.running() < controller.limit() {
                controller.start(tick * MS, 1);
            }
            seen.push(look(&mut controller, tick * MS, Some(0), 0));
        }
        assert_eq!(seen, [8, 16, 32, 32, 32]);
    }

    /// The limit after the first items took 5 ms, and those that began when 32 ran took so long.
    fn after_the_burst(later: Duration) -> usize {
        let mut controller = controller(256, 2, 1_000);
        let mut tickets = Vec::new();
        for tick in 1..5 {
            while controller.crowd.running() < controller.limit() {
                tickets.push((tick, controller.start(tick * MS, 1)));
            }
            look(&mut controller, tick * MS, Some(0), 0);
        }
        assert_eq!(controller.limit(), 32);
        let cpu = Some(MS / 10);
        for (tick, ticket) in tickets {
            let took = if tick == 1 { 5 * MS } else { later };
            let (started, ended) = (tick * MS, tick * MS + took);
            controller.complete(ticket, Sample { started, ended, cpu, run_delay: None });
        }
        controller.limit()
    }

    #[test]
    fn workers_that_are_in_each_others_way_are_sent_back_and_others_get_more() {
        assert_eq!(after_the_burst(100 * MS), 3);
        assert_eq!(after_the_burst(5 * MS), 64);
    }

    #[test]
    fn where_more_are_known_to_bring_nothing_fewer_are_tried_less_and_less_often() {
        let (mut controller, mut now) = (controller(256, 2, 1_000_000), Duration::ZERO);
        (0..20).for_each(|_| round(&mut controller, &mut now, MS, Some(MS)));
        // As if a third worker had been tried, and brought nothing.
        controller.saturated = true;
        controller.pauses.longer();
        let mut cuts = 0;
        for _ in 0..600 {
            round(&mut controller, &mut now, MS, Some(MS));
            cuts += usize::from(controller.limit() < 2);
        }
        assert!((3..60).contains(&cuts), "one worker for {cuts} of 600 rounds");
    }

    #[test]
    fn nothing_is_started_blindly_while_cores_are_busy_or_workers_stand_at_the_limiter() {
        let mut controller = controller(256, 2, 1_000);
        controller.start(MS, 1);
        controller.start(MS, 1);
        assert_eq!(look(&mut controller, 2 * MS, Some(2), 0), 2);
        assert_eq!(look(&mut controller, 3 * MS, Some(0), 1), 2);
        assert_eq!(look(&mut controller, 4 * MS, None, 0), 8, "nobody knows: they are taken to wait");
    }

    #[test]
    fn waiting_without_end_gets_all_workers_and_computing_the_cores() {
        let (mut waits, mut computes) = (controller(256, 2, 100_000), controller(256, 2, 100_000));
        let (mut now, mut other) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..40 {
            round(&mut waits, &mut now, 10 * MS, Some(Duration::ZERO));
            round(&mut computes, &mut other, 10 * MS, Some(10 * MS));
        }
        assert_eq!((waits.limit(), computes.limit()), (256, 2));
    }

    #[test]
    fn work_that_computes_on_thousands_of_cores_is_tried_with_half_of_them() {
        let (mut controller, mut now) = (controller(4096, 2_000, 10_000_000), Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..40 {
            round(&mut controller, &mut now, 10 * MS, Some(10 * MS));
            seen.push(controller.limit());
        }
        assert!(seen.contains(&1_000), "{seen:?}");
    }

    #[test]
    fn however_many_complain_the_limit_falls_once() {
        let mut controller = controller(64, 8, 1_000);
        controller.overload();
        controller.overload();
        assert_eq!(controller.limit(), 4);
    }

    #[test]
    fn a_refused_thread_lowers_the_most() {
        let mut controller = controller(64, 8, 100_000);
        controller.refused(5);
        assert_eq!(controller.limit(), 5);
        let mut now = Duration::ZERO;
        (0..40).for_each(|_| round(&mut controller, &mut now, 10 * MS, None));
        assert_eq!(controller.limit(), 5);
    }

    #[test]
    fn the_last_items_are_all_started_where_they_may_compute() {
        let mut controller = controller(64, 4, 10);
        let tickets: Vec<_> = (0..4).map(|_| controller.start(MS, 1)).collect();
        assert_eq!(controller.limit(), 4);
        for ticket in &tickets[..2] {
            controller
                .complete(*ticket, Sample { started: MS, ended: 2 * MS, cpu: Some(MS), run_delay: None });
        }
        assert_eq!(controller.limit(), 8);
    }

    #[test]
    fn only_claims_of_a_cohort_are_measured() {
        let mut controller = controller(64, 2, 1_000);
        let measured = (0..20).filter(|_| controller.start(MS, 1).measure()).count();
        assert_eq!(measured, 12);
    }

    #[test]
    fn nothing_is_looked_at_once_everything_has_started() {
        let mut controller = controller(64, 2, 2);
        assert!(controller.next_tick().is_some());
        controller.start(MS, 2);
        assert_eq!(controller.next_tick(), None);
    }
}
