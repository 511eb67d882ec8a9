//! Futures, as many in flight as said, on one thread: ours in both ways, beside those that async code uses.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use batch_executor::BatchExecutor;
use futures::{StreamExt, stream};
use futures_buffered::BufferedStreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::machine;
use crate::options::Options;
use crate::row::grouped;
use crate::sample::median;

/// `items` futures that take `each`. Where that is zero, they are ready at once.
#[derive(Clone, Copy)]
struct Case {
    items: u64,
    each: Duration,
    in_flight: usize,
}

const CASES: [Case; 5] = [
    Case { items: 100_000, each: Duration::ZERO, in_flight: 64 },
    Case { items: 10_000, each: Duration::from_millis(1), in_flight: 256 },
    Case { items: 65_536, each: Duration::from_micros(100), in_flight: 256 },
    Case { items: 20_000, each: Duration::from_millis(10), in_flight: 1_000 },
    HEAVY,
];

/// For memory, too.
const HEAVY: Case = Case { items: 30_000, each: Duration::from_millis(20), in_flight: 10_000 };

/// Each returns what all items came to, in input order.
const CONTESTANTS: [&str; 6] = [
    "ours, `run_async`",
    "ours, `stream_async`",
    "`buffered`",
    "`buffer_unordered`, sorted",
    "futures-buffered, ordered",
    "`JoinSet` and a semaphore, sorted",
];

/// The child that measures memory finds here whom to run.
const MEMORY_OF: &str = "PEERS_MEMORY_OF";

pub fn print(options: &Options) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime of one thread");
    if let Some(contestant) = env::var(MEMORY_OF).ok().and_then(|number| number.parse().ok()) {
        let before = peak();
        black_box(run(&runtime, contestant, HEAVY));
        println!("{}", peak() - before);
        return;
    }
    println!(
        "| futures, in flight | contestant | ms | beside the best that keeps order |\n|---|---|--:|--:|"
    );
    for case in CASES {
        compare(&runtime, case, options.quick);
    }
    println!("\n| 10,000 in flight | bytes for each at the peak |\n|---|--:|");
    for (number, name) in CONTESTANTS.iter().enumerate() {
        let bytes = memory_of(number) * 1024 / HEAVY.in_flight;
        println!("| {name} | {} |", grouped(bytes));
    }
    println!(
        "\nMedians of {}, by turns in one process, on a `current_thread` runtime of tokio. {}, futures {}, futures-buffered {}, tokio {}.\n",
        repetitions(options.quick),
        machine::caption(),
        machine::version("futures"),
        machine::version("futures-buffered"),
        machine::version("tokio"),
    );
}

fn repetitions(quick: bool) -> usize {
    if quick { 3 } else { 11 }
}

fn compare(runtime: &Runtime, case: Case, quick: bool) {
    let mut times = [const { Vec::new() }; CONTESTANTS.len()];
    for _ in 0..repetitions(quick) {
        for (number, times) in times.iter_mut().enumerate() {
            let since = Instant::now();
            let values = run(runtime, number, case);
            times.push(since.elapsed().as_secs_f64());
            assert!(values.into_iter().eq((0..case.items).map(value)), "{}", CONTESTANTS[number]);
        }
    }
    let medians = times.map(|times| median(&times).unwrap_or_default());
    let best = medians[2..].iter().copied().fold(f64::INFINITY, f64::min);
    for (name, median) in CONTESTANTS.iter().zip(medians) {
        println!(
            "| {} × {:?}, {} | {name} | {:.1} | {:.2} |",
            grouped(case.items as usize),
            case.each,
            grouped(case.in_flight),
            median * 1e3,
            median / best
        );
    }
}

fn value(n: u64) -> u64 {
    n.wrapping_mul(31)
}

#[inline(never)]
async fn op(n: u64, each: Duration) -> Result<u64, String> {
    if !each.is_zero() {
        tokio::time::sleep(each).await;
    }
    Ok(value(n))
}

fn run(runtime: &Runtime, contestant: usize, Case { items, each, in_flight }: Case) -> Vec<u64> {
    let futures =
        || stream::iter(0..items).map(move |n| async move { (n, op(n, each).await.expect("it is fine")) });
    let executor = || BatchExecutor::builder().workers(in_flight).build().expect("as many are fine");
    runtime.block_on(async {
        match contestant {
            0 => {
                let result = executor().batch(0..items).run_async(async |n| op(*n, each).await).await;
                result.into_values().expect("all are fine")
            }
            1 => {
                let consume = async |results: &mut batch_executor::AsyncResults<'_, u64, u64, String>| {
                    let mut values = Vec::new();
                    while let Some(item) = results.next().await {
                        values.push(item.outcome.expect("all are fine"));
                    }
                    values
                };
                executor()
                    .batch(0..items)
                    .window(in_flight)
                    .stream_async(async |n| op(*n, each).await, consume)
                    .await
                    .output
            }
            2 => futures().buffered(in_flight).map(|(_, value)| value).collect().await,
            3 => sorted(futures().buffer_unordered(in_flight).collect().await),
            4 => futures().buffered_ordered(in_flight).map(|(_, value)| value).collect().await,
            _ => join_set(items, each, in_flight).await,
        }
    })
}

async fn join_set(items: u64, each: Duration, in_flight: usize) -> Vec<u64> {
    let (mut set, slots, mut values) = (JoinSet::new(), Arc::new(Semaphore::new(in_flight)), Vec::new());
    for n in 0..items {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("it is open");
        set.spawn(async move {
            let value = op(n, each).await.expect("it is fine");
            drop(slot);
            (n, value)
        });
        while let Some(joined) = set.try_join_next() {
            values.push(joined.expect("no task panics"));
        }
    }
    while let Some(joined) = set.join_next().await {
        values.push(joined.expect("no task panics"));
    }
    sorted(values)
}

fn sorted(mut values: Vec<(u64, u64)>) -> Vec<u64> {
    values.sort_unstable();
    values.into_iter().map(|(_, value)| value).collect()
}

/// In KiB, in a process of its own.
fn memory_of(contestant: usize) -> usize {
    let program = env::current_exe().expect("this program has a path");
    let mut child = process::Command::new(program);
    let output =
        child.arg("--tasks").env(MEMORY_OF, contestant.to_string()).output().expect("it starts again");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of KiB")
}

/// The most memory that this process has had so far, in KiB. Linux tells it.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has this line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
