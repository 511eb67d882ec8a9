//! Items and their outcomes, in place: a vector for a batch, a ring for a stream, chunks for work that grows.
//!
//! Nothing here moves while a batch runs. A worker gets a reference to an item and a place for its outcome. Its right to
//! both is a [`Claim`]: a range of places that only splitting another claim, or filling a place, makes. So no place has two
//! owners, and each outcome is written once.

use std::alloc::{self, Layout};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr;
#[cfg(feature = "tokio")]
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use crate::error::Outcome;
use crate::panic;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};

/// In which order a stream hands its outcomes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Input,
    Completion,
}

/// The right to run some neighbouring items and to write their outcomes. It cannot be copied, and is used up item by item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    place: usize,
    index: usize,
    len: usize,
}

impl Claim {
    /// The index of its first item.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Splits the first items off: `most` of them, or all.
    pub(crate) fn split_first(&mut self, most: usize) -> Claim {
        let len = most.min(self.len);
        let first = Claim { place: self.place, index: self.index, len };
        self.advance(len);
        first
    }

    /// Splits off all but the first item.
    pub(crate) fn split_rest(&mut self) -> Claim {
        let first = self.split_first(1);
        mem::replace(self, first)
    }

    /// Takes `next` in if its items follow at once, and gives it back otherwise.
    pub(crate) fn join(&mut self, next: Claim) -> Result<(), Claim> {
        if (next.place, next.index) == (self.place + self.len, self.index + self.len) {
            self.len += next.len;
            return Ok(());
        }
        Err(next)
    }

    fn advance(&mut self, items: usize) {
        self.place += items;
        self.index += items;
        self.len -= items;
    }

    /// For tests of what only passes claims on.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn of(items: std::ops::Range<usize>) -> Claim {
        Claim { place: items.start, index: items.start, len: items.len() }
    }
}

/// What ended a run of a claim before its last item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Halt<E> {
    /// The next item is at or above the gate.
    Gate,
    /// The operation returned this error for the next item.
    Error(E),
}

pub(crate) struct Slots<I, T, E> {
    /// In a batch the user's vector, which stays as it is until the end. In a ring, room.
    items: Vec<I>,
    /// Room, until the end of a batch.
    outcomes: Vec<Outcome<T, E>>,
    /// The first item and the first outcome.
    item: *mut I,
    outcome: *mut Outcome<T, E>,
    /// A place and this give the number of its slot.
    mask: usize,
    /// How many outcomes were written, as far as claims have come to an end.
    written: AtomicUsize,
    ring: Option<Ring>,
    /// Where the number of slots grows, they are there.
    chunks: Option<Arc<Chunks>>,
}

// SAFETY: through a shared reference, the owner of a claim gets `&I` and gives an `Outcome` for the places of its claim, and the
// reader takes both out of places that are ready. At each moment a place has one of these owners, and claims, states and locks
// order what they do. So values are sent from one thread to another, and none is used by two at a time.
#[allow(unsafe_code)]
unsafe impl<I: Send, T: Send, E: Send> Sync for Slots<I, T, E> {}

// SAFETY: the pointers are to memory of its own vectors, and it is `Sync` under the same conditions.
#[allow(unsafe_code)]
unsafe impl<I: Send, T: Send, E: Send> Send for Slots<I, T, E> {}

/// A batch.
impl<I, T, E> Slots<I, T, E> {
    /// These items, and the claim on all of them. Hands the items back if there is no memory for their outcomes.
    pub(crate) fn of(mut items: Vec<I>) -> Result<(Self, Claim), Vec<I>> {
        let mut outcomes = Vec::new();
        if outcomes.try_reserve_exact(items.len()).is_err() {
            return Err(items);
        }
        let (item, outcome, len) = (items.as_mut_ptr(), outcomes.as_mut_ptr(), items.len());
        let (mask, written, ring) = (usize::MAX, AtomicUsize::new(0), None);
        let slots = Slots { items, outcomes, item, outcome, mask, written, ring, chunks: None };
        Ok((slots, Claim { place: 0, index: 0, len }))
    }

    /// All items with their outcomes. Items of `undecided` claims get the outcome that `instead` makes of their indices.
    pub(crate) fn into_parts(
        mut self,
        undecided: Vec<Claim>,
        mut instead: impl FnMut(usize) -> Outcome<T, E>,
    ) -> (Vec<I>, Vec<Outcome<T, E>>) {
        for mut claim in undecided {
            while claim.len() > 0 {
                let outcome = instead(claim.index());
                self.decide(&mut claim, outcome, || ());
            }
        }
        let total = self.chunks.as_ref().map_or(self.items.len(), |chunks| chunks.filled.lock().slots);
        assert_eq!(self.written.load(Ordering::Acquire), total, "a claim was lost");
        if let Some(chunks) = &self.chunks {
            return take_out(chunks, total);
        }
        let mut outcomes = mem::take(&mut self.outcomes);
        // SAFETY: all claims were split from the one that `of` made, which covers each place once. An outcome is written where a
        // claim gives up its place, and is counted. So as many writes as there are places have filled all of them.
        #[allow(unsafe_code)]
        unsafe {
            outcomes.set_len(total);
        }
        (mem::take(&mut self.items), outcomes)
    }
}

