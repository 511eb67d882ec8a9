//! The tests that need no process of their own, one program: what they share of the engine is compiled once. A file of them alone is
//! `cargo test --test suite retrying::`.

#[path = "../common/mod.rs"]
mod common;

mod ancestor;
mod asynchronous;
mod clock;
mod context;
mod control;
mod growing;
mod journal;
mod json;
mod learning;
mod limits;
mod limits_that_change;
mod promise_01_input_order;
mod promise_02_parallel_equals_sequential;
mod promise_03_no_outcome_erased;
mod promise_04_panic_is_an_outcome;
mod promise_05_the_limit_holds;
mod promise_06_progress_is_honest;
mod promise_07_no_deadlock;
mod promise_09_bad_input;
mod promise_11_no_worker_idles_behind_a_claim;
mod promise_12_waiting_holds_no_worker;
mod results;
mod retrying;
mod sharding;
mod stopping;
mod streaming;
mod streaming_cancels;
mod streaming_steps;
mod streaming_stops;
mod streaming_waits;
mod ticking;
mod timeline;
mod timeline_files;
mod tracing;
mod verbs;
