//! The generic cell rate algorithm, with the clock left out: all times are nanoseconds since any one moment.

use std::collections::VecDeque;

/// A permit by its number: the first that was ever taken is 0.
pub(crate) type Ticket = u128;

/// A burst is cut off here, at 146 years of permits, so that a pause always has room beyond it.
const LONGEST_SLACK: u64 = u64::MAX / 4;

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) interval: u64,
    /// How many permits may be used together.
    pub(super) burst: u32,
    /// The permit that is taken next.
    next: Ticket,
    /// When permits come, in their order. The first begins in the past, or is the only one; each other one begins behind a pause.
    stretches: VecDeque<Stretch>,
}

/// Permits that are evenly spaced, up to those of the next stretch.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: Ticket,
    /// When that one comes. With a burst it may be used before.
    at: u64,
}

impl Stretch {
    fn time_of(self, ticket: Ticket, interval: u64) -> u64 {
        let time =
            (ticket - self.first).saturating_mul(u128::from(interval)).saturating_add(u128::from(self.at));
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

impl Gate {
    pub(super) fn new(interval: u64) -> Self {
        Gate { interval, burst: 1, next: 0, stretches: VecDeque::from([Stretch { first: 0, at: 0 }]) }
    }

    /// How far the schedule may lie in the future and a permit still be free now: the burst, less one, in time.
    fn slack(&self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst - 1)).min(LONGEST_SLACK)
    }

    /// When the permit comes. Those before the first stretch have come.
    fn time_of(&self, ticket: Ticket) -> u64 {
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.first <= ticket);
        stretch.map_or(0, |stretch| stretch.time_of(ticket, self.interval))
    }

    /// Takes the next permits, at least one: the last of them. A `now` from the past only makes the wait for it longer.
    pub(super) fn take(&mut self, now: u64, permits: u64) -> Ticket {
        while self.stretches.get(1).is_some_and(|second| second.at <= now) {
            self.stretches.pop_front();
        }
        if self.time_of(self.next) < now {
            self.stretches = VecDeque::from([Stretch { first: self.next, at: now }]);
        }
        self.next += u128::from(permits);
        self.next - 1
    }

    /// How long it is until the permit may be used.
    pub(super) fn left(&self, ticket: Ticket, now: u64) -> u64 {
        self.time_of(ticket).saturating_sub(self.slack()).saturating_sub(now)
    }

    /// How long it is until these permits may be used at once; if they are more than the burst, until that is there.
    pub(super) fn wait_for(&self, permits: u64, now: u64) -> u64 {
        let more = permits.min(u64::from(self.burst)).saturating_sub(1);
        let free = self.time_of(self.next).max(now).saturating_add(self.interval.saturating_mul(more));
        free.saturating_sub(self.slack()).saturating_sub(now)
    }

    /// The permit that is taken next.
    pub(super) fn next(&self) -> Ticket {
        self.next
    }

    /// Whether this permit was taken, and may have been used.
    pub(super) fn has_come(&self, ticket: Ticket, now: u64) -> bool {
        ticket < self.next && self.left(ticket, now) == 0
    }

    /// The first permit that cannot have been used yet.
    pub(super) fn first_to_come(&self, now: u64) -> Ticket {
        self.first_after(now.saturating_add(self.slack())).map_or(self.next, |(_, ticket, _)| ticket)
    }

    /// Whether no permit that was taken, and no pause, is felt any more.
    pub(super) fn is_unused(&self, now: u64) -> bool {
        self.time_of(self.next) <= now && self.stretches.iter().all(|stretch| stretch.at <= now)
    }

    /// Permits that are taken from now on come after this time.
    pub(super) fn pause(&mut self, now: u64, time: u64) {
        let (first, at) = (self.next, now.saturating_add(time).saturating_add(self.slack()));
        if self.time_of(first) >= at {
            return;
        }
        let has_pause = self.stretches.len() > 1;
        match self.stretches.back_mut() {
            Some(last) if has_pause && last.first == first => last.at = at,
            _ => self.stretches.push_back(Stretch { first, at }),
        }
    }

    /// No pause goes on beyond now. All permits keep their order and their distances.
    pub(super) fn resume(&mut self, now: u64) {
        let start = now.saturating_add(self.slack());
        for index in 1..self.stretches.len() {
            let Stretch { first, at } = self.stretches[index];
            let free = self.stretches[index - 1].time_of(first, self.interval);
            self.stretches[index].at = at.min(free.max(start));
        }
    }

    /// Permits come at this interval from now on. Pauses end when they would have.
    pub(super) fn set(&mut self, now: u64, interval: u64) {
        let (old, old_slack, free) = (self.interval, self.slack(), self.time_of(self.next));
        let waiting = self.first_after(now);
        self.interval = interval;
        let Some((index, ticket, time)) = waiting else {
            self.stretches = VecDeque::from([Stretch { first: self.next, at: free }]);
            return;
        };
        let slack = self.slack();
        // The burst that is left is as many permits as before.
        let behind_a_pause = |at: u64| at.saturating_sub(old_slack).saturating_add(slack);
        let is_held = index > 0 && ticket == self.stretches[index].first;
        let begun = if is_held { now } else { now.saturating_add(scaled(time - now, interval, old)) };
        let mut last = Stretch { first: ticket, at: begun };
        let mut planned = VecDeque::from([last]);
        for stretch in self.stretches.iter().skip(index + usize::from(!is_held)) {
            let free = last.time_of(stretch.first, interval);
            last = Stretch { first: stretch.first, at: behind_a_pause(stretch.at).max(free) };
            planned.push_back(last);
        }
        self.stretches = planned;
    }

    /// The first permit that comes later, taken or not, its time, and its stretch. None if that is one that is not taken, and may
    /// come at any time.
    fn first_after(&self, now: u64) -> Option<(usize, Ticket, u64)> {
        let ends = self.stretches.iter().skip(1).map(|stretch| stretch.first).chain([self.next + 1]);
        self.stretches.iter().zip(ends).enumerate().find_map(|(index, (stretch, end))| {
            let passed = now.checked_sub(stretch.at).map_or(0, |since| since / self.interval + 1);
            let ticket = stretch.first + u128::from(passed);
            (ticket < end).then(|| (index, ticket, stretch.time_of(ticket, self.interval)))
        })
    }
}

