//! What the calling thread does when somebody wants to hear of progress: it reports, and leaves the work to helpers.

use std::time::Duration;

use crate::panic::{self, Panic};
use crate::pool::Invitation;

use super::job::Job;
use super::tally::{Bell, Report};

/// How long the caller waits for helpers that are on their way before it works itself.
const PATIENCE: Duration = Duration::from_millis(1);

/// Reports what helpers complete until the batch is over. While there is no helper, the caller works and reports by
/// turns. A panic of `on_progress` stops the batch and is handed back; helpers may then still be running.
pub(super) fn coordinate<I, T, E, F>(
    job: &Job<'_, I, T, E, F>,
    helpers: Option<&Invitation<'_>>,
    mut report: Report<'_>,
) -> Result<(), Panic>
where
    F: Fn(usize, &I) -> Result<T, E>,
{
    let Some(bell) = &job.bell else { unreachable!("a batch that reports has a bell") };
    let ended = panic::catch(|| {
        let mut turns = Turns::new(helpers);
        loop {
            let status = job.carve.status(job.stop.end());
            report.up_to(status.counts);
            if status.running > 0 {
                turns.yield_seat();
                bell.wait();
            } else if status.exhausted {
                break;
            } else if turns.take_seat(bell) {
                job.work_once();
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
}

impl<'p> Turns<'p> {
    fn new(helpers: Option<&'p Invitation<'p>>) -> Self {
        let patience = match helpers {
            Some(helpers) if helpers.is_heard() => PATIENCE,
            _ => Duration::ZERO,
        };
        Turns { helpers, seated: helpers.is_none(), patience }
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
