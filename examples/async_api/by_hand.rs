//! The same without this crate: `buffered` keeps the order, `governor` the rate, which the program has to know, and `backon` tries
//! again. An item that waits for its next attempt, or for a permit, keeps its place among those in flight. There is no journal.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use futures_util::StreamExt;
use governor::{Quota, RateLimiter};

use crate::{ApiError, send};

pub(crate) async fn run(address: SocketAddr, requests: u32) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
    // Learnt by trying: more is refused, and less takes longer.
    let quota =
        Quota::per_second(NonZeroU32::new(400).unwrap_or(NonZeroU32::MIN)).allow_burst(NonZeroU32::MIN);
    let (limiter, since) = (RateLimiter::direct(quota), Instant::now());
    let attempt = &async |n| {
        limiter.until_ready().await;
        let answer =
            tokio::time::timeout(Duration::from_secs(1), send(&client, format!("http://{address}/{n}")));
        answer.await.map_err(|_| None)?.map_err(Some)
    };
    let builder = ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_millis(50));
    let builder = builder.with_max_delay(Duration::from_secs(1)).with_max_times(20);
    let mut tried = futures_util::stream::iter(0..requests)
        .map(|n| {
            let attempt_at = move || attempt(n);
            let is_worth_it =
                |error: &Option<ApiError>| !matches!(error, Some(ApiError::Status(status)) if status.is_client_error());
            attempt_at.retry(builder).when(is_worth_it).sleep(tokio::time::sleep)
        })
        .buffered(64);
    let (mut succeeded, mut failed) = (0, 0);
    while let Some(outcome) = tried.next().await {
        if outcome.is_ok() { succeeded += 1 } else { failed += 1 }
    }
    format!("{succeeded} of {requests} succeeded, {failed} failed in {:.1} s", since.elapsed().as_secs_f64())
}
