//! `interrupt [MILLISECONDS]`: 1,000 items of so long each (200 ms), until somebody presses Ctrl-C. Pressed once, what runs is
//! waited for, and what there is so far is printed. Pressed twice, the process ends at once, with 130.

use std::convert::Infallible;
use std::process::{self, ExitCode};
use std::{env, error::Error, thread, time::Duration};

use batch_executor::{BatchExecutor, BatchResult, CancelToken};

/// 128 and the number of the signal, as shells have it.
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
    let ended = executor.batch(1..=1_000).cancel_on(&token).run(|n| {
        eprintln!("item {n} starts");
        thread::sleep(Duration::from_millis(millis));
        Ok::<_, Infallible>(*n)
    });

    match &ended {
        Ok(result) => println!("{result}"),
        Err(error) => println!("{error}"),
    }
    let result = ended.as_ref().ok().or_else(|| ended.as_ref().err()?.partial());
    println!("sum so far: {}", result.into_iter().flat_map(BatchResult::values).sum::<u64>());
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
