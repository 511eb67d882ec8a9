//! How long all items are held back, as retries ask for it.

use std::time::Duration;

/// Attempts that started before a pause and then ask for one, too, have met the same overload.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pause {
    until: Duration,
    longest: Duration,
    /// How many pauses there have been.
    number: usize,
}

impl Pause {
    /// An attempt asks for a pause that started when there had been `seen` pauses. Whether that is news: a pause of its own, or a
    /// longer one.
    pub(super) fn ask(&mut self, now: Duration, time: Duration, seen: usize) -> bool {
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
    #[cfg(test)]
    fn left(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

#[cfg(test)]
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
}
