//! What is made has to be dropped, once: counted values, and payloads of panics that are meant.

use std::any::Any;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub struct Ledger {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

impl Ledger {
    pub fn make(self: &Arc<Self>, index: usize) -> Token {
        self.made.fetch_add(1, Ordering::Relaxed);
        Token { index: Box::new(index), ledger: Arc::clone(self) }
    }

    pub fn assert_balanced(&self) {
        let [made, dropped] = [&self.made, &self.dropped].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(made, dropped, "values made and dropped");
    }
}

/// An item, a value, an error, or what a panic throws. In memory of its own, so that a sanitizer sees one that is
/// dropped twice, used after that, or never dropped.
#[derive(Debug)]
pub struct Token {
    index: Box<usize>,
    ledger: Arc<Ledger>,
}

impl Token {
    pub fn index(&self) -> usize {
        *self.index
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.ledger.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A payload whose destructor panics.
pub struct Bomb(pub Token);

/// What a bomb's destructor panics with. It takes no memory: the crate leaks the panic of a payload's destructor.
struct Debris;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Debris);
    }
}

/// Whether a panic is one of those that programs draw.
pub fn is_meant(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Token>() || payload.is::<Bomb>() || payload.is::<Debris>()
}
