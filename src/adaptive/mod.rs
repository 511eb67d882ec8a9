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
//! where it is unknown which threads have something to compute, they are taken to wait until something is completed.

mod cohort;
mod crowd;
mod estimate;
mod failures;
mod levels;
mod number;
mod ramp;
mod share;
mod trial;

use std::time::Duration;

use self::cohort::Cohort;
use self::crowd::Crowd;
use self::estimate::{Kind, Noise};
use self::failures::Failures;
use self::levels::Levels;
use self::ramp::{Ramp, Sight};
use self::share::{Share, Times};

/// Where nothing is completed for so long, items may be waiting for others that have not started.
const STARVED: Duration = Duration::from_secs(1);

/// And where cores are idle, they are not what they were.
const STALE: Duration = Duration::from_millis(4);

/// But not before this multiple of the time of a claim.
const PATIENCE: f64 = 16.0;

/// The fewest claims from which a raise is judged.
const FEWEST: usize = 8;

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
    items: usize,
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
    /// How many of its attempts gave no value.
    pub(crate) failed: usize,
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
    /// Items that no worker has claimed.
    pub(crate) queued: usize,
    /// Workers at the limiter.
    pub(crate) paced: usize,
}

/// What the cohort that is being measured is measured for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Course {
    /// To learn what the items are.
    #[default]
    Ramp,
    /// To compare it with `from` workers.
    Trial { from: usize },
    /// To see whether anything has changed.
    Hold,
}

/// There are fewer workers, to see whether fewer items fail.
#[derive(Debug, Clone, Copy)]
struct Relief {
    /// The limit before, and what was being found out.
    from: usize,
    course: Course,
    /// The first cohort with fewer.
    since: u32,
}

