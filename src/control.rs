//! Control of running batches: pause, resume, cancel, another number of workers, a snapshot.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::progress::Progress;
use crate::sync::Mutex;
use crate::workers::MAX_WORKERS;

/// Pauses, resumes and cancels running batches, changes their number of workers, and shows what they do: from any thread,
/// also from an operation or a callback.
///
/// A clone is the same control. One control may serve several batches, also one after the other: a batch that begins
/// while the control is paused starts nothing until it is resumed, and it begins with the number of workers that was set.
///
/// ```
/// use batch_executor::{BatchExecutor, Control};
/// use std::{thread, time::Duration};
///
/// let (executor, control) = (BatchExecutor::builder().workers(2).build()?, Control::new());
/// control.pause();
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         thread::sleep(Duration::from_millis(5));
///         assert_eq!(control.snapshot().progress.completed, 0);        // nothing has started
///         control.set_workers(8);
///         control.resume();
///     });
///     let result = executor.batch(0..100).control(&control).run(|n| Ok::<_, String>(n * 2));
///     assert!(result.is_success());
/// });
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    token: CancelToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    orders: Orders,
    batches: Vec<Arc<dyn Controlled>>,
}

/// What the batches are to do.
#[derive(Clone, Copy, Default)]
struct Orders {
    is_paused: bool,
    workers: Option<usize>,
    /// Counts the changes.
    number: u64,
}

/// A batch that runs.
pub(crate) trait Controlled: Send + Sync {
    /// Nothing starts as long as it is held by this control or another.
    fn hold(&self, by: usize, is_held: bool);

    fn set_workers(&self, workers: usize);

    fn progress(&self) -> Progress;

    fn running(&self) -> Vec<Running>;
}

/// What batches do at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// How far they are. Of several batches, the sums; the time is that of the one that began first. With no batch
    /// running, all numbers are 0.
    pub progress: Progress,
    /// The items whose operation runs, those that have run longest first.
    pub running: Vec<Running>,
}

/// An item whose operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Running {
    /// The index of the item in its batch, as [`ItemContext::index`](crate::ItemContext::index) tells it.
    pub index: usize,
    /// Which attempt it is; the first is 1.
    pub attempt: usize,
    /// The number of the worker, as [`ItemContext::worker`](crate::ItemContext::worker) tells it.
    pub worker: usize,
    /// For how long it has run.
    pub since: Duration,
}

impl Running {
    pub(crate) fn new(index: usize, attempt: usize, worker: usize, since: Duration) -> Self {
        Running { index, attempt, worker, since }
    }
}

impl Control {
    /// A control that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pauses the batches: no item starts, and operations that run continue. Items keep their waits for the next attempt or for
    /// a limit, and deadlines stay as they are. Further calls have no effect.
    pub fn pause(&self) {
        self.hold(true);
    }

    /// Ends a [`pause`](Control::pause).
    pub fn resume(&self) {
        self.hold(false);
    }

    fn hold(&self, is_paused: bool) {
        let set = |orders: &mut Orders| orders.is_paused = is_paused;
        self.order(set, |orders, batch| batch.hold(self.number(), orders.is_paused));
    }

    fn order(&self, set: impl FnOnce(&mut Orders), tell: impl Fn(&Orders, &dyn Controlled)) {
        let (orders, batches) = {
            let mut state = self.shared.state.lock();
            set(&mut state.orders);
            state.orders.number += 1;
            (state.orders, state.batches.clone())
        };
        self.tell(orders, &batches, tell);
    }

    /// Tells the batches these orders, and newer ones as long as there are some: another thread that gave those may have told
    /// them before.
    fn tell(
        &self,
        mut orders: Orders,
        batches: &[Arc<dyn Controlled>],
        tell: impl Fn(&Orders, &dyn Controlled),
    ) {
        loop {
            for batch in batches {
                tell(&orders, &**batch);
            }
            let told = orders.number;
            orders = self.shared.state.lock().orders;
            if orders.number == told {
                return;
            }
        }
    }

    /// Cancels the batches, and each that begins later, as a [`CancelToken`] does, also while they are paused.
    pub fn cancel(&self) {
        self.shared.token.cancel();
    }

    /// Sets how many items run at the same time in each of the batches. Operations that run continue, so a smaller number holds
    /// when enough of them have ended. [Adaptive](crate::Workers::adaptive) batches adapt no longer. A stream without a
    /// [`window`](crate::Batch::window) has as many items under way as that needs, but never more than 4,096, or 4 for each
    /// worker that it began with.
    ///
    /// # Panics
    ///
    /// If `workers` is 0 or above [`MAX_WORKERS`]. To start no items, use [`pause`](Control::pause).
    #[track_caller]
    pub fn set_workers(&self, workers: usize) {
        assert!(workers > 0, "a batch with 0 workers would never end: pause it instead");
        assert!(workers <= MAX_WORKERS, "{workers} workers are too many: at most {MAX_WORKERS}");
        self.order(|orders| orders.workers = Some(workers), tell_workers);
    }

