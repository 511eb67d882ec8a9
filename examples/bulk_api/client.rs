//! What a program would have of such an API: a call, and an error that says what became of it.

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
    /// Whether the server has done it is not known.
    NoAnswer(Box<ureq::Error>),
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60))) // a call without an end would keep its worker
            .http_status_as_error(false) // that error has no headers
            .proxy(None) // the environment may name one, which has no way to our loopback
            .build()
            .new_agent();
        Client { agent, tenants: format!("http://{address}/tenants") }
    }

    /// The key is the same for every attempt at one tenant, so that the server can tell a repeated request from a new one.
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

/// In seconds; a second where there is none, or a date.
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
