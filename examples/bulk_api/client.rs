//! The API as a program sees it: a call, and an error that says how the call ended.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};

pub(crate) struct Client {
    agent: Agent,
    tenants: String,
}

#[derive(Debug)]
pub(crate) enum ApiError {
    /// 429, with what the server said in `Retry-After`.
    TooMany { retry_after: Duration },
    /// Any other answer but success.
    Status(StatusCode),
    /// The server may have done it, or not.
    NoAnswer(Box<ureq::Error>),
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60))) // a call that never ends would keep its worker
            .http_status_as_error(false) // ureq's error has no headers
            .proxy(None) // a proxy from the environment cannot reach this loopback
            .build()
            .new_agent();
        Client { agent, tenants: format!("http://{address}/tenants") }
    }

    /// Sends the same key with every attempt at a tenant, so that the server recognizes a repeated request.
    pub(crate) fn delete(&self, tenant: u32) -> Result<(), ApiError> {
        let request = self.agent.delete(format!("{}/{tenant}", self.tenants));
        let answer = request.header("Idempotency-Key", format!("delete-{tenant}")).call()?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(ApiError::TooMany { retry_after: retry_after(answer.headers()) })
            }
            status => Err(ApiError::Status(status)),
        }
    }
}

/// The header in seconds. One second if the header is missing or holds a date.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

impl From<ureq::Error> for ApiError {
    fn from(error: ureq::Error) -> Self {
        ApiError::NoAnswer(Box::new(error))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::TooMany { retry_after } => write!(f, "too many requests, again in {retry_after:?}"),
            ApiError::Status(status) => status.fmt(f),
            ApiError::NoAnswer(error) => write!(f, "no answer: {error}"),
        }
    }
}
