//! A panic as a value: the only place that catches one, keeps one, or lets one go on.

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::sync::Mutex;

type Payload = Box<dyn Any + Send>;

/// A caught panic: its message and its payload.
///
/// An item whose operation panics has the outcome [`ItemError::Panicked`](crate::ItemError::Panicked) with this in it;
/// the other items run. Dropping a `Panic` drops the payload, and swallows a panic of the payload's destructor.
///
/// One pointer in size, so that outcomes stay small.
///
/// ```
/// use batch_executor::{BatchExecutor, ItemError};
///
/// let outcome = BatchExecutor::new().execute(|| -> Result<u8, String> { panic!("no luck") });
/// let Err(ItemError::Panicked(panic)) = outcome else { unreachable!() };
/// assert_eq!(panic.message(), "no luck");
/// assert!(panic.into_payload().is::<&str>());
/// ```
pub struct Panic {
    caught: Box<Caught>,
}

struct Caught {
    message: String,
    /// Behind a lock for `Sync` alone: a payload may be sent, but not shared.
    payload: Mutex<Payload>,
}

impl Panic {
    fn new(payload: Payload) -> Self {
        let message = message_of(&*payload).to_owned();
        Panic { caught: Box::new(Caught { message, payload: Mutex::new(payload) }) }
    }

    /// The message of the panic: the text given to `panic!`, or `non-string panic payload` for a
    /// [`panic_any`](std::panic::panic_any) with something else.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.caught.message
    }

    /// The payload of the panic, as [`JoinHandle::join`](std::thread::JoinHandle::join) gives it.
    #[must_use]
    pub fn into_payload(mut self) -> Box<dyn Any + Send> {
        self.take_payload()
    }

    /// Continues the panic, as if it had not been caught.
    ///
    /// The panic hook has run already, and is not run again.
    ///
    /// # Panics
    ///
    /// Always, with the payload of the panic that was caught.
    ///
    /// ```should_panic
    /// use batch_executor::{BatchExecutor, ItemError};
    ///
    /// match BatchExecutor::new().execute(|| -> Result<(), String> { panic!("on with it") }) {
    ///     Err(ItemError::Panicked(panic)) => panic.resume(),
    ///     _ => {}
    /// }
    /// ```
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }

    fn take_payload(&mut self) -> Payload {
        mem::replace(self.caught.payload.get_mut(), Box::new(()))
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        let payload = self.take_payload();
        // A payload's own destructor may panic, and so may the payload of that: the first is caught, the second leaked.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(second);
        }
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic").field("message", &self.message()).finish_non_exhaustive()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// Its message; the payload may be anything.
#[cfg(feature = "serde")]
impl serde::Serialize for Panic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.message())
    }
}

/// Runs `f`; a panic of it comes back as a value.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(f)).map_err(Panic::new)
}

/// Drops the value; a panic of its destructor comes back as a value.
pub(crate) fn discard<T>(value: T) -> Result<(), Panic> {
    // Most types have no destructor: then there is no code to catch a panic.
    if const { mem::needs_drop::<T>() } { catch(|| drop(value)) } else { Ok(()) }
}

/// Drops the values one by one, all of them, whatever their destructors do. The first panic comes back as a value.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) -> Result<(), Panic> {
    let mut ended = Ok(());
    for value in values {
        ended = ended.and(discard(value));
    }
    ended
}

fn message_of(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "non-string panic payload"
    }
}
