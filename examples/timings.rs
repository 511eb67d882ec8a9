//! `timings [FOLDER]`: a made-up job of 800 requests on adaptive workers, under a rate limit. Some requests are slow,
//! some fail and are tried again, and one hears that there are too many. The example prints the statistics of the job.
//! It writes `timeline.html` for a browser and `trace.json` for ui.perfetto.dev into the folder (default
//! `target/timings`).
//!
//! `cargo run --release --example timings`

use std::fs::{File, create_dir_all};
use std::hint::black_box;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use std::{env, error::Error, fmt};

use batch_executor::{AdaptiveWorkers, BatchExecutor, ItemContext, RateLimit, Retry, RetryDecision};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).map_or_else(|| PathBuf::from("target/timings"), PathBuf::from);
    let executor = BatchExecutor::builder()
        .workers(AdaptiveWorkers::new().max(16))
        .stop_on_error(false)
        .rate_limiter(RateLimit::per_second(500))
        .build()?;
    let retry = Retry::exponential(Duration::from_millis(20), Duration::from_millis(200), 3).when(decide);

    let result = executor
        .batch((0..800).map(Request))
        .retry(retry)
        .record_timeline()
        .run_with(|request, cx| request.send(cx));

    println!("{result}");
    let Some(timeline) = result.timeline_with_errors() else { return Err("there is no timeline".into()) };
    println!("{}", timeline.stats());
    for span in timeline.slowest().take(3) {
        println!("slow: {} took {:.1?} on worker {}", span.id(), span.run_time(), span.worker());
    }
    create_dir_all(&folder)?;
    timeline.write_html(File::create(folder.join("timeline.html"))?)?;
    timeline.write_chrome_trace(File::create(folder.join("trace.json"))?)?;
    println!("see {}", folder.join("timeline.html").display());
    Ok(())
}

struct Request(u64);

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("busy")]
    Busy,
    #[error("too many requests")]
    TooMany,
    #[error("not found")]
    NotFound,
}

fn decide(trouble: &Trouble) -> RetryDecision {
    match trouble {
        Trouble::Busy => RetryDecision::Retry,
        Trouble::TooMany => RetryDecision::PauseAll(Duration::from_millis(150)),
        Trouble::NotFound => RetryDecision::GiveUp,
    }
}

impl Request {
    /// Takes 5 to 35 ms, or ten times that for a few requests. It computes for part of the time. The same request
    /// always takes the same time.
    fn send(&self, cx: &ItemContext<'_>) -> Result<u64, Trouble> {
        let luck = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let factor = if luck % 97 == 0 { 10 } else { 1 };
        sleep(Duration::from_millis(5 + luck % 30) * factor);
        match (luck % 100, cx.attempt()) {
            (0..6, 1) => Err(Trouble::Busy),
            (50, _) => Err(Trouble::NotFound),
            _ if (self.0, cx.attempt()) == (400, 1) => Err(Trouble::TooMany),
            (9, _) if self.0 % 3 == 0 => panic!("an answer that makes no sense"),
            _ => Ok((0..luck % 50_000).fold(luck, |sum, n| black_box(sum ^ n))),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET /rows/{}", self.0)
    }
}
