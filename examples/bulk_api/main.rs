//! Deletes 200 tenants over HTTP, 16 at a time: as fast as it goes, and then no faster than the API allows.
//!
//! The API is a server of our own on loopback, which answers 429 to what is above 100 requests a second.

mod server;

use std::error::Error;
use std::time::Duration;

use batch_executor::{BatchExecutor, RateLimit};
use server::Server;

const WORKERS: usize = 16;

/// Requests that are held up on their way arrive together with those behind them, and so many can be on their way as
/// there are workers. In any second the server sees at most 80 + 1 + 16 of the 100 that it allows.
const PER_SECOND: u32 = 80;

fn main() -> Result<(), Box<dyn Error>> {
    let settings = || BatchExecutor::builder().workers(WORKERS).stop_on_error(false);

    println!("As fast as it goes:");
    delete_tenants(&settings().build()?)?;

    println!("{PER_SECOND} a second:");
    delete_tenants(&settings().rate_limiter(RateLimit::per_second(PER_SECOND)).build()?)
}

fn delete_tenants(executor: &BatchExecutor) -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let tenants = format!("http://{}/tenants", server.address);
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60))) // a call without an end would keep its worker
        .proxy(None) // the environment may name one, which has no way to our loopback
        .build()
        .new_agent();

    let result = executor.run(1..=200, |id| agent.delete(format!("{tenants}/{id}")).call().map(drop))?;

    println!("  {result}; {} answers were 429", server.refused());
    for item in result.failures().take(5) {
        if let Some(error) = item.error() {
            println!("  tenant {}: {error}", item.id);
        }
    }
    Ok(())
}