/// Whatever has not been taken out of it is dropped with it: outcomes of a batch if each item has one, and what is in a ring.
/// An outcome that stands beside undecided items is leaked, as nothing says where it is.
impl<I, T, E> Drop for Slots<I, T, E> {
    fn drop(&mut self) {
        if self.ring.is_some() {
            for (item, outcome) in self.left() {
                let _ = panic::discard(item).and(panic::discard(outcome));
            }
        } else if self.written.load(Ordering::Acquire) == self.items.len() {
            // SAFETY: as many outcomes were written as there are places, as in `into_parts`; there they were taken out, and the items too.
            #[allow(unsafe_code)]
            unsafe {
                self.outcomes.set_len(self.items.len());
            }
        }
    }
}

/// What the owner of a claim does.
impl<I, T, E> Slots<I, T, E> {
    /// The first item of the claim.
    pub(crate) fn first<'c>(&'c self, claim: &'c Claim) -> Option<&'c I> {
        let item = match &self.chunks {
            Some(chunks) => chunks.item(claim.place),
            None => self.item.wrapping_add(claim.place & self.mask),
        };
        // SAFETY: the claim covers this place: its item is there, and no one takes it out while the claim is borrowed.
        #[allow(unsafe_code)]
        (claim.len > 0).then(|| unsafe { &*item })
    }

    /// The first item of the claim, for a future that runs with it. The future has to be gone before the item is decided.
    #[cfg(feature = "tokio")]
    pub(crate) fn lend(&self, claim: &Claim) -> Lent<'_, I> {
        assert!(claim.len > 0, "nothing is left of the claim");
        let at = claim.place & self.mask;
        // SAFETY: the claim covers this place: its item is there. In a batch nothing takes it out as long as `self` is borrowed. Out of
        // a ring the reader takes it when it is decided, and `publish` refuses that while it is lent.
        #[allow(unsafe_code)]
        self.lent(at, unsafe { &*self.item.add(at) })
    }

    /// The item in that place.
    #[cfg(feature = "tokio")]
    fn lent<'s>(&'s self, at: usize, item: &'s I) -> Lent<'s, I> {
        let state = self.ring.as_ref().map(|ring| &ring.states[at]);
        if let Some(state) = state {
            assert_eq!(state.load(Ordering::Relaxed), FILLED, "the item is lent already");
            state.store(LENT, Ordering::Relaxed);
        }
        Lent { item: NonNull::from(item), state, slots: PhantomData }
    }

    /// Decides the first item of the claim; its index. Calls `awaited` if the reader waits for it.
    pub(crate) fn decide(&self, claim: &mut Claim, outcome: Outcome<T, E>, awaited: impl FnOnce()) -> usize {
        assert!(claim.len > 0, "nothing is left of the claim");
        let (place, index) = (claim.place, claim.index);
        let at = match &self.chunks {
            Some(chunks) => chunks.outcome(place),
            None => self.outcome.wrapping_add(place & self.mask),
        };
        // SAFETY: the claim covers this place, which has no outcome, and gives it up here.
        #[allow(unsafe_code)]
        unsafe {
            at.write(outcome);
        }
        claim.advance(1);
        self.written.fetch_add(1, Ordering::Release);
        if self.publish(place, index) {
            awaited();
        }
        index
    }

    /// Decides up to `most` items of the claim in order for as long as `op` makes values of them. The item with an error, a panic, or at the
    /// gate is then the first that is left.
    ///
    /// A value goes from `op` to its place with no variable in memory in between, and what the loop changes lives in
    /// registers: for no-ops each of the two is a fifth of the time.
    #[inline]
    pub(crate) fn decide_while<const IS_STREAM: bool>(
        &self,
        claim: &mut Claim,
        most: usize,
        gate: &AtomicUsize,
        mut op: impl FnMut(usize, &I) -> Result<T, E>,
        awaited: impl FnMut(),
    ) -> Option<Halt<E>> {
        self.decide_each::<IS_STREAM, E>(claim, most, gate, |index, _, item| op(index, item), awaited)
    }

    /// As [`decide_while`](Slots::decide_while), where `op` may make a future that runs with the item. Such a future has to be gone
    /// when `op` returns a value. What `op` returns instead of one is of any type.
    #[cfg(feature = "tokio")]
    pub(crate) fn decide_ready<'s, X>(
        &'s self,
        claim: &mut Claim,
        gate: &AtomicUsize,
        mut op: impl FnMut(usize, Lent<'s, I>) -> Result<T, X>,
        awaited: impl FnMut(),
    ) -> Option<Halt<X>> {
        let op = |index, at, item| op(index, self.lent(at, item));
        match self.ring {
            None => self.decide_each::<false, X>(claim, usize::MAX, gate, op, awaited),
            Some(_) => self.decide_each::<true, X>(claim, usize::MAX, gate, op, awaited),
        }
    }

    /// `op` gets the index of an item, its place, and the item. It keeps none, unless as [`Lent`].
    #[inline]
    fn decide_each<'s, const IS_STREAM: bool, X>(
        &'s self,
        claim: &mut Claim,
        most: usize,
        gate: &AtomicUsize,
        mut op: impl FnMut(usize, usize, &'s I) -> Result<T, X>,
        mut awaited: impl FnMut(),
    ) -> Option<Halt<X>> {
        assert!(self.chunks.is_none(), "items that may push others are decided one by one");
        let (place, index, len) = (claim.place, claim.index, claim.len.min(most));
        let mut run = Run { written: &self.written, claim, done: 0 };
        while run.done < len {
            let (place, index) = (place + run.done, index + run.done);
            if index >= gate.load(Ordering::Relaxed) {
                return Some(Halt::Gate);
            }
            let at = place & self.mask;
            // SAFETY: the claim covers this place: its item is there, and no other worker uses it. It stays as long as this is borrowed, or
            // in a ring until it is published.
            #[allow(unsafe_code)]
            match op(index, at, unsafe { &*self.item.add(at) }) {
                // SAFETY: the place has no outcome, and `Run` gives it up now that it has one.
                Ok(value) => unsafe { self.outcome.add(at).write(Ok(value)) },
                Err(error) => return Some(Halt::Error(error)),
            }
            run.done += 1;
            if IS_STREAM && self.publish(place, index) {
                awaited();
            }
        }
        None
    }
}

