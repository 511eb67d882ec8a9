//! What is special about streams: what pulls and what consumes, and what holds of their end.

use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{AsyncResults, BatchItem, Outcome, Results, StopReason, Streamed};

use crate::check::{self, Happened};
use crate::ledger::Token;
use crate::program::{Act, Flow};
use crate::tasks;

/// What a consumer had.
pub struct Taken {
    items: Vec<BatchItem<Token, Outcome<Token, Token>>>,
    has_seen_the_end: bool,
}

/// How often the iterator was asked, and how many items are handed on.
pub struct Marks {
    window: usize,
    asked: AtomicUsize,
    handed_on: AtomicUsize,
}

/// An iterator that sees to it that the window holds.
pub struct Watched<'m, It> {
    items: It,
    marks: &'m Marks,
    has_ended: bool,
}

impl Marks {
    pub fn new(window: usize) -> Self {
        Marks { window, asked: AtomicUsize::new(0), handed_on: AtomicUsize::new(0) }
    }

    pub fn watch<It: Iterator>(&self, items: It) -> Watched<'_, It> {
        Watched { items, marks: self, has_ended: false }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl<It: Iterator> Iterator for Watched<'_, It> {
    type Item = It::Item;

    fn next(&mut self) -> Option<It::Item> {
        assert!(!self.has_ended, "asked again after its end");
        let marks = self.marks;
        let under_way =
            marks.asked.fetch_add(1, Ordering::SeqCst) + 1 - marks.handed_on.load(Ordering::SeqCst);
        assert!(under_way <= marks.window, "{under_way} pulled and not handed on");
        self.has_ended = true; // also if it panics
        let item = self.items.next()?;
        self.has_ended = false;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl Flow {
    pub fn consume(
        &self,
        results: &mut Results<'_, Token, Token, Token>,
        marks: &Marks,
        perform: impl Fn(&Act),
    ) -> Taken {
        let mut items = Vec::new();
        loop {
            if let Some(act) = self.act(items.len()) {
                perform(act);
            }
            if self.leaves(items.len()) {
                return Taken { items, has_seen_the_end: false };
            }
            marks.handed_on.store(items.len(), Ordering::SeqCst);
            let Some(item) = results.next() else {
                assert!(results.next().is_none(), "an item behind the end");
                return Taken { items, has_seen_the_end: true };
            };
            items.push(item);
        }
    }

    pub async fn consume_in_task(
        &self,
        results: &mut AsyncResults<'_, Token, Token, Token>,
        marks: &Marks,
        perform: impl Fn(&Act),
    ) -> Taken {
        let mut items = Vec::new();
        loop {
            if let Some(act) = self.act(items.len()) {
                tasks::await_turn(act).await;
                perform(act);
            }
            if self.leaves(items.len()) {
                return Taken { items, has_seen_the_end: false };
            }
            marks.handed_on.store(items.len(), Ordering::SeqCst);
            let Some(item) = results.next().await else {
                assert!(results.next().await.is_none(), "an item behind the end");
                return Taken { items, has_seen_the_end: true };
            };
            items.push(item);
        }
    }

    fn panics_by(&self, taken: usize) -> bool {
        let panics = |act: &Act| matches!(act, Act::Panic | Act::PanicWithBomb);
        self.acts.as_ref().is_some_and(|(at, act)| panics(act) && usize::from(*at) <= taken)
    }

    /// Whether its consumer may panic.
    pub fn panics(&self) -> bool {
        self.panics_by(usize::MAX)
    }
}

impl Happened<'_> {
    pub fn check_streamed(&self, streamed: Streamed<Taken>) {
        let Streamed { output: Taken { items, has_seen_the_end }, stopped, succeeded, failed, .. } = streamed;
        let flow = &self.batch.flow;
        assert!(!flow.panics_by(items.len()), "the consumer's panic was lost");
        let values = items.iter().filter(|item| item.outcome.is_ok()).count();
        assert_eq!((succeeded, failed), (values, items.len() - values));
        assert!(self.calls.is_empty() || self.calls.len() >= items.len(), "calls of on_progress");
        let mut indices: Vec<usize> = items.iter().map(|item| item.item.index()).collect();
        assert!(items.iter().all(|item| item.index == item.item.index()), "an index of another item");
        if flow.unordered {
            indices.sort_unstable();
        }
        assert!(flow.unordered || indices.iter().copied().eq(0..indices.len()), "out of order: {indices:?}");
        assert!(indices.windows(2).all(|two| two[0] < two[1]), "twice: {indices:?}");
        let mut failures: Vec<usize> =
            items.iter().filter(|item| item.outcome.is_err()).map(|item| item.index).collect();
        failures.sort_unstable();
        match stopped {
            Some(StopReason::Cancelled) => assert!(self.may_be_cancelled(), "nothing cancelled it"),
            Some(StopReason::DeadlineExceeded) => assert!(self.has_timeout(), "there was no deadline"),
            _ => self.check_end_of_stream(&indices, &failures, has_seen_the_end, stopped),
        }
        for item in items {
            let index = item.index;
            self.check_item(index, self.acts[index], item.outcome);
        }
    }

    /// Everything up to the failure that ends the stream was handed on, in order nothing else, and the reason names it.
    fn check_end_of_stream(
        &self,
        indices: &[usize],
        failures: &[usize],
        has_seen_the_end: bool,
        stopped: Option<StopReason>,
    ) {
        let unordered = self.batch.flow.unordered;
        let (last, reason) = check::end_of(self.on_failure, failures);
        if !has_seen_the_end && (unordered || last.is_none()) {
            assert_eq!(stopped, None, "it did not come to its end");
            return;
        }
        assert_eq!(stopped, reason, "failures at {failures:?}");
        let due = last.map_or(self.acts.len(), |last| last + 1);
        let has_all = indices.len() >= due && indices[..due].iter().copied().eq(0..due);
        assert!(has_all && (unordered || indices.len() == due), "handed on: {indices:?}");
    }
}
