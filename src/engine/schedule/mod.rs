//! What may run now, what later, and when the batch is over: the claims, times and counts of one batch or stream. A pure
//! value: it knows no item, lock, thread or clock, so that threads and a single task can work by it. Times are those since the
//! batch began.
//!
//! A claim of several items belongs to its worker until another worker is idle: then the worker hands back all but the item
//! that is next ([`Schedule::gate`]). What was handed back is claimed one item at a time, since it may be slow.
//!
//! The iterator of a stream may wait in `next` for what comes of earlier items. So each item that a worker has pulled can be
//! claimed at once, a worker pulls several only while another helper could run them, and the caller, which the consumer needs,
//! does not pull while there are helpers. An iterator that knows how many items it has is taken to have them, and not to wait
//! for them: out of that, the caller pulls when nothing is under way and items are quick ([`Schedule::lend_solo`]).

mod chunk_size;
mod fresh;
mod growth;
mod limits;
mod pause;
mod retries;
mod stop;
mod team;

use std::mem;
use std::time::Duration;

use crate::adaptive::{Activity, Controller, Sample};
use crate::batch_error::StopReason;
use crate::counts::Counts;
use crate::progress::Load;
use crate::timeline::curve::Curve;

use crate::slots::Claim;

use fresh::Fresh;
pub(super) use growth::Growth;
pub(super) use limits::Waiting;
use pause::Pause;
use retries::Retries;
pub(super) use stop::Stop;

pub(super) use chunk_size::Pace;
pub(super) use pause::{Answer, Refusal};
pub(crate) use stop::OnFailure;
pub(super) use team::{Member, Phase, Role, Team};

/// A short wait. Under a model checker it is none, since time stands still there.
const MOMENT: Duration = Duration::from_millis(if cfg!(any(loom, shuttle)) { 0 } else { 1 });

/// How long a worker waits until the consumer has made room for several items.
const PATIENCE: Duration = MOMENT;

/// How long no worker pulls, so that the caller can run by itself, and for how long it does not ask again if it could not.
const KEPT: Duration = MOMENT;
const REFUSED: Duration = Duration::from_millis(30);

/// Where no worker has come for longer, those that hold several items are in slow ones: no claim is made for longer than 0.4 ms.
const LONGEST_SILENCE: Duration = Duration::from_millis(1);

/// What a worker is to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Run these items; they may be one that is tried again.
    Run { claim: Claim, is_retry: bool },
    /// Pull up to this many items, which have this index and those that follow.
    Pull { index: usize, most: usize },
    /// Nothing until then, unless something changes.
    Wait(Option<Duration>),
    /// Nothing, but look after the caller, which runs by itself.
    Oversee,
    /// Nothing more.
    Leave,
}

/// Which sleepers are to be woken. A call is counted when it is made, so it has to be carried out.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    None,
    One,
    /// There is nothing left, and they can go.
    All,
}

/// Whether the caller runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Solo {
    No,
    /// It wants to, when nothing is under way any more; until then no worker pulls, but not for longer than this.
    Wanted {
        until: Duration,
    },
    /// Something was under way for too long. It does not ask again before this.
    Refused {
        until: Duration,
    },
    /// It does, and a helper is to oversee it.
    Alone,
    /// It does, and a helper oversees it, or there is none.
    Overseen,
}

/// How many items of a stream may be under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    size: usize,
    /// It grows up to `most` while items are quick, and shrinks back to this where they are slow.
    least: usize,
    most: usize,
}

/// How many items of a stream are under way for this many workers: a few for each that there may be, so that a slow one does not
/// hold the others up at once.
pub(super) fn few_for(workers: usize) -> usize {
    workers.saturating_mul(4)
}

impl Window {
    pub(super) fn new(least: usize, most: usize) -> Self {
        Window { size: least, least, most: most.max(least) }
    }

    /// One that grows, for this many workers.
    pub(super) fn for_workers(workers: usize, most: usize) -> Self {
        let mut window = Window::new(1, most);
        window.has_a_few_for(workers);
        window
    }

    /// There may be this many workers. A window that the user has set stays.
    fn has_a_few_for(&mut self, workers: usize) {
        self.least = few_for(workers).clamp(self.least, self.most);
        self.size = self.size.max(self.least);
    }

