//! Whether the server is away, and who looks whether it is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// How often it is looked whether the server is back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `None` while the server is there, and else when to look again.
#[derive(Debug, Default)]
pub(crate) struct Absence(Mutex<Option<Instant>>);

impl Absence {
    pub(crate) fn is_on(&self) -> bool {
        self.look().is_some()
    }

    /// Whether this call is to ask the server. While it is away, one in a second is: the item that asks may have to wait for a
    /// time-out, and the others should not.
    pub(crate) fn asks(&self, now: Instant) -> bool {
        let mut again = self.look();
        match *again {
            Some(at) if now < at => false,
            Some(_) => {
                *again = now.checked_add(LOOK_AGAIN);
                true
            }
            None => true,
        }
    }

    pub(crate) fn begins(&self, now: Instant) {
        *self.look() = now.checked_add(LOOK_AGAIN);
    }

    pub(crate) fn ends(&self) {
        *self.look() = None;
    }

    fn look(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the error says that the server is away: no connection, no answer, or an answer that it cannot serve now. A wrong
/// password, a key of another kind and the like will not get better by themselves.
pub(crate) fn is_away(error: &RedisError) -> bool {
    let for_now = [
        ServerErrorKind::BusyLoading,
        ServerErrorKind::ClusterDown,
        ServerErrorKind::MasterDown,
        ServerErrorKind::ReadOnly,
        ServerErrorKind::TryAgain,
    ];
    match error.kind() {
        ErrorKind::Io => true,
        ErrorKind::Server(kind) => for_now.contains(&kind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_the_server_is_away_one_call_in_a_second_asks_it() {
        let absence = Absence::default();
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert!(absence.asks(after(0)) && absence.asks(after(0)) && !absence.is_on());
        absence.begins(after(0));
        assert!(absence.is_on() && !absence.asks(after(0)) && !absence.asks(after(999)));
        assert_eq!(
            [1_000, 1_001, 1_999, 2_000].map(|time| absence.asks(after(time))),
            [true, false, false, true]
        );
        absence.ends();
        assert!(absence.asks(after(2_000)) && absence.asks(after(2_000)) && !absence.is_on());
    }

    #[test]
    fn what_gets_no_better_by_itself_is_no_absence() {
        let io = |kind| is_away(&RedisError::from(std::io::Error::from(kind)));
        assert!(io(std::io::ErrorKind::ConnectionRefused) && io(std::io::ErrorKind::TimedOut));
        let kind = |kind| is_away(&RedisError::from((kind, "because")));
        assert!(kind(ErrorKind::Server(ServerErrorKind::BusyLoading)));
        assert!(kind(ErrorKind::Server(ServerErrorKind::ReadOnly)));
        assert!(!kind(ErrorKind::Server(ServerErrorKind::NoPerm)));
        assert!(!kind(ErrorKind::Server(ServerErrorKind::ResponseError)));
        assert!(!kind(ErrorKind::AuthenticationFailed) && !kind(ErrorKind::UnexpectedReturnType));
    }
}
