//! A Redis of the test's own: `redis-server`, by `REDIS_SERVER` or from the path, on loopback and a port that was free.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "not every test needs all; a test that cannot go on has failed"
)]

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{iter, thread};

use batch_executor_redis::{RedisLimit, redis};

pub(crate) const MS: fn(u64) -> Duration = Duration::from_millis;
pub(crate) const KEY: &str = "the limit";

/// The program, or nothing if there is none and none was promised.
fn program() -> Option<PathBuf> {
    if let Some(given) = env::var_os("REDIS_SERVER") {
        return Some(PathBuf::from(given));
    }
    let found = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    found.map(|folder| folder.join("redis-server")).find(|program| program.is_file())
}

/// A server that ends with the test.
pub(crate) struct Server {
    program: PathBuf,
    child: Child,
    port: u16,
}

impl Server {
    /// `None`, and a line that stands out, where there is no `redis-server`.
    pub(crate) fn start() -> Option<Server> {
        let Some(program) = program() else {
            eprintln!("SKIP: there is no redis-server; .ci/redis fetches one");
            return None;
        };
        // Another process may have taken the port in between.
        let started = iter::repeat_with(|| {
            let port = free_port();
            let mut server = Server { child: spawn(&program, port), program: program.clone(), port };
            server.gets_there().then_some(server)
        });
        Some(started.take(5).find_map(|server| server).expect("redis-server ends as soon as it is started"))
    }

    /// Again, on the same port, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.program, self.port);
        assert!(self.gets_there(), "redis-server has ended");
    }

    fn gets_there(&mut self) -> bool {
        let since = Instant::now();
        while self.client().get_connection_with_timeout(MS(500)).is_err() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(since.elapsed() < MS(30_000), "redis-server does not answer");
            thread::sleep(MS(10));
        }
        true
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn address(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.port)
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub(crate) fn limit(&self, permits: u32, per: Duration) -> RedisLimit {
        RedisLimit::new(self.client(), KEY, permits, per).unwrap()
    }

    /// The answer to a command, by a connection of its own.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut asked = redis::Cmd::new();
        asked.arg(command.split(' ').collect::<Vec<_>>());
        asked.query(&mut self.client().get_connection_with_timeout(MS(10_000)).unwrap()).unwrap()
    }

    /// What the limit's key holds.
    pub(crate) fn key(&self) -> Option<String> {
        let mut connection = self.client().get_connection().unwrap();
        redis::cmd("GET").arg(KEY).query(&mut connection).unwrap()
    }

    pub(crate) fn connections_so_far(&self) -> u64 {
        self.info("total_connections_received:")
    }

    pub(crate) fn calls_of(&self, command: &str) -> u64 {
        let stats: String = self.ask("INFO commandstats");
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    fn info(&self, name: &str) -> u64 {
        let stats: String = self.ask("INFO stats");
        stats.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// From now on it takes connections and questions, and answers none.
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, port: u16) -> Child {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// Below those that the system gives to a client that connects, so that it is free again for a server that was killed.
fn free_port() -> u16 {
    let random = || 20_000 + u16::try_from(RandomState::new().hash_one(()) % 12_000).unwrap();
    iter::repeat_with(random).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// About so long: at most, and not less by more than a machine under load takes for what was in between.
#[track_caller]
pub(crate) fn assert_about(wait: Duration, expected: Duration) {
    assert!(wait <= expected && wait + MS(5_000) > expected, "{wait:?} instead of {expected:?}");
}

pub(crate) fn wait_until(what: &str, happens: impl Fn() -> bool) {
    let since = Instant::now();
    while !happens() {
        assert!(since.elapsed() < MS(30_000), "{what} did not happen");
        thread::sleep(MS(5));
    }
}
