//! One attempt at one item: when each part of it began, which worker it was on, and how it ended.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// How an attempt ended.
///
/// ```
/// use batch_executor::{BatchExecutor, Ending, Retry, Span};
/// use std::time::Duration;
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let once_more = Retry::exponential(Duration::ZERO, Duration::ZERO, 1);
/// let result = executor.batch(["x"]).retry(once_more).record_timeline().run(|text| text.parse::<u32>());
/// let endings: Vec<Ending> = result.timeline().unwrap().spans().iter().map(Span::ending).collect();
/// assert_eq!(endings, [Ending::Retried, Ending::Failed]);
/// assert_eq!(Ending::Retried.to_string(), "failed, and was tried again");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Ending {
    /// The operation returned a value.
    Succeeded,
    /// The operation returned an error, or the item timeout cut off an async attempt, and the item was not tried again.
    Failed,
    /// The operation panicked, or what comes before it: the `init` of the worker's state, the limiter, a cost or a key.
    Panicked,
    /// The rate limiter gave no permit; the operation did not run.
    Refused,
    /// The operation returned an error, or the item timeout cut off an async attempt, and the item waited for another attempt.
    Retried,
}

impl Ending {
    /// All of them, each at the position that it has as a number. The page knows them by that number.
    pub(crate) const ALL: [Ending; 5] =
        [Ending::Succeeded, Ending::Failed, Ending::Panicked, Ending::Refused, Ending::Retried];

    /// Whether the item has been decided, and has no value.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Ending::Failed | Ending::Panicked | Ending::Refused)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Succeeded => "succeeded",
            Ending::Failed => "failed",
            Ending::Panicked => "panicked",
            Ending::Refused => "got no permit",
            Ending::Retried => "failed, and was tried again",
        })
    }
}

/// What only a span has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) id: Box<str>,
    pub(crate) note: Option<Box<str>>,
    /// The limit for which it waited longest.
    pub(crate) waited_for: Option<Arc<str>>,
}

/// No id and no note is kept whole that is longer, in bytes: an item may be a whole file.
const LONGEST_TEXT: usize = 200;

pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What an item is called by its `Debug` text: that, no longer than it has to be, and of a string without its quotation marks.
pub(crate) fn debug_name<I: fmt::Debug>(item: &I) -> String {
    let mut name = Short(String::new());
    // An error means that there is no room for more.
    let _ = write!(name, "{item:?}");
    let Short(name) = name;
    match name.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest)) {
        Some(inside) => inside.to_owned(),
        None => name,
    }
}

/// Takes no more than is wanted of a text, and a little.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() > LONGEST_TEXT { Err(fmt::Error) } else { Ok(()) }
    }
}

/// When each part of an attempt began: nanoseconds since the batch did, each at least the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) queued: u64,
    pub(crate) taken: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

impl Times {
    pub(crate) fn queue_wait(&self) -> u64 {
        self.taken - self.queued
    }

    pub(crate) fn limiter_wait(&self) -> u64 {
        self.started - self.taken
    }

    pub(crate) fn run_time(&self) -> u64 {
        self.ended - self.started
    }
}

/// Its nanoseconds; of more than 584 years, the most that there are.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is known of every attempt, kept or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) index: usize,
    pub(crate) number: usize,
    pub(crate) times: Times,
    pub(crate) ending: Ending,
}

/// One attempt at one item, as a [`Timeline`](crate::Timeline) keeps it. Times are since the batch began.
///
/// ```text
/// queued ── waits for a worker ──► taken ── waits for limits ──► started ── runs ──► ended
/// ```
///
/// ```
/// use batch_executor::{BatchExecutor, Ending};
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.batch(["7", "x"]).record_timeline().run(|text| text.parse::<u32>());
/// let [good, bad] = result.timeline().unwrap().spans() else { unreachable!() };
/// assert_eq!((good.id(), good.index(), good.attempt(), good.worker()), ("7", 0, 1, 0));
/// assert_eq!((good.ending(), bad.ending()), (Ending::Succeeded, Ending::Failed));
/// assert!(good.started() <= good.ended() && good.ended() <= bad.taken());
/// assert_eq!(bad.queued() + bad.queue_wait() + bad.limiter_wait() + bad.run_time(), bad.ended());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    attempt: Attempt,
    worker: usize,
    texts: Texts,
    /// Whether it is in the sample. That depends on the number that the item had while the batch ran.
    pub(super) is_sampled: bool,
}