    /// A worker asks for this many items, and gets this many.
    fn adapt(&mut self, asked: usize, fair: usize) {
        // A window that holds many claims lets the consumer sleep while they are run.
        if asked > fair / 8 && asked > 1 {
            self.size = self.size.saturating_mul(2).min(self.most);
        } else if asked == 1 {
            self.size = (self.size - self.size / 16).max(self.least);
        }
    }
}

#[derive(Debug)]
pub(super) struct Schedule {
    fresh: Fresh,
    /// The rests of claims, handed back for idle workers.
    returned: Vec<Claim>,
    retries: Retries,
    /// A retry was claimed last, so that fresh items come first.
    retried_last: bool,
    /// How many retries have started.
    retried: usize,
    /// Claims that came back, since the batch has stopped below them.
    undecided: Vec<Claim>,
    window: Window,
    /// When the consumer has been handed this many items, a sleeper has room to pull.
    wants_room: Option<usize>,
    solo: Solo,
    pub(super) stop: Stop,
    pub(super) pause: Pause,
    pub(super) team: Team,
    /// The items that wait for limits.
    at_limits: Waiting,
    /// The latest time that the schedule was told.
    clock: Duration,
    /// The controls that have nothing start.
    held_by: Vec<usize>,
    limit_moved: bool,
    counts: Counts,
    /// How many items have a value that no earlier run recorded.
    succeeded_here: usize,
}

/// How far the batch is, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Status {
    pub(super) counts: Counts,
    pub(super) load: Load,
    /// How many items there were so far, and whether there will be no more.
    pub(super) known: (usize, bool),
    /// Whether some worker looks after the batch.
    pub(super) is_looked_after: bool,
    pub(super) limit: usize,
    /// How many items of a stream may be under way.
    pub(super) window: usize,
    pub(super) sent_away: usize,
    /// Whether there is nothing left to run, now or later.
    pub(super) is_over: bool,
    /// The time until the controller wants to look around.
    pub(super) tick_in: Option<Duration>,
    /// Whether that needs to know how many workers compute.
    pub(super) wants_runnable: bool,
}

/// What a worker asks with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) now: Duration,
    /// How many items it would like.
    pub(super) size: usize,
    /// How many items the consumer of a stream is done with.
    pub(super) handed_on: usize,
    /// Whether there are limits, so that the item may have to wait before it starts.
    pub(super) is_limited: bool,
}

impl Schedule {
    /// Of a batch with all its items.
    pub(super) fn of_batch(claim: Claim, on_failure: OnFailure, team: Team) -> Self {
        Schedule::new(Fresh::all(claim), Window::new(0, 0), on_failure, team)
    }

    pub(super) fn of_stream(window: Window, on_failure: OnFailure, team: Team) -> Self {
        Schedule::new(Fresh::pulled(), window, on_failure, team)
    }

    /// Of a batch whose items push others.
    pub(super) fn growing(claim: Claim, growth: Growth, on_failure: OnFailure, team: Team) -> Self {
        let mut schedule = Schedule::of_batch(claim, on_failure, team);
        schedule.stop.growth = Some(Box::new(growth));
        schedule
    }

    fn new(fresh: Fresh, window: Window, on_failure: OnFailure, team: Team) -> Self {
        Schedule {
            fresh,
            returned: Vec::new(),
            retries: Retries::default(),
            retried_last: false,
            retried: 0,
            undecided: Vec::new(),
            window,
            wants_room: None,
            solo: Solo::No,
            stop: Stop::new(on_failure),
            pause: Pause::default(),
            team,
            at_limits: Waiting::default(),
            clock: Duration::ZERO,
            held_by: Vec::new(),
            limit_moved: false,
            counts: Counts::default(),
            succeeded_here: 0,
        }
    }

    /// A worker has run a claim, and tells what it decided, what the controller wants to know, and what is left of the claim and
    /// may not start.
    pub(super) fn done(&mut self, member: &mut Member, now: Duration, done: Done) {
        if member.phase.is_busy() {
            member.has_run = true;
            self.team.turn(member, Phase::Busy { shares: false });
        }
        self.clock = self.clock.max(now);
        self.counts.add(done.counts);
        // Where items are tried again, a claim has one.
        self.succeeded_here += done.counts.succeeded.saturating_sub(done.counts.recorded);
        self.undecided.extend(done.left);
        if let Some((ticket, sample)) = member.ticket.take().zip(done.sample) {
            self.control(now, |controller| controller.complete(ticket, sample));
        }
    }

