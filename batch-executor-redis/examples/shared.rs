//! `shared REDIS_URL ITEMS`: this many items, not more than 50 a second, however many processes run this with one server. Prints when each item
//! started, in seconds.
//!
//! `for n in 1 2 3; do cargo run --example shared -- redis://127.0.0.1/ 100 & done; wait`

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use batch_executor::BatchExecutor;
use batch_executor_redis::{RedisLimit, redis};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, items] = &arguments[..] else {
        eprintln!("usage: shared REDIS_URL ITEMS");
        return ExitCode::from(2);
    };
    match run(url, items) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shared: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str, items: &str) -> Result<(), Box<dyn Error>> {
    let items: usize = items.parse()?;
    let client = redis::Client::open(url)?;
    let limit = RedisLimit::new(client, "batch-executor:example", 50, Duration::from_secs(1))?;
    let executor = BatchExecutor::builder().workers(8).rate_limiter(limit).build()?;
    let result =
        executor.run(0..items, |_| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)).into_result()?;
    for started in result.values() {
        println!("{}.{:06}", started.as_secs(), started.subsec_micros());
    }
    eprintln!("{result}");
    Ok(())
}
