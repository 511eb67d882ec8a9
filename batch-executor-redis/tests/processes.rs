//! Three processes and one limit, as the server saw it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::env::{self, consts::EXE_SUFFIX};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;

use common::{MS, Server};

/// What `examples/shared` keeps, in microseconds.
const SECOND: u64 = 1_000_000;
const PERMITS: usize = 50;
const INTERVAL: u64 = SECOND / PERMITS as u64;

const PROCESSES: usize = 3;
const ITEMS: usize = 80;

fn example() -> Command {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(format!("shared{EXE_SUFFIX}"));
    assert!(path.is_file(), "{} is missing: `cargo build --examples` makes it", path.display());
    Command::new(path)
}

/// Every write to the key, as `MONITOR` tells it: when the permit that it stands for may be used, on the server's clock.
fn permits_as_the_server_gives_them(server: &Server) -> thread::JoinHandle<Vec<u64>> {
    let mut monitor = TcpStream::connect(server.address()).unwrap();
    monitor.set_read_timeout(Some(MS(60_000))).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    thread::spawn(move || {
        let writes = lines.filter_map(|line| Some(line.split_once(r#"[0 lua] "SET""#)?.1.to_owned()));
        let next_free = writes.map(|rest| rest.split('"').nth(3).unwrap().parse::<u64>().unwrap());
        next_free.map(|next_free| next_free - INTERVAL).take(PROCESSES * ITEMS).collect()
    })
}

/// When items started, on the clock of this machine, which is the server's.
fn starts_as_the_processes_print_them(server: &Server) -> Vec<u64> {
    let run = || example().args([&server.url(), &ITEMS.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..PROCESSES).map(|_| run()).collect();
    let mut starts: Vec<u64> = children
        .into_iter()
        .flat_map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().map(|line| line.replace('.', "").parse().unwrap()).collect::<Vec<u64>>()
        })
        .collect();
    starts.sort_unstable();
    starts
}

/// The most in any second, the first moment of it and not the last included.
fn most_in_a_second(times: &[u64]) -> usize {
    let within = |from: usize| times[from..].iter().take_while(|time| **time < times[from] + SECOND).count();
    (0..times.len()).map(within).max().unwrap()
}

/// In thousandths of what the limit allows over the whole time.
fn share_of_the_rate(times: &[u64]) -> u64 {
    let taken = times[times.len() - 1] - times[0];
    (times.len() as u64 - 1) * INTERVAL * 1_000 / taken
}

#[test]
fn three_processes_keep_one_limit_and_use_it_up() {
    let Some(server) = Server::start() else { return };
    let permits = permits_as_the_server_gives_them(&server);
    let starts = starts_as_the_processes_print_them(&server);
    let permits = permits.join().unwrap();
    for (who, times) in [("permits given", &permits), ("items started", &starts)] {
        let (most, share) = (most_in_a_second(times), share_of_the_rate(times));
        println!("{who}: {}, at most {most} in any second, {share} thousandths of the rate", times.len());
    }

    assert_eq!((permits.len(), starts.len()), (PROCESSES * ITEMS, PROCESSES * ITEMS));
    assert!(most_in_a_second(&permits) <= PERMITS, "{} in a second", most_in_a_second(&permits));
    assert!(share_of_the_rate(&permits) >= 980, "only {} thousandths", share_of_the_rate(&permits));
    // So no window on the server's clock that ends with a start has more starts than permits.
    for (permit, start) in permits.iter().zip(&starts) {
        assert!(start + 1_000 > *permit, "a start at {start}, with the permit for {permit}");
    }
}
