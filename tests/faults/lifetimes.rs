//! Borrows, guards, odd types and thread-locals. What must not compile is a doctest of the crate.

use std::cell::{Cell, RefCell};
use std::mem;
use std::num::NonZeroU8;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use batch_executor::{BatchExecutor, BatchResult, ItemError};

use crate::common::{
    Meeting, Register, all_values, assert_still_works, assert_survived, builder, collecting,
    parallel_settings, ran_to_its_end, settings, stopping, wait_until, within_a_minute,
};

/// F17: nothing that we hand out guards a borrow.
#[test]
fn whatever_we_hand_out_may_be_forgotten() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            {
                let local: Vec<usize> = (0..50).collect();
                let sum = AtomicUsize::new(0);
                mem::forget(executor.batch::<(), String, _>(local.iter()).on_progress(|_| {
                    sum.fetch_add(1, Ordering::SeqCst);
                }));
                let result =
                    executor.run(local.iter(), |n| Ok::<_, String>(sum.fetch_add(**n, Ordering::SeqCst)));
                mem::forget(result);
                mem::forget(stopping(workers).run(local.iter(), |_| Err::<(), _>(&sum)));
                assert_eq!(sum.into_inner(), 1_225);
            }
            assert_survived(executor);
        }
        let executor = collecting(4);
        assert_still_works(&executor);
        mem::forget(executor.clone());
        drop(executor);
    });
}

/// F17: an executor and its result in a cycle are a leak, and nothing worse.
#[test]
fn an_executor_in_a_cycle_only_leaks() {
    struct Node {
        executor: BatchExecutor,
        result: BatchResult<usize, usize, String>,
        own: RefCell<Option<Rc<Node>>>,
    }

    within_a_minute(|| {
        let executor = collecting(4);
        let result = ran_to_its_end(executor.run(0..3usize, |&n| Ok::<_, String>(n)));
        let node = Rc::new(Node { executor: executor.clone(), result, own: RefCell::default() });
        *node.own.borrow_mut() = Some(Rc::clone(&node));
        assert_eq!(node.result.succeeded(), 3);
        assert_still_works(&node.executor);
        drop(node);
        // I6: its threads stay, since a handle leaks.
        assert_still_works(&executor);
    });
}

/// F18: what a helper does after its last item must not touch the batch. A stale write would show in the next one, which
/// lies at the same place of the stack; sanitizers see more.
#[test]
fn a_batch_that_is_over_is_not_touched_any_more() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            for round in 0..3_000usize {
                let local = [round; 8];
                let result = ran_to_its_end(executor.run(&local, |&&n| Ok::<_, String>(n)));
                assert!(result.values().all(|&n| n == round));
                assert_eq!((result.succeeded(), result.skipped()), (8, 0));
            }
            assert_survived(executor);
        }
    });
}

/// F19: what stays on the calling thread need not be `Send`, and an item need not be `Sync`.
#[test]
fn callback_and_iterator_stay_on_the_calling_thread() {
    within_a_minute(|| {
        for workers in settings() {
            let told = Rc::new(Cell::new(0));
            let (told_by_callback, pulled) = (Rc::clone(&told), Rc::new(Cell::new(0)));
            let pulled_by_iterator = Rc::clone(&pulled);
            let items = (0..20).map(move |n| {
                pulled_by_iterator.set(pulled_by_iterator.get() + 1);
                Cell::new(n)
            });
            let executor = collecting(workers);
            let result = executor
                .batch(items)
                .on_progress(move |_| told_by_callback.set(told_by_callback.get() + 1))
                .run(|item| Ok::<_, String>(item.replace(-1)));
            assert_eq!(all_values(result), (0..20).collect::<Vec<_>>());
            assert_eq!((told.get(), pulled.get()), (20, 20));
            assert_survived(executor);
        }
    });
}

