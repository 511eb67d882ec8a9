//! The oracle: what holds of a batch's end, for any number of workers.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use batch_executor::{BatchItem, ItemError, Panic, StopReason};

use crate::ledger::{Bomb, Token};
use crate::perform::{Done, Ended};
use crate::program::{Act, Batch, Cancel, OnFailure, OnProgress, Retrying, Source, Verb};

/// Indexes by which panics of no item are told from those of items.
pub const OF_THE_CALLBACK: usize = 1_000;
pub const OF_THE_ITERATOR: usize = 1_001;
pub const OF_THE_LIMITER: usize = 1_002;
pub const OF_THE_RETRY: usize = 1_003;
pub const OF_THE_CONSUMER: usize = 1_004;

/// One batch, when it is over.
pub struct Happened<'a> {
    pub batch: &'a Batch,
    pub on_failure: OnFailure,
    /// Whether its executor has a limiter, which may refuse any item.
    pub limited: bool,
    /// Whether its items ran one after another.
    pub in_order: bool,
    pub acts: &'a [&'a Act],
    /// How often each item ran.
    pub runs: &'a [usize],
    /// What `on_progress` was told: completed and failed.
    pub calls: &'a [(usize, usize)],
    /// How often the iterator was asked.
    pub asked: usize,
}

