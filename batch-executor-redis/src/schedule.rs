//! The schedule that all machines share: one key, and the script that moves it.

use std::time::Duration;

use redis::{Cmd, Connection, ErrorKind, RedisResult, Script, ServerErrorKind};

const SOURCE: &str = include_str!("reserve.lua");

/// A hundred years: longer times are cut off, so that the sums in the script stay far below where its numbers end.
const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000;

/// Times are microseconds, the unit of the server's clock.
#[derive(Debug)]
pub(crate) struct Schedule {
    key: String,
    interval: u64,
    /// How far permits may run ahead of the schedule: the burst, less one, in time.
    slack: u64,
    hash: String,
}

impl Schedule {
    /// This many permits in each period, neither of them 0. Intervals are rounded up.
    pub(crate) fn new(key: String, permits: u32, per: Duration) -> Self {
        let interval = per.as_nanos().div_ceil(u128::from(permits) * 1_000);
        let hash = Script::new(SOURCE).get_hash().to_owned();
        Schedule { key, interval: capped(interval), slack: 0, hash }
    }

    pub(crate) fn burst(&mut self, permits: u32) {
        self.slack = self.interval.saturating_mul(u64::from(permits - 1)).min(LONGEST);
    }

    /// Takes the next permits, at least one; how long until the last of them may be used.
    pub(crate) fn reserve(&self, connection: &mut Connection, permits: u64) -> RedisResult<Duration> {
        let take = self.interval.saturating_mul(permits).min(LONGEST);
        self.run(connection, Change { take, last: self.interval, ..Change::default() })
    }

    /// Takes nothing, and gives no permit before `time` has passed.
    pub(crate) fn pause(&self, connection: &mut Connection, time: Duration) -> RedisResult<Duration> {
        let hold = capped(time.as_micros()) + self.slack;
        self.run(connection, Change { hold, ..Change::default() })
    }

    /// Ends the pauses that go on.
    pub(crate) fn resume(&self, connection: &mut Connection) -> RedisResult<Duration> {
        self.run(connection, Change { resumes: true, ..Change::default() })
    }

    /// One round trip; two where the server does not know the script yet, or no longer.
    fn run(&self, connection: &mut Connection, change: Change) -> RedisResult<Duration> {
        let ask = |command: &str, script: &str, connection: &mut Connection| {
            let mut command = redis::cmd(command);
            self.arguments(&mut command, script, change).query(connection).map(Duration::from_micros)
        };
        match ask("EVALSHA", &self.hash, connection) {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                ask("EVAL", SOURCE, connection)
            }
            answer => answer,
        }
    }

    fn arguments<'c>(&self, command: &'c mut Cmd, script: &str, change: Change) -> &'c mut Cmd {
        let Change { hold, take, last, resumes } = change;
        command.arg(script).arg(1).arg(&self.key);
        command.arg(hold).arg(take).arg(last).arg(self.slack).arg(u8::from(resumes))
    }
}

/// What the script is to do.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    /// For how long the schedule is held back.
    hold: u64,
    /// How much of it is taken, and how much of that is the last permit's.
    take: u64,
    last: u64,
    /// Whether pauses end.
    resumes: bool,
}

fn capped(micros: u128) -> u64 {
    u64::try_from(micros).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(permits: u32, per: Duration) -> Schedule {
        Schedule::new(String::new(), permits, per)
    }

    #[test]
    fn an_interval_is_rounded_up_to_a_microsecond_and_never_down() {
        let second = Duration::from_secs(1);
        assert_eq!(schedule(50, second).interval, 20_000);
        assert_eq!(schedule(3, second).interval, 333_334);
        assert_eq!(schedule(u32::MAX, second).interval, 1);
        assert_eq!(schedule(1, Duration::from_nanos(1)).interval, 1);
    }

    #[test]
    fn times_beyond_all_reason_are_cut_off() {
        let mut never = schedule(1, Duration::MAX);
        never.burst(u32::MAX);
        assert_eq!((never.interval, never.slack), (LONGEST, LONGEST));
        assert_eq!(capped(Duration::MAX.as_micros()), LONGEST);
    }

    #[test]
    fn a_burst_of_one_is_none() {
        let slack = |burst| {
            let mut schedule = schedule(100, Duration::from_secs(1));
            schedule.burst(burst);
            schedule.slack
        };
        assert_eq!((slack(1), slack(2), slack(6)), (0, 10_000, 50_000));
    }
}
