//! The API as a program sees it: a call, and an error that says when to come again.

use std::error::Error;
use std::time::Duration;

use ureq::http::StatusCode;

use crate::Prompt;

#[derive(Debug)]
pub(crate) enum ApiError {
    TooMany { retry_after: Duration },
    Other(#[allow(dead_code, reason = "for those who print it")] Box<dyn Error + Send + Sync>),
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent()
}

pub(crate) fn ask(agent: &ureq::Agent, prompt: &Prompt) -> Result<(), ApiError> {
    let answer = agent.get(format!("http://{}/{}/{}", prompt.host, prompt.model.name, prompt.tokens)).call();
    let answer = answer.map_err(|error| ApiError::Other(error.into()))?;
    match answer.status() {
        StatusCode::OK => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => {
            let after = answer.headers().get("Retry-After-Ms").and_then(|ms| ms.to_str().ok()?.parse().ok());
            Err(ApiError::TooMany { retry_after: Duration::from_millis(after.unwrap_or(1_000)) })
        }
        status => Err(ApiError::Other(status.to_string().into())),
    }
}