    /// What the worker is to do next.
    pub(super) fn next(&mut self, member: &mut Member, ask: Ask) -> Next {
        let next = self.find(member, ask);
        let phase = match &next {
            Next::Run { .. } if ask.is_limited => Phase::Asking,
            Next::Run { claim, .. } => Phase::Busy { shares: claim.len() > 1 || self.grows() },
            Next::Pull { .. } => Phase::Pulling,
            Next::Wait(_) | Next::Oversee => Phase::Idle,
            Next::Leave => Phase::Away,
        };
        self.team.turn(member, phase);
        match next {
            Next::Wait(until) => return Next::Wait(self.alarm_for(member).into_iter().chain(until).min()),
            Next::Run { ref claim, is_retry } => {
                let (index, items) = (claim.index(), if is_retry { 0 } else { claim.len() });
                if !ask.is_limited {
                    self.retried += usize::from(is_retry);
                    self.measure(member, ask.now, items);
                    self.starts(member, index);
                }
            }
            Next::Pull { .. } => (self.wants_room, member.has_waited_for_room) = (None, false),
            Next::Oversee | Next::Leave => {}
        }
        next
    }

    fn measure(&mut self, member: &mut Member, now: Duration, items: usize) {
        self.control(now, |controller| member.ticket = Some(controller.start(now, items)));
    }

    fn find(&mut self, member: &mut Member, ask: Ask) -> Next {
        self.clock = self.clock.max(ask.now);
        let stop_at = self.stop.line();
        if self.team.may_shrink() && self.team.is_one_too_many(member) && !self.is_over() {
            self.team.sent_away += 1;
            return Next::Leave;
        }
        let (mut until, is_paused) = (None, self.pause.end_after(ask.now).is_some());
        if !is_paused && !self.is_held() && self.team.has_room(member) && !self.at_limits.is_closed {
            // Retries that are due and everything else take turns.
            let due = if self.retried_last { None } else { self.claim_due(ask.now) };
            let next =
                due.or_else(|| self.claim(member, ask, stop_at)).or_else(|| self.pull(member, ask, stop_at));
            if let Some(next) = next.or_else(|| self.claim_due(ask.now)) {
                return next;
            }
            until = self.patience(member, ask.now);
        }
        if self.solo == Solo::Alone && member.role == Role::Helper {
            self.solo = Solo::Overseen;
            return Next::Oversee;
        }
        // No more workers wait for another attempt, or for a limit, than there are items that do.
        let others_idle = self.team.idle - usize::from(member.phase == Phase::Idle);
        if self.may_bring_items(stop_at) || others_idle < self.waiting() {
            return Next::Wait(until);
        }
        Next::Leave
    }

    fn claim_due(&mut self, now: Duration) -> Option<Next> {
        let claim = self.retries.take_due(now)?;
        self.retried_last = true;
        Some(Next::Run { claim, is_retry: true })
    }

    /// Claims what was handed back, or fresh items.
    fn claim(&mut self, member: &Member, ask: Ask, stop_at: usize) -> Option<Next> {
        let claim = self.claim_returned(stop_at).or_else(|| {
            let size = self.fair_size(ask.size);
            self.fresh.claim(size, stop_at)
        })?;
        self.retried_last = false;
        let is_slow = ask.size == 1 && member.has_run;
        self.team.ends_slowly = is_slow && !self.is_stream() && self.fresh.queued() < self.team.limit;
        Some(Next::Run { claim, is_retry: false })
    }

    /// Pulls what is to be claimed next, so that retries which are due have had their turn.
    fn pull(&mut self, member: &Member, ask: Ask, stop_at: usize) -> Option<Next> {
        let most = self.may_pull(member, ask, stop_at);
        if most == 0 {
            return None;
        }
        self.fresh.lend(most);
        self.retried_last = true;
        Some(Next::Pull { index: self.fresh.known().0, most })
    }

    fn claim_returned(&mut self, stop_at: usize) -> Option<Claim> {
        let rest = self.returned.last_mut()?;
        let claim = rest.split_first(1);
        if rest.len() == 0 {
            self.returned.pop();
        }
        if claim.index() < stop_at {
            return Some(claim);
        }
        self.undecided.push(claim);
        self.claim_returned(stop_at)
    }

