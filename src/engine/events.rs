//! What the subscribers of crate `tracing` are told of a batch. Without that feature, nobody is told anything.

#[cfg(feature = "tracing")]
mod told;

#[cfg(feature = "tracing")]
pub(super) use told::Events;

#[cfg(not(feature = "tracing"))]
use crate::result::Counts;
use crate::timeline::span::Ending;

/// One attempt, as far as it is to be told.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nobody is told"))]
pub(super) struct Event<'e> {
    pub(super) index: usize,
    pub(super) attempt: usize,
    pub(super) worker: usize,
    pub(super) ending: Ending,
    pub(super) note: Option<&'e str>,
}

/// Ends nothing when it goes.
#[cfg(not(feature = "tracing"))]
pub(super) struct Within;

/// Tells nobody.
#[cfg(not(feature = "tracing"))]
#[derive(Debug)]
pub(super) struct Events;

#[cfg(not(feature = "tracing"))]
#[allow(clippy::unused_self, reason = "the other one needs it")]
impl Events {
    pub(super) const MAY_BE_HEARD: bool = false;

    pub(super) fn begin(_: &'static str, _: Option<usize>, _: usize) -> Self {
        Events
    }

    pub(super) fn enter(&self) -> Within {
        Within
    }

    pub(super) fn hears_successes(&self) -> bool {
        false
    }

    pub(super) fn tell(&self, _: Event<'_>) {}

    pub(super) fn end(&self, _: Counts) {}
}
