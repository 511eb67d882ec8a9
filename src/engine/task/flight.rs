//! A future that is under way: its place, and what ends it early.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::{AbortRegistration, Abortable, Aborted, Either};

use crate::panic::{self, Panic};

/// A place for a future, used again and again.
pub(super) struct Place<F>(Pin<Box<Option<F>>>);

impl<F> Default for Place<F> {
    fn default() -> Self {
        Place(Box::pin(None))
    }
}

impl<F: Future> Place<F> {
    /// Makes the future, and polls it once if it `may_be_ready`. If it is, the place is free again. Says also if any of that has
    /// panicked.
    pub(super) fn start(
        &mut self,
        make: impl FnOnce() -> F,
        may_be_ready: bool,
    ) -> Poll<Result<F::Output, Panic>> {
        let polled = panic::catch(|| {
            if may_be_ready {
                return self.poll_first(make());
            }
            self.0.set(Some(make()));
            Poll::Pending
        });
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                self.clear();
                Poll::Ready(Err(panic))
            }
        }
    }

    /// Polls the future once. If it is ready, the place is free again; after a panic it has to be cleared.
    pub(super) fn poll_first(&mut self, future: F) -> Poll<F::Output> {
        self.0.set(Some(future));
        // One that is not ready is polled again with a waker of its own.
        let polled = Pin::new(&mut *self).poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_ready() {
            self.0.set(None);
        }
        polled
    }

    /// Drops what is there, whatever its destructor does.
    pub(super) fn clear(&mut self) {
        let _ = panic::catch(|| self.0.set(None));
    }
}

impl<F: Future> Future for Place<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.0.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => unreachable!("a place is polled while its future is there"),
        }
    }
}

/// What a future has come to, unless it was cut off.
pub(super) type Landed<T> = Result<Result<T, Aborted>, Panic>;

/// A future in flight, with the number of its seat.
pub(super) struct Flight<F> {
    seat: usize,
    polls: u32,
    future: Option<Cuttable<F>>,
}

/// With a handle that cuts it off, where there is an item timeout. Otherwise only all futures are cut off together.
type Cuttable<F> = Either<Place<F>, Abortable<Place<F>>>;

/// A flight that has ended.
pub(super) struct Flown<F: Future> {
    pub(super) seat: usize,
    pub(super) landed: Landed<F::Output>,
    /// How often it was polled.
    pub(super) polls: u32,
    /// Its place, if that can be used again.
    pub(super) place: Option<Place<F>>,
}

impl<F> Flight<F> {
    pub(super) fn new(seat: usize, place: Place<F>, registration: Option<AbortRegistration>) -> Self {
        let future = match registration {
            Some(registration) => Either::Right(Abortable::new(place, registration)),
            None => Either::Left(place),
        };
        Flight { seat, polls: 0, future: Some(future) }
    }
}

impl<F: Future> Flight<F> {
    /// Drops the future. What comes of that is as if it had been cut off when it was polled next.
    pub(super) fn cut_off(mut self) -> Flown<F> {
        let future = self.future.take();
        let landed = panic::discard(future).map(|()| Err(Aborted));
        Flown { seat: self.seat, landed, polls: self.polls + 1, place: None }
    }
}

impl<F: Future> Future for Flight<F> {
    type Output = Flown<F>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls = self.polls.saturating_add(1);
        let Some(future) = &mut self.future else { unreachable!("a flight that has ended is polled") };
        let polled = panic::catch(|| match future {
            Either::Left(place) => Pin::new(place).poll(cx).map(Ok),
            Either::Right(abortable) => Pin::new(abortable).poll(cx),
        });
        let landed = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(landed)) => Ok(landed),
            Err(panic) => Err(panic),
        };
        let (future, mut place) = (self.future.take(), None);
        let dropped = panic::catch(|| {
            if let Some(Either::Left(mut used)) = future {
                used.0.set(None);
                place = Some(used);
            }
        });
        let landed = landed.and_then(|landed| dropped.map(|()| landed));
        Poll::Ready(Flown { seat: self.seat, landed, polls: self.polls, place })
    }
}

/// A destructor that panics does not keep other futures from being dropped.
impl<F> Drop for Flight<F> {
    fn drop(&mut self) {
        let future = self.future.take();
        let _ = panic::discard(future);
    }
}
