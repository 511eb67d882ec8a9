//! A Redis that dies, hangs or was never there: which items fail, and that no answer is taken for another.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, BatchResult, ItemError, RateLimit, RateLimiter};
use batch_executor_redis::{Away, RedisLimit, redis};

use common::{KEY, MS, Server, assert_about, wait_until};

const MINUTE: Duration = Duration::from_secs(60);
const OFTEN: u32 = 1_000_000;

fn local() -> Away {
    Away::Local(RateLimit::per_second(OFTEN))
}

/// A port on which no server listens: it was free a moment ago.
fn nowhere() -> redis::Client {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    redis::Client::open(format!("redis://{}/", listener.local_addr().unwrap())).unwrap()
}

#[test]
fn without_a_server_items_fail_or_take_the_local_limit() {
    let limit = || RedisLimit::new(nowhere(), KEY, OFTEN, MINUTE).unwrap();
    let run = |limit: Arc<RedisLimit>| {
        let executor = BatchExecutor::builder().stop_on_error(false).workers(3).rate_limiter(limit);
        executor.build().unwrap().run(0..20, |_| Ok::<_, String>(())).into_result().unwrap()
    };
    let failing = run(Arc::new(limit()));
    assert_eq!(failing.failed(), 20);
    for failure in failing.failures() {
        let ItemError::RateLimiter(error) = failure.error else { panic!("{failure:?}") };
        let inside = std::error::Error::source(error).unwrap();
        assert!(inside.downcast_ref::<redis::RedisError>().unwrap().is_connection_refusal(), "{inside:?}");
    }
    let limit = Arc::new(limit().when_away(local()));
    assert!(!limit.is_away(), "no item has asked yet");
    assert_eq!(run(Arc::clone(&limit)).succeeded(), 20);
    assert!(limit.is_away());
}

/// Ends the server in item 9 of 30, one after another.
fn killed_in_the_middle(server: &Mutex<Server>, limit: &Arc<RedisLimit>) -> BatchResult<usize, (), String> {
    let executor = BatchExecutor::builder().stop_on_error(false).rate_limiter(Arc::clone(limit));
    let kill_at_9 = |&n: &usize| {
        if n == 9 {
            server.lock().unwrap().kill();
        }
        Ok(())
    };
    executor.build().unwrap().run(0..30, kill_at_9).into_result().unwrap()
}

#[test]
fn a_server_that_dies_fails_what_comes_behind_until_it_is_back() {
    let Some(server) = Server::start() else { return };
    let limit = Arc::new(server.limit(OFTEN, MINUTE));
    let server = Mutex::new(server);
    let result = killed_in_the_middle(&server, &limit);
    assert!(result.iter().all(|item| item.outcome.is_ok() == (*item.item <= 9)), "{result:?}");
    assert!(!limit.is_away());

    server.lock().unwrap().start_again();
    let executor = BatchExecutor::builder().workers(3).rate_limiter(limit).build().unwrap();
    assert_eq!(executor.run(0..30, |_| Ok::<_, String>(())).into_values().unwrap().len(), 30);
}

#[test]
fn where_there_is_a_local_limit_no_item_fails_and_the_server_is_found_when_it_is_back() {
    let Some(server) = Server::start() else { return };
    let limit = Arc::new(server.limit(OFTEN, MINUTE).when_away(local()));
    let server = Mutex::new(server);
    assert_eq!(killed_in_the_middle(&server, &limit).succeeded(), 30);
    assert!(limit.is_away());

    server.lock().unwrap().start_again();
    wait_until("the server is found", || limit.reserve().is_ok() && !limit.is_away());
    assert!(server.lock().unwrap().calls_of("eval") > 0, "it was not asked");
}

#[test]
fn connections_that_the_server_has_closed_are_replaced_and_no_item_sees_it() {
    let Some(mut server) = Server::start() else { return };
    let limit = server.limit(OFTEN, MINUTE);
    let executor = BatchExecutor::builder().workers(4).rate_limiter(limit).build().unwrap();
    for _ in 0..3 {
        assert_eq!(executor.run(0..100, |_| Ok::<_, String>(())).stopped(), None);
        server.kill();
        server.start_again();
    }
    assert_eq!(executor.run(0..100, |_| Ok::<_, String>(())).stopped(), None);
}

