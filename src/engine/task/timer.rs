//! The only place that knows a runtime: its clock, its timer, and its threads for what blocks. Another runtime needs another of these.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::time::{Instant as Moment, Sleep, sleep_until};

use crate::journal_hook::Work;
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

/// The runtime does the work on a thread that may block. Without a runtime, this thread does it.
pub(super) fn spawn_blocking(work: Work) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// Has the work done as [`spawn_blocking`] does, and waits for its end.
pub(super) async fn blocking(work: Work) {
    match Handle::try_current() {
        Ok(runtime) => _ = runtime.spawn_blocking(work).await,
        Err(_) => work(),
    }
}
