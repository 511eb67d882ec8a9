//! Runs async batches: this thread polls their futures when they are woken, and drops them after the polls that a program allows.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::program::Act;

/// Has the timer of all programs. Its thread is there for good.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a thread can be had")
});

/// Wakes the thread that polls. It notes that it did, since a future may run another on the same thread meanwhile.
struct Call {
    thread: Thread,
    is_given: AtomicBool,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.is_given.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// What the future gives, or nothing if it is not ready after `polls` of them. On this thread, also within another future.
pub fn run<T>(future: impl Future<Output = T>, polls: Option<u8>) -> Option<T> {
    let _entered = RUNTIME.enter();
    let call = Arc::new(Call { thread: thread::current(), is_given: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&call));
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    let mut left = polls.map_or(usize::MAX, usize::from);
    while left > 0 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        while !call.is_given.swap(false, Ordering::SeqCst) {
            thread::park();
        }
        left -= 1;
    }
    None
}

/// What an item awaits before it does what it is to do.
pub async fn await_turn(act: &Act) {
    match act {
        Act::Yield => {
            let mut has_waited = false;
            poll_fn(|cx| {
                if has_waited {
                    return Poll::Ready(());
                }
                has_waited = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        Act::Sleep(micros) => tokio::time::sleep(Duration::from_micros(u64::from(*micros))).await,
        _ => {}
    }
}
