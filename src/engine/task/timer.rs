//! The only place that knows a runtime: its clock and its timer. Another runtime needs another of these.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant as Moment, Sleep, sleep_until};

use crate::sync::Instant;

/// One timer, made when it is needed first: a batch that waits for nothing needs no runtime.
#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// The time by the runtime's clock.
    pub(super) fn now() -> Instant {
        Moment::now().into_std()
    }

    /// Whether that time has come; if not, the task is woken then.
    pub(super) fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = Moment::from_std(at);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}
