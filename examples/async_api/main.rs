//! Sends 2,000 requests, or as many as the first argument says, 64 in flight on one thread, to an API that hangs on one in fifty and whose limit the client does not know.
//! With retries, a timeout for each attempt, progress, and a journal. Then the same by hand: `buffered`, `governor`, `backon`.
//!
//! The API is a server of this example, on loopback. It counts what it refuses.

mod by_hand;
mod server;

use std::error::Error;
use std::time::Duration;

use batch_executor::{BatchExecutor, Journal, Limit, Plan, RateLimit, Retry, RetryDecision};
use reqwest::StatusCode;

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("too many requests")]
    TooMany { retry_after: Duration },
    #[error("{0}")]
    Status(StatusCode),
    #[error("no answer")]
    NoAnswer(#[from] reqwest::Error),
}

async fn send(client: &reqwest::Client, url: String) -> Result<String, ApiError> {
    let answer = client.get(url).send().await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.text().await?),
        StatusCode::TOO_MANY_REQUESTS => {
            let millis = answer.headers().get("Retry-After-Ms").and_then(|ms| ms.to_str().ok()?.parse().ok());
            Err(ApiError::TooMany { retry_after: Duration::from_millis(millis.unwrap_or(1_000)) })
        }
        status => Err(ApiError::Status(status)),
    }
}

fn decide(error: &ApiError) -> RetryDecision {
    match error {
        ApiError::TooMany { retry_after } => RetryDecision::PauseAll(*retry_after),
        ApiError::Status(status) if status.is_client_error() => RetryDecision::GiveUp,
        ApiError::Status(_) | ApiError::NoAnswer(_) => RetryDecision::Retry,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let requests = std::env::args().nth(1).map_or(Ok(2_000), |number| number.parse::<u32>())?;
    let (address, server) = server::start()?;
    let path = std::env::temp_dir().join(format!("async_api-{}.jsonl", std::process::id()));
    let journal = Journal::open(&path, Plan::of(0..requests)?)?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let executor = BatchExecutor::builder().workers(64).stop_on_error(false).build()?;
    let mut told = 0;
    let result = executor
        .batch(0..requests)
        .limit(Limit::rate(RateLimit::learning(100)))
        .retry(Retry::exponential(Duration::from_millis(50), Duration::from_secs(1), 20).when(decide))
        .item_timeout(Duration::from_secs(1))
        .journal(&journal)
        .on_progress(|progress| told = progress.completed)
        .run_async(async |n| send(&client, format!("http://{address}/{n}")).await)
        .await;
    println!("batch-executor: {result}, {told} told\n  {}", server.report());
    for failure in result.failures() {
        println!("  {failure}");
    }
    std::fs::remove_file(&path)?;

    let (address, server) = server::start()?;
    println!("by hand: {}\n  {}", by_hand::run(address, requests).await, server.report());
    Ok(())
}
