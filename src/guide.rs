//! Pages about one topic each. They hold text and no code.

#[doc = include_str!("guide/machines.md")]
pub mod machines {}

#[doc = include_str!("guide/promises.md")]
pub mod promises {}

#[doc = include_str!("guide/resuming.md")]
#[cfg(feature = "journal")]
pub mod resuming {}

#[doc = include_str!("guide/retries.md")]
pub mod retries {}

#[doc = include_str!("guide/streams.md")]
pub mod streams {}

#[doc = include_str!("guide/timelines.md")]
pub mod timelines {}

#[doc = include_str!("guide/workers.md")]
pub mod workers {}
