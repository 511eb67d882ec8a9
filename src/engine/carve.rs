//! The rest of the batch, handed out.
//!
//! Behind one lock stand the items that nobody has taken yet, those that wait for their next attempt, and who is at
//! work; a worker takes a chunk off the front, or one of those that wait and are due. Claims run upwards: when a worker
//! holds an index, every lower one has been taken already.
//!
//! Where items are pulled out of an iterator, that may wait, for ever, for what comes of the items before. So nobody pulls
//! while it is needed elsewhere: one who would leave items behind that wait for an attempt or to be taken, with nobody else to
//! look after them, does not; and the caller, who is needed by its consumer, pulls only where nothing is under way.

use std::mem;
use std::time::Duration;

use crate::adaptive::{Activity, Controller};
use crate::keep::Halt;
use crate::result::{Counts, Summary, Trials};
use crate::sync::{Instant, Mutex};
use crate::timeline::Timeline;
use crate::timeline::track::Recorded;

use super::chunk::{Chunk, Held};
use super::crew::{Crew, Role, Standing};
use super::limits::Limits;
use super::numbers::Numbers;
use super::supply::{Handout, ItemOf, Supply};
use super::waiting::Waiting;

/// The batch as its workers see it. `P` is kept with an item that is tried again.
pub(super) struct Carve<S: Supply, P> {
    pub(super) state: Mutex<State<S, P>>,
    pub(super) since: Instant,
    /// Whether the limit moves while the batch runs.
    adapts: bool,
}

/// Who is to work on it.
pub(super) struct Team {
    /// How many to begin with.
    pub(super) workers: usize,
    /// Moves the limit; none for one that stays.
    pub(super) controller: Option<Box<Controller>>,
    /// Where somebody asks for them.
    pub(super) numbers: Option<Numbers>,
    /// How many there might be, where somebody wants to know afterwards.
    pub(super) limits: Option<Limits>,
}

impl Team {
    pub(super) fn adapts(&self) -> bool {
        self.controller.is_some()
    }
}

/// An item that waits for its next attempt, and what is kept with it.
pub(super) type Waiter<S, P> = (Held<<S as Supply>::Places>, P);

/// What there is to tell of a batch that is over.
pub(super) struct Told {
    pub(super) counts: Counts,
    /// How long it took.
    pub(super) elapsed: Duration,
    pub(super) most_running: usize,
    /// Of some items, in their order.
    pub(super) trials: Vec<Trials>,
    /// How many workers there might be, over time, if that was noted.
    pub(super) limits: Vec<(Duration, usize)>,
}

impl Told {
    /// Of a batch that was recorded or not, and stopped for its journal or not.
    pub(super) fn summary(self, recorded: Option<Recorded>, halted: Option<Halt>) -> Summary {
        let Told { counts, elapsed, most_running: workers, trials, limits } = self;
        let timeline = recorded.map(|recorded| Box::new(Timeline::new(recorded, limits, elapsed, workers)));
        let journal_error = halted.map(|Halt(words)| words);
        Summary { counts, elapsed, workers, trials, timeline, journal_error }
    }
}

pub(super) struct State<S: Supply, P> {
    pub(super) rest: S,
    pub(super) waiting: Waiting<Waiter<S, P>>,
    /// When the first of the idle comes by itself, to see what is due.
    pub(super) alarm: Option<Instant>,
    pub(super) crew: Crew,
    /// Moves the crew's limit; none for one that stays.
    controller: Option<Box<Controller>>,
    limits: Option<Limits>,
    pub(super) trials: Vec<Trials>,
    pub(super) counts: Counts,
}

/// How far the batch is, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    pub(super) counts: Counts,
    /// How many items there were so far, and whether there will be no more.
    pub(super) known: (usize, bool),
    /// Workers that have claimed something and are not done. Not one that pulls what nobody wants any more.
    pub(super) running: usize,
    /// How many workers there may be.
    pub(super) limit: usize,
    /// How many workers went because there were too many.
    pub(super) sent_away: usize,
    /// Whether there is nothing left to claim, now or later.
    pub(super) exhausted: bool,
    /// The time until somebody is to look around, where the limit moves.
    pub(super) tick_in: Option<Duration>,
    /// Whether that needs to know how many workers compute.
    pub(super) wants_runnable: bool,
}

