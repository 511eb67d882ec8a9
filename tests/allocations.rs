//! What a batch allocates: little, and nothing for each item but its place in the result.
//!
//! One test, since the counting is for the whole process.

use batch_executor::{BatchExecutor, CancelToken, ItemContext, More, Outcome};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Blocks and bytes allocated, beside the input, while `run` ran on this many items.
fn allocated<R>(items: u64, run: impl Fn(Vec<u64>) -> R) -> (usize, usize) {
    let input: Vec<u64> = (0..items).collect();
    let region = Region::new(ALLOCATOR);
    let result = run(input);
    let stats = region.change();
    drop(result);
    (stats.allocations + stats.reallocations, stats.bytes_allocated)
}

/// Blocks that a thousand batches with one token leave behind while the token is there.
fn left_by_batches_with_a_token(executor: &BatchExecutor) -> usize {
    let token = CancelToken::new();
    let run =
        || executor.batch(0..9).cancel_on(&token).cancel_on(&token).run(|n| Ok::<_, String>(*n)).is_success();
    // The token's list, and what threads keep.
    assert!((0..100).all(|_| run()));
    let region = Region::new(ALLOCATOR);
    assert!((0..1_000).all(|_| run()));
    let stats = region.change();
    stats.allocations.saturating_sub(stats.deallocations)
}

/// Each block goes back with the size with which it came, whatever sizes items and values have; a block of none is none.
fn assert_each_block_goes_back<I, T>(executor: &BatchExecutor, item: I, value: T)
where
    I: Clone + Send + Sync,
    T: Clone + Send + Sync,
{
    let run_all = |count: usize| {
        let region = Region::new(ALLOCATOR);
        let items = || vec![item.clone(); count];
        let run = |fails: bool| executor.run(items(), |_| if fails { Err("no") } else { Ok(value.clone()) });
        drop((run(false).into_values(), run(false).into_parts(), run(true).into_failed()));
        let grow = |_: &I, _: &mut ItemContext<()>, _: &More<I>| Ok::<_, &str>(value.clone());
        drop(executor.batch(items()).run_growing(grow).into_values());
        drop(executor.batch(items()).stream(|_| Ok::<_, &str>(value.clone()), |results| results.count()));
        let stats = region.change();
        let (blocks, bytes) = (stats.allocations, stats.bytes_allocated);
        (blocks, bytes) == (stats.deallocations, stats.bytes_deallocated)
    };
    let (item_size, size) = (size_of::<I>(), size_of::<T>());
    for count in 0..40 {
        // The harness of the test may allocate at any time, but not each time.
        let is_even = (0..5).any(|_| run_all(count));
        assert!(is_even, "{count} items of {item_size} bytes, values of {size}");
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "operations get a reference")]
fn value_of(item: &u64) -> Result<u64, String> {
    if *item == u64::MAX { Err("none".to_owned()) } else { Ok(item + 1) }
}

/// An outcome: the largest that it can hold, which is a number or a text, and perhaps a tag.
const OUTCOME: usize = size_of::<Outcome<u64, String>>();

#[test]
fn a_batch_allocates_its_result_and_little_else() {
    const {
        assert!(
            OUTCOME <= (8 + 3 * size_of::<usize>()).next_multiple_of(8),
            "a tag, and the largest that it can hold"
        );
    };

    let alone = BatchExecutor::builder().workers(1).stop_on_error(false).build().unwrap();
    assert_each_block_goes_back(&alone, (), ());
    assert_each_block_goes_back(&alone, (), [0_u8; 3]);
    assert_each_block_goes_back(&alone, [0_u8; 3], ());
    assert_each_block_goes_back(&alone, 0_u8, [0_u64; 3]);
    assert_each_block_goes_back(&alone, [0_u64; 5], 0_u16);
    assert_each_block_goes_back(&alone, String::from("item"), [0_u32; 5]);

    // The outcomes; the items stay in the vector in which they came.
    let sequential = BatchExecutor::new();
    assert!(allocated(10, |input| sequential.run(input, value_of)).0 <= 4);
    assert!(allocated(100_000, |input| sequential.run(input, value_of)).0 <= 24);

    // The same for a helper, and the latch that the caller waits at. The first batch starts the threads.
    let pooled = BatchExecutor::builder().workers(2).build().unwrap();
    assert!(pooled.run(0..10_000, |_| Ok::<_, String>(())).is_success());
    for items in [10, 1_000, 100_000] {
        let (blocks, _) = allocated(items, |input| pooled.run(input, value_of));
        assert!(blocks <= 24, "{blocks} allocations for {items} items");
    }

    for executor in [&sequential, &pooled] {
        let left = left_by_batches_with_a_token(executor);
        assert!(left < 100, "{left} blocks are left of a thousand batches");
    }

    // The items stay where they are: room for them is asked for, which shows that it could be had, and given back. The outcomes
    // are what is kept. Buffers and stacks are the rest.
    for executor in [&sequential, &pooled] {
        let (_, bytes) = allocated(1_000_000, |input| executor.run(input, value_of));
        assert!(bytes <= (OUTCOME + size_of::<u64>() + 4) * 1_000_000, "{bytes} bytes for a million items");
        assert!(bytes >= OUTCOME * 1_000_000, "the counting does not count");
    }
}
