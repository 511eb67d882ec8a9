//! The API as a program sees it: a call, and an error that says when to come again.

use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;

use crate::Prompt;

#[derive(Debug)]
#[allow(dead_code, reason = "for those who read what went wrong")]
pub(crate) enum ApiError {
    TooMany { retry_after: Duration },
    Status(StatusCode),
    NoAnswer(Box<ureq::Error>),
}

pub(crate) fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).proxy(None);
    config.max_idle_connections_per_host(64).max_idle_connections(128).build().new_agent()
}

pub(crate) fn ask(agent: &Agent, prompt: &Prompt) -> Result<(), ApiError> {
    let answer = agent.get(format!("http://{}/{}/{}", prompt.host, prompt.model.name, prompt.tokens)).call();
    let answer = answer.map_err(|error| ApiError::NoAnswer(Box::new(error)))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => {
            let after = answer.headers().get("Retry-After-Ms").and_then(|ms| ms.to_str().ok()?.parse().ok());
            Err(ApiError::TooMany { retry_after: Duration::from_millis(after.unwrap_or(1_000)) })
        }
        status => Err(ApiError::Status(status)),
    }
}