/// Decides the worker limit of one batch.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    least: usize,
    most: usize,
    cpus: usize,
    burst: usize,
    /// Items that no worker has claimed.
    left: usize,
    limit: usize,
    /// The limit for the last items; 0 until then.
    finish: usize,
    course: Course,
    relief: Option<Relief>,
    /// The first cohort since the limit was lowered last.
    lowered: u32,
    levels: Levels,
    /// How many times as many are tried next.
    stride: usize,
    failures: Failures,
    noise: Noise,
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
            burst: ramp::burst(items),
            left: items.unwrap_or(usize::MAX),
            stride: 2,
            ..Controller::default()
        };
        controller.set(cpus.min(controller.burst), Course::Ramp);
        controller.start_the_last_ones();
        controller
    }

    /// It never goes beyond this.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// How many workers there may be now.
    pub(crate) fn limit(&self) -> usize {
        self.limit.max(self.finish).min(self.most)
    }

    /// The last items of work that computes are all started, for the system to share the cores among them: better than one
    /// core with the last item and the others idle.
    fn start_the_last_ones(&mut self) {
        let without_worker = self.left.saturating_sub(self.limit.saturating_sub(self.crowd.running()));
        let computes = self.levels.at(self.limit).is_none_or(|here| here.used > 0.5);
        if self.finish == 0 && (1..=self.cpus).contains(&without_worker) && computes && !self.is_bounded() {
            self.finish = self.limit.saturating_add(without_worker);
        }
    }

    /// A worker has claimed this many items.
    pub(crate) fn start(&mut self, now: Duration, items: usize) -> Ticket {
        self.left = self.left.saturating_sub(items);
        let began = now.as_secs_f64();
        let place = self.cohort.admit(began, items).and_then(|place| u32::try_from(place).ok());
        Ticket {
            began,
            items: items.max(1),
            area: self.crowd.enter(began),
            cohort: self.cohort.number(),
            place,
        }
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
        self.cohort.count_completion();
        self.count_in(&ticket, times, sample.failed);
        if self.relief.is_some() {
            self.end_relief();
        } else if let Some(seen) = self.cohort.estimate(sample.ended.as_secs_f64()) {
            self.noise.add(&seen);
            self.decide(seen);
        } else if self.cohort.is_lost() {
            self.remeasure();
        }
    }

    /// Counts a claim in wherever it says something.
    fn count_in(&mut self, ticket: &Ticket, times: Times, failed: usize) {
        let failed = number::float(failed) / number::float(ticket.items);
        if ticket.measure() {
            self.share.add(&times, self.limit);
        }
        if let Some(place) = ticket.place.filter(|_| ticket.cohort == self.cohort.number()) {
            self.cohort.completed(place as usize, times, failed < 1.0);
        }
        if ticket.cohort < self.lowered {
            return; // there are fewer already
        }
        let running = self.crowd.running();
        let is_too_much = match self.relief {
            Some(relief) if ticket.cohort >= relief.since => {
                self.failures.add_relieved(failed);
                self.failures.have_no_relief()
            }
            relief => {
                self.failures.add(failed, self.limit);
                relief.is_some() || self.failures.are_too_many(running)
            }
        };
        if failed > 0.0 && is_too_much {
            self.relieve(running);
        }
    }

    /// What failed is not started again: those that still run may be as many as there can be.
    fn relieve(&mut self, workers: usize) {
        if self.relief.is_none() {
            let (from, course) = (self.limit, self.course);
            self.cohort.open(0, workers.max(6));
            self.relief = Some(Relief { from, course, since: self.cohort.number() });
        }
        self.limit = workers.min(self.limit).max(self.least);
    }

    /// Goes back if as many fail with fewer workers, and else stays below what failed.
    fn end_relief(&mut self) {
        let Some((relief, fell)) = self.relief.zip(self.failures.fell(self.limit)) else { return };
        self.relief = None;
        self.failures.settle(fell);
        if fell {
            self.levels.refuse(self.limit + 1);
            self.set(self.limit, Course::Hold);
        } else {
            self.set(relief.from, relief.course);
        }
    }

    /// Whether more were seen to be too many.
    fn is_bounded(&self) -> bool {
        self.relief.is_some() || self.levels.above(self.limit).is_some()
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
        self.may_burst(now) || now.saturating_sub(self.last_completion) > STARVED
    }

    /// Whether more workers may be started without evidence: not where those that are known to wait leave the cores idle.
    fn may_burst(&self, now: Duration) -> bool {
        let known = match self.course {
            Course::Ramp => None,
            Course::Trial { from } => self.levels.at(from),
            Course::Hold => self.levels.at(self.limit),
        };
        let computed =
            known.is_none_or(|known| known.kind == Kind::Computing) || self.waits_for_long(now, STALE);
        let burst = self.burst.max(self.cpus).min(self.most);
        self.limit < burst && computed && self.relief.is_none() && !self.failures.are_all()
    }

    /// When `tick` is wanted next; not at all once nothing is left to start. `holds_rests` if workers have claimed items that they
    /// have not started.
    pub(crate) fn next_tick(&self, holds_rests: bool) -> Option<Duration> {
        (self.left > 0 || holds_rests).then(|| self.ramp.next())
    }

    /// Looks around. `now` may be late.
    pub(crate) fn tick(&mut self, now: Duration, activity: Activity) {
        let Activity { runnable, queued, paced } = activity;
        let items_wait = queued > 0 && paced == 0;
        let sight = self.sight(runnable);
        let idle = items_wait && sight.is_idle();
        self.ramp.tick(now, idle);
        if idle {
            let burst = if runnable.is_some() { self.burst } else { self.burst.max(self.cpus) };
            self.use_idle_cores(now, ramp::more(self.limit).min(burst));
        } else if items_wait && sight.has_free_cores() {
            self.use_idle_cores(now, self.cpus);
        }
        if self.relief.is_none() {
            self.foresee(now.as_secs_f64());
        }
        if items_wait && self.is_starved(now, runnable) {
            self.last_completion = now;
            self.set(self.limit + (self.limit / 4).max(1), Course::Ramp);
        }
    }

    /// Where it is unknown what the workers do, they are taken to wait until something is known of the items: too many that
    /// compute cost a few hundredths while it lasts, too few that wait cost times.
    fn sight(&self, runnable: Option<usize>) -> Sight {
        let (running, limit, cpus) = (self.crowd.running(), self.limit, self.cpus);
        let runnable = runnable.unwrap_or(if self.course == Course::Ramp { 0 } else { running });
        Sight { runnable, running, limit, cpus }
    }

    /// Starts more workers without evidence; again from there if what computed so far waits now.
    fn use_idle_cores(&mut self, now: Duration, workers: usize) {
        if !self.may_burst(now) || workers < self.limit + self.limit / 2 {
            return;
        }
        if self.course != Course::Ramp {
            if !self.ramp.was_idle_for(2) {
                return;
            }
            self.ramp.restart();
            (self.share, self.levels) = (Share::default(), Levels::default());
        }
        self.set(workers, Course::Ramp);
    }

    /// Whether nothing has been completed for so long that the items may be waiting for some that have not started.
    fn is_starved(&self, now: Duration, runnable: Option<usize>) -> bool {
        let computing = runnable.is_some_and(|runnable| runnable >= self.cpus.div_ceil(2));
        !computing && self.waits_for_long(now, STARVED)
    }

    /// Whether nothing was completed for this time and for many times what a claim takes.
    fn waits_for_long(&self, now: Duration, least: Duration) -> bool {
        let patience = least.as_secs_f64().max(PATIENCE * self.share.mean().unwrap_or(0.0));
        now.saturating_sub(self.last_completion).as_secs_f64() > patience
    }

    /// No thread could be started: there will not be more than the `workers` there are.
    pub(crate) fn refused(&mut self, workers: usize) {
        self.most = self.most.min(workers).max(self.least);
        if self.limit > self.most {
            self.set(self.most, Course::Hold);
        }
    }

    /// An item was refused as one request too many. Until the next judgement, the limit falls once for all such refusals.
    pub(crate) fn overload(&mut self) {
        if self.relief.is_none() {
            self.relieve(self.limit / 2);
        }
    }

    /// Goes to that limit, and opens a cohort: after a raise the second half of the claims it brings, since those that
    /// begin later find the fuller queue; else the first ones.
    fn set(&mut self, limit: usize, course: Course) {
        let (old, new) = (self.limit, limit.clamp(self.least, self.most));
        (self.limit, self.course) = (new, course);
        match new.saturating_sub(old) {
            0 => {
                self.cohort.open(0, new.max(6));
                self.lowered = if new < old { self.cohort.number() } else { self.lowered };
            }
            more => {
                let size = more.div_ceil(2).max(FEWEST).min(new.max(6));
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
            controller.complete(ticket, Sample { failed: 0, started, ended: *now, cpu, run_delay: None });
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
        assert_eq!(seen, [8, 16, 16, 16, 16], "half the root of 1,000");
    }

    #[test]
    fn while_nothing_is_completed_a_quarter_more_come_each_second() {
        let (mut controller, mut seen) = (controller(256, 2, 1_000), Vec::new());
        for tick in 1..=350 {
            while controller.crowd.running() < controller.limit() {
                controller.start(tick * 10 * MS, 1);
            }
            seen.push((look(&mut controller, tick * 10 * MS, Some(0), 0), tick));
        }
        seen.dedup_by_key(|(limit, _)| *limit);
        assert_eq!(seen, [(8, 1), (16, 2), (20, 101), (25, 202), (31, 303)]);
    }

    /// The limits, where items take 10 ms and longer by `decline` for each above 8 workers.
    fn limits(decline: f64) -> Vec<usize> {
        let (mut controller, mut now, mut seen) = (controller(64, 2, 10_000), Duration::ZERO, Vec::new());
        controller.set(8, Course::Ramp);
        for _ in 0..60 {
            let above = number::float(controller.limit().saturating_sub(8));
            round(&mut controller, &mut now, (10 * MS).mul_f64(1.0 + decline * above), Some(MS / 10));
            seen.push(controller.limit());
        }
        seen
    }

    #[test]
    fn workers_that_are_in_each_others_way_are_sent_back_and_others_get_more() {
        assert_eq!(limits(0.0).last(), Some(&64));
        let seen = limits(0.3);
        assert!(seen[40..].iter().all(|limit| (6..=10).contains(limit)), "{seen:?}");
    }

    #[test]
    fn what_was_measured_is_not_tried_again_and_again() {
        let seen = limits(0.3);
        assert!(seen.iter().filter(|&&limit| limit > 10).count() <= 4, "{seen:?}");
    }

    /// Runs all that the limit allows: as many get a value as the server takes at once, the others are refused at once.
    fn refuse(controller: &mut Controller, now: &mut Duration, seats: usize) -> usize {
        let mut served: Vec<_> =
            (0..controller.limit().min(seats)).map(|_| controller.start(*now, 1)).collect();
        let (started, mut refused) = (*now, 0);
        let sample = |failed, ended| Sample { failed, started, ended, cpu: None, run_delay: None };
        while controller.limit() > controller.crowd.running() {
            let ticket = controller.start(*now, 1);
            *now += MS / 20;
            controller.complete(ticket, sample(1, *now));
            refused += 1;
        }
        *now += 20 * MS;
        served.drain(..).for_each(|ticket| controller.complete(ticket, sample(0, *now)));
        refused
    }

    #[test]
    fn a_server_that_refuses_what_is_too_much_gets_what_it_takes() {
        let (mut controller, mut now) = (controller(64, 2, 800), Duration::ZERO);
        controller.set(32, Course::Ramp);
        let mut refused = refuse(&mut controller, &mut now, 16);
        let mut limits = Vec::new();
        for _ in 1..50 {
            refused += refuse(&mut controller, &mut now, 16);
            limits.push(controller.limit());
        }
        // It tries one more than what is good, and no number between that and the one from which it fell.
        assert!(limits.iter().all(|limit| (10..=17).contains(limit)), "{limits:?}");
        assert!(refused <= 30 && controller.limit() >= 15, "{refused}, {limits:?}");
    }

    #[test]
    fn what_fails_at_any_number_of_workers_lowers_none() {
        for share in [2, 5, 30] {
            let (mut controller, mut now, mut number) = (controller(64, 2, 100_000), Duration::ZERO, 0);
            for _ in 0..100 {
                let tickets: Vec<_> = (0..controller.limit()).map(|_| controller.start(now, 1)).collect();
                let started = now;
                now += 10 * MS;
                for ticket in tickets {
                    number += 1;
                    let failed = usize::from(number % share == 0);
                    controller
                        .complete(ticket, Sample { failed, started, ended: now, cpu: None, run_delay: None });
                }
            }
            assert_eq!(controller.limit(), 64, "one in {share} fails");
        }
    }

    #[test]
    fn where_everything_fails_there_are_no_more_workers_than_before() {
        let (mut controller, mut now) = (controller(64, 8, 100_000), Duration::ZERO);
        for _ in 0..100 {
            let tickets: Vec<_> = (0..controller.limit()).map(|_| controller.start(now, 1)).collect();
            let started = now;
            now += 10 * MS;
            for ticket in tickets {
                controller
                    .complete(ticket, Sample { failed: 1, started, ended: now, cpu: None, run_delay: None });
            }
            look(&mut controller, now, Some(0), 0);
        }
        assert_eq!(controller.limit(), 8);
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
    fn work_that_computes_on_thousands_of_cores_is_tried_with_fewer() {
        let (mut controller, mut now) = (controller(4096, 2_000, 10_000_000), Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..40 {
            round(&mut controller, &mut now, 10 * MS, Some(10 * MS));
            seen.push(controller.limit());
        }
        assert!(seen.contains(&1_600), "{seen:?}");
    }

    #[test]
    fn however_many_complain_the_limit_falls_once_and_comes_back_to_what_is_known() {
        let (mut controller, mut now) = (controller(64, 8, 100_000), Duration::ZERO);
        (0..40).for_each(|_| round(&mut controller, &mut now, 10 * MS, None));
        assert_eq!(controller.limit(), 64);
        controller.overload();
        controller.overload();
        assert_eq!(controller.limit(), 32);
        (0..10).for_each(|_| round(&mut controller, &mut now, 10 * MS, None));
        assert_eq!(controller.limit(), 64);
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
            controller.complete(
                *ticket,
                Sample { failed: 0, started: MS, ended: 2 * MS, cpu: Some(MS), run_delay: None },
            );
        }
        assert_eq!(controller.limit(), 8);
    }

    #[test]
    fn only_claims_of_a_cohort_are_measured() {
        let mut controller = controller(64, 2, 1_000);
        let measured = (0..20).filter(|_| controller.start(MS, 1).measure()).count();
        assert_eq!(measured, 6);
    }

    #[test]
    fn nothing_is_looked_at_once_everything_has_started() {
        let mut controller = controller(64, 2, 2);
        assert!(controller.next_tick(false).is_some());
        controller.start(MS, 2);
        assert_eq!(controller.next_tick(false), None);
        assert!(controller.next_tick(true).is_some(), "a worker has one that it has not started");
        controller.handed_back(1);
        assert!(controller.next_tick(false).is_some(), "one is to be started again");
    }

    #[test]
    fn no_complaint_lowers_the_limit_below_the_least() {
        let mut controller = Controller::new(Setup { least: 12, most: 64, cpus: 2, items: None });
        controller.overload();
        assert_eq!(controller.limit(), 12);
    }
}