    /// Seats of a task are one thread: what one of them does not run at once, it hands back.
    fn fair_size(&self, asked: usize) -> usize {
        if self.team.has_seats {
            return asked.clamp(1, chunk_size::LARGEST);
        }
        let fair = |shared| chunk_size::fair(asked, self.fresh.next(), shared, self.team.limit);
        if self.is_stream() {
            fair(self.window.size.saturating_mul(2))
        } else {
            let queued = self.fresh.queued();
            fair(queued).max(chunk_size::worth(asked, queued, self.team.limit))
        }
    }

    fn is_stream(&self) -> bool {
        self.window.most > 0
    }

    /// How many items the worker may pull while nothing needs it.
    fn may_pull(&mut self, member: &Member, ask: Ask, stop_at: usize) -> usize {
        if self.is_kept_for_the_caller(ask.now) || !self.fresh.can_lend(stop_at) {
            return 0;
        }
        let has_others = self.team.other_helpers(member) > 0;
        let wanted = match member.role {
            Role::Helper | Role::Seat if has_others || member.role == Role::Seat => {
                let fair = self.fair_size(ask.size);
                self.window.adapt(ask.size, fair);
                fair
            }
            Role::Caller if has_others => 0,
            _ => usize::from(self.waiting() == 0),
        };
        let most = wanted.min(self.room(ask.handed_on));
        if most == 0 && wanted > 0 {
            let enough = if member.has_waited_for_room || member.role == Role::Seat {
                1
            } else {
                wanted.min(self.window.size.div_ceil(2))
            };
            let at = (self.fresh.known().0 + enough).saturating_sub(self.window.size);
            self.wants_room = Some(self.wants_room.map_or(at, |other| other.min(at)));
        }
        most
    }

    /// Until when a worker waits for room for several items: with a slow consumer it is content with less.
    fn patience(&self, member: &mut Member, now: Duration) -> Option<Duration> {
        let is_first_wait = self.wants_room.is_some()
            && member.role != Role::Seat
            && !mem::replace(&mut member.has_waited_for_room, true);
        is_first_wait.then(|| now + PATIENCE)
    }

    /// When an idle worker wakes by itself. Of all that are idle, one does when something is due, and calls others if more is.
    fn alarm_for(&mut self, member: &mut Member) -> Option<Duration> {
        let due = self.next_due().filter(|due| self.team.is_before_alarm(*due))?;
        if self.team.busy >= self.team.limit {
            return None; // the next worker that has no claim calls one
        }
        self.team.set_alarm(member, due);
        Some(due)
    }

    /// When an item may start that may not now, if that is known; or when a worker may pull again.
    fn next_due(&self) -> Option<Duration> {
        if self.is_held() {
            return None;
        }
        let kept = if let Solo::Wanted { until } = self.solo { Some(until) } else { None };
        let due = [self.retries.next_due(), self.at_limits.due, kept];
        self.pause.end_after(self.clock).or(due.into_iter().flatten().min())
    }

    /// Whether the schedule has changed in a way that concerns an idle worker.
    pub(super) fn concerns_idle(&self, handed_on: usize) -> bool {
        if self.is_over() || self.at_limits.are_stopped(self.stop.line()) {
            return true;
        }
        self.team.busy < self.team.limit && self.has_work_for_the_idle(handed_on)
    }

    /// Which sleepers are to be woken for that. One at a time: a worker that comes calls the next, if there is more.
    pub(super) fn call(&mut self) -> Wake {
        if self.team.asleep == 0 {
            return Wake::None;
        }
        if self.is_over() {
            return Wake::All;
        }
        if self.team.called > 0 {
            return Wake::None;
        }
        self.team.called = 1;
        Wake::One
    }

    /// An idle worker sleeps from now on.
    pub(super) fn falls_asleep(&mut self) {
        self.team.asleep += 1;
    }

    /// It does no longer, whether it was called or not.
    pub(super) fn wakes_up(&mut self) {
        self.team.asleep -= 1;
        self.team.called = 0;
    }

