//! One process and a Redis that is there: which permits it gives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use batch_executor::{BatchExecutor, ConfigError, RateLimit, RateLimiter};
use batch_executor_redis::{Away, RedisLimit, redis};

use common::{KEY, MS, Server, assert_about};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn permits_are_evenly_spaced_for_all_who_name_the_key() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (server.limit(2, 2 * MINUTE), server.limit(2, 2 * MINUTE));
    assert_eq!(one.reserve().unwrap(), Duration::ZERO);
    assert_about(other.reserve().unwrap(), MINUTE);
    assert_about(one.reserve().unwrap(), 2 * MINUTE);
    let elsewhere = RedisLimit::new(server.client(), "another key", 1, MINUTE).unwrap();
    assert_eq!(elsewhere.reserve().unwrap(), Duration::ZERO);
}

#[test]
fn a_burst_passes_together_and_then_the_rate_holds() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1, MINUTE).burst(3);
    for _ in 0..3 {
        assert_eq!(limit.reserve().unwrap(), Duration::ZERO);
    }
    assert_about(limit.reserve().unwrap(), MINUTE);
    assert_about(limit.reserve().unwrap(), 2 * MINUTE);
}

#[test]
fn a_pause_holds_all_back_and_nine_pauses_are_one() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (server.limit(1, MINUTE).burst(3), server.limit(1, MINUTE).burst(3));
    for _ in 0..9 {
        one.pause(10 * MINUTE);
    }
    assert_about(other.reserve().unwrap(), 10 * MINUTE);
    assert_about(one.reserve().unwrap(), 11 * MINUTE);
    other.pause(MINUTE); // shorter than what is left of the other
    assert_about(one.reserve().unwrap(), 12 * MINUTE);
}

#[test]
fn a_pause_that_is_ended_gives_no_permit_twice() {
    let Some(server) = Server::start() else { return };
    for burst in [1, 3] {
        let (one, other) = (server.limit(1, MINUTE).burst(burst), server.limit(1, MINUTE).burst(burst));
        let century = 100 * 365 * 24 * 60 * MINUTE;
        one.pause(60 * MINUTE);
        assert_about(one.reserve().unwrap(), 60 * MINUTE);
        other.pause(Duration::MAX); // a longer one
        assert_about(other.reserve().unwrap(), century);
        assert_about(other.reserve().unwrap(), century + MINUTE);
        one.pause(MINUTE); // a shorter one
        one.resume();
        // Three were given in the pause.
        assert_about(other.reserve().unwrap(), 3 * MINUTE);
        one.resume(); // there is no other to end
        assert_about(one.reserve().unwrap(), 4 * MINUTE);
        assert!(server.key().unwrap().bytes().all(|byte| byte.is_ascii_digit()), "{:?}", server.key());
        let mut connection = server.client().get_connection().unwrap();
        redis::cmd("DEL").arg(KEY).exec(&mut connection).unwrap();
    }
}

#[test]
fn a_pause_that_is_ended_gives_nothing_that_was_not_due() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1, MINUTE);
    for minutes in 0..5 {
        assert_about(limit.reserve().unwrap(), minutes * MINUTE);
    }
    limit.pause(60 * MINUTE);
    limit.resume();
    assert_about(limit.reserve().unwrap(), 5 * MINUTE);
    limit.pause(MS(20));
    limit.resume(); // shorter than what is waited for
    assert_about(limit.reserve().unwrap(), 6 * MINUTE);
    let quick = RedisLimit::new(server.client(), "quick", 1_000, MINUTE).unwrap();
    quick.pause(MS(20));
    std::thread::sleep(MS(40));
    quick.resume(); // it has ended by itself
    assert_eq!(quick.reserve().unwrap(), Duration::ZERO);
}

#[test]
fn many_permits_are_one_round_trip_and_come_with_the_last() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1, MINUTE).burst(3);
    assert_eq!(limit.reserve_many(0).unwrap(), Duration::ZERO);
    assert_eq!(server.key(), None, "nothing was asked");
    assert_eq!(limit.reserve_many(3).unwrap(), Duration::ZERO);
    assert_about(limit.reserve_many(5).unwrap(), 5 * MINUTE);
    assert_about(limit.reserve().unwrap(), 6 * MINUTE);
    assert_eq!(server.calls_of("evalsha"), 3);
    let century = 100 * 365 * 24 * 60 * MINUTE;
    assert!(limit.reserve_many(u64::MAX).unwrap() + MINUTE >= century);
    let local = RateLimit::every(MINUTE);
    let away = RedisLimit::new(redis::Client::open("redis://127.0.0.1:1/").unwrap(), KEY, 1, MINUTE).unwrap();
    let away = away.when_away(Away::Local(local));
    assert_about(away.reserve_many(3).unwrap(), 2 * MINUTE);
    away.pause(60 * MINUTE);
    away.resume();
    assert_about(away.reserve().unwrap(), 3 * MINUTE);
}