#[test]
fn a_server_that_hangs_is_a_time_out_and_its_late_answer_is_dropped() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(1, 10 * MINUTE).read_timeout(MS(200)).connect_timeout(MS(200));
    assert_eq!(limit.reserve().unwrap(), Duration::ZERO);
    assert_about(limit.reserve().unwrap(), 10 * MINUTE);

    server.hang();
    let since = Instant::now();
    for _ in 0..3 {
        let error = limit.reserve().unwrap_err();
        let inside = std::error::Error::source(&error).unwrap().downcast_ref::<redis::RedisError>();
        assert!(inside.unwrap().is_timeout(), "{inside:?}");
    }
    assert!(since.elapsed() < MS(30_000), "it waited for {:?}", since.elapsed());
    server.go_on();

    // The server now does what it was asked in the meantime: one permit, on the connection that there was. The other two never got as far.
    wait_until("the permit of the late answer is taken", || server.calls_of("evalsha") == 3);
    let before = server.connections_so_far();
    assert_about(limit.reserve().unwrap(), 30 * MINUTE);
    assert_about(limit.reserve().unwrap(), 40 * MINUTE);
    assert_eq!(server.connections_so_far() - before, 2, "a new one, and that which counts them");
}

#[test]
fn while_a_server_hangs_the_local_limit_serves_and_one_in_a_second_looks_for_it() {
    let Some(server) = Server::start() else { return };
    let limit = server.limit(OFTEN, MINUTE).read_timeout(MS(200)).connect_timeout(MS(200)).when_away(local());
    limit.reserve().unwrap();
    let before = server.connections_so_far();
    server.hang();
    let since = Instant::now();
    while since.elapsed() < MS(2_500) {
        limit.reserve().unwrap();
    }
    let (looked, seconds) = (limit.is_away(), since.elapsed().as_secs() + 1);
    assert!(looked);
    server.go_on();
    wait_until("the server is found", || limit.reserve().is_ok() && !limit.is_away());
    let connections = server.connections_so_far() - before;
    assert!((2..=seconds + 3).contains(&connections), "{connections} in {seconds} seconds");
}

#[test]
fn a_pause_that_redis_does_not_hear_of_holds_the_local_limit_back() {
    let limit = RedisLimit::new(nowhere(), KEY, OFTEN, MINUTE).unwrap().when_away(local());
    limit.pause(60 * MINUTE);
    assert_about(limit.reserve().unwrap(), 60 * MINUTE);
    RedisLimit::new(nowhere(), KEY, 1, MINUTE).unwrap().pause(MINUTE); // and without one it is no panic
}

#[test]
fn a_pause_is_known_to_the_local_limit_if_redis_dies_in_it() {
    let Some(mut server) = Server::start() else { return };
    let limit = server.limit(OFTEN, MINUTE).when_away(local());
    limit.pause(60 * MINUTE);
    assert_about(limit.reserve().unwrap(), 60 * MINUTE);
    server.kill();
    assert_about(limit.reserve().unwrap(), 60 * MINUTE);
    assert!(limit.is_away());
}

/// What a setter panics with.
fn refused(set: fn(RedisLimit) -> RedisLimit) -> Option<String> {
    let limit = RedisLimit::new(nowhere(), KEY, 1, MINUTE).unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(set(limit)))).err()?;
    panic.downcast_ref::<&str>().map(|text| (*text).to_owned())
}

#[test]
fn a_time_out_without_length_and_a_burst_of_nothing_are_refused() {
    let (no_time, no_burst) = (
        Some("a time-out of no length would let nothing be answered"),
        Some("a burst of 0 permits would never let anything start"),
    );
    assert_eq!(refused(|limit| limit.read_timeout(Duration::ZERO)).as_deref(), no_time);
    assert_eq!(refused(|limit| limit.connect_timeout(Duration::ZERO)).as_deref(), no_time);
    assert_eq!(refused(|limit| limit.burst(0)).as_deref(), no_burst);
    assert_eq!(refused(|limit| limit.burst(1).read_timeout(MS(1)).connect_timeout(MS(1))), None);
}