    fn has_work_for_the_idle(&self, handed_on: usize) -> bool {
        if self.next_due().is_some_and(|due| self.team.is_before_alarm(due)) {
            return true; // one of them has to wake by itself then
        }
        if self.is_held() || self.pause.end_after(self.clock).is_some() {
            return false;
        }
        let stop_at = self.stop.line();
        let has_room = || self.wants_room.is_none_or(|wanted| handed_on >= wanted);
        // A helper alone does not pull while an item that waits needs it.
        let may_pull = || self.team.has_seats || self.team.helpers > 1 || self.waiting() == 0;
        let may_claim = || {
            !self.returned.is_empty()
                || self.fresh.has_some(stop_at)
                || (self.fresh.can_lend(stop_at)
                    && !matches!(self.solo, Solo::Wanted { .. })
                    && has_room()
                    && may_pull())
        };
        self.at_limits.is_ready || (!self.at_limits.is_closed && may_claim()) || self.solo == Solo::Alone
    }

    /// Whether there are items to claim, or others may bring some: by pulling, out of their claims, or by pushing.
    fn may_bring_items(&self, stop_at: usize) -> bool {
        self.fresh.is_open(stop_at) || !self.returned.is_empty() || self.team.sharing > 0
    }

    /// Whether nothing runs, and nothing is left to run.
    #[cfg(feature = "tokio")]
    pub(super) fn is_idle(&self) -> bool {
        self.team.busy == 0 && self.is_over()
    }

    /// Whether there is nothing left to run, now or later.
    pub(super) fn is_over(&self) -> bool {
        self.waiting() == 0 && !self.may_bring_items(self.stop.line())
    }
}

/// What a control does.
impl Schedule {
    /// Nothing starts as long as it is held by one or the other.
    pub(super) fn hold(&mut self, by: usize, is_held: bool) {
        self.held_by.retain(|other| *other != by);
        self.held_by.extend(is_held.then_some(by));
    }

    /// Whether owners of claims may start nothing.
    pub(super) fn is_held(&self) -> bool {
        !self.held_by.is_empty()
    }

    /// The owner of a claim may not start it.
    pub(super) fn hand_all_back(&mut self, member: &mut Member, now: Duration, claim: Claim, is_retry: bool) {
        self.team.turn(member, Phase::Busy { shares: false });
        let items = if is_retry { 0 } else { claim.len() };
        self.control(now, |controller| controller.handed_back(items));
        self.retried -= usize::from(is_retry);
        if is_retry { self.later(now, claim) } else { self.put_back(claim) }
    }

    /// This many may run from now on, and the number does not adapt any more.
    pub(super) fn set_workers(&mut self, now: Duration, workers: usize) {
        self.clock = self.clock.max(now);
        self.team.set_limit(self.clock, workers);
        self.limit_moved = true;
        self.window.has_a_few_for(workers);
        self.wants_room = None;
    }
}

/// Items that wait for limits.
impl Schedule {
    /// How many items have been claimed, and wait for another attempt or for a limit.
    fn waiting(&self) -> usize {
        self.retries.waiting() + self.at_limits.parked
    }

    /// How it stands with them now.
    pub(super) fn wait_at_limits(&mut self, waiting: Waiting) {
        self.at_limits = waiting;
    }

    /// Something else has changed what they wait for.
    pub(super) fn limits_changed(&mut self) {
        self.at_limits.is_ready |= self.at_limits.parked > 0;
    }

    /// Whether the worker may start one of them.
    pub(super) fn may_start(&self, member: &Member, now: Duration) -> bool {
        let is_too_many = self.team.may_shrink() && self.team.is_one_too_many(member);
        !is_too_many && !self.is_held() && self.team.has_room(member) && self.pause.end_after(now).is_none()
    }

    /// Whether the worker may start an item that waits, and a retry that is due, which is to take its place among these.
    pub(super) fn ask_for_due(&mut self, member: &mut Member, now: Duration) -> (bool, Option<Claim>) {
        let may_start = self.may_start(member, now);
        let due = if may_start { self.retries.take_due(now) } else { None };
        if due.is_some() {
            self.team.turn(member, Phase::Asking);
        }
        (may_start, due)
    }

    /// The worker starts an item that it has claimed, or that has waited.
    pub(super) fn begin(&mut self, member: &mut Member, now: Duration, index: usize, is_retry: bool) {
        self.team.turn(member, Phase::Busy { shares: self.grows() });
        self.retried += usize::from(is_retry);
        self.measure(member, now, usize::from(!is_retry));
        self.starts(member, index);
    }

