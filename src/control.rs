//! Control of running batches: pause, resume, cancel, another number of workers, a snapshot.

use std::fmt;
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
    is_paused: bool,
    workers: Option<usize>,
    batches: Vec<Arc<dyn Controlled>>,
}

/// A batch that runs.
pub(crate) trait Controlled: Send + Sync {
    /// Nothing starts as long as it is held.
    fn hold(&self, is_held: bool);

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

    fn hold(&self, is_held: bool) {
        let batches = {
            let mut state = self.shared.state.lock();
            state.is_paused = is_held;
            state.batches.clone()
        };
        for batch in batches {
            batch.hold(is_held);
        }
    }

    /// Cancels the batches, and each that begins later, as a [`CancelToken`] does, also while they are paused.
    pub fn cancel(&self) {
        self.shared.token.cancel();
    }

    /// Sets how many items run at the same time in each of the batches. Operations that run continue, so a smaller number holds
    /// when enough of them have ended. [Adaptive](crate::Workers::adaptive) batches adapt no longer.
    ///
    /// # Panics
    ///
    /// If `workers` is 0 or above [`MAX_WORKERS`]. To start no items, use [`pause`](Control::pause).
    #[track_caller]
    pub fn set_workers(&self, workers: usize) {
        assert!(workers > 0, "a batch with 0 workers would never end: pause it instead");
        assert!(workers <= MAX_WORKERS, "{workers} workers are too many: at most {MAX_WORKERS}");
        let batches = {
            let mut state = self.shared.state.lock();
            state.workers = Some(workers);
            state.batches.clone()
        };
        for batch in batches {
            batch.set_workers(workers);
        }
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

    pub(crate) fn token(&self) -> &CancelToken {
        &self.shared.token
    }

    /// The batch follows it, until what it gets is dropped.
    pub(crate) fn watch(&self, batch: Arc<dyn Controlled>) -> Following {
        let (is_paused, workers) = {
            let mut state = self.shared.state.lock();
            state.batches.push(Arc::clone(&batch));
            (state.is_paused, state.workers)
        };
        if let Some(workers) = workers {
            batch.set_workers(workers);
        }
        if is_paused {
            batch.hold(true);
            // It may have been resumed meanwhile.
            batch.hold(self.shared.state.lock().is_paused);
        }
        Following { control: self.clone(), batch }
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
        let State { is_paused, workers, batches } = &*self.shared.state.lock();
        f.debug_struct("Control")
            .field("is_paused", is_paused)
            .field("workers", workers)
            .field("batches", &batches.len())
            .finish_non_exhaustive()
    }
}