/// What a worker is to do next.
pub(super) enum Claim<'b, S: Supply, P> {
    /// These items, or one that has been tried before.
    Work(Chunk<'b, S::Places>, Option<P>),
    /// Those that can be pulled out of this, up to so many.
    Pull(S::Source, usize),
    /// Decide these, which are not to be tried again.
    GiveUp(Vec<Waiter<S, P>>),
    /// Nothing for so long, unless something changes.
    Wait(Duration),
    /// There is nothing left for it, or there are too many workers.
    Leave,
}

impl<S: Supply, P> Carve<S, P> {
    pub(super) fn new(rest: S, team: Team) -> Self {
        let adapts = team.adapts();
        let Team { workers, controller, numbers, limits } = team;
        let (waiting, crew) = (Waiting::new(), Crew::new(workers, numbers));
        let (alarm, trials, counts) = (None, Vec::new(), Counts::default());
        let state = State { rest, waiting, alarm, crew, controller, limits, trials, counts };
        Carve { state: Mutex::new(state), since: Instant::now(), adapts }
    }

    /// How far the batch is, if items from `end` on may not start.
    pub(super) fn status(&self, end: usize) -> Status {
        let now = self.now() - self.since;
        let state = self.state.lock();
        let controller = state.controller.as_deref();
        Status {
            counts: state.counts,
            known: state.rest.known(),
            running: state.crew.running - usize::from(!state.rest.is_open(end) && state.rest.is_lent()),
            limit: state.crew.limit,
            sent_away: state.crew.sent_away,
            exhausted: state.is_exhausted(end),
            tick_in: controller.and_then(Controller::next_tick).map(|at| at.saturating_sub(now)),
            wants_runnable: controller.is_some_and(|controller| controller.wants_runnable(now)),
        }
    }

    pub(super) fn adapts(&self) -> bool {
        self.adapts
    }

    /// For the controller: where there is none, the clock is not read.
    pub(super) fn now(&self) -> Instant {
        if self.adapts { Instant::now() } else { self.since }
    }

    /// How many items have a value, as far as workers have told.
    pub(super) fn succeeded(&self) -> usize {
        self.state.lock().counts.succeeded
    }

    /// Looks around: so many workers compute, if that is known, and so many wait for a permit.
    pub(super) fn tick(&self, end: usize, runnable: Option<usize>, paced: usize) {
        let now = self.since.elapsed();
        let mut state = self.state.lock();
        let queued = if state.rest.is_open(end) { state.rest.queued() } else { 0 };
        state.control(|controller| controller.tick(now, Activity { runnable, queued, paced }));
    }

    /// A thread could not be had: there will be no more than so many workers.
    pub(super) fn refused(&self, workers: usize) {
        self.state.lock().control(|controller| controller.refused(workers));
    }

    /// Somebody said that there are too many requests.
    pub(super) fn overload(&self) {
        self.state.lock().control(Controller::overload);
    }

    /// The item is to be taken up again when it is due; whether somebody who is idle has to be called for that.
    pub(super) fn put_back(&self, due: Instant, waiter: Waiter<S, P>) -> bool {
        let mut state = self.state.lock();
        state.waiting.push(due, waiter.0.index(), waiter);
        let calls = state.is_before_alarm(due) && state.crew.can_call();
        if calls {
            state.crew.call();
        }
        calls
    }

    /// When nobody works any more: what nobody has taken.
    pub(super) fn rest(&mut self) -> &mut S {
        &mut self.state.get_mut().rest
    }