impl Happened<'_> {
    pub fn check(&self, ended: Result<Ended, Box<dyn Any + Send>>) {
        let most = if self.retries() { usize::MAX } else { 1 };
        assert!(self.runs.iter().all(|&runs| runs <= most), "an item ran twice: {:?}", self.runs);
        let numbers = self.calls.iter().map(|&(completed, _)| completed);
        assert!(numbers.eq(1..=self.calls.len()), "calls of on_progress: {:?}", self.calls);
        assert!(self.calls.windows(2).all(|two| two[0].1 <= two[1].1 && two[1].1 <= two[0].1 + 1));
        match ended {
            Err(payload) if self.batch.is_stream() => self.check_panic_of_stream(payload),
            Err(payload) => self.check_panic(payload),
            Ok(Ended::Dropped) => {}
            Ok(ended) => {
                assert!(!self.iterator_panics(), "the iterator's panic was lost");
                assert!(
                    self.last_call().is_none_or(|last| self.calls.len() < last),
                    "the callback's panic was lost"
                );
                match ended {
                    Ended::Batch(result) => self.check_result(result),
                    Ended::Stream(streamed) => self.check_streamed(streamed),
                    Ended::Dropped => {}
                }
            }
        }
    }

    fn check_panic(&self, payload: Box<dyn Any + Send>) {
        let source = if self.iterator_panics() { OF_THE_ITERATOR } else { OF_THE_CALLBACK };
        assert_eq!(thrown(&*payload), Some(source), "what unwound out of the batch");
        defuse(payload);
        if self.iterator_panics() {
            assert_eq!((self.calls.len(), self.started()), (0, 0), "calls and runs");
        } else {
            assert_eq!(Some(self.calls.len()), self.last_call());
        }
    }

    /// Of the iterator, the callback or the consumer, whichever came to that.
    fn check_panic_of_stream(&self, payload: Box<dyn Any + Send>) {
        let calls = Some(self.calls.len());
        match thrown(&*payload) {
            Some(OF_THE_ITERATOR) => assert!(self.iterator_panics(), "the iterator did not come to that"),
            Some(OF_THE_CALLBACK) => assert_eq!(calls, self.last_call()),
            Some(OF_THE_CONSUMER) => assert!(self.batch.flow.panics(), "the consumer does not panic"),
            other => panic!("a panic of {other:?} unwound out of the stream"),
        }
        defuse(payload);
    }

    fn check_result(&self, result: Done) {
        if let Some(StopReason::LengthMismatch { tasks, items }) = result.stopped() {
            assert_eq!((tasks, items), (self.tasks(), self.acts.len()));
            assert_eq!((self.calls.len(), self.started()), (0, 0), "calls and runs");
            assert_ne!(tasks, items);
            assert_eq!((result.total(), result.skipped()), (items, items), "all are skipped");
        } else {
            assert_eq!(self.tasks(), self.acts.len(), "lengths that differ were not noticed");
            match result.stopped() {
                Some(StopReason::Cancelled) => assert!(self.may_be_cancelled(), "nothing cancelled it"),
                Some(StopReason::DeadlineExceeded) => assert!(self.has_timeout(), "there was no deadline"),
                _ => self.check_end(&result),
            }
        }
        self.check_counts(&result);
        self.check_items(result);
    }

    /// Everything up to the failure that ends the batch was decided, and the reason names it.
    fn check_end(&self, result: &Done) {
        let (mut failures, mut skipped) = (Vec::new(), Vec::new());
        for item in result {
            match item.outcome {
                Ok(_) => {}
                Err(ItemError::Skipped | ItemError::Interrupted(_)) => skipped.push(item.index),
                Err(_) => failures.push(item.index),
            }
        }
        let (last, expected) = end_of(self.on_failure, &failures);
        assert_eq!(result.stopped(), expected, "failures at {failures:?}");
        let first_skipped = skipped.first().copied().unwrap_or(usize::MAX);
        assert!(last.map_or(skipped.is_empty(), |last| last < first_skipped), "skipped: {skipped:?}");
        if self.in_order && !self.retries() && !self.may_be_cancelled() && !self.has_timeout() {
            let decided = self.acts.len() - skipped.len();
            assert_eq!(decided, last.map_or(self.acts.len(), |last| last + 1), "one after another");
        }
    }

    fn check_counts(&self, result: &Done) {
        let is_undecided = |item: &BatchItem<_, &Result<_, _>>| {
            matches!(item.outcome, Err(ItemError::Skipped | ItemError::Interrupted(_)))
        };
        let skipped = result.iter().filter(is_undecided).count();
        let counted = (result.values().count(), result.failures().count(), skipped);
        assert_eq!((result.succeeded(), result.failed(), result.skipped()), counted);
        assert_eq!(result.total(), self.acts.len());
        if !matches!(self.batch.progress, OnProgress::None) {
            assert_eq!(self.calls.len(), result.succeeded() + result.failed(), "calls of on_progress");
            assert_eq!(self.calls.last().map_or(0, |&(_, failed)| failed), result.failed());
        }
    }

    fn check_items(&self, result: Done) {
        let has_stopped = result.stopped().is_some();
        for (at, (item, act)) in result.into_iter().zip(self.acts).enumerate() {
            let index = item.index;
            assert_eq!((index, item.item.index()), (at, at), "the item at index {at}");
            match item.outcome {
                Err(ItemError::Skipped) => assert_eq!(self.runs[index], 0, "item {index} was skipped"),
                Err(ItemError::Interrupted(Some(error))) => {
                    assert!(has_stopped && self.retries(), "item {index} was interrupted");
                    assert!(self.runs[index] > 0, "item {index} never ran");
                    assert!(matches!(act, Act::Fail), "item {index} should not have failed");
                    assert_eq!(error.index(), index);
                }
                Err(ItemError::Interrupted(None)) => {
                    assert!(has_stopped && self.is_task(), "item {index} was cut off");
                    assert!(self.runs[index] > 0, "item {index} never ran");
                }
                outcome => self.check_item(index, act, outcome),
            }
        }
    }

    pub fn check_item(&self, index: usize, act: &Act, outcome: Result<Token, ItemError<Token>>) {
        let refused = self.limited && self.runs[index] == 0;
        assert!(refused || self.runs[index] > 0, "item {index} never ran");
        let refused = refused || (self.limited && self.retries() && matches!(act, Act::Fail));
        check_decided(index, act, outcome, refused);
    }

    /// Whether it has a context, and so all that `Control` says.
    fn is_controlled(&self) -> bool {
        self.batch.is_stream() || matches!(self.batch.verb, Verb::RunWith | Verb::RunAsync { .. })
    }

    /// Whether it cuts off what is in flight.
    fn is_task(&self) -> bool {
        matches!(self.batch.verb, Verb::RunAsync { .. } | Verb::StreamAsync { .. })
    }

    /// Whether its items may be tried again.
    fn retries(&self) -> bool {
        self.is_controlled() && !matches!(self.batch.control.retry, Retrying::Never)
    }

    pub fn may_be_cancelled(&self) -> bool {
        match self.batch.control.cancel {
            Cancel::Never => false,
            Cancel::Before | Cancel::ByItem(_) => self.is_controlled(),
            Cancel::ByCall(_) => true,
        }
    }

    pub fn has_timeout(&self) -> bool {
        self.is_controlled() && self.batch.control.timeout.is_some()
    }

    fn started(&self) -> usize {
        self.runs.iter().sum()
    }

    fn tasks(&self) -> usize {
        let size = self.acts.len();
        match self.batch.verb {
            Verb::TooManyTasks(more) => size + usize::from(more) + 1,
            Verb::TooFewTasks(fewer) => size.saturating_sub(usize::from(fewer) + 1),
            _ => size,
        }
    }

    fn iterator_panics(&self) -> bool {
        let comes_to = |at| at < self.acts.len() && (at < self.asked || !self.batch.is_stream());
        matches!(self.batch.source, Source::Panics { at } if comes_to(usize::from(at)))
    }

    /// The number of the call that panics, if one is to.
    fn last_call(&self) -> Option<usize> {
        match self.batch.progress {
            OnProgress::Panics { at } | OnProgress::PanicsWithBomb { at } if at > 0 => Some(usize::from(at)),
            _ => None,
        }
    }
}

