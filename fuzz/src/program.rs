//! What a program may be: executors, and the batches that run on them.

use arbitrary::Arbitrary;
use batch_executor::{AdaptiveWorkers, BatchExecutor, Workers};

/// Batches in batches, at the most.
pub const DEEPEST: usize = 3;

/// What the window of a stream may grow to where none is asked for.
const LARGEST_DEFAULT_WINDOW: usize = 4_096;

const MOST_TURNS: usize = 6;
const MOST_EXECUTORS: usize = 3;
const MOST_SPECIALS: usize = 8;

#[derive(Debug, Arbitrary)]
pub struct Program {
    executors: Vec<Setup>,
    turns: Vec<Turn>,
}

impl Program {
    pub fn executors(&self) -> &[Setup] {
        &self.executors[..self.executors.len().min(MOST_EXECUTORS)]
    }

    pub fn turns(&self) -> &[Turn] {
        &self.turns[..self.turns.len().min(MOST_TURNS)]
    }
}

/// One step of a program.
#[derive(Debug, Arbitrary)]
pub enum Turn {
    Run(Batch),
    /// From two threads at the same time.
    Together(Batch, Batch),
    /// One task outside any batch.
    Execute {
        executor: u8,
        act: Act,
    },
    /// Lets go of an executor. It comes back when it is next needed.
    Drop {
        executor: u8,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Setup {
    crew: Crew,
    pub on_failure: OnFailure,
    pub refusal: Refusal,
    pub short_lived: bool,
}

impl Setup {
    pub fn workers(self) -> Workers {
        let count = |drawn: u8| usize::from(drawn % 8) + 1;
        match self.crew {
            Crew::Sequential => Workers::Sequential,
            Crew::Fixed(workers) => Workers::Fixed(count(workers)),
            Crew::Auto => Workers::auto(),
            Crew::Adaptive { min, more } => {
                let min = count(min);
                AdaptiveWorkers::new().min(min).max(min + usize::from(more % 8)).into()
            }
        }
    }
}

impl Setup {
    /// The most items of a batch that may run at once.
    pub fn most(self, executor: &BatchExecutor) -> usize {
        match self.crew {
            Crew::Adaptive { min, more } => usize::from(min % 8) + 1 + usize::from(more % 8),
            _ => executor.workers_for(usize::MAX),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Crew {
    Sequential,
    Fixed(u8),
    Auto,
    Adaptive { min: u8, more: u8 },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum OnFailure {
    Collect,
    Stop,
    StopAfter(u8),
}

/// What an executor's limiter does instead of giving a permit, counted from 0 over all batches.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Refusal {
    NoLimiter,
    Never,
    Once {
        at: u8,
    },
    From {
        at: u8,
    },
    /// It lets every item wait for some microseconds.
    Waits,
    Panics {
        at: u8,
    },
}

#[derive(Debug, Arbitrary)]
pub struct Batch {
    pub executor: u8,
    size: u8,
    usual: Usual,
    specials: Vec<(u8, Act)>,
    pub verb: Verb,
    pub source: Source,
    pub progress: OnProgress,
    /// Whether a callback is called every millisecond.
    pub ticks: bool,
    pub control: Control,
    pub flow: Flow,
}

impl Batch {
    pub fn is_stream(&self) -> bool {
        matches!(self.verb, Verb::Stream | Verb::StreamAsync { .. })
    }

    /// The most items that may be pulled and not handed on, with this many workers.
    pub fn window(&self, workers: usize) -> usize {
        // Items that are quick let the default window grow.
        let default = LARGEST_DEFAULT_WINDOW.max(workers.saturating_mul(4));
        if self.is_stream() { self.flow.window().unwrap_or(default) } else { usize::MAX }
    }

    /// What each item does. A batch in a batch is small.
    pub fn acts(&self, depth: usize) -> Vec<&Act> {
        let most = if depth == 0 { 201 } else { 13 };
        let usual = match self.usual {
            Usual::Succeed => &Act::Succeed,
            Usual::Work => &Act::Work(200),
            Usual::Fail => &Act::Fail,
            Usual::Panic => &Act::Panic,
        };
        let mut acts = vec![usual; usize::from(self.size) % most];
        for (place, act) in self.specials.iter().take(MOST_SPECIALS) {
            let items = acts.len();
            if let Some(usual) = acts.get_mut(usize::from(*place) % items.max(1)) {
                *usual = act;
            }
        }
        acts
    }
}

#[derive(Debug, Arbitrary)]
enum Usual {
    Succeed,
    Work,
    Fail,
    Panic,
}

/// What an item does.
#[derive(Debug, Arbitrary)]
pub enum Act {
    Succeed,
    Fail,
    Panic,
    /// A panic whose payload's destructor panics.
    PanicWithBomb,
    /// Keeps its worker busy for this many turns of a loop.
    Work(u16),
    Sleep(u8),
    Yield,
    Nest(Box<Batch>),
    /// Lets go of an executor, perhaps the last handle to it.
    Drop {
        executor: u8,
    },
}

/// What is done about errors, and what stops a batch from outside.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Control {
    pub retry: Retrying,
    pub cancel: Cancel,
    /// Of this many times 10 microseconds.
    pub timeout: Option<u8>,
    pub limits: (Limiting, Limiting),
}

/// A limit that lets every item pass in the end, of at most 4 slots.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Limiting {
    None,
    AtOnce(u8),
    Cost(u8),
    Key(u8),
    Rate,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Retrying {
    Never,
    /// This many times at the most, up to 3.
    Retry(u8),
    After(u8),
    PauseAll(u8),
    /// The question panics.
    Panics,
}

impl Retrying {
    pub fn most(self) -> usize {
        match self {
            Retrying::Never | Retrying::Panics => 0,
            Retrying::Retry(most) | Retrying::After(most) | Retrying::PauseAll(most) => usize::from(most % 4),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Cancel {
    Never,
    Before,
    /// By the item at this index, again each time it runs.
    ByItem(u8),
    /// By the callback, at its call with this number.
    ByCall(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Verb {
    Run,
    /// With a context, a state, and what `Control` says.
    RunWith,
    RunTasks,
    /// As `Flow` says, and with all that `RunWith` has.
    Stream,
    /// As `RunWith`, without a state, in a task. The fuzzer drops its future after this number of polls.
    RunAsync {
        polls: Option<u8>,
    },
    /// As `Stream`, the same.
    StreamAsync {
        polls: Option<u8>,
    },
    /// With this many tasks more than there are items.
    TooManyTasks(u8),
    /// With this many items more than there are tasks.
    TooFewTasks(u8),
}

/// How a stream is asked for, and what its consumer does.
#[derive(Debug, Arbitrary)]
pub struct Flow {
    window: Option<u8>,
    pub unordered: bool,
    /// When it has this many items.
    pub leaves: Option<u8>,
    /// As an item would, when it has this many.
    pub acts: Option<(u8, Act)>,
}

impl Flow {
    pub fn window(&self) -> Option<usize> {
        self.window.map(|window| usize::from(window % 64) + 1)
    }

    pub fn leaves(&self, taken: usize) -> bool {
        self.leaves.is_some_and(|leaves| usize::from(leaves) == taken)
    }

    /// What it does when it has this many.
    pub fn act(&self, taken: usize) -> Option<&Act> {
        self.acts.as_ref().filter(|(at, _)| usize::from(*at) == taken).map(|(_, act)| act)
    }
}

/// The iterator that the items come from.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Source {
    Vector,
    WithoutHint,
    Panics { at: u8 },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum OnProgress {
    None,
    Counts,
    /// At its call with this number, from 1.
    Panics {
        at: u8,
    },
    PanicsWithBomb {
        at: u8,
    },
}
