//! Callbacks that need not be `Send`, in a batch that may be: a future with such a callback can be spawned, and calls it on the
//! thread where it was made.

use std::ops::{Deref, DerefMut};

#[cfg(feature = "tokio")]
use send_wrapper::SendWrapper;

/// Something that only the thread that made it uses. On another one its use panics, and it is leaked rather than dropped.
pub(crate) struct AtHome<T> {
    #[cfg(feature = "tokio")]
    value: Option<SendWrapper<T>>,
    #[cfg(not(feature = "tokio"))]
    value: Option<T>,
}

impl<T> AtHome<T> {
    pub(crate) fn new(value: T) -> Self {
        #[cfg(feature = "tokio")]
        let value = SendWrapper::new(value);
        AtHome { value: Some(value) }
    }

    #[cfg_attr(not(feature = "tokio"), expect(clippy::unused_self, reason = "it is not sent"))]
    fn look(&self) {
        #[cfg(feature = "tokio")]
        assert!(
            self.value.as_ref().is_none_or(SendWrapper::valid),
            "a callback of `on_progress`, `on_tick` or a progress bar is called on another thread than the one that made it; it \
             need not be `Send`, so run the batch where no thread takes it from another: under `block_on`, on a `current_thread` \
             runtime, or in a `LocalSet`"
        );
    }
}

impl<T> Deref for AtHome<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.look();
        self.value.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl<T> DerefMut for AtHome<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.look();
        self.value.as_mut().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

#[cfg(feature = "tokio")]
impl<T> Drop for AtHome<T> {
    fn drop(&mut self) {
        if self.value.as_ref().is_some_and(|value| !value.valid()) {
            std::mem::forget(self.value.take());
        }
    }
}