macro_rules! counted_nothing {
    ($name:ident, $made:ident, $dropped:ident) => {
        static $made: AtomicUsize = AtomicUsize::new(0);
        static $dropped: AtomicUsize = AtomicUsize::new(0);

        /// Takes no room, and counts.
        struct $name;

        impl $name {
            fn new() -> Self {
                $made.fetch_add(1, Ordering::SeqCst);
                $name
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                $dropped.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
}

counted_nothing!(Item, ITEMS_MADE, ITEMS_DROPPED);
counted_nothing!(Good, GOOD_MADE, GOOD_DROPPED);
counted_nothing!(Bad, BAD_MADE, BAD_DROPPED);

/// F21
#[test]
fn types_without_size_are_made_and_dropped_exactly() {
    within_a_minute(|| {
        let counts = || {
            [&ITEMS_MADE, &ITEMS_DROPPED, &GOOD_MADE, &GOOD_DROPPED, &BAD_MADE, &BAD_DROPPED]
                .map(|count| count.load(Ordering::SeqCst))
        };
        for workers in settings() {
            let executor = collecting(workers);
            let number = AtomicUsize::new(0);
            let result = executor.run((0..1_000).map(|_| Item::new()), |_| {
                if number.fetch_add(1, Ordering::SeqCst) % 4 == 0 { Err(Bad::new()) } else { Ok(Good::new()) }
            });
            assert_eq!(result.stopped(), None);
            assert_eq!((result.succeeded(), result.failed()), (750, 250));
            let made = counts();
            assert_eq!([made[0] - made[1], made[2] - made[3], made[4] - made[5]], [1_000, 750, 250]);
            drop(result);
            let gone = counts();
            assert_eq!([gone[0] - gone[1], gone[2] - gone[3], gone[4] - gone[5]], [0, 0, 0]);
            assert_survived(executor);
        }
    });
}

/// F23
#[test]
fn over_aligned_values_and_values_with_niches_come_back_whole() {
    #[repr(align(4096))]
    struct Page(u8);

    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let pages = ran_to_its_end(executor.run(0..50u8, |&n| Ok::<_, String>(Page(n))));
            for (n, item) in (0..50u8).zip(&pages) {
                let page = item.outcome.as_ref().unwrap();
                assert_eq!((page.0, std::ptr::from_ref(page).addr() % 4096), (n, 0));
            }
            let small = ran_to_its_end(executor.run(0..255u8, |&n| NonZeroU8::new(n).ok_or(())));
            assert!(matches!(small.outcomes()[0], Err(ItemError::Failed(()))));
            assert!(small.values().map(|n| n.get()).eq(1..255));
            let boxes = ran_to_its_end(executor.run(0..50u8, |&n| Ok::<_, Box<str>>(Some(Box::new(n)))));
            assert!(boxes.values().map(|n| **n.as_ref().unwrap()).eq(0..50));
            let never = ran_to_its_end(executor.run(0..50u8, |&n| Err::<std::convert::Infallible, _>(n)));
            assert_eq!(never.failed(), 50);
            assert_survived(executor);
        }
    });
}

/// F23: a pointer that is never null.
#[test]
fn a_value_that_is_never_zero_is_never_zeroed() {
    struct Pointer(NonNull<u8>);

    #[allow(unsafe_code)]
    // SAFETY: the test never dereferences it.
    unsafe impl Send for Pointer {}

    within_a_minute(|| {
        let local: Vec<u8> = (0..100).collect();
        let executor = collecting(4);
        let result = ran_to_its_end(executor.run(&local, |item| Ok::<_, ()>(Pointer(NonNull::from(*item)))));
        for (item, value) in local.iter().zip(result.values()) {
            assert_eq!(value.0, NonNull::from(item));
        }
        assert_survived(executor);
    });
}

/// F24
#[test]
fn a_value_may_point_into_its_item() {
    within_a_minute(|| {
        for workers in settings() {
            let lines: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
            let executor = collecting(workers);
            let result =
                executor.run(&lines, |line| line.split_once(' ').map(|(_, number)| number).ok_or(*line));
            assert_survived(executor);
            let numbers = all_values(result);
            for (number, line) in numbers.iter().zip(&lines) {
                assert_eq!(number.as_ptr(), line["line ".len()..].as_ptr(), "it points elsewhere");
            }
        }
    });
}

