//! Adaptive workers and what fails when there are too many, on real threads: counted, not timed. The server counts who is
//! inside, so that a slow machine changes nothing.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{Retry, Workers};

use common::{collecting, within_a_minute};

const ITEM: Duration = Duration::from_millis(20);

/// Serves this many at once, and refuses others at once.
#[derive(Default)]
struct Server {
    seats: usize,
    inside: AtomicUsize,
    refusals: AtomicUsize,
}

impl Server {
    fn enter(&self) -> Result<(), &'static str> {
        let has_seat = |inside| (inside < self.seats).then_some(inside + 1);
        if self.inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, has_seat).is_err() {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err("too many");
        }
        Ok(())
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn request(&self) -> Result<(), &'static str> {
        self.enter()?;
        thread::sleep(ITEM);
        self.leave();
        Ok(())
    }
}

#[test]
fn a_server_that_refuses_what_is_too_much_refuses_one_in_twenty_at_the_most() {
    within_a_minute(|| {
        let server = Server { seats: 16, ..Server::default() };
        let result = collecting(Workers::adaptive()).run(0..800, |_| server.request());
        let succeeded = result.succeeded();
        assert!(succeeded >= 760, "{succeeded} of 800, {} workers", result.workers());
    });
}

#[test]
fn with_retries_all_succeed_and_fewer_are_refused_than_there_are_items() {
    within_a_minute(|| {
        let server = Server { seats: 16, ..Server::default() };
        let retry = Retry::exponential(Duration::from_millis(10), Duration::from_secs(1), 5);
        let result = collecting(Workers::adaptive()).batch(0..800).retry(retry).run(|_| server.request());
        let refusals = server.refusals.load(Ordering::SeqCst);
        assert_eq!(result.succeeded(), 800, "{refusals} refusals");
        assert!(refusals < 800, "{refusals} refusals");
    });
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn in_a_task_with_retries_fewer_are_refused_than_there_are_items() {
    let server = Server { seats: 16, ..Server::default() };
    let retry = Retry::exponential(Duration::from_millis(10), Duration::from_secs(1), 5);
    let request = async |_: &usize| {
        server.enter()?;
        tokio::time::sleep(ITEM).await;
        server.leave();
        Ok::<_, &str>(())
    };
    let result = collecting(Workers::adaptive()).batch(0..800).retry(retry).run_async(request).await;
    let refusals = server.refusals.load(Ordering::SeqCst);
    assert_eq!(result.succeeded(), 800, "{refusals} refusals");
    assert!(refusals < 800, "{refusals} refusals");
}

#[test]
fn items_that_all_fail_do_not_bring_more_workers() {
    within_a_minute(|| {
        let server = Server::default();
        let result = collecting(Workers::adaptive()).run(0..20_000, |_| server.request());
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        assert!(result.workers() <= cpus.max(32), "{} workers", result.workers());
    });
}

/// In a process of its own, since the limit is of the process.
#[cfg(target_os = "linux")]
mod open_files {
    use std::fs::File;
    use std::process::Command;
    use std::{env, thread};

    use batch_executor::Workers;

    use super::ITEM;
    use super::common::collecting;

    const CHILD: &str = "BATCH_EXECUTOR_OPEN_FILES";

    /// How many of 600 items fail where this many files may be open; each opens one.
    fn failures(limit: usize) -> usize {
        let program = env::current_exe().expect("this program");
        let test = "open_files::the_child";
        let script = format!("ulimit -n {limit} && exec \"$0\" --exact {test} --nocapture --test-threads=1");
        let output =
            Command::new("sh").args(["-c", &script]).arg(program).env(CHILD, "1").output().expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        let failed = text.lines().find_map(|line| line.split("FAILED ITEMS ").nth(1)?.trim().parse().ok());
        failed.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
    }

    #[test]
    fn the_child() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        let result = collecting(Workers::adaptive()).run(0..600, |_| {
            let file = File::open("/dev/null")?;
            thread::sleep(ITEM);
            drop(file);
            Ok::<_, std::io::Error>(())
        });
        println!("\nFAILED ITEMS {}", result.failed());
    }

    #[test]
    fn no_item_fails_where_256_files_may_be_open() {
        assert_eq!(failures(256), 0);
    }

    #[test]
    fn fewer_than_a_tenth_fail_where_64_may_be_open() {
        let failed = failures(64);
        assert!(failed < 60, "{failed} of 600");
    }
}