    /// The progress of the batches, and the items that run, with the time since their start.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Control};
    ///
    /// let (executor, control) = (BatchExecutor::builder().workers(2).build()?, Control::new());
    /// let result = executor.batch(["a", "b"]).control(&control).run_with(|_, cx| {
    ///     let snapshot = control.snapshot();
    ///     assert!(snapshot.running.iter().any(|running| running.index == cx.index()));
    ///     Ok::<_, String>(snapshot.progress.total)
    /// });
    /// assert_eq!(result.into_values()?, [2, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let batches = self.shared.state.lock().batches.clone();
        let mut running: Vec<Running> = batches.iter().flat_map(|batch| batch.running()).collect();
        running.sort_by_key(|running| std::cmp::Reverse(running.since));
        Snapshot { progress: Progress::sum(batches.iter().map(|batch| batch.progress())), running }
    }

    /// Whether both are the same control.
    pub(crate) fn is_same(&self, other: &Control) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Of no other control, as long as it is there.
    fn number(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// How many workers each batch is to have, if that was set.
    pub(crate) fn workers(&self) -> Option<usize> {
        self.shared.state.lock().orders.workers
    }

    pub(crate) fn token(&self) -> &CancelToken {
        &self.shared.token
    }

    /// The batch follows it, until what it gets is dropped.
    pub(crate) fn watch(&self, batch: Arc<dyn Controlled>) -> Following {
        let orders = {
            let mut state = self.shared.state.lock();
            state.batches.push(Arc::clone(&batch));
            state.orders
        };
        if orders.number > 0 {
            self.tell(orders, slice::from_ref(&batch), |orders, batch| {
                tell_workers(orders, batch);
                batch.hold(self.number(), orders.is_paused);
            });
        }
        Following { control: self.clone(), batch }
    }
}

fn tell_workers(orders: &Orders, batch: &dyn Controlled) {
    if let Some(workers) = orders.workers {
        batch.set_workers(workers);
    }
}

/// A batch in the list of a control. Takes it out of there when it is dropped.
pub(crate) struct Following {
    control: Control,
    batch: Arc<dyn Controlled>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.control.shared.state.lock().batches.retain(|batch| !Arc::ptr_eq(batch, &self.batch));
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { orders: Orders { is_paused, workers, .. }, batches } = &*self.shared.state.lock();
        f.debug_struct("Control")
            .field("is_paused", is_paused)
            .field("workers", workers)
            .field("batches", &batches.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use crate::progress::{Earlier, Load};

    /// While the first thread tells it something, another gives orders and tells them.
    struct Interrupted {
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
        told: Mutex<(bool, usize)>,
    }

    impl Interrupted {
        fn new(meanwhile: impl FnOnce() + Send + 'static) -> Arc<Self> {
            Arc::new(Interrupted { meanwhile: Mutex::new(Some(Box::new(meanwhile))), told: Mutex::default() })
        }

        fn is_told(&self, tell: impl FnOnce(&mut (bool, usize))) {
            let meanwhile = self.meanwhile.lock().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            tell(&mut self.told.lock());
        }
    }

    impl Controlled for Interrupted {
        fn hold(&self, _: usize, is_held: bool) {
            self.is_told(|told| told.0 = is_held);
        }

        fn set_workers(&self, workers: usize) {
            self.is_told(|told| told.1 = workers);
        }

        fn progress(&self) -> Progress {
            let (load, earlier) = (Load::default(), Earlier::default());
            Progress::new(Counts::default(), (0, None), Duration::ZERO, load, earlier)
        }

        fn running(&self) -> Vec<Running> {
            Vec::new()
        }
    }

    #[test]
    fn of_two_threads_that_give_orders_the_later_order_holds() {
        let control = Control::new();
        let resumes = control.clone();
        let batch = Interrupted::new(move || resumes.resume());
        let _following = control.watch(batch.clone());
        control.pause();
        assert_eq!(*batch.told.lock(), (false, 0));
        let sets = control.clone();
        *batch.meanwhile.lock() = Some(Box::new(move || sets.set_workers(7)));
        control.set_workers(5);
        assert_eq!(*batch.told.lock(), (false, 7));
    }

    #[test]
    fn a_batch_that_begins_while_another_thread_gives_orders_goes_by_these() {
        let control = Control::new();
        control.set_workers(5);
        control.pause();
        let other = control.clone();
        let batch = Interrupted::new(move || {
            other.set_workers(7);
            other.resume();
        });
        let following = control.watch(batch.clone());
        assert_eq!(*batch.told.lock(), (false, 7));
        drop(following);
        control.pause();
        assert_eq!(*batch.told.lock(), (false, 7), "it follows no longer");
    }
}