/// How far a run of a claim is. Tells the claim when it ends, also by unwinding.
struct Run<'r> {
    written: &'r AtomicUsize,
    claim: &'r mut Claim,
    done: usize,
}

impl Drop for Run<'_> {
    #[inline]
    fn drop(&mut self) {
        self.claim.advance(self.done);
        self.written.fetch_add(self.done, Ordering::Release);
    }
}

/// An item that a future runs with.
#[cfg(feature = "tokio")]
pub(crate) struct Lent<'s, I> {
    item: NonNull<I>,
    /// In a ring: where it is noted that the item is lent.
    state: Option<&'s AtomicU8>,
    slots: PhantomData<&'s I>,
}

// SAFETY: it gives nothing but `&I`.
#[cfg(feature = "tokio")]
#[allow(unsafe_code)]
unsafe impl<I: Sync> Send for Lent<'_, I> {}
// SAFETY: as above.
#[cfg(feature = "tokio")]
#[allow(unsafe_code)]
unsafe impl<I: Sync> Sync for Lent<'_, I> {}

#[cfg(feature = "tokio")]
impl<I> std::ops::Deref for Lent<'_, I> {
    type Target = I;

    fn deref(&self) -> &I {
        // SAFETY: the item stays where it is as long as it is lent: see `Slots::lend`.
        #[allow(unsafe_code)]
        unsafe {
            self.item.as_ref()
        }
    }
}

#[cfg(feature = "tokio")]
impl<I> Drop for Lent<'_, I> {
    fn drop(&mut self) {
        if let Some(state) = self.state {
            state.store(FILLED, Ordering::Relaxed);
        }
    }
}

/// A slot of a ring: vacant, with an item, or with an item and its outcome.
const VACANT: u8 = 0;
const FILLED: u8 = 1;
const READY: u8 = 2;
/// With an item that a future runs with.
const LENT: u8 = 3;

struct Ring {
    states: Vec<AtomicU8>,
    /// What the reader waits for, if it does: the item with this index, or without order, as many outcomes.
    awaited: AtomicUsize,
    /// None where items are handed on in input order: then an item's place is its index.
    unordered: Option<Mutex<Unordered>>,
}

const NONE: usize = usize::MAX;

/// The most slots of a ring: what is under way in a stream with a larger window.
const LARGEST_RING: usize = 1 << 20;

struct Unordered {
    vacant: Vec<usize>,
    /// The places and indices of items with an outcome.
    ready: VecDeque<(usize, usize)>,
}

/// An item of a ring that was taken out: its index, and what it came to.
pub(crate) type Taken<I, T, E> = (usize, I, Outcome<T, E>);

/// The right to take items out of a ring. There is one for each ring.
pub(crate) struct Reader {
    taken: usize,
}

impl Reader {
    /// How many items were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// The next item is handed on without a slot.
    pub(crate) fn skip(&mut self) {
        self.taken += 1;
    }
}

/// A stream.
impl<I, T, E> Slots<I, T, E> {
    /// A ring with room for this many items, or for as many as there is memory for, and its reader.
    pub(crate) fn ring(room: usize, order: Order) -> (Self, Reader) {
        let mut size = room.clamp(1, LARGEST_RING).next_power_of_two();
        let (mut items, mut outcomes) = (Vec::new(), Vec::new());
        while size > 1
            && (items.try_reserve_exact(size).is_err() || outcomes.try_reserve_exact(size).is_err())
        {
            size /= 2;
        }
        items.reserve_exact(size);
        outcomes.reserve_exact(size);
        let (item, outcome) = (items.as_mut_ptr(), outcomes.as_mut_ptr());
        let unordered =
            || Mutex::new(Unordered { vacant: (0..size).rev().collect(), ready: VecDeque::new() });
        let ring = Ring {
            states: (0..size).map(|_| AtomicU8::new(VACANT)).collect(),
            awaited: AtomicUsize::new(NONE),
            unordered: (order == Order::Completion).then(unordered),
        };
        let (mask, written) = (size - 1, AtomicUsize::new(0));
        let slots = Slots { items, outcomes, item, outcome, mask, written, ring: Some(ring), chunks: None };
        (slots, Reader { taken: 0 })
    }