/// The index of the failure that ends a batch, and the reason, of failures in order.
pub fn end_of(on_failure: OnFailure, failures: &[usize]) -> (Option<usize>, Option<StopReason>) {
    let (limit, reason): (usize, fn(usize, usize) -> StopReason) = match on_failure {
        OnFailure::Collect => (usize::MAX, |_, _| unreachable!("it does not stop")),
        OnFailure::Stop => (1, |index, _| StopReason::ItemFailed { index }),
        OnFailure::StopAfter(limit) => {
            (usize::from(limit).max(1), |_, limit| StopReason::TooManyFailures { limit })
        }
    };
    let last = failures.get(limit - 1).copied();
    (last, last.map(|last| reason(last, limit)))
}

/// No item is tried more often than its retry allows, one that failed no less often, and one that was interrupted less often.
pub fn check_attempts(retry: Retrying, result: &Done) {
    let all = retry.most() + 1;
    for BatchItem { index, outcome, .. } in result {
        let (attempts, failed) = (result.attempts(index), matches!(outcome, Err(ItemError::Failed(_))));
        // The first pause of an item may be free.
        let most = all + usize::from(matches!(retry, Retrying::PauseAll(_)));
        assert!(attempts <= most, "item {index} was tried {attempts} times");
        let is_interrupted = matches!(outcome, Err(ItemError::Interrupted(Some(_))));
        assert!(!is_interrupted || attempts < most, "item {index} was interrupted behind its last attempt");
        assert!(!failed || attempts >= all, "item {index} was tried {attempts} times");
        let asked = failed && matches!(retry, Retrying::Panics);
        assert_eq!(result.retry_panic(index).is_some(), asked, "item {index}: the panic of its retry");
    }
}

/// The outcome of an item is what a plain loop makes of it, or that the limiter refused it.
pub fn check_decided(index: usize, act: &Act, outcome: Result<Token, ItemError<Token>>, refused: bool) {
    match (outcome, act) {
        (Err(ItemError::RateLimiter(_)), _) if refused => {}
        (Err(ItemError::Panicked(panic)), _) if refused => check_payload(panic, OF_THE_LIMITER),
        (Err(ItemError::Failed(error)), Act::Fail) => assert_eq!(error.index(), index),
        // Of some, the crate drops the payload.
        (Err(ItemError::Panicked(_)), Act::Panic | Act::PanicWithBomb) if index % 2 == 1 => {}
        (Err(ItemError::Panicked(panic)), Act::Panic | Act::PanicWithBomb) => check_payload(panic, index),
        (_, Act::Fail | Act::Panic | Act::PanicWithBomb) => panic!("item {index} should have failed"),
        (Ok(value), _) => assert_eq!(value.index(), index),
        (Err(error), act) => panic!("item {index}, {act:?}: {error:?}"),
    }
}

fn check_payload(panic: Panic, index: usize) {
    assert_eq!(panic.message(), "non-string panic payload");
    let payload = panic.into_payload();
    assert_eq!(thrown(&*payload), Some(index), "what the panic was thrown with");
    defuse(payload);
}

/// The index in a payload of ours.
fn thrown(payload: &(dyn Any + Send)) -> Option<usize> {
    let bomb = payload.downcast_ref::<Bomb>().map(|bomb| bomb.0.index());
    bomb.or_else(|| payload.downcast_ref::<Token>().map(Token::index))
}

/// Drops a payload that may be a bomb.
fn defuse(payload: Box<dyn Any + Send>) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
}
