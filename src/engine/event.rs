//! One attempt, as far as it is told to others.

use crate::timeline::span::Ending;

#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nobody is told"))]
pub(super) struct Event<'e> {
    pub(super) index: usize,
    pub(super) attempt: usize,
    pub(super) worker: usize,
    pub(super) ending: Ending,
    pub(super) note: Option<&'e str>,
}
