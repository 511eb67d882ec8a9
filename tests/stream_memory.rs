//! What a stream keeps: a window of items, however many come.
//!
//! One test, since the counting is for the whole process.

use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{Batch, BatchExecutor, Results};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MOST_ALIVE: AtomicUsize = AtomicUsize::new(0);

/// An item that is counted while it lives.
struct Item(u64);

impl Item {
    fn new(number: u64) -> Self {
        MOST_ALIVE.fetch_max(ALIVE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Item(number)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Input,
    Completion,
}

fn sum(results: &mut Results<'_, Item, u64, String>) -> u64 {
    results.filter_map(|item| item.outcome.ok()).sum()
}

/// Items alive at once, and bytes allocated at once, at most, while this many went through.
fn most(executor: &BatchExecutor, window: Option<usize>, order: Order, items: u64) -> (usize, usize) {
    MOST_ALIVE.store(0, Ordering::SeqCst);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let batch = executor.batch((0..items).map(Item::new));
    let batch = match order {
        Order::Input => batch,
        Order::Completion => batch.unordered(),
    };
    let batch = window.into_iter().fold(batch, Batch::window);
    let streamed = batch.stream(|item| Ok(item.0), sum);
    let bytes = ALLOCATOR.peak_usage().saturating_sub(before);
    assert_eq!((streamed.output, streamed.stopped), (items * (items - 1) / 2, None));
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "items are left");
    (MOST_ALIVE.load(Ordering::SeqCst), bytes)
}

#[test]
fn memory_is_that_of_the_window_and_does_not_grow_with_the_input() {
    const WORKERS: usize = 4;
    // Items as quick as these let the default window grow to this.
    const LARGEST_DEFAULT: usize = 4_096;
    let pooled = BatchExecutor::builder().workers(WORKERS).build().unwrap();
    // Starts the threads.
    most(&pooled, None, Order::Input, 1_000);

    // Hand-overs are slow, and there are more of them where the window is small.
    for (executor, workers, window, items) in [
        (&BatchExecutor::new(), 1, Some(4), 1_500),
        (&BatchExecutor::new(), 1, None, 5_000),
        (&pooled, WORKERS, Some(1), 1_500),
        (&pooled, WORKERS, Some(4 * WORKERS), 1_500),
        (&pooled, WORKERS, None, 8_000),
        (&pooled, WORKERS, Some(64), 4_000),
        (&pooled, WORKERS, Some(4_096), 8_000),
    ] {
        let size = window.unwrap_or(LARGEST_DEFAULT);
        for (order, items) in
            [(Order::Input, items), (Order::Input, 10 * items), (Order::Completion, 10 * items)]
        {
            let (alive, bytes) = most(executor, window, order, items);
            let case = format!("{order:?}, {items} items, {workers} workers, a window of {size}");
            assert!((1..=size).contains(&alive), "{case}: {alive} items were alive");
            assert!(bytes <= 100 * size + 8_192, "{case}: {bytes} bytes");
        }
    }
}
