//! `interrupt [MILLISECONDS]`: 1,000 items of this length each (default 200), until the user presses Ctrl-C. Pressed
//! once, the batch waits for the items that run, and the program prints the result so far. Pressed twice, the process
//! ends at once, with status 130.

use std::convert::Infallible;
use std::process::{self, ExitCode};
use std::{env, error::Error, thread, time::Duration};

use batch_executor::{BatchExecutor, CancelToken};

/// The exit status that shells use: 128 plus the number of the signal.
const ENDED_BY_SIGINT: i32 = 130;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let millis = env::args().nth(1).map_or(Ok(200), |argument| argument.parse())?;
    let token = CancelToken::new();
    let pressed = token.clone();
    ctrlc::set_handler(move || {
        if pressed.is_cancelled() {
            process::exit(ENDED_BY_SIGINT);
        }
        eprintln!("waiting for what runs; press again to leave at once");
        pressed.cancel();
    })?;

    let executor = BatchExecutor::builder().workers(4).build()?;
    let result = executor.batch(1..=1_000).cancel_on(&token).run(|n| {
        eprintln!("item {n} starts");
        thread::sleep(Duration::from_millis(millis));
        Ok::<_, Infallible>(*n)
    });

    if let Some(reason) = result.stopped() {
        print!("{reason}: ");
    }
    println!("{result}");
    println!("sum so far: {}", result.values().sum::<u64>());
    Ok(if result.stopped().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
