//! Everything that has gone wrong with thread pools before, tried on this one. Each test carries the number of its case.
//!
//! After each case the executor must be as good as new: a following batch gives what it should with every worker there,
//! values made are values dropped, each item has run exactly once, and the call has come back.

#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, dead_code, reason = "some faults can be had on Linux alone")
)]

#[path = "../common/mod.rs"]
mod common;

mod cancels;
mod deaths;
mod errors;
mod lifetimes;
mod nesting;
mod panics;
mod retries;
mod scarcity;
mod signals;
mod sizes;
mod streams;
#[cfg(feature = "tokio")]
mod tasks;
mod threads;