/// Rounded up.
fn scaled(time: u64, new: u64, old: u64) -> u64 {
    let scaled = (u128::from(time) * u128::from(new)).div_ceil(u128::from(old));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Takes the next permit; how long until it may be used.
    fn reserve(gate: &mut Gate, now: u64) -> u64 {
        let ticket = gate.take(now, 1);
        gate.left(ticket, now)
    }

    #[test]
    fn permits_are_evenly_spaced() {
        let mut gate = Gate::new(10);
        let waits: Vec<u64> = (0..4).map(|_| reserve(&mut gate, 100)).collect();
        assert_eq!(waits, [0, 10, 20, 30]);
    }

    #[test]
    fn time_without_use_saves_no_permits_up() {
        let mut gate = Gate::new(10);
        assert_eq!((reserve(&mut gate, 0), reserve(&mut gate, 1_000), reserve(&mut gate, 1_000)), (0, 0, 10));
    }

    #[test]
    fn a_burst_passes_together_and_then_the_rate_holds() {
        let mut gate = Gate { burst: 3, ..Gate::new(10) };
        let waits: Vec<u64> = (0..5).map(|_| reserve(&mut gate, 100)).collect();
        assert_eq!(waits, [0, 0, 0, 10, 20]);
    }

    #[test]
    fn it_is_unused_when_the_whole_burst_is_there_again() {
        let mut gate = Gate { burst: 3, ..Gate::new(10) };
        reserve(&mut gate, 100);
        reserve(&mut gate, 100);
        assert_eq!([100, 119, 120].map(|now| gate.is_unused(now)), [false, false, true]);
    }

    #[test]
    fn in_any_window_there_are_no_more_permits_than_rate_and_burst() {
        let mut gate = Gate { burst: 4, ..Gate::new(10) };
        let mut used: Vec<u64> =
            (0..200).map(|k| k * k % 700).map(|now| now + reserve(&mut gate, now)).collect();
        used.sort_unstable();
        for (first, &from) in used.iter().enumerate() {
            for (last, &to) in used.iter().enumerate().skip(first) {
                let permits = (last - first + 1) as u64;
                assert!(permits <= (to - from) / 10 + 4, "{permits} permits in {from}..={to}");
            }
        }
    }

    #[test]
    fn a_pause_holds_every_later_permit_back_and_nine_pauses_are_one() {
        let mut gate = Gate { burst: 3, ..Gate::new(10) };
        for _ in 0..9 {
            gate.pause(100, SECOND);
        }
        assert_eq!((reserve(&mut gate, 100), reserve(&mut gate, 100)), (SECOND, SECOND + 10));
    }

    #[test]
    fn a_clock_that_lags_behind_gives_no_permit_twice() {
        let mut gate = Gate::new(10);
        assert_eq!((reserve(&mut gate, 100), reserve(&mut gate, 40), reserve(&mut gate, 100)), (0, 70, 20));
    }

    /// When the permits come, as seen now.
    fn lefts(gate: &Gate, tickets: &[Ticket], now: u64) -> Vec<u64> {
        tickets.iter().map(|ticket| gate.left(*ticket, now)).collect()
    }

    #[test]
    fn many_permits_at_once_come_when_the_last_of_them_does() {
        for burst in [1, 3, 7] {
            let (mut gate, mut other) = (Gate { burst, ..Gate::new(10) }, Gate { burst, ..Gate::new(10) });
            for (now, permits) in [(100, 1), (100, 5), (117, 2), (500, 9), (500, 1)] {
                let ticket = gate.take(now, permits);
                let one_by_one = (0..permits).map(|_| reserve(&mut other, now)).max();
                assert_eq!(Some(gate.left(ticket, now)), one_by_one, "{permits} at {now}, burst {burst}");
            }
        }
        let mut gate = Gate::new(u64::MAX);
        for _ in 0..3 {
            let last = gate.take(5, u64::MAX);
            assert_eq!(gate.left(last, 5), u64::MAX - 5);
        }
    }

    #[test]
    fn after_a_pause_that_is_ended_permits_that_were_held_back_come_one_by_one() {
        let mut gate = Gate { burst: 3, ..Gate::new(10) };
        gate.pause(100, SECOND);
        let mut tickets: Vec<Ticket> = (0..2).map(|_| gate.take(120, 1)).collect();
        gate.pause(150, 2 * SECOND);
        gate.pause(150, 10); // shorter than what is left of the other
        tickets.extend((0..2).map(|_| gate.take(160, 1)));
        let held = [100 + SECOND, 110 + SECOND, 150 + 2 * SECOND, 160 + 2 * SECOND];
        assert_eq!(lefts(&gate, &tickets, 0), held);
        gate.resume(200);
        assert_eq!(lefts(&gate, &tickets, 200), [0, 10, 20, 30]);
        assert_eq!(reserve(&mut gate, 200), 40, "those were given");
        gate.resume(205);
        assert_eq!(reserve(&mut gate, 205), 45, "there is no pause to end");
        gate.pause(1_000, 50);
        gate.resume(1_100);
        assert_eq!(reserve(&mut gate, 1_100), 0, "it has ended by itself");
    }

    #[test]
    fn a_pause_that_is_ended_gives_nothing_that_was_not_due() {
        let mut gate = Gate::new(10);
        let before: Vec<Ticket> = (0..5).map(|_| gate.take(100, 1)).collect();
        gate.pause(100, SECOND);
        let behind = gate.take(101, 1);
        gate.resume(115);
        assert_eq!(lefts(&gate, &before, 115), [0, 0, 5, 15, 25]);
        assert_eq!(gate.left(behind, 115), 35, "behind those that waited before");
    }

    #[test]
    fn another_rate_holds_for_those_that_wait() {
        let mut gate = Gate::new(100);
        let tickets: Vec<Ticket> = (0..4).map(|_| gate.take(1_000, 1)).collect();
        assert_eq!(lefts(&gate, &tickets, 1_050), [0, 50, 150, 250]);
        gate.set(1_050, 10);
        assert_eq!(lefts(&gate, &tickets, 1_050), [0, 5, 15, 25]);
        assert_eq!(reserve(&mut gate, 1_050), 35);
        gate.set(1_070, 1_000);
        assert_eq!(lefts(&gate, &tickets, 1_070), [0, 0, 0, 500]);
        assert_eq!(reserve(&mut gate, 1_070), 2_500);
    }

    #[test]
    fn a_rate_that_is_set_in_quiet_times_holds_from_the_next_permit_on() {
        for (burst, waits) in [(1, [0, 1_000, 2_000]), (3, [0, 0, 0])] {
            let mut gate = Gate { burst, ..Gate::new(10) };
            (0..50).for_each(|_| _ = gate.take(100, 1));
            gate.set(5_000, 1_000);
            assert_eq!([(); 3].map(|()| reserve(&mut gate, 5_000)), waits);
        }
    }

    #[test]
    fn what_is_left_of_a_burst_is_as_many_permits_as_before() {
        let mut gate = Gate { burst: 5, ..Gate::new(10) };
        (0..3).for_each(|_| assert_eq!(reserve(&mut gate, 100), 0));
        gate.set(100, 1_000);
        assert_eq!([(); 3].map(|()| reserve(&mut gate, 100)), [0, 0, 1_000]);
    }

    #[test]
    fn a_pause_outlasts_another_rate_and_can_still_be_ended() {
        for taken in 0..3 {
            let mut gate = Gate { burst: 3, ..Gate::new(10) };
            (0..9).for_each(|_| _ = gate.take(100, 1));
            gate.pause(500, SECOND);
            let tickets: Vec<Ticket> = (0..taken).map(|_| gate.take(510, 1)).collect();
            gate.set(600, 100);
            assert_eq!(lefts(&gate, &tickets, 500), [SECOND, SECOND + 100][..taken]);
            assert_eq!(reserve(&mut gate, 500), SECOND + 100 * taken as u64);
            gate.resume(700);
            assert_eq!(lefts(&gate, &tickets, 700), [0, 100][..taken]);
            assert_eq!(reserve(&mut gate, 700), 100 * (taken as u64 + 1));
        }
    }

    /// Whatever is asked in any order, no two permits come closer together than they should, and none twice.
    #[test]
    fn whatever_is_changed_permits_keep_their_order_and_their_distance() {
        let mut dice: u64 = 88_172_645_463_325_252;
        for burst in [1, 4] {
            let (mut gate, mut now, mut tickets) = (Gate { burst, ..Gate::new(50) }, 0, Vec::new());
            for _ in 0..5_000 {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                now += dice % 40;
                match dice / 64 % 16 {
                    0 => gate.pause(now, dice / 1_024 % 3_000),
                    1 => gate.resume(now),
                    2 => gate.set(now, 1 + dice / 1_024 % 100),
                    _ => tickets.push(gate.take(now, 1 + dice / 1_024 % 3)),
                }
                let last = tickets.iter().rev().take(50);
                let waiting: Vec<u64> =
                    last.map(|ticket| gate.time_of(*ticket)).take_while(|at| *at > now).collect();
                for pair in waiting.windows(2) {
                    assert!(pair[0] >= pair[1] + gate.interval, "{pair:?} at {now}, every {}", gate.interval);
                }
                assert!(gate.stretches.len() < 200, "{}", gate.stretches.len());
            }
        }
    }

    #[test]
    fn what_needs_more_than_the_burst_waits_until_that_is_there() {
        let mut gate = Gate { burst: 3, ..Gate::new(10) };
        assert_eq!([1, 3, 9].map(|permits| gate.wait_for(permits, 100)), [0, 0, 0]);
        gate.take(100, 3);
        assert_eq!([1, 2, 3, 9].map(|permits| gate.wait_for(permits, 100)), [10, 20, 30, 30]);
    }
}
