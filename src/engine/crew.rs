//! Who is at work on a batch, and who has nothing to do: a pure value, told of what each does next.

use super::numbers::Numbers;

/// Who works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Works until nothing is left.
    Helper,
    /// Works for a turn, and has something else to look after.
    Caller,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing for this batch: it has not come yet, or has gone.
    Away,
    AtWork,
    /// Nothing until it is called, or something is due.
    Idle,
    /// The same, but soon it comes again, to see whether somebody who pulls is kept waiting.
    Watching,
}

impl Standing {
    fn runs(self) -> bool {
        self != Standing::Away
    }

    fn is_idle(self) -> bool {
        matches!(self, Standing::Idle | Standing::Watching)
    }
}

#[derive(Debug, Default)]
pub(super) struct Crew {
    /// How many there may be.
    pub(super) limit: usize,
    /// How many have come and not gone.
    pub(super) running: usize,
    pub(super) most_running: usize,
    /// How many went because the limit had fallen, or had not risen yet.
    pub(super) sent_away: usize,
    idle: usize,
    watching: usize,
    /// How many of the idle have been called and have not come yet.
    called: usize,
    /// Whether the caller is among those that run.
    has_caller: bool,
    /// Where somebody asks for them.
    numbers: Option<Numbers>,
}

impl Crew {
    pub(super) fn new(limit: usize, numbers: Option<Numbers>) -> Self {
        Crew { limit, numbers, ..Crew::default() }
    }

    /// Somebody comes, and is neither idle nor called any more.
    pub(super) fn comes(&mut self, standing: Standing) {
        if standing.is_idle() {
            self.idle -= 1;
            self.called = self.called.saturating_sub(1);
            self.watching -= usize::from(standing == Standing::Watching);
        }
    }

    /// Who came does something else now. If it was away, it gets a number.
    pub(super) fn turns(&mut self, role: Role, from: Standing, to: Standing) -> Option<usize> {
        self.idle += usize::from(to.is_idle());
        self.watching += usize::from(to == Standing::Watching);
        if from.runs() || !to.runs() {
            return None;
        }
        self.running += 1;
        self.most_running = self.most_running.max(self.running);
        self.has_caller |= role == Role::Caller;
        Some(self.numbers.as_mut().map_or(0, Numbers::take))
    }

    /// Who came goes away.
    pub(super) fn goes(&mut self, role: Role, from: Standing, number: usize) {
        if from.runs() {
            self.running -= 1;
            self.has_caller &= role != Role::Caller;
            self.numbers.iter_mut().for_each(|numbers| numbers.give_back(number));
        }
    }

    /// How many run, beside this one.
    pub(super) fn others(&self, standing: Standing) -> usize {
        self.running - usize::from(standing.runs())
    }

    /// How many helpers run, beside this one.
    pub(super) fn other_helpers(&self, role: Role, standing: Standing) -> usize {
        let is_one_of_them = role == Role::Helper && standing.runs();
        self.helpers() - usize::from(is_one_of_them)
    }

    fn helpers(&self) -> usize {
        self.running - usize::from(self.has_caller)
    }

    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    /// Whether there is somebody idle whom nobody has called.
    pub(super) fn can_call(&self) -> bool {
        self.idle > self.called
    }

    pub(super) fn call(&mut self) {
        self.called += 1;
    }

    /// Whether somebody watches, or has been called and may.
    pub(super) fn has_a_watch(&self) -> bool {
        self.watching + self.called > 0
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{Caller, Helper};
    use super::Standing::{AtWork, Away, Idle, Watching};
    use super::*;

    fn crew(standings: &[(Role, Standing)]) -> Crew {
        let mut crew = Crew::new(9, Some(Numbers::default()));
        for (number, &(role, standing)) in standings.iter().enumerate() {
            assert_eq!(crew.turns(role, Away, standing), Some(number));
        }
        crew
    }

    #[test]
    fn who_comes_and_goes_is_counted_once() {
        let mut crew = crew(&[(Helper, AtWork), (Helper, Idle)]);
        assert_eq!((crew.running, crew.most_running, crew.idle()), (2, 2, 1));
        crew.comes(Idle);
        assert_eq!(crew.turns(Helper, Idle, Watching), None);
        crew.comes(Watching);
        assert_eq!(crew.turns(Helper, Watching, AtWork), None);
        crew.goes(Helper, AtWork, 0);
        assert_eq!((crew.running, crew.most_running, crew.idle()), (1, 2, 0));
        assert_eq!(crew.turns(Helper, Away, AtWork), Some(0), "its number is free again");
    }

    #[test]
    fn others_are_those_beside_this_one_and_a_helper_does_not_count_on_the_caller() {
        let crew = crew(&[(Helper, AtWork), (Helper, Idle), (Caller, AtWork)]);
        assert_eq!((crew.others(AtWork), crew.others(Away)), (2, 3));
        assert_eq!((crew.other_helpers(Helper, AtWork), crew.other_helpers(Helper, Away)), (1, 2));
        assert_eq!(crew.other_helpers(Caller, AtWork), 2);
    }

    #[test]
    fn no_more_are_called_than_are_idle() {
        let mut crew = crew(&[(Helper, AtWork), (Helper, Idle)]);
        assert!(crew.can_call());
        crew.call();
        assert!(!crew.can_call());
        crew.comes(Idle);
        crew.turns(Helper, Idle, Idle);
        assert!(crew.can_call(), "it came, and is idle again");
    }

    #[test]
    fn who_is_busy_or_sleeps_is_no_watch_and_who_is_called_may_be() {
        let mut crew = crew(&[(Helper, AtWork), (Helper, AtWork), (Helper, Idle)]);
        assert!(!crew.has_a_watch());
        crew.call();
        assert!(crew.has_a_watch());
        crew.comes(Idle);
        assert!(!crew.has_a_watch());
        crew.turns(Helper, Idle, Watching);
        assert!(crew.has_a_watch());
    }
}
