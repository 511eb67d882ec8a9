//! What subscribers of crate `tracing` hear: a span for each batch, in which its operations run; an event for each attempt that
//! came to no value, and for each other at level TRACE. Without the feature, nothing.

use crate::timeline::span::Ending;

/// One attempt, as subscribers hear of it.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "there are no subscribers"))]
pub(crate) struct Event<'e> {
    pub(crate) index: usize,
    pub(crate) attempt: usize,
    pub(crate) worker: usize,
    pub(crate) ending: Ending,
    pub(crate) note: Option<&'e str>,
}

#[cfg(feature = "tracing")]
pub(crate) use heard::Trace;
#[cfg(not(feature = "tracing"))]
pub(crate) use unheard::Trace;

#[cfg(feature = "tracing")]
mod heard {
    use tracing::dispatcher::{self, DefaultGuard, Dispatch};
    use tracing::field::Empty;
    use tracing::span::Entered;
    use tracing::{Level, Span, event, info_span};

    use crate::counts::Counts;
    use crate::timeline::span::Ending;

    use super::Event;

    /// Under this name all of it can be filtered.
    const TARGET: &str = "batch_executor";

    #[derive(Debug)]
    pub(crate) struct Trace {
        /// The subscriber of the thread that started the batch hears of its workers, too.
        dispatch: Dispatch,
        span: Span,
        hears_successes: bool,
    }

    impl Trace {
        pub(crate) const MAY_BE_HEARD: bool = true;

        /// A batch or a stream begins, of this many items if that is known.
        pub(crate) fn begin(what: &'static str, items: Option<usize>, workers: usize) -> Self {
            let span =
                info_span!(target: TARGET, "batch", what, items, workers, succeeded = Empty, failed = Empty);
            let hears_successes = tracing::enabled!(target: TARGET, Level::TRACE);
            Trace { dispatch: dispatcher::get_default(Dispatch::clone), span, hears_successes }
        }

        /// What this thread does until the guard goes is part of the batch.
        pub(crate) fn enter(&self) -> (Entered<'_>, DefaultGuard) {
            let listening = dispatcher::set_default(&self.dispatch);
            (self.span.enter(), listening)
        }

        /// Whether a subscriber hears of every attempt.
        pub(crate) fn hears_successes(&self) -> bool {
            self.hears_successes
        }

        pub(crate) fn tell(&self, Event { index, attempt, worker, ending, note }: Event<'_>) {
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

        pub(crate) fn end(&self, counts: Counts) {
            self.span.record("succeeded", counts.succeeded);
            self.span.record("failed", counts.failed);
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod unheard {
    use crate::counts::Counts;

    use super::Event;

    /// Ends nothing when it goes.
    pub(crate) struct Within;

    #[derive(Debug)]
    pub(crate) struct Trace;

    #[allow(clippy::unused_self, reason = "the other one needs it")]
    impl Trace {
        pub(crate) const MAY_BE_HEARD: bool = false;

        pub(crate) fn begin(_: &'static str, _: Option<usize>, _: usize) -> Self {
            Trace
        }

        pub(crate) fn enter(&self) -> Within {
            Within
        }

        pub(crate) fn hears_successes(&self) -> bool {
            false
        }

        pub(crate) fn tell(&self, _: Event<'_>) {}

        pub(crate) fn end(&self, _: Counts) {}
    }
}
