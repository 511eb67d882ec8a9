//! How long all items are held back, as retries ask for it, and when an item that asks for it waits
//! alone.

use std::time::Duration;

/// Attempts that started before a pause and then ask for one, too, have met the same overload.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pause {
    until: Duration,
    longest: Duration,
    /// How many pauses there have been.
    number: usize,
    /// How many refusals there have been that may tell of the server, and not of the item.
    refusals: usize,
    /// How many of them came before the last pause.
    before: usize,
}

/// What is known of an item that was refused, until it is refused again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Refusal {
    /// How many items had succeeded.
    succeeded: usize,
    /// How many refusals there are as long as no other item is refused.
    alone: usize,
    /// Its first refusal has used up no delay, and may turn out to have been the item's own.
    owes: bool,
}

/// What comes of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Answer {
    /// There is a pause of its own, or a longer one.
    pub(in crate::engine) is_news: bool,
    /// The item waits, and others may start.
    pub(in crate::engine) waits_alone: bool,
    /// How many delays it uses up.
    pub(in crate::engine) costs: usize,
    pub(in crate::engine) refusal: Refusal,
}

impl Pause {
    /// An item is refused, and asks that nothing starts for this time, in an attempt that started
    /// when there had been `seen` pauses.
    ///
    /// The server may have refused it for the sake of all. But if others have `succeeded` since the
    /// `last` time, it is the item: that uses up a delay, and one for the first time, too. If then
    /// no other item was refused, it waits alone.
    pub(super) fn refuse(
        &mut self,
        now: Duration,
        (time, seen): (Duration, usize),
        succeeded: usize,
        last: Option<Refusal>,
    ) -> Answer {
        let is_own = last.is_some_and(|last| !last.owes || succeeded > last.succeeded);
        let costs = last.map_or(0, |last| 1 + usize::from(last.owes && is_own));
        if let Some(last) = last.filter(|last| is_own && last.alone == self.refusals) {
            return Answer {
                is_news: false,
                waits_alone: true,
                costs,
                refusal: Refusal { succeeded, owes: false, ..last },
            };
        }
        let number = self.number;
        let is_news = self.ask(now, time, seen);
        if self.number > number {
            self.before = self.refusals;
        }
        self.refusals += usize::from(!is_own);
        let alone = self.before + usize::from(!is_own);
        Answer { is_news, waits_alone: false, costs, refusal: Refusal { succeeded, alone, owes: !is_own } }
    }

    /// An attempt asks for a pause that started when there had been `seen` pauses. Whether that is news: a pause of its own, or a
    /// longer one.
    fn ask(&mut self, now: Duration, time: Duration, seen: usize) -> bool {
        self.until = self.until.max(now.saturating_add(time));
        let is_another = seen == self.number;
        let is_news = is_another || time > self.longest;
        if is_news {
            self.longest = time;
            self.number += usize::from(is_another);
        }
        is_news
    }

    /// It goes on no longer.
    pub(super) fn end(&mut self) {
        (self.until, self.longest) = (Duration::ZERO, Duration::ZERO);
    }

    pub(in crate::engine) fn number(&self) -> usize {
        self.number
    }

    /// When something may start again, if that is not now.
    pub(super) fn end_after(&self, now: Duration) -> Option<Duration> {
        (self.until > now).then_some(self.until)
    }

    pub(super) fn until(&self) -> Duration {
        self.until
    }