#[test]
fn a_permit_is_one_round_trip_on_a_connection_that_is_kept() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1_000_000, MINUTE);
    limit.reserve().unwrap();
    let before = (server.connections_so_far(), server.calls_of("evalsha"));
    for _ in 0..100 {
        limit.reserve().unwrap();
    }
    // Each look at the server's counts is a connection itself.
    let after = (server.connections_so_far() - 2, server.calls_of("evalsha"));
    assert_eq!((after.0 - before.0, after.1 - before.1), (0, 100));
    assert_eq!(server.calls_of("eval"), 1, "the first one, for a server that did not know the script");
}

#[test]
fn a_server_that_has_forgotten_the_script_is_told_again() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1, MINUTE);
    assert_eq!(limit.reserve().unwrap(), Duration::ZERO);
    let _: String = server.ask("SCRIPT FLUSH");
    assert_about(limit.reserve().unwrap(), MINUTE);
    assert_about(limit.reserve().unwrap(), 2 * MINUTE);
    assert_eq!(server.calls_of("eval"), 2);
}

#[test]
fn the_key_expires_once_the_schedule_is_free_and_not_before() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1, MINUTE);
    limit.reserve().unwrap();
    limit.reserve().unwrap();
    let left = || -> Duration {
        let mut connection = server.client().get_connection().unwrap();
        MS(redis::cmd("PTTL").arg(KEY).query(&mut connection).unwrap())
    };
    assert_about(left(), 2 * MINUTE + MS(2));
    limit.pause(60 * MINUTE);
    assert_about(left(), 60 * MINUTE + MS(2));

    let quick = RedisLimit::new(server.client(), "soon gone", 1, MS(20)).unwrap();
    quick.reserve().unwrap();
    common::wait_until("the key is gone", || server.ask::<u64>("DBSIZE") == 1);
    assert_eq!(quick.reserve().unwrap(), Duration::ZERO);
}

#[test]
fn times_beyond_all_reason_are_kept_exactly() {
    let Some(server) = Server::start() else { return };
    let century = 100 * 365 * 24 * 60 * MINUTE;
    let limit = server.limit(1, Duration::MAX).burst(2);
    assert_eq!([limit.reserve().unwrap(), limit.reserve().unwrap()], [Duration::ZERO; 2]);
    assert_about(limit.reserve().unwrap(), century);
    assert!(server.key().unwrap().bytes().all(|byte| byte.is_ascii_digit()), "{:?}", server.key());
    limit.pause(Duration::MAX);
    for _ in 0..100 {
        assert!(limit.reserve().unwrap() >= century / 3);
    }
}

#[test]
fn a_key_that_holds_something_else_is_an_error_and_stays_what_it_is() {
    let Some(server) = Server::start() else { return };
    let local = || Away::Local(RateLimit::per_second(1));
    for limit in [server.limit(1, MINUTE), server.limit(1, MINUTE).when_away(local())] {
        let mut connection = server.client().get_connection().unwrap();
        redis::cmd("SET").arg(KEY).arg("a text").exec(&mut connection).unwrap();
        limit.reserve().unwrap_err();
        assert_eq!(server.key().as_deref(), Some("a text"));
        redis::cmd("DEL").arg(KEY).exec(&mut connection).unwrap();
        redis::cmd("RPUSH").arg(KEY).arg("a list").exec(&mut connection).unwrap();
        let error = limit.reserve().unwrap_err();
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        redis::cmd("DEL").arg(KEY).exec(&mut connection).unwrap();
        assert_eq!(limit.reserve().unwrap(), Duration::ZERO);
        redis::cmd("DEL").arg(KEY).exec(&mut connection).unwrap();
    }
}

#[test]
fn a_wrong_password_is_an_error_whatever_is_done_when_redis_is_away() {
    let Some(server) = Server::start() else { return };
    let _: String = server.ask("CONFIG SET requirepass right");
    let limit = |url: String| RedisLimit::new(redis::Client::open(url).unwrap(), KEY, 1, MINUTE).unwrap();
    let url = |password: &str| server.url().replace("127", &format!(":{password}@127"));
    let local = Away::Local(RateLimit::per_second(1));
    let wrong = limit(url("wrong")).when_away(local);
    wrong.reserve().unwrap_err();
    assert!(!wrong.is_away());
    assert_eq!(limit(url("right")).reserve().unwrap(), Duration::ZERO);
}

#[test]
fn a_rate_of_nothing_is_refused() {
    let limit = |permits, per| {
        RedisLimit::new(redis::Client::open("redis://127.0.0.1/").unwrap(), KEY, permits, per).unwrap_err()
    };
    assert_eq!(limit(0, MINUTE), ConfigError::ZeroPermits);
    assert_eq!(limit(1, Duration::ZERO), ConfigError::ZeroPeriod);
}

#[test]
fn a_batch_ends_with_the_permits_it_needs_and_takes_no_more() {
    let Some(server) = Server::start() else { return };
    let limit = Arc::new(server.limit(1_000, Duration::from_secs(1)));
    let executor = BatchExecutor::builder().workers(4).rate_limiter(Arc::clone(&limit)).build().unwrap();
    let result = executor.run(0..100, |_| Ok::<_, String>(()));
    assert_eq!(result.into_values().unwrap().len(), 100);
    // Up to four found that the server did not know the script, and told it.
    let (by_hash, told) = (server.calls_of("evalsha"), server.calls_of("eval"));
    assert!(by_hash == 100 && (1..=4).contains(&told), "{by_hash} and {told}");
}