    /// When nobody works any more: what is kept of items that still wait, and what there is to tell of a
    /// batch that took so long. The items are given up.
    pub(super) fn left(&mut self, elapsed: Duration) -> (Vec<P>, Told) {
        let state = self.state.get_mut();
        let mut trials = mem::take(&mut state.trials);
        trials.sort_unstable_by_key(|trials| trials.index);
        let limits = state.limits.take().map_or_else(Vec::new, Limits::into_steps);
        let (counts, most_running) = (state.counts, state.crew.most_running);
        let told = Told { counts, elapsed, most_running, trials, limits };
        (state.waiting.take_stopped(0).into_iter().map(|(_, kept)| kept).collect(), told)
    }
}

impl<S: Supply, P> State<S, P> {
    pub(super) fn is_exhausted(&self, end: usize) -> bool {
        self.waiting.len() == 0 && !self.rest.is_open(end)
    }

    /// Whether there are not too many others at work. Whoever pulls is not: it may be kept waiting.
    pub(super) fn may_work(&self, standing: Standing) -> bool {
        self.crew.others(standing) - usize::from(self.rest.is_lent()) < self.crew.limit
    }

    /// How many items somebody who wants so many may take, or pull while nothing needs it.
    pub(super) fn size_for(&self, role: Role, standing: Standing, asked: usize) -> usize {
        let others = self.crew.other_helpers(role, standing);
        match role {
            _ if !S::IS_STREAM => self.fair_size(asked),
            Role::Helper if others > 0 => self.fair_size(asked),
            Role::Caller if others > 0 => 0,
            _ if self.waiting.len() > 0 => 0,
            _ => 1,
        }
    }

    pub(super) fn is_before_alarm(&self, due: Instant) -> bool {
        self.alarm.is_none_or(|alarm| due < alarm)
    }

    /// Whether one of the idle is to be called by somebody who is not: to work, or to wait for what is due. If only room is
    /// missing, whoever makes some calls one of them.
    pub(super) fn wants_idle(&self, end: usize) -> bool {
        let has_alarm = self.waiting.len() == 0 || self.alarm.is_some();
        let is_needed = || self.rest.is_open(end) && (self.rest.has_room_or_asks() || self.lacks_a_watch());
        self.crew.can_call() && (!has_alarm || is_needed())
    }

    /// Whether somebody pulls more than one item, and nobody would come soon to see whether it is kept waiting.
    fn lacks_a_watch(&self) -> bool {
        self.rest.is_lent_for_many() && !self.crew.has_a_watch()
    }

    /// What somebody who comes now is to do. It gets up to `size` items.
    pub(super) fn next<'b>(
        &mut self,
        now: Instant,
        size: usize,
        end: usize,
        buffer: &'b mut Vec<ItemOf<S>>,
    ) -> Claim<'b, S, P> {
        let stopped = self.waiting.take_stopped(end);
        if !stopped.is_empty() {
            return Claim::GiveUp(stopped);
        }
        if let Some((held, past)) = self.waiting.take(now) {
            return Claim::Work(held.into_chunk(buffer), Some(past));
        }
        if size > 0 && self.rest.is_open(end) {
            match self.rest.hand_out(size, buffer) {
                Handout::Items(chunk) => return Claim::Work(chunk, None),
                Handout::Source(source, most) => return Claim::Pull(source, most),
                Handout::Nothing => {}
            }
        }
        // No more wait for another attempt than there are items that do.
        if self.rest.is_open(end) || self.crew.idle() < self.waiting.len() {
            return Claim::Wait(Duration::MAX);
        }
        Claim::Leave
    }

    /// Tells the controller something; whether that moved the limit.
    pub(super) fn control(&mut self, tell: impl FnOnce(&mut Controller)) -> bool {
        let Some(controller) = self.controller.as_deref_mut() else { return false };
        tell(controller);
        let before = mem::replace(&mut self.crew.limit, controller.limit());
        let has_moved = self.crew.limit != before;
        self.limits.iter_mut().filter(|_| has_moved).for_each(|limits| limits.now(self.crew.limit));
        has_moved
    }

    /// As many as asked for, within what leaves something for the others. The first items go one to a worker.
    fn fair_size(&self, asked: usize) -> usize {
        match self.crew.limit {
            1 => asked,
            workers if self.rest.next() < workers => 1,
            workers => asked.min(self.rest.shared() / (2 * workers)).max(1),
        }
    }
}
