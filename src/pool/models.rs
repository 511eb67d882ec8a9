//! The pool under a model checker: what no ordinary test can be sure to hit.

use std::sync::Arc;
use std::time::Duration;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::model::{Borrowed, check, let_time_pass, refuse_threads_after};
use crate::sync::thread;

use super::{Pool, PoolConfig};

fn pool(max_threads: usize) -> Pool {
    let keep_alive = Duration::from_secs(1);
    Pool::new(PoolConfig { thread_name: "model".to_owned(), stack_size: None, keep_alive, max_threads })
}

/// Lends work to helpers, works too, and then frees what they all used.
fn lend_once(pool: &Pool, seats: usize) {
    let memory = Borrowed::new();
    let work = || memory.touch();
    pool.lend(seats, &work, |_| work());
    memory.free();
}

#[test]
fn nobody_touches_a_batch_that_is_over() {
    check(|| lend_once(&pool(2), 2));
}

#[test]
fn two_batches_in_a_row_share_threads() {
    check(|| {
        let pool = pool(1);
        lend_once(&pool, 1);
        lend_once(&pool, 1);
    });
}

#[test]
fn two_callers_share_a_thread() {
    check(|| {
        let pool = Arc::new(pool(1));
        let other = Arc::clone(&pool);
        let caller = thread::spawn(move || lend_once(&other, 1));
        lend_once(&pool, 1);
        drop(pool);
        caller.join().unwrap();
    });
}

#[test]
fn a_batch_inside_a_batch_needs_no_thread() {
    check(|| {
        let pool = pool(1);
        let memory = Borrowed::new();
        let work = || {
            memory.touch();
            lend_once(&pool, 1);
        };
        pool.lend(1, &work, |_| work());
        memory.free();
    });
}

#[test]
fn the_caller_leaves_by_unwinding_and_still_waits() {
    check(|| {
        let pool = pool(1);
        let memory = Borrowed::new();
        let work = || memory.touch();
        let unwound = crate::panic::catch(|| {
            pool.lend(1, &work, |_| std::panic::resume_unwind(Box::new("the caller's own")));
        });
        assert!(unwound.is_err());
        memory.free();
    });
}

#[test]
fn threads_that_are_refused_leave_the_work_to_who_is_there() {
    for started in 0..2 {
        check(move || {
            refuse_threads_after(started);
            let pool = pool(2);
            lend_once(&pool, 2);
            lend_once(&pool, 1);
        });
    }
}

/// A helper that takes a seat and a caller that takes it back: one of them has it.
#[test]
fn a_seat_is_taken_once() {
    check(|| {
        let pool = pool(1);
        let taken = AtomicUsize::new(0);
        let work = || {
            taken.fetch_add(1, Ordering::Relaxed);
        };
        pool.lend(1, &work, |helpers| {
            if helpers.take_seat() {
                work();
            }
        });
        assert!(taken.load(Ordering::Relaxed) <= 1);
    });
}

/// A caller that waits for a helper gets one: a seat that is opened late wakes a thread.
#[test]
fn seats_that_are_opened_late_are_taken() {
    check(|| {
        let pool = pool(1);
        lend_once(&pool, 1);
        let (came, wait) = crate::sync::channel::bounded(1);
        let work = || {
            let _ = came.try_send(());
        };
        pool.lend(0, &work, |helpers| {
            helpers.add_seats(1);
            wait.recv().unwrap();
        });
    });
}

/// A thread sleeps, and a batch that needs it comes while it gives up waiting: it serves, or another one does.
#[test]
fn a_thread_that_expires_is_not_relied_upon() {
    check(|| {
        let_time_pass();
        let pool = pool(1);
        for _ in 0..2 {
            let (came, wait) = crate::sync::channel::bounded(1);
            let work = || {
                let _ = came.try_send(());
            };
            pool.lend(1, &work, |_| wait.recv().unwrap());
        }
    });
}

/// The last handle is dropped by a thread of the pool while others of it sleep or look.
#[test]
fn the_pool_is_dropped_by_a_thread_of_its_own() {
    check(|| {
        let pool = Arc::new(pool(2));
        let lent = Arc::clone(&pool);
        let held = crate::sync::Mutex::new(Some(pool));
        let work = || drop(held.lock().take());
        lent.lend(1, &work, |_| ());
        drop(lent);
        drop(held);
    });
}