/// F25: a thread's own data is dropped when it ends; here that runs a batch on the executor whose thread it is.
#[test]
fn a_thread_local_may_use_the_executor_when_its_thread_ends() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    static EXECUTOR: LazyLock<BatchExecutor> = LazyLock::new(|| {
        builder().workers(3).keep_alive(Duration::from_millis(5)).build().expect("good settings")
    });

    struct RunsAtTheEnd;

    impl Drop for RunsAtTheEnd {
        fn drop(&mut self) {
            let result = EXECUTOR.run(0..20, |&n| Ok::<_, String>(n));
            assert_eq!(ran_to_its_end(result).values().sum::<i32>(), 190);
            ENDED.fetch_add(1, Ordering::SeqCst);
        }
    }

    thread_local!(static AT_THE_END: RunsAtTheEnd = const { RunsAtTheEnd });

    within_a_minute(|| {
        let (meeting, caller) = (Meeting::default(), thread::current().id());
        let result = EXECUTOR.run(0..3, |_| {
            meeting.of(3);
            if thread::current().id() != caller {
                AT_THE_END.with(|_| {});
            }
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
        wait_until("both threads have run their last batch", || ENDED.load(Ordering::SeqCst) == 2);
        // I6: a static stays.
        assert_still_works(&EXECUTOR);
    });
}

thread_local!(static KEPT: RefCell<Vec<BatchExecutor>> = const { RefCell::new(Vec::new()) });

/// F25, F49: its own threads hold the last clones, so one of them is the one that ends the executor.
#[test]
fn the_last_clone_may_drop_on_the_executors_own_thread() {
    within_a_minute(|| {
        for round in 0..20 {
            let register = Register::default();
            let limiter_lives = register.make();
            let executor = builder()
                .workers(4)
                .keep_alive(Duration::from_millis(2))
                .rate_limiter(batch_executor::limiter_fn(move || {
                    let _ = &limiter_lives;
                    Ok(Duration::ZERO)
                }))
                .build()
                .unwrap();
            let (meeting, caller) = (Meeting::default(), thread::current().id());
            let result = executor.run(0..4, |_| {
                meeting.of(4);
                if thread::current().id() != caller {
                    KEPT.with_borrow_mut(|kept| kept.push(executor.clone()));
                }
                Ok::<_, String>(())
            });
            assert!(ran_to_its_end(result).is_success());
            if round % 2 == 0 {
                assert_still_works(&executor);
            }
            drop(executor);
            // I6: the thread that ends the executor cannot be joined. The limiter goes with the executor.
            wait_until("the executor is gone", || register.dropped() == 1);
        }
    });
}

/// F49: a clone that a task owns, while the caller keeps one.
#[test]
fn a_clone_may_drop_in_a_task() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let tasks = (0..30).map(|n| {
                let clone = executor.clone();
                move || {
                    let sum: i32 = ran_to_its_end(clone.run(0..4, |&n| Ok::<_, String>(n))).values().sum();
                    drop(clone);
                    Ok::<_, String>(sum + n)
                }
            });
            let tasks: Vec<_> = tasks.collect();
            let result = executor.execute_batch(tasks, 0..30).unwrap();
            assert!(result.values().copied().eq(6..36));
            assert_survived(executor);
        }
    });
}

/// F42: what an item leaves behind in its thread stays there, and does no harm.
#[test]
fn what_an_item_leaves_in_its_threads_memory_harms_no_later_batch() {
    thread_local!(static LEFT: Cell<usize> = const { Cell::new(0) });

    within_a_minute(|| {
        let executor = collecting(4);
        let left = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let result = executor.run(0..100, |_| {
                LEFT.set(LEFT.get() + 1);
                left.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(())
            });
            assert!(ran_to_its_end(result).is_success());
        }
        assert_eq!(left.load(Ordering::SeqCst), 1_000);
        assert_survived(executor);
    });
}
