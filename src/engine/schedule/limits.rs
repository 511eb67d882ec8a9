//! Items that wait for limits, as far as the schedule knows of them: how many, and when to look.

use std::time::Duration;

/// How it stands with them.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Waiting {
    /// How many wait. None of them is at or above this index.
    pub(in crate::engine) parked: usize,
    pub(in crate::engine) below: usize,
    /// Whether one of them may be able to start now.
    pub(in crate::engine) is_ready: bool,
    /// When one may be able to start by itself.
    pub(in crate::engine) due: Option<Duration>,
    /// Whether each other item would have to wait behind them.
    pub(in crate::engine) is_closed: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { parked: 0, below: usize::MAX, is_ready: false, due: None, is_closed: false }
    }
}

impl Waiting {
    /// Whether some of them have to be sorted out, since the batch has stopped below them.
    pub(super) fn are_stopped(&self, stop_at: usize) -> bool {
        self.parked > 0 && stop_at < self.below
    }
}
