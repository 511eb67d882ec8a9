//! What the subscribers of crate `tracing` are told: a span for each batch, in which its operations run; an event for each attempt that came to no value, and for others where
//! somebody listens that closely.

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::field::Empty;
use tracing::span::Entered;
use tracing::{Level, Span, event, info_span};

use crate::result::Counts;
use crate::timeline::span::Ending;

use super::event::Event;

/// Under this name all of it can be filtered.
const TARGET: &str = "batch_executor";

#[derive(Debug)]
pub(super) struct Events {
    /// Whoever listens where the batch was started, listens on its workers too.
    dispatch: Dispatch,
    span: Span,
    hears_successes: bool,
}

impl Events {
    pub(super) const MAY_BE_HEARD: bool = true;

    /// A batch or a stream begins, of so many items if that is known.
    pub(super) fn begin(what: &'static str, items: Option<usize>, workers: usize) -> Self {
        let span =
            info_span!(target: TARGET, "batch", what, items, workers, succeeded = Empty, failed = Empty);
        let hears_successes = tracing::enabled!(target: TARGET, Level::TRACE);
        Events { dispatch: dispatcher::get_default(Dispatch::clone), span, hears_successes }
    }

    /// What this thread does until the guard goes is part of the batch.
    pub(super) fn enter(&self) -> (Entered<'_>, DefaultGuard) {
        let listening = dispatcher::set_default(&self.dispatch);
        (self.span.enter(), listening)
    }

    /// Whether somebody wants to hear of every attempt.
    pub(super) fn hears_successes(&self) -> bool {
        self.hears_successes
    }

    pub(super) fn tell(&self, Event { index, attempt, worker, ending, note }: Event<'_>) {
        match ending {
            Ending::Succeeded => {
                event!(target: TARGET, parent: &self.span, Level::TRACE, index, attempt, worker, "item succeeded");
            }
            Ending::Retried => {
                event!(target: TARGET, parent: &self.span, Level::DEBUG, index, attempt, worker, "item failed, and is tried again");
            }
            _ => {
                event!(target: TARGET, parent: &self.span, Level::WARN, index, attempt, worker, note, "item {ending}");
            }
        }
    }

    pub(super) fn end(&self, counts: Counts) {
        self.span.record("succeeded", counts.succeeded);
        self.span.record("failed", counts.failed);
    }
}