impl Span {
    pub(crate) fn new(attempt: Attempt, worker: usize, texts: Texts) -> Self {
        Span { attempt, worker, texts, is_sampled: true }
    }

    pub(super) fn renumber(&mut self, index: usize) {
        self.attempt.index = index;
    }

    pub(super) fn set_note(&mut self, note: String) {
        self.texts.note = Some(shortened(note).into());
    }

    pub(crate) fn times(&self) -> &Times {
        &self.attempt.times
    }

    /// What the item is called: as [`record_timeline`](crate::Batch::record_timeline) or
    /// [`record_timeline_as`](crate::Batch::record_timeline_as) makes it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.texts.id
    }

    /// The item's position in the batch. The first is 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.attempt.index
    }

    /// Which attempt at the item it was. The first is 1.
    #[must_use]
    pub fn attempt(&self) -> usize {
        self.attempt.number
    }

    /// The number of the worker, below the number of workers that were at work at the same time. When a worker leaves, another
    /// may come and have its number.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// When a worker could have taken it: in a batch when it began, for a retry when it was due. In a stream, and for an item that
    /// another has pushed, when a worker turned to it.
    #[must_use]
    pub fn queued(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.queued)
    }

    /// When a worker turned to it.
    #[must_use]
    pub fn taken(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.taken)
    }

    /// When the operation was called. For one that got no permit, when that was known.
    #[must_use]
    pub fn started(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.started)
    }

    /// When the operation had returned.
    #[must_use]
    pub fn ended(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.ended)
    }

    /// From queued to taken: no worker was free.
    #[must_use]
    pub fn queue_wait(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.queue_wait())
    }

    /// From taken to started: the item waited for what it needs of its [limits](crate::Limit), and then for a worker. It held none
    /// meanwhile.
    #[must_use]
    pub fn limiter_wait(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.limiter_wait())
    }

    /// For which limit it waited longest, if it waited for one: its [name](crate::Limit::named), or what
    /// it is, `rate` or `at_once`.
    #[must_use]
    pub fn waited_for(&self) -> Option<&str> {
        self.texts.waited_for.as_deref()
    }

    /// From started to ended.
    #[must_use]
    pub fn run_time(&self) -> Duration {
        Duration::from_nanos(self.attempt.times.run_time())
    }

    /// How it ended.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.attempt.ending
    }

    /// The message of the panic, if it panicked; what the limiter said, if that refused it. The error of one that failed, only in
    /// [`timeline_with_errors`](crate::BatchResult::timeline_with_errors). Of each at most 200 bytes, and `…` where more was there.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.texts.note.as_deref()
    }
}

#[allow(clippy::missing_fields_in_debug, reason = "what is in the sample is for the timeline to say")]
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span")
            .field("id", &self.id())
            .field("index", &self.index())
            .field("attempt", &self.attempt())
            .field("worker", &self.worker)
            .field("queued", &self.queued())
            .field("taken", &self.taken())
            .field("started", &self.started())
            .field("ended", &self.ended())
            .field("ending", &self.ending())
            .field("waited_for", &self.waited_for())
            .field("note", &self.note())
            .finish()
    }
}

/// What the accessors say, each by its name, times in seconds.
#[cfg(feature = "serde")]
impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("Span", 11)?;
        fields.serialize_field("id", self.id())?;
        fields.serialize_field("index", &self.index())?;
        fields.serialize_field("attempt", &self.attempt())?;
        fields.serialize_field("worker", &self.worker())?;
        fields.serialize_field("queued_seconds", &self.queued().as_secs_f64())?;
        fields.serialize_field("taken_seconds", &self.taken().as_secs_f64())?;
        fields.serialize_field("started_seconds", &self.started().as_secs_f64())?;
        fields.serialize_field("ended_seconds", &self.ended().as_secs_f64())?;
        fields.serialize_field("ending", &self.ending())?;
        fields.serialize_field("waited_for", &self.waited_for())?;
        fields.serialize_field("note", &self.note())?;
        fields.end()
    }
}