    pub(crate) fn is_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// How many items a ring has room for.
    pub(crate) fn room(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| ring.states.len())
    }

    /// Puts an item into a vacant slot. There is one, since the schedule keeps to the window.
    pub(crate) fn fill(&self, index: usize, item: I) -> Claim {
        let Some(ring) = &self.ring else { unreachable!("only a stream pulls items") };
        let vacant = ring.unordered.as_ref().map_or(Some(index), |unordered| unordered.lock().vacant.pop());
        let place = vacant.unwrap_or(index);
        let state = &ring.states[place & self.mask];
        assert_eq!(state.load(Ordering::Acquire), VACANT, "the window was exceeded");
        // SAFETY: the slot is vacant, so there is no claim on it and the reader has taken out what was there: `Acquire` orders that
        // before this. One thread at a time fills slots.
        #[allow(unsafe_code)]
        unsafe {
            self.item.add(place & self.mask).write(item);
        }
        state.store(FILLED, Ordering::Relaxed);
        Claim { place, index, len: 1 }
    }

    /// The outcome of the item at this place was written: the reader of a ring can take both now. Whether it waits for them.
    #[inline]
    fn publish(&self, place: usize, index: usize) -> bool {
        let Some(ring) = &self.ring else { return false };
        let state = &ring.states[place & self.mask];
        if cfg!(feature = "tokio") {
            assert_ne!(state.load(Ordering::Relaxed), LENT, "a future still runs with the item");
        }
        state.store(READY, Ordering::Release);
        let ready = ring.unordered.as_ref().map(|unordered| {
            let ready = &mut unordered.lock().ready;
            ready.push_back((place, index));
            ready.len()
        });
        // Either this sees that the reader waits, or the reader sees the item.
        fence(Ordering::SeqCst);
        let awaited = ring.awaited.load(Ordering::Relaxed);
        ready.map_or(awaited == index, |ready| ready >= awaited)
    }

    /// Whether items are handed on in input order.
    pub(crate) fn is_in_order(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.unordered.is_none())
    }

    /// Takes the next item with its outcome, if they are ready.
    pub(crate) fn take(&self, reader: &mut Reader) -> Option<Taken<I, T, E>> {
        let ring = self.ring.as_ref()?;
        let (place, index) = match &ring.unordered {
            Some(unordered) => unordered.lock().ready.pop_front()?,
            None => (reader.taken, reader.taken),
        };
        let (at, state) = (place & self.mask, &ring.states[place & self.mask]);
        if state.load(Ordering::Acquire) != READY {
            return None;
        }
        // SAFETY: the slot is ready: item and outcome are there and no claim covers them. Only the one reader takes them out, and
        // only once, since the slot is vacant then.
        #[allow(unsafe_code)]
        let (item, outcome) = unsafe { (self.item.add(at).read(), self.outcome.add(at).read()) };
        state.store(VACANT, Ordering::Release);
        if let Some(unordered) = &ring.unordered {
            unordered.lock().vacant.push(place);
        }
        reader.taken += 1;
        Some((index, item, outcome))
    }

    /// The reader is about to wait, if this says so: its next item is not ready. Workers tell it when that is, or one so far
    /// ahead of it. It says when it waits no longer.
    pub(crate) fn will_wait(&self, reader: &Reader, ahead: usize) -> bool {
        let Some(ring) = &self.ring else { return true };
        ring.awaited.store(
            if ring.unordered.is_some() { ahead + 1 } else { reader.taken + ahead },
            Ordering::Relaxed,
        );
        // Either the worker that publishes sees that, or this sees what it has published.
        fence(Ordering::SeqCst);
        match &ring.unordered {
            Some(unordered) => unordered.lock().ready.is_empty(),
            None => ring.states[reader.taken & self.mask].load(Ordering::Acquire) != READY,
        }
    }

    pub(crate) fn waits_no_longer(&self) {
        if let Some(ring) = &self.ring {
            ring.awaited.store(NONE, Ordering::Relaxed);
        }
    }

    /// When no worker is left: the items that were not taken, and the outcomes that some of them have.
    pub(crate) fn left(&mut self) -> Vec<(I, Option<Outcome<T, E>>)> {
        let Some(ring) = &mut self.ring else { return Vec::new() };
        let mut left = Vec::new();
        for (at, state) in ring.states.iter_mut().enumerate() {
            let state = state.swap(VACANT, Ordering::Acquire);
            // There are no claims any more: they would borrow from a batch that is over.
            if state != VACANT {
                // SAFETY: a slot that is ready has an outcome. It is taken out once, since the slot is vacant now.
                #[allow(unsafe_code)]
                let outcome = (state == READY).then(|| unsafe { self.outcome.add(at).read() });
                // SAFETY: a slot that is not vacant has an item, which is taken out once, too.
                #[allow(unsafe_code)]
                left.push((unsafe { self.item.add(at).read() }, outcome));
            }
        }
        left
    }
}

/// Slots that never move while their number grows: chunks, each twice the last. They do not know the types of what is in them:
/// a [`Grower`] and its [`Slots`] do.
struct Chunks {
    made: Box<[OnceLock<Chunk>]>,
    /// How many slots the first chunk has: a power of two.
    first: usize,
    item: Layout,
    outcome: Layout,
    filled: Mutex<Filled>,
}

