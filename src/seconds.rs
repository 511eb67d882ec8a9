//! Times as numbers of seconds, for fields that say so in their names.

use std::time::Duration;

use serde::Serializer;

#[allow(clippy::ref_option, reason = "serde calls it with a reference to the field")]
pub(crate) fn as_seconds_if_any<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&time.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn as_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
