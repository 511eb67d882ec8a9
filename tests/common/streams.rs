//! What tests of streams share: an input and a consumer that are counted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use batch_executor::Results;

/// The windows that every claim is tried with.
pub(crate) const WINDOWS: [usize; 5] = [1, 2, 3, 8, 1000];

/// The items that came, with whether each has a value.
pub(crate) fn outcomes<T, E>(results: &mut Results<'_, usize, T, E>) -> Vec<(usize, bool)> {
    results.map(|item| (item.item, item.outcome.is_ok())).collect()
}

/// How many items were pulled and how many handed on, and the most that were ever under way between the two.
#[derive(Default)]
pub(crate) struct Ledger {
    pulled: AtomicUsize,
    handed_on: AtomicUsize,
    most: AtomicUsize,
    is_asked: AtomicBool,
    has_ended: AtomicBool,
}

impl Ledger {
    /// Counts what is pulled. Panics if two workers pull at a time, or one pulls beyond the end.
    pub(crate) fn input<It: IntoIterator>(&self, items: It) -> Input<'_, It::IntoIter> {
        Input { ledger: self, items: items.into_iter() }
    }

    /// Counts an item as handed on just before the next one is asked for: never later than the stream itself does.
    pub(crate) fn output<R: Iterator>(&self, results: R) -> Output<'_, R> {
        Output { ledger: self, results, lends_one: false }
    }

    pub(crate) fn pulled(&self) -> usize {
        self.pulled.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Whether the input has said that it has no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }
}

pub(crate) struct Input<'l, It> {
    ledger: &'l Ledger,
    items: It,
}

impl<It: Iterator> Iterator for Input<'_, It> {
    type Item = It::Item;

    fn next(&mut self) -> Option<It::Item> {
        let ledger = self.ledger;
        assert!(!ledger.is_asked.swap(true, Ordering::SeqCst), "two pull at a time");
        assert!(!ledger.has_ended(), "asked again after its end");
        let item = self.items.next();
        if item.is_some() {
            let pulled = ledger.pulled.fetch_add(1, Ordering::SeqCst) + 1;
            ledger.most.fetch_max(pulled - ledger.handed_on.load(Ordering::SeqCst), Ordering::SeqCst);
        } else {
            ledger.has_ended.store(true, Ordering::SeqCst);
        }
        ledger.is_asked.store(false, Ordering::SeqCst);
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

pub(crate) struct Output<'l, R> {
    ledger: &'l Ledger,
    results: R,
    lends_one: bool,
}

impl<R: Iterator> Iterator for Output<'_, R> {
    type Item = R::Item;

    fn next(&mut self) -> Option<R::Item> {
        if self.lends_one {
            self.ledger.handed_on.fetch_add(1, Ordering::SeqCst);
        }
        let item = self.results.next();
        self.lends_one = item.is_some();
        item
    }
}
