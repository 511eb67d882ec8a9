//! Deletes 300 tenants over HTTP, 16 at a time, through an API whose limit the client does not know. The API answers
//! requests above its limit with 429 and `Retry-After`. Half way it dies, and comes back after two seconds.
//!
//! The API is a server of this example, on loopback. At the end it prints its own counts.

mod client;
mod server;

use std::error::Error;
use std::time::Duration;

use batch_executor::{BatchExecutor, Retry, RetryDecision};
use client::{ApiError, Client};
use server::{Counts, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let executor = BatchExecutor::builder().workers(16).stop_on_error(false).build()?;

    // Delays are random, from nothing up to a second. Twenty of them last ten seconds on average. The API is away for
    // two.
    let retry = Retry::exponential(Duration::from_millis(50), Duration::from_secs(1), 20).when(decide);
    let connect = || Client::new(server.address); // one connection for each worker
    let batch = executor.batch(1..=300).retry(retry);
    let result = batch.run_init(connect, |tenant, cx| cx.state.delete(*tenant));

    println!("{result}");
    for failure in result.failures() {
        println!("  tenant {}: {}", failure.item, failure.error);
    }
    let tries = (0..result.total()).map(|index| result.attempts(index));
    println!(
        "  {} attempts, at most {} for one tenant",
        tries.clone().sum::<usize>(),
        tries.max().unwrap_or(0)
    );
    report(&server.counts());
    Ok(())
}

fn decide(error: &ApiError) -> RetryDecision {
    match error {
        ApiError::TooMany { retry_after } => RetryDecision::PauseAll(*retry_after),
        ApiError::Status(status) if status.is_server_error() => RetryDecision::Retry,
        ApiError::Status(_) => RetryDecision::GiveUp,
        ApiError::NoAnswer(_) => RetryDecision::Retry,
    }
}

fn report(counts: &Counts) {
    println!("The server's own count:");
    println!("  {} tenants deleted, {} of them more than once", counts.deleted, counts.deleted_again);
    println!("  {} requests refused with 429", counts.refused);
    println!("  {} requests sent before Retry-After had passed", counts.too_early);
    println!("  {} requests repeated, because the answer to the first was lost", counts.repeated);
}
