//! How long everybody is held back: a pure value, told of times.

use std::time::Duration;

use crate::sync::{Instant, later};

/// What has been asked for so far. Whoever started before a pause and then asks for one too has met the same crowd.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    longest: Duration,
    /// How many pauses there have been.
    number: usize,
}

impl Pause {
    /// Somebody asks that all wait so long, after an attempt that started when there had been `seen` pauses. Whether that is
    /// news: a pause of its own, or a longer one.
    pub(super) fn ask(&mut self, now: Instant, time: Duration, seen: usize) -> bool {
        let until = later(now, time);
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
        let is_another = seen == self.number;
        let is_news = is_another || time > self.longest;
        if is_news {
            self.longest = time;
            self.number += usize::from(is_another);
        }
        is_news
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// How long it is until something may start.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nine_that_ask_at_once_ask_once() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        let news = (0..9).filter(|_| pause.ask(now, SECOND, 0)).count();
        assert_eq!((news, pause.number(), pause.left(now)), (1, 1, SECOND));
    }

    #[test]
    fn who_started_after_a_pause_asks_for_another() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert!(pause.ask(now, SECOND, 0));
        assert!(pause.ask(now + SECOND, SECOND, 1));
        assert_eq!((pause.number(), pause.left(now)), (2, 2 * SECOND));
    }

    #[test]
    fn a_longer_time_is_news_and_a_shorter_one_shortens_nothing() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert!(pause.ask(now, 2 * SECOND, 0));
        assert!(!pause.ask(now, SECOND, 0));
        assert_eq!(pause.left(now), 2 * SECOND);
        assert!(pause.ask(now, 3 * SECOND, 0));
        assert_eq!((pause.number(), pause.left(now)), (1, 3 * SECOND));
    }

    #[test]
    fn the_answer_that_comes_late_counts_from_when_it_comes() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        pause.ask(now, SECOND, 0);
        assert!(!pause.ask(now + SECOND / 2, SECOND, 0));
        assert_eq!(pause.left(now), SECOND * 3 / 2);
    }

    #[test]
    fn without_a_pause_nothing_is_left_and_one_without_end_saturates() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert_eq!(pause.left(now), Duration::ZERO);
        pause.ask(now, Duration::MAX, 0);
        assert!(pause.left(now) > 1_000_000 * SECOND);
        assert_eq!(pause.left(now + pause.left(now)), Duration::ZERO);
    }
}
