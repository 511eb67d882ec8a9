//! What a batch did, attempt by attempt: to be looked at, counted, and drawn.

pub(crate) mod curve;
mod density;
mod json;
mod page;
pub(crate) mod recorder;
mod recording;
pub(crate) mod span;
mod stats;
mod trace;
pub(crate) mod track;

pub use recording::{Interval, Timeline};
pub use span::{Ending, Span};
pub use stats::{Quantiles, TimelineStats};