    /// These do not start any more.
    pub(super) fn leave_undecided(&mut self, claims: Vec<Claim>) {
        self.undecided.extend(claims);
    }
}

/// What a worker has to tell.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) counts: Counts,
    pub(super) left: Option<Claim>,
    pub(super) sample: Option<Sample>,
}

/// What changes what may run.
impl Schedule {
    /// Below this index, an owner of a claim may start the next item without a look at anything else: the stop line, or 0 while
    /// others want its rest.
    pub(super) fn gate(&self) -> usize {
        let is_shut = self.is_held() || (self.wants_rests() && self.team.sharing > 0);
        if is_shut { 0 } else { self.stop.line() }
    }

    /// The owner of a claim hands back what it has not started.
    pub(super) fn hand_back(&mut self, member: &mut Member, now: Duration, rest: Claim) {
        self.team.turn(member, Phase::Busy { shares: false });
        let items = rest.len();
        self.control(now, |controller| controller.handed_back(items));
        self.put_back(rest);
    }

    fn put_back(&mut self, claim: Claim) {
        let allows = self.stop.allows(claim.index());
        if allows { self.returned.push(claim) } else { self.undecided.push(claim) }
    }

    /// Whether owners of claims are to hand back what they have not started: for an idle worker, or for those that soon would be,
    /// while an owner is in a slow item.
    pub(super) fn wants_rests(&self) -> bool {
        self.has_idle() || self.team.ends_slowly
    }

    pub(super) fn has_idle(&self) -> bool {
        self.team.idle > 0
    }

    /// The item is to be tried again when it is due.
    pub(super) fn later(&mut self, due: Duration, claim: Claim) {
        let line = self.stop.line_for(claim.index());
        self.retries.push(due, claim, line);
    }

    /// The item is to be tried again when it is due, or when a pause that it has asked for is ended.
    pub(super) fn later_or_resumed(&mut self, due: Duration, claim: Claim) {
        // It may have been ended since.
        let line = self.stop.line_for(claim.index());
        self.retries.push_held(due.min(self.pause.until()), claim, line);
    }

    /// No pause goes on beyond now, and what waits for its end may run.
    pub(super) fn resume(&mut self) {
        self.pause.end();
        self.retries.resume();
    }

    /// The item at `index` failed.
    pub(super) fn failed(&mut self, index: usize) {
        self.stop.failed(index);
        self.stop_line_moved();
    }

    /// Nothing more starts.
    pub(super) fn close(&mut self, reason: Option<StopReason>) {
        self.stop.close(reason);
        self.stop_line_moved();
    }

    fn stop_line_moved(&mut self) {
        let line = self.stop.line();
        if line == usize::MAX {
            return;
        }
        self.retries.stop_at(line);
        for claim in mem::take(&mut self.returned) {
            self.put_back(claim);
        }
        if self.grows() {
            self.sort_out();
        }
    }

    /// The worker that pulls has filled a slot; whether it may fill another.
    pub(super) fn add(&mut self, claim: Claim) -> bool {
        let index = claim.index();
        self.fresh.add(claim);
        index.saturating_add(1) < self.stop.line()
    }

    /// The worker that pulls is done with that.
    pub(super) fn give_back_source(&mut self, has_ended: bool) {
        self.fresh.take_back(has_ended);
    }

    /// An item was refused, also the `last` time: by an answer that asks for a time without starts,
    /// to an attempt that had seen this many pauses.
    pub(super) fn refuse(
        &mut self,
        now: Duration,
        asked: (Duration, usize),
        last: Option<Refusal>,
    ) -> Answer {
        self.clock = self.clock.max(now);
        let answer = self.pause.refuse(now, asked, self.succeeded_here, last);
        if answer.is_news {
            self.retried_last = true; // after the pause others go first, so that it shows whether they are refused, too
            self.control(now, Controller::overload);
        }
        answer
    }
}

/// Items that push others. A worker that runs one shares what it may bring, so that no other leaves.
impl Schedule {
    pub(super) fn grows(&self) -> bool {
        self.stop.growth.is_some()
    }

