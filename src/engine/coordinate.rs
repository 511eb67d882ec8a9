//! What the calling thread does when there is something to do beside the work: it reports progress, opens seats when
//! the limit rises, and leaves the work to helpers.

use std::time::Duration;

use crate::panic::{self, Panic};
use crate::pool::Invitation;

use super::carve::Status;
use super::job::Job;
use super::pace::Pace;
use super::tally::{Bell, Report};

/// How long the caller waits before it looks again whether helpers come.
const GLANCE: Duration = Duration::from_millis(1);

/// How often it looks while they seem to come. Then it works itself, whatever keeps them: in a forked child they seem to
/// come for ever. Under a model checker, whose clock knows only sooner and later, once is enough.
const PATIENCE: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 100 };

/// Watches what helpers complete until the batch is over. While there is no helper, the caller works and reports by
/// turns. A panic of `on_progress` stops the batch and is handed back; helpers may then still be running.
pub(super) fn coordinate<I, T, E, F>(
    job: &Job<'_, I, T, E, F>,
    helpers: Option<&Invitation<'_>>,
    seats: usize,
    mut report: Option<Report<'_>>,
) -> Result<(), Panic>
where
    F: Fn(usize, &I) -> Result<T, E>,
{
    let ended = panic::catch(|| watch(job, Turns::new(helpers, seats), &mut report));
    if ended.is_err() {
        job.stop.close();
    }
    // The callback may own something whose destructor panics.
    ended.and(panic::catch(|| drop(report)))
}

fn watch<I, T, E, F>(job: &Job<'_, I, T, E, F>, mut turns: Turns<'_>, report: &mut Option<Report<'_>>)
where
    F: Fn(usize, &I) -> Result<T, E>,
{
    let Some(bell) = &job.bell else { unreachable!("a batch that is coordinated has a bell") };
    let mut pace = Pace::new();
    loop {
        let status = job.carve.status(job.stop.end());
        turns.follow(&status);
        if !report.as_mut().is_none_or(|report| report.up_to(status.counts)) {
            continue; // calls are left to make, but not before another look
        }
        if status.running > 0 {
            bell.wait();
        } else if status.exhausted {
            return;
        } else if turns.take_seat(bell) {
            let worked = job.take_turn(&mut pace, |counts| {
                if let Some(report) = report {
                    report.add(counts);
                }
            });
            turns.seated &= worked; // who is sent away has lost its seat
        }
    }
}

/// The caller's claim to a seat among the workers, so that it and the helpers together never exceed the limit.
struct Turns<'p> {
    /// None for a batch that has the caller alone.
    helpers: Option<&'p Invitation<'p>>,
    seated: bool,
    patience: u32,
    /// Seats that are open or taken, the caller's among them.
    granted: usize,
    sent_away: usize,
}

impl<'p> Turns<'p> {
    fn new(helpers: Option<&'p Invitation<'p>>, seats: usize) -> Self {
        Turns { helpers, seated: helpers.is_none(), patience: PATIENCE, granted: seats, sent_away: 0 }
    }

    /// Gives the caller's seat up when a helper works, and opens seats when the limit has risen. One that has fallen closes
    /// none: workers too many are sent away.
    fn follow(&mut self, status: &Status) {
        if status.running > 0 {
            self.yield_seat();
        }
        let (Some(helpers), Some(limit)) = (self.helpers, status.limit) else { return };
        self.granted -= status.sent_away - self.sent_away;
        self.sent_away = status.sent_away;
        if limit > self.granted {
            helpers.add_seats(limit - self.granted);
            self.granted = limit;
        }
    }

    /// A helper works: it is the caller's turn no longer.
    fn yield_seat(&mut self) {
        if let (Some(helpers), true) = (self.helpers, self.seated) {
            self.seated = false;
            helpers.add_seats(1);
        }
    }

    /// Whether the caller is to work. It waits for helpers that come, and has to look again then.
    fn take_seat(&mut self, bell: &Bell) -> bool {
        let Some(helpers) = self.helpers else { return self.seated };
        if !self.seated && self.patience > 0 && helpers.are_coming() {
            self.patience -= 1;
            bell.wait_for(GLANCE);
            return false;
        }
        self.seated = self.seated || helpers.take_seat();
        if !self.seated {
            // Every seat is taken by a helper that has not claimed anything yet.
            bell.wait_for(GLANCE);
        }
        self.seated
    }
}
