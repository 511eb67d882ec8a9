//! Pages about one topic each. They hold text and no code.

#[doc = include_str!("guide/promises.md")]
pub mod promises {}