    /// How long it is until something may start.
    #[cfg(all(test, not(any(loom, shuttle))))]
    fn left(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nine_attempts_that_ask_at_once_ask_once() {
        let (mut pause, now) = (Pause::default(), SECOND);
        let news = (0..9).filter(|_| pause.ask(now, SECOND, 0)).count();
        assert_eq!((news, pause.number(), pause.left(now)), (1, 1, SECOND));
    }

    #[test]
    fn an_attempt_that_started_after_a_pause_asks_for_another() {
        let (mut pause, now) = (Pause::default(), SECOND);
        assert!(pause.ask(now, SECOND, 0));
        assert!(pause.ask(now + SECOND, SECOND, 1));
        assert_eq!((pause.number(), pause.left(now)), (2, 2 * SECOND));
    }

    #[test]
    fn a_longer_time_is_news_and_a_shorter_one_shortens_nothing() {
        let (mut pause, now) = (Pause::default(), SECOND);
        assert!(pause.ask(now, 2 * SECOND, 0));
        assert!(!pause.ask(now, SECOND, 0));
        assert_eq!(pause.left(now), 2 * SECOND);
        assert!(pause.ask(now, 3 * SECOND, 0));
        assert_eq!((pause.number(), pause.left(now)), (1, 3 * SECOND));
    }

    #[test]
    fn what_is_longer_than_this_pause_is_news_though_one_before_was_longer() {
        let mut pause = Pause::default();
        assert!(pause.ask(SECOND, 10 * SECOND, 0));
        assert!(pause.ask(20 * SECOND, SECOND, 1), "another pause");
        assert!(pause.ask(20 * SECOND, 5 * SECOND, 1));
        assert_eq!((pause.number(), pause.left(20 * SECOND)), (2, 5 * SECOND));
    }

    #[test]
    fn an_answer_that_comes_late_counts_from_when_it_comes() {
        let (mut pause, now) = (Pause::default(), SECOND);
        pause.ask(now, SECOND, 0);
        assert!(!pause.ask(now + SECOND / 2, SECOND, 0));
        assert_eq!(pause.left(now), SECOND * 3 / 2);
    }

    #[test]
    fn without_a_pause_nothing_is_left_and_one_without_end_saturates() {
        let (mut pause, now) = (Pause::default(), SECOND);
        assert_eq!(pause.left(now), Duration::ZERO);
        pause.ask(now, Duration::MAX, 0);
        assert!(pause.left(now) > 1_000_000 * SECOND);
        assert_eq!(pause.left(Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn one_that_is_ended_is_over_and_the_next_one_is_news() {
        let (mut pause, now) = (Pause::default(), SECOND);
        pause.ask(now, Duration::MAX, 0);
        pause.end();
        assert_eq!((pause.left(now), pause.number()), (Duration::ZERO, 1));
        assert!(pause.ask(now, SECOND, 0), "of an attempt that started before");
        assert_eq!(pause.left(now), SECOND);
    }

    /// What an item costs and whether it pauses all, at each of its refusals; between them this
    /// many other items succeed and are refused for the first time.
    fn course(between: &[(usize, usize)]) -> Vec<(usize, bool)> {
        let (mut pause, mut succeeded, mut last, mut told) = (Pause::default(), 0, None, Vec::new());
        for &(more, refused) in between {
            let seen = pause.number();
            let answer = pause.refuse(SECOND, (SECOND, seen), succeeded, last);
            told.push((answer.costs, answer.is_news));
            last = Some(answer.refusal);
            succeeded += more;
            for _ in 0..refused {
                pause.refuse(SECOND, (SECOND, pause.number()), succeeded, None);
            }
        }
        told
    }

    #[test]
    fn an_item_that_alone_is_refused_pauses_all_once_and_pays_for_each_refusal() {
        assert_eq!(course(&[(1, 0); 4]), [(0, true), (2, false), (1, false), (1, false)]);
        assert_eq!(course(&[(1, 0), (0, 0), (0, 0)]), [(0, true), (2, false), (1, false)]);
        assert_eq!(course(&[(0, 0), (1, 0), (0, 0)]), [(0, true), (1, true), (2, false)]);
    }

    #[test]
    fn where_no_item_succeeds_each_refusal_is_a_pause_and_the_first_is_free() {
        assert_eq!(course(&[(0, 0); 3]), [(0, true), (1, true), (1, true)]);
    }

    #[test]
    fn an_item_does_not_wait_alone_while_others_are_refused_too() {
        assert_eq!(course(&[(1, 1); 3]), [(0, true), (2, true), (1, true)]);
        assert_eq!(course(&[(1, 1), (1, 0), (1, 0)]), [(0, true), (2, true), (1, false)]);
    }

    #[test]
    fn items_that_are_refused_together_are_not_alone_whichever_came_first() {
        let mut pause = Pause::default();
        let first: Vec<_> =
            (0..3).map(|_| pause.refuse(SECOND, (SECOND, 0), 5, None)).map(|answer| answer.refusal).collect();
        for last in first {
            let mut pause = Pause { ..pause };
            let answer = pause.refuse(SECOND, (SECOND, 1), 6, Some(last));
            assert_eq!((answer.is_news, answer.costs), (true, 2));
        }
    }

    /// Else each of two items would take the other for a sign that the server refuses all.
    #[test]
    fn two_items_that_are_always_refused_soon_wait_alone() {
        let (mut pause, mut last, mut news) = (Pause::default(), [None; 2], Vec::new());
        for (succeeded, item) in (0..8).map(|step| (step, step % 2)) {
            let answer = pause.refuse(SECOND, (SECOND, pause.number()), succeeded, last[item]);
            last[item] = Some(answer.refusal);
            news.push(answer.is_news);
        }
        assert_eq!(news, [true, true, true, false, false, false, false, false]);
    }
}
