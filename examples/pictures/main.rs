//! `pictures`: what a progress bar looks like, from its start to its end. The captures in
//! `guide::progress_bar` are what this prints.
//!
//! `cargo run --features indicatif --example pictures`. It runs one batch three times: on a
//! terminal with 80 columns, on one with 40, and into a pipe. The terminals are those of `script`;
//! what it hears is drawn on a screen in memory.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, error::Error, thread};

use batch_executor::{BatchExecutor, ConfigError, Retry, RetryDecision};
use indicatif::{InMemoryTerm, TermLike};

fn main() -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    if env::args().nth(1).as_deref() == Some("work") {
        work()?;
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("script").arg("--version").output().is_err() {
        println!("there is no `script` here, which makes terminals");
        return Ok(ExitCode::from(2));
    }
    let terminals = [80, 40].map(|columns| (columns, thread::spawn(move || screens(columns))));
    let piped = in_a_pipe()?;
    for (columns, screens) in terminals {
        println!("On a terminal with {columns} columns:\n");
        let screens = screens.join().map_err(|_| "a panic")??;
        for (moment, line) in moments(&screens) {
            println!("{moment}\n{line}\n");
        }
    }
    println!("In a pipe:\n\n{piped}");
    Ok(ExitCode::SUCCESS)
}

/// 40 requests of 0.4 s by four workers. The server refuses one for two seconds, three find it busy
/// and come back later, and one is refused for good.
fn work() -> Result<(), ConfigError> {
    let retry = Retry::delays(|| [Duration::from_secs(3)].into_iter()).when(|error: &&str| match *error {
        "too many requests" => RetryDecision::PauseAll(Duration::from_secs(2)),
        "busy" => RetryDecision::Retry,
        _ => RetryDecision::GiveUp,
    });
    let executor = BatchExecutor::builder().workers(4).stop_on_error(false).build()?;
    let _ = executor.batch(0..40).retry(retry).progress_bar().run_with(|n, cx| {
        thread::sleep(Duration::from_millis(400));
        match (n, cx.attempt()) {
            (6, 1) => Err("too many requests"),
            (16..19, 1) => Err("busy"),
            (9, _) => Err("gone"),
            _ => Ok(()),
        }
    });
    Ok(())
}

/// What a terminal of this width shows, each time that it changes.
fn screens(columns: u16) -> io::Result<Vec<String>> {
    let in_columns = format!("stty rows 5 cols {columns}; exec '{}' work", env::current_exe()?.display());
    let mut script = Command::new("script")
        .args(["-qefc", &in_columns, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let (screen, mut screens) = (InMemoryTerm::new(5, columns), Vec::new());
    let (mut heard, mut bytes) = (script.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?, [0; 4096]);
    loop {
        let length = heard.read(&mut bytes)?;
        if length == 0 {
            break;
        }
        screen.write_str(&String::from_utf8_lossy(&bytes[..length]))?;
        screens.push(screen.contents());
    }
    script.wait()?;
    Ok(screens)
}

/// The first screen of each kind, and the last of all.
fn moments(screens: &[String]) -> Vec<(&'static str, &str)> {
    let first = |moment, is_it: fn(&str) -> bool| {
        screens.iter().map(String::as_str).find(|line| is_it(line)).map(|line| (moment, line))
    };
    let found = [
        first("at the start", |line| line.starts_with("0/")),
        first("after a while", |line| line.contains("/s, ")),
        first("in a pause", |line| line.contains("paused for 2 s")),
        first("with retries to come", |line| line.contains("3 waiting")),
        screens
            .iter()
            .rev()
            .map(String::as_str)
            .find(|line| !line.is_empty())
            .map(|line| ("at the end", line)),
    ];
    found.into_iter().flatten().collect()
}

/// What the batch writes where it cannot draw.
fn in_a_pipe() -> io::Result<String> {
    let mut work = Command::new(env::current_exe()?).arg("work").stderr(Stdio::piped()).spawn()?;
    let heard = BufReader::new(work.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let lines = heard.lines().collect::<io::Result<Vec<_>>>()?;
    work.wait()?;
    Ok(lines.join("\n"))
}
