//! What the calling thread does when there is something to do beside the work: it reports progress, opens seats when
//! the limit rises, and leaves the work to helpers.

use std::time::Duration;

use crate::panic::{self, Panic};
use crate::pool::Invitation;

use super::carve::Status;
use super::job::Job;
use super::pace::Pace;
use super::tally::{Bell, Report};

/// How long the caller waits for helpers that are on their way before it works itself.
const PATIENCE: Duration = Duration::from_millis(1);

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
    let Some(bell) = &job.bell else { unreachable!("a batch that is coordinated has a bell") };
    let ended = panic::catch(|| {
        let (mut turns, mut pace) = (Turns::new(helpers, seats), Pace::new());
        loop {
            let status = job.carve.status(job.stop.end());
            if let Some(report) = &mut report {
                report.up_to(status.counts);
            }
            turns.follow(&status);
            if status.running > 0 {
                turns.yield_seat();
                bell.wait();
            } else if status.exhausted {
                break;
            } else if turns.take_seat(bell) {
                job.take_turn(&mut pace, |counts| {
                    if let Some(report) = &mut report {
                        report.add(counts);
                    }
                });
            }
        }
    });
    if ended.is_err() {
        job.stop.close();
    }
    ended
}

/// The caller's claim to a seat among the workers, so that it and the helpers together never exceed the limit.
struct Turns<'p> {
    /// None for a batch that has the caller alone.
    helpers: Option<&'p Invitation<'p>>,
    seated: bool,
    patience: Duration,
    /// Seats that are open or taken, the caller's among them.
    granted: usize,
    sent_away: usize,
}

impl<'p> Turns<'p> {
    fn new(helpers: Option<&'p Invitation<'p>>, seats: usize) -> Self {
        let patience = match helpers {
            Some(helpers) if helpers.is_heard() => PATIENCE,
            _ => Duration::ZERO,
        };
        Turns { helpers, seated: helpers.is_none(), patience, granted: seats, sent_away: 0 }
    }

    /// Opens seats when the limit has risen. One that has fallen closes none: workers too many are sent away.
    fn follow(&mut self, status: &Status) {
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

    /// Whether the caller is to work. It waits for helpers first, and has to look again if one may have come.
    fn take_seat(&mut self, bell: &Bell) -> bool {
        if self.seated {
            return true;
        }
        if !self.patience.is_zero() {
            if !bell.wait_for(self.patience) {
                self.patience = Duration::ZERO;
            }
            return false;
        }
        self.seated = self.helpers.is_some_and(Invitation::take_seat);
        if !self.seated {
            // Every seat is taken by a helper that has not claimed anything yet.
            bell.wait_for(PATIENCE);
        }
        self.seated
    }
}
