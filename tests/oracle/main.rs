//! Any number of workers equals a plain loop, whatever the items do.

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod retries;
mod settings;
mod streams;
mod stubborn;
#[cfg(feature = "tokio")]
mod tasks;