    /// Whether there is memory for one more.
    pub(super) fn has_room_to_grow(&mut self) -> bool {
        self.stop.growth.as_mut().is_some_and(|growth| growth.has_room())
    }

    /// The item at `parent` has pushed one, which is the next.
    pub(super) fn push(&mut self, parent: usize, claim: Claim) {
        let index = claim.index();
        self.stop.growth.iter_mut().for_each(|growth| growth.arrives_from(parent));
        if self.stop.allows(index) { self.fresh.add(claim) } else { self.undecided.push(claim) }
    }

    /// When no worker is there any more and these claims are left: why the batch stopped, with the number of the item, and the places
    /// of all items.
    pub(super) fn end_of_growth(&self, left: &[Claim]) -> (Option<StopReason>, Vec<usize>) {
        let items = |claim: &Claim| claim.index()..claim.index() + claim.len();
        let is_missed = || left.iter().flat_map(items).any(|index| self.stop.comes_before_failures(index));
        let places = self.stop.growth.as_ref().map_or_else(Vec::new, |growth| growth.places());
        (self.stop.reason(|_| is_missed()), places)
    }

    fn starts(&mut self, member: &Member, index: usize) {
        self.stop.growth.iter_mut().for_each(|growth| growth.starts(member.number, index));
    }

    /// The line has moved: what is behind it does not start any more.
    fn sort_out(&mut self) {
        let stop = &self.stop;
        self.undecided.extend(self.fresh.stop_where(|index| !stop.allows(index)));
        self.retries.stop_where(|index| !stop.allows(index));
        let is_closed = self.stop.line() == 0;
        self.stop.growth.iter_mut().for_each(|growth| growth.tell_running(is_closed));
    }
}

/// The number of workers.
impl Schedule {
    fn control(&mut self, now: Duration, tell: impl FnOnce(&mut Controller)) {
        self.limit_moved |= self.team.control(now, tell);
    }

    /// Whether the limit has moved since this was asked last.
    pub(super) fn take_limit_moved(&mut self) -> bool {
        mem::take(&mut self.limit_moved)
    }

    /// Whether a worker has claimed items that it has not started.
    fn holds_rests(&self) -> bool {
        self.team.sharing > 0 && !self.grows()
    }

    /// Has the controller look around: `runnable` workers compute, if that is known. Where the last items are slow and a worker
    /// holds several, it hands them back: there may be as few workers as quick items needed.
    pub(super) fn tick(&mut self, now: Duration, handed_on: usize, runnable: Option<usize>) {
        let stop_at = self.stop.line();
        let room = if self.fresh.can_lend(stop_at) { self.room(handed_on) } else { 0 };
        let fresh = if self.fresh.has_some(stop_at) { self.fresh.queued() } else { 0 };
        let queued = if self.at_limits.is_closed { 0 } else { room + fresh + self.returned.len() };
        let is_quiet = now.saturating_sub(self.clock) > LONGEST_SILENCE;
        self.team.ends_slowly |= is_quiet && queued == 0 && self.holds_rests();
        self.control(now, |controller| controller.tick(now, Activity { runnable, queued, paced: 0 }));
    }

    /// How many more items of a stream may be under way.
    fn room(&self, handed_on: usize) -> usize {
        self.window.size.saturating_sub(self.fresh.known().0.saturating_sub(handed_on))
    }

    /// A thread could not be had: there will be no more than this many workers.
    pub(super) fn refused(&mut self, now: Duration, workers: usize) {
        self.control(now, |controller| controller.refused(workers));
    }

    /// The worker goes, whatever it was doing.
    pub(super) fn leave(&mut self, member: &mut Member) {
        self.team.turn(member, Phase::Away);
    }
}

/// A caller that runs by itself.
impl Schedule {
    /// Lends the iterator to the caller for as long as it runs by itself, and gives the index of the next item: if nothing is under
    /// way. If it `asks`, no other worker gets the iterator until then.
    pub(super) fn lend_solo(
        &mut self,
        member: &mut Member,
        now: Duration,
        handed_on: usize,
        asks: bool,
    ) -> Option<usize> {
        let is_free = self.fresh.can_lend(self.stop.line()) && self.team.has_room(member);
        let index = self.fresh.known().0;
        if !is_free || index > handed_on || self.waiting() > 0 {
            self.solo = match self.solo {
                Solo::Refused { until } if now < until => self.solo,
                Solo::Wanted { .. } => self.solo,
                _ if asks => Solo::Wanted { until: now + KEPT },
                _ => Solo::No,
            };
            return None;
        }
        self.fresh.lend(1);
        self.wants_room = None;
        self.solo = if asks { Solo::Alone } else { Solo::Overseen };
        self.team.turn(member, Phase::Busy { shares: false });
        Some(index)
    }