#[derive(Default)]
struct Filled {
    /// How many slots have an item.
    slots: usize,
    /// Room for as many items and outcomes as there are slots, in one piece each: for the end, when there may be no memory left.
    spare: Option<Chunk>,
}

/// Room for items and for as many outcomes.
struct Chunk {
    items: Buffer,
    outcomes: Buffer,
}

/// The fewest slots of a chunk.
const SMALLEST_CHUNK: usize = 32;

impl Chunks {
    /// The number of the chunk that has this place, and the place there.
    fn locate(&self, place: usize) -> (usize, usize) {
        let number = ((place + self.first) / self.first).ilog2();
        (number as usize, place + self.first - (self.first << number))
    }

    /// The chunk with this number, which is made if it is not there. None without memory.
    fn make(&self, number: usize, filled: &mut Filled) -> Option<&Chunk> {
        let chunk = self.made.get(number)?;
        if chunk.get().is_none() {
            let slots = self.first.checked_mul(1 << number)?;
            let another = self.allocate(slots)?;
            // All chunks before have fewer slots than this one by that of the first.
            filled.spare = Some(self.allocate(slots.checked_mul(2)? - self.first)?);
            // No other thread makes it: the caller holds the lock of `filled`.
            let _ = chunk.set(another);
        }
        chunk.get()
    }

    fn allocate(&self, slots: usize) -> Option<Chunk> {
        let items = Buffer::allocate(self.item, slots)?;
        Some(Chunk { items, outcomes: Buffer::allocate(self.outcome, slots)? })
    }

    /// The memory of the slot at this place, which is there.
    fn at(&self, place: usize) -> (&Chunk, usize) {
        let (number, offset) = self.locate(place);
        match self.made[number].get() {
            Some(chunk) => (chunk, offset),
            None => unreachable!("a claim covers what was filled"),
        }
    }

    fn item<I>(&self, place: usize) -> *mut I {
        let (chunk, offset) = self.at(place);
        chunk.items.start.cast::<I>().wrapping_add(offset)
    }

    fn outcome<O>(&self, place: usize) -> *mut O {
        let (chunk, offset) = self.at(place);
        chunk.outcomes.start.cast::<O>().wrapping_add(offset)
    }
}

/// Puts more items into slots. It borrows nothing of these.
pub(crate) struct Grower<I> {
    chunks: Arc<Chunks>,
    /// It sends items to other threads, and shares none.
    items: PhantomData<Mutex<I>>,
}

impl<I> Grower<I> {
    /// The item is the next one, after all that there are. Hands it back if there is no memory for it.
    pub(crate) fn fill(&self, item: I) -> Result<Claim, I> {
        let mut filled = self.chunks.filled.lock();
        let place = filled.slots;
        let (number, offset) = self.chunks.locate(place);
        let Some(chunk) = self.chunks.make(number, &mut filled) else { return Err(item) };
        // SAFETY: the chunk has room for this offset, in memory for items of this type: `Slots::growing` has made the grower and the
        // chunks for the same type. No worker uses the place yet: it was not filled, and no claim covers it. It is filled once, since the
        // number of those that are filled changes under the lock that is held.
        #[allow(unsafe_code)]
        unsafe {
            chunk.items.start.cast::<I>().add(offset).write(item);
        }
        filled.slots += 1;
        Ok(Claim { place, index: place, len: 1 })
    }
}

impl<I> Clone for Grower<I> {
    fn clone(&self) -> Self {
        Grower { chunks: Arc::clone(&self.chunks), items: PhantomData }
    }
}

/// A batch that grows.
impl<I, T, E> Slots<I, T, E> {
    /// These items, the claim on all of them, and what adds others. Hands the items back if there is no memory for them.
    pub(crate) fn growing(items: Vec<I>) -> Result<(Self, Claim, Grower<I>), Vec<I>> {
        let (len, first) = (items.len(), items.len().max(SMALLEST_CHUNK).checked_next_power_of_two());
        let chunks = Chunks {
            made: (0..usize::BITS).map(|_| OnceLock::new()).collect(),
            first: first.unwrap_or(usize::MAX),
            item: Layout::new::<I>(),
            outcome: Layout::new::<Outcome<T, E>>(),
            filled: Mutex::default(),
        };
        if first.is_none() || chunks.make(0, &mut chunks.filled.lock()).is_none() {
            return Err(items);
        }
        let grower = Grower { chunks: Arc::new(chunks), items: PhantomData };
        for item in items {
            assert!(grower.fill(item).is_ok(), "the first chunk has room for all of them");
        }
        let slots = Slots {
            items: Vec::new(),
            outcomes: Vec::new(),
            item: ptr::null_mut(),
            outcome: ptr::null_mut(),
            mask: 0,
            written: AtomicUsize::new(0),
            ring: None,
            chunks: Some(Arc::clone(&grower.chunks)),
        };
        Ok((slots, Claim { place: 0, index: 0, len }, grower))
    }
}

