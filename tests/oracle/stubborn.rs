//! Items that are tried again, and what a plain loop makes of them.

use std::time::Duration;

use batch_executor::{ItemError, RetryDecision};
use proptest::prelude::*;

/// What becomes of an item that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Succeeds,
    FailsForEver,
    /// An error that is not to be retried.
    GivesUp,
    Panics,
}

/// An item that fails this many times, each time with an error that asks for this, and then comes to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stubborn {
    pub(crate) failures: usize,
    pub(crate) decision: RetryDecision,
    pub(crate) last: Last,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) attempt: usize,
    pub(crate) decision: RetryDecision,
}

impl Stubborn {
    /// At its first attempt.
    pub(crate) fn that_ends(last: Last) -> Self {
        Stubborn { failures: 0, decision: RetryDecision::Retry, last }
    }

    /// For limits that see the item.
    pub(crate) fn number(&self) -> u64 {
        self.failures as u64
    }

    pub(crate) fn attempt(self, attempt: usize) -> Result<usize, Trouble> {
        match self.last {
            _ if attempt <= self.failures => Err(Trouble { attempt, decision: self.decision }),
            Last::Succeeds => Ok(attempt),
            Last::FailsForEver => Err(Trouble { attempt, decision: RetryDecision::Retry }),
            Last::GivesUp => Err(Trouble { attempt, decision: RetryDecision::GiveUp }),
            Last::Panics => panic!("panicked at attempt {attempt}"),
        }
    }

    /// The oracle: how often a plain loop tries it, with this many retries.
    pub(crate) fn attempts(self, retries: usize) -> usize {
        if self.last == Last::FailsForEver { retries + 1 } else { self.failures.min(retries) + 1 }
    }

    pub(crate) fn succeeds(self, retries: usize) -> bool {
        self.last == Last::Succeeds && self.failures <= retries
    }

    /// Whether the first pause that it asks for used up a retry depends on what others came to. So
    /// it asks for as many as it has retries, or for more than it could have with one more.
    pub(crate) fn with_enough(self, retries: usize) -> Self {
        match self.decision {
            RetryDecision::PauseAll(_) if self.failures == retries + 1 => {
                Stubborn { failures: retries + 2, ..self }
            }
            _ => self,
        }
    }

    /// How many attempts it may have had more than in a plain loop: one, since its first pause may
    /// have used up no retry.
    fn free(self, retries: usize) -> usize {
        let uses_all = self.failures > retries || self.last == Last::FailsForEver;
        usize::from(matches!(self.decision, RetryDecision::PauseAll(_)) && self.failures > 0 && uses_all)
    }

    /// How often it may be tried.
    pub(crate) fn most_attempts(self, retries: usize) -> usize {
        self.attempts(retries) + self.free(retries)
    }

    /// Whether the outcome, after this many attempts, is what a plain loop makes of the item. If not, the item was interrupted
    /// before its next attempt, and has the error of the last one.
    pub(crate) fn is_as_in_a_loop(
        self,
        outcome: &Result<usize, ItemError<Trouble>>,
        attempts: usize,
        retries: usize,
    ) -> Result<bool, TestCaseError> {
        let least = self.attempts(retries);
        let wanted = attempts.clamp(least, self.most_attempts(retries));
        prop_assert!(attempts <= wanted, "tried {} times: {:?}", attempts, self);
        match outcome {
            Ok(value) => {
                prop_assert!(self.succeeds(retries), "{:?}", self);
                prop_assert_eq!((*value, attempts), (wanted, wanted), "{:?}", self);
            }
            Err(ItemError::Panicked(panic)) => {
                prop_assert!(self.last == Last::Panics && attempts == wanted, "{:?}", self);
                prop_assert_eq!(panic.message(), format!("panicked at attempt {attempts}"));
            }
            Err(ItemError::Failed(trouble)) => {
                let in_a_loop = self.attempt(attempts);
                prop_assert_eq!((Err(trouble), attempts), (in_a_loop.as_ref(), wanted), "{:?}", self);
            }
            Err(ItemError::Interrupted(Some(trouble))) => {
                let in_a_loop = self.attempt(attempts);
                prop_assert_eq!(Err(trouble), in_a_loop.as_ref(), "{:?}", self);
                prop_assert!(
                    attempts < self.most_attempts(retries),
                    "interrupted after its last attempt: {:?}",
                    self
                );
                return Ok(false);
            }
            Err(other) => prop_assert!(false, "{:?}: {:?}", self, other),
        }
        Ok(attempts == wanted)
    }
}

pub(crate) fn stubborn() -> impl Strategy<Value = Stubborn> {
    let short = (0..80_u64).prop_map(Duration::from_micros);
    let decision = prop_oneof![
        4 => Just(RetryDecision::Retry),
        2 => short.clone().prop_map(RetryDecision::RetryAfter),
        1 => short.prop_map(RetryDecision::PauseAll),
    ];
    let last = prop_oneof![
        20 => Just(Last::Succeeds),
        1 => Just(Last::FailsForEver),
        1 => Just(Last::GivesUp),
        1 => Just(Last::Panics),
    ];
    let failures = prop_oneof![3 => Just(0_usize), 2 => 1..5_usize];
    (failures, decision, last).prop_map(|(failures, decision, last)| Stubborn { failures, decision, last })
}