    /// The caller has come up to this index, and runs by itself no longer.
    pub(super) fn end_solo(&mut self, next: usize, has_ended: bool) {
        self.solo = Solo::No;
        self.fresh.skip_to(next);
        self.fresh.take_back(has_ended);
    }

    /// Whether no worker may pull, since the caller wants to run by itself as soon as nothing is under way.
    fn is_kept_for_the_caller(&mut self, now: Duration) -> bool {
        let Solo::Wanted { until } = self.solo else { return false };
        if now >= until {
            self.solo = Solo::Refused { until: now + REFUSED };
        }
        now < until
    }

    pub(super) fn is_solo(&self) -> bool {
        matches!(self.solo, Solo::Alone | Solo::Overseen)
    }

    /// The caller does not ask for it any more.
    pub(super) fn forget_solo(&mut self) {
        if matches!(self.solo, Solo::Wanted { .. }) {
            self.solo = Solo::No;
        }
    }
}

/// How far the batch is, and how it ended.
impl Schedule {
    pub(super) fn status(&self, now: Duration) -> Status {
        let controller = self.team.controller.as_deref();
        Status {
            counts: self.counts,
            load: self.load(now),
            known: self.known(),
            is_looked_after: self.team.present(self.fresh.is_open(self.stop.line())) > 0,
            limit: self.team.limit,
            window: self.window.size,
            sent_away: self.team.sent_away,
            is_over: self.is_over(),
            tick_in: controller
                .and_then(|controller| controller.next_tick(self.holds_rests()))
                .map(|at| at.saturating_sub(now)),
            wants_runnable: controller.is_some_and(|controller| controller.wants_runnable(now)),
        }
    }

    /// What goes on. An item that has failed waits for its next attempt before its worker tells
    /// that it is done with it.
    pub(super) fn load(&self, now: Duration) -> Load {
        let retrying = self.retries.waiting();
        let waiting = self.waiting();
        let undecided = self.fresh.known().0.saturating_sub(self.counts.decided() + waiting);
        Load {
            running: self.team.busy.min(undecided),
            waiting,
            retrying,
            retries: self.retried,
            workers: self.team.limit,
            paused_for: self.pause.end_after(now).map(|end| end.saturating_sub(now)),
            began: Duration::ZERO,
        }
    }

    /// How many items there were so far, and whether there will be no more.
    pub(super) fn known(&self) -> (usize, bool) {
        self.known_beside(0)
    }

    /// The same for a caller that has run an item, and is about to tell so.
    pub(super) fn known_after_item(&self) -> (usize, bool) {
        self.known_beside(1)
    }

    /// The same where some workers push no more, though they have not told yet that their items have ended.
    fn known_beside(&self, ended: usize) -> (usize, bool) {
        let Some(growth) = &self.stop.growth else { return self.fresh.known() };
        let may_run_more = self.fresh.is_open(self.stop.line()) || !self.returned.is_empty();
        let may_push_more = self.team.sharing > ended || self.team.asking > 0;
        (growth.arrived(), !may_run_more && !may_push_more && self.waiting() == 0)
    }

    pub(super) fn wants_room(&self) -> usize {
        self.wants_room.unwrap_or(usize::MAX)
    }

    /// When no worker is there any more: the counts, the most workers that were busy at once, how many there might have been over
    /// time, and the claims of undecided items.
    pub(super) fn end(&mut self) -> (Counts, usize, Vec<(Duration, usize)>, Vec<Claim>) {
        let curve = self.team.curve.take().map_or_else(Vec::new, Curve::into_steps);
        let mut left = mem::take(&mut self.undecided);
        left.extend(self.fresh.left());
        left.append(&mut self.returned);
        left.append(&mut self.retries.left());
        left.retain(|claim| claim.len() > 0);
        (self.counts, self.team.most_busy, curve, left)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