/// All items and outcomes of a batch that has grown, in the order in which they came.
fn take_out<I, O>(chunks: &Chunks, total: usize) -> (Vec<I>, Vec<O>) {
    let spare = chunks.filled.lock().spare.take();
    let (mut items, mut outcomes) = match spare {
        Some(spare) => (spare.items.into_vec(total), spare.outcomes.into_vec(total)),
        None => (Vec::with_capacity(total), Vec::with_capacity(total)),
    };
    for place in 0..total {
        // SAFETY: all places below `total` are filled and decided, as `into_parts` has counted, which is the only caller and consumes
        // the slots. So each item and each outcome is taken out once, and as what was put in.
        #[allow(unsafe_code)]
        let (item, outcome) = unsafe { (chunks.item::<I>(place).read(), chunks.outcome::<O>(place).read()) };
        items.push(item);
        outcomes.push(outcome);
    }
    (items, outcomes)
}

/// The outcomes of a batch that is over. Where all of them are values that need no drop, dropping them frees their memory and looks
/// at none: that would take a batch of no-ops more time than to run them.
///
/// There is no `Drop` with the types of the outcomes: what they borrow may be gone before them, as with a vector.
pub(crate) struct Outcomes<T, E>(Kept<T, E>);

enum Kept<T, E> {
    Whole(Vec<Outcome<T, E>>),
    /// The vector, whose memory the buffer frees.
    Values(ManuallyDrop<Vec<Outcome<T, E>>>, Buffer),
}

impl<T, E> Outcomes<T, E> {
    pub(crate) fn new(mut list: Vec<Outcome<T, E>>, have_errors: bool) -> Self {
        let layout = Layout::array::<Outcome<T, E>>(list.capacity()).ok();
        match layout.filter(|layout| layout.size() > 0 && !have_errors && !mem::needs_drop::<T>()) {
            Some(layout) => {
                let start = list.as_mut_ptr().cast();
                Outcomes(Kept::Values(ManuallyDrop::new(list), Buffer { start, layout }))
            }
            None => Outcomes(Kept::Whole(list)),
        }
    }

    pub(crate) fn as_slice(&self) -> &[Outcome<T, E>] {
        match &self.0 {
            Kept::Whole(list) => list,
            Kept::Values(list, _) => list,
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Outcome<T, E>> {
        match self.0 {
            Kept::Whole(list) => list,
            Kept::Values(list, buffer) => {
                mem::forget(buffer);
                ManuallyDrop::into_inner(list)
            }
        }
    }
}

/// Memory, of a vector that does not free it or of a chunk.
struct Buffer {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: it is the only owner of memory that it frees and does not read, which any thread may do.
#[allow(unsafe_code)]
unsafe impl Send for Buffer {}

// SAFETY: through a shared reference nothing can be done with it but to read the address. What uses that has its own argument.
#[allow(unsafe_code)]
unsafe impl Sync for Buffer {}

impl Buffer {
    /// For this many values of this layout; none without memory.
    fn allocate(value: Layout, values: usize) -> Option<Self> {
        let size = value.size().checked_mul(values)?;
        let layout = Layout::from_size_align(size, value.align()).ok()?;
        if size == 0 {
            return Some(Buffer { start: ptr::without_provenance_mut(value.align()), layout });
        }
        // SAFETY: the size is not 0.
        #[allow(unsafe_code)]
        let start = unsafe { alloc::alloc(layout) };
        // Not with `then_some`, which would make a buffer in any case, and drop it.
        (!start.is_null()).then(|| Buffer { start, layout })
    }

    /// An empty vector in this memory; in other memory if this many values have no room in it.
    fn into_vec<V>(self, values: usize) -> Vec<V> {
        let Buffer { start, layout } = self;
        let capacity = layout.size().checked_div(size_of::<V>()).unwrap_or(0);
        if capacity == 0 || capacity < values || Layout::array::<V>(capacity) != Ok(layout) {
            return Vec::with_capacity(values);
        }
        mem::forget(self);
        // SAFETY: `allocate` has it from the global allocator, with the layout of an array of this capacity, as was just seen, and it
        // is not freed elsewhere. Of its values none is there.
        #[allow(unsafe_code)]
        unsafe {
            Vec::from_raw_parts(start.cast(), 0, capacity)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        debug_assert!(!self.start.is_null(), "a buffer has memory");
        if self.layout.size() == 0 {
            return;
        }
        // SAFETY: the memory is from the global allocator, with this layout. `allocate` asked for it so. A vector has it with the
        // layout of an array of its capacity, which was not changed since: the vector is in a `ManuallyDrop`, behind shared
        // references alone, and `into_vec`, which takes it out, forgets the buffer. So the memory is freed once, and nothing refers
        // to it any more.
        #[allow(unsafe_code)]
        unsafe {
            alloc::dealloc(self.start, self.layout);
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::error::ItemError;
    use crate::panic;

    type Texts = Slots<usize, usize, String>;

    fn slots(items: usize) -> (Texts, Claim) {
        Slots::of((0..items).collect()).unwrap_or_else(|_| panic!("there is memory"))
    }

    fn run(
        slots: &Texts,
        claim: &mut Claim,
        gate: usize,
        op: impl FnMut(usize, &usize) -> Result<usize, String>,
    ) -> Option<Halt<String>> {
        slots.decide_while::<false>(claim, 99, &AtomicUsize::new(gate), op, || ())
    }

    /// Outcomes as text: the value, the error, or a dash for skipped.
    fn texts(slots: Texts, undecided: Vec<Claim>) -> Vec<String> {
        let (items, outcomes) = slots.into_parts(undecided, |_| Err(ItemError::Skipped));
        assert!(items.iter().copied().eq(0..items.len()));
        let text = |outcome| match outcome {
            Ok(value) => usize::to_string(&value),
            Err(ItemError::Skipped) => "-".to_owned(),
            Err(error) => error.to_string(),
        };
        outcomes.into_iter().map(text).collect()
    }

    #[test]
    fn a_ring_has_room_for_a_million_items_at_most() {
        let (slots, _) = Slots::<u8, u8, ()>::ring(usize::MAX, Order::Input);
        assert_eq!(slots.room(), 1_048_576);
    }

    #[test]
    fn outcomes_are_where_their_items_are_in_whatever_order_claims_are_run() {
        let (slots, mut rest) = slots(7);
        let (mut first, mut second) = (rest.split_first(2), rest.split_first(3));
        assert_eq!((rest.index(), rest.len()), (5, 2));
        assert!(run(&slots, &mut second, 99, |index, item| Ok(index + item)).is_none());
        assert!(run(&slots, &mut first, 99, |_, item| Ok(item * 100)).is_none());
        assert_eq!(texts(slots, vec![rest]), ["0", "100", "4", "6", "8", "-", "-"]);
    }

    #[test]
    fn a_run_ends_at_an_error_and_at_the_gate() {
        let (slots, mut claim) = slots(4);
        let even = |_, &item: &usize| if item % 2 == 0 { Ok(item) } else { Err(format!("{item} is odd")) };
        let Some(Halt::Error(error)) = run(&slots, &mut claim, 99, even) else { panic!("1 is odd") };
        assert_eq!(slots.decide(&mut claim, Err(ItemError::Failed(error)), || ()), 1);
        assert_eq!(run(&slots, &mut claim, 3, even), Some(Halt::Gate));
        assert_eq!((claim.index(), claim.len()), (3, 1));
        assert_eq!(texts(slots, vec![claim]), ["0", "1 is odd", "2", "-"]);
    }

    #[test]
    fn an_item_that_panics_is_the_first_that_is_left() {
        let (slots, mut claim) = slots(3);
        let op = |index, &item: &usize| if index == 1 { panic!("at 1") } else { Ok(item) };
        let panic = panic::catch(|| run(&slots, &mut claim, 99, op)).unwrap_err();
        slots.decide(&mut claim, Err(ItemError::Panicked(panic)), || ());
        assert_eq!(texts(slots, vec![claim]), ["0", "panicked: at 1", "-"]);
    }

    #[test]
    fn an_unordered_ring_hands_on_what_came_first() {
        let (slots, mut reader) = Texts::ring(8, Order::Completion);
        let mut claims: Vec<Claim> = (0..3).map(|n| slots.fill(n, n)).collect();
        for n in [2, 0, 1] {
            slots.decide(&mut claims[n], Ok(n), || ());
        }
        let taken = std::iter::from_fn(|| slots.take(&mut reader)).map(|(index, ..)| index);
        assert!(taken.eq([2, 0, 1]));
    }

    #[test]
    fn the_rest_of_a_claim_is_a_claim() {
        let mut claim = Claim::of(3..9);
        let mut rest = claim.split_rest();
        assert_eq!((claim, &rest), (Claim::of(3..4), &Claim::of(4..9)));
        assert_eq!(rest.split_first(9), Claim::of(4..9));
        assert_eq!((rest.len(), rest.split_first(1).len()), (0, 0));
    }

    #[test]
    fn neighbours_are_joined_and_others_are_not() {
        let mut claim = Claim::of(3..5);
        assert_eq!(claim.join(Claim::of(5..7)), Ok(()));
        assert_eq!(claim.join(Claim::of(8..9)), Err(Claim::of(8..9)));
        assert_eq!(claim, Claim::of(3..7));
    }

    #[test]
    #[should_panic(expected = "a claim was lost")]
    fn a_claim_that_is_lost_is_noticed() {
        let (slots, mut claim) = slots(3);
        let _ = claim.split_first(1);
        texts(slots, vec![claim]);
    }

    #[test]
    fn a_ring_hands_on_in_input_order_and_its_slots_are_used_again() {
        let (ring, mut reader) = Texts::ring(2, Order::Input);
        for round in 0..5 {
            let (mut one, mut two) = (ring.fill(2 * round, 10), ring.fill(2 * round + 1, 11));
            ring.decide(&mut two, Ok(1), || ());
            assert!(ring.take(&mut reader).is_none(), "the one before is not ready");
            ring.decide(&mut one, Ok(0), || ());
            let got = [(); 2].map(|()| ring.take(&mut reader).unwrap());
            assert_eq!(
                got.map(|(index, item, outcome)| (index, item, outcome.unwrap())),
                [(2 * round, 10, 0), (2 * round + 1, 11, 1)]
            );
        }
    }

    #[test]
    fn a_ring_without_order_hands_on_what_is_ready_and_a_slow_item_holds_one_slot() {
        let (ring, mut reader) = Texts::ring(2, Order::Completion);
        let slow = ring.fill(0, 0);
        for index in 1..6 {
            let mut quick = ring.fill(index, index);
            assert!(ring.take(&mut reader).is_none());
            ring.decide(&mut quick, Ok(7), || ());
            assert_eq!(ring.take(&mut reader).unwrap().0, index);
        }
        assert_eq!(slow.len(), 1);
    }

    #[test]
    #[should_panic(expected = "the window was exceeded")]
    fn a_slot_that_is_in_use_is_not_filled() {
        let (ring, _reader) = Texts::ring(2, Order::Input);
        let _ = [ring.fill(0, 0), ring.fill(1, 1), ring.fill(2, 2)];
    }

    #[test]
    fn what_was_not_taken_is_left_to_be_dropped() {
        let (mut ring, mut reader) = Texts::ring(4, Order::Input);
        let mut claims = [ring.fill(0, 0), ring.fill(1, 1), ring.fill(2, 2)];
        ring.decide(&mut claims[0], Ok(0), || ());
        ring.decide(&mut claims[1], Ok(1), || ());
        assert!(ring.take(&mut reader).is_some());
        let left: Vec<_> = ring.left().into_iter().map(|(item, outcome)| (item, outcome.is_some())).collect();
        assert_eq!(left, [(1, true), (2, false)]);
        assert!(ring.left().is_empty());
    }

    #[test]
    fn a_reader_that_waits_is_told_of_what_it_waits_for() {
        let (ring, reader) = Texts::ring(2, Order::Input);
        let (mut one, mut two) = (ring.fill(0, 0), ring.fill(1, 1));
        ring.will_wait(&reader, 0);
        ring.decide(&mut two, Ok(1), || panic!("it waits for the one before"));
        let mut is_told = false;
        ring.decide(&mut one, Ok(0), || is_told = true);
        assert!(is_told);
    }

    fn growing(items: usize) -> (Texts, Claim, Grower<usize>) {
        Slots::growing((0..items).collect()).unwrap_or_else(|_| panic!("there is memory"))
    }

    #[test]
    fn items_that_come_later_move_none_of_those_that_are_there() {
        for at_first in [0, 1, SMALLEST_CHUNK, SMALLEST_CHUNK + 1, 1_000] {
            let (slots, claim, grower) = growing(at_first);
            let address = |claim: &Claim| slots.first(claim).map(ptr::from_ref);
            let (mut claims, mut addresses) = (vec![claim], Vec::new());
            for item in at_first..5_000 {
                claims.push(grower.fill(item).unwrap());
                addresses.push(address(&claims[claims.len() - 1]));
            }
            assert!(claims[1..].iter().map(address).eq(addresses), "an item has moved");
            for claim in claims.iter_mut().rev() {
                while let Some(item) = slots.first(claim) {
                    let value = item * 2;
                    slots.decide(claim, Ok(value), || ());
                }
            }
            assert!(texts(slots, claims).into_iter().eq((0..5_000).map(|item| (item * 2).to_string())));
        }
    }

    #[test]
    fn an_item_for_which_there_is_no_memory_comes_back_and_the_others_are_kept() {
        let (slots, claim, _) = growing(SMALLEST_CHUNK);
        let item = Layout::from_size_align(1 << (usize::BITS - 8), 8).unwrap();
        let filled = Mutex::new(Filled { slots: SMALLEST_CHUNK, spare: None });
        let made = (0..usize::BITS).map(|_| OnceLock::new()).collect();
        let full = Chunks { made, first: SMALLEST_CHUNK, item, outcome: item, filled };
        let grower = Grower::<usize> { chunks: Arc::new(full), items: PhantomData };
        assert_eq!(grower.fill(7), Err(7));
        assert_eq!(texts(slots, vec![claim]), ["-"; SMALLEST_CHUNK]);
    }

    #[test]
    fn items_without_a_size_grow_too() {
        let (slots, claim, grower) = Slots::<(), u8, String>::growing(vec![(); 3]).unwrap();
        let claims: Vec<_> = [claim].into_iter().chain((0..100).map(|_| grower.fill(()).unwrap())).collect();
        let (items, outcomes) = slots.into_parts(claims, |_| Err(ItemError::Skipped));
        assert_eq!((items.len(), outcomes.len()), (103, 103));
    }

    #[test]
    fn outcomes_are_dropped_once_whether_they_are_looked_at_or_not() {
        let counted = Rc::new(());
        let values = || (0..9).map(|_| Ok::<_, ItemError<Rc<()>>>(Rc::clone(&counted))).collect::<Vec<_>>();
        drop(Outcomes::new(values(), false));
        let mut errors: Vec<Outcome<u8, Rc<()>>> = vec![Ok(1)];
        errors.push(Err(ItemError::Failed(Rc::clone(&counted))));
        drop(Outcomes::new(errors, true));
        assert_eq!(Rc::strong_count(&counted), 1);
        let plain = || Outcomes::<u64, String>::new((0..9).map(Ok).collect(), false);
        drop(plain());
        assert_eq!(plain().as_slice().len(), 9);
        assert!(plain().into_vec().into_iter().map(Result::unwrap).eq(0..9));
        assert!(Outcomes::<(), ()>::new(Vec::new(), false).into_vec().is_empty());
    }
}
