//! What is scarce: a rate, slots, or one of these for each key. What an item takes of it is said here; how items wait for it is
//! the engine's.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use crate::listeners::{Changed, Listener, Listeners};
use crate::rate_limit::RateLimiter;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A limit for items: permits of a rate, which they need before they start, or slots, which they hold while they run.
///
/// A batch may have any number of limits, and an item starts when it has what it needs of all of them. An item that
/// waits holds no worker and no slot (but for the last millisecond), and no permit of another limit longer than it must:
/// items that may run go first. Among items that wait for the same limit, or for the same key, input order holds; one
/// that is tried again takes turns with them. Each attempt needs its permits and slots anew; slots are given back when
/// the attempt ends, also by a panic.
///
/// ```
/// use batch_executor::{BatchExecutor, Limit, RateLimit};
///
/// struct Prompt { model: &'static str, tokens: u64 }
/// let prompts = [Prompt { model: "small", tokens: 900 }, Prompt { model: "large", tokens: 40 }];
///
/// let executor = BatchExecutor::builder().workers(8).build()?;
/// let result = executor
///     .batch(&prompts)
///     .limit(Limit::per_key(|prompt: &&Prompt| prompt.model, |_| Limit::rate(RateLimit::per_minute(500))))
///     .limit(Limit::rate(RateLimit::per_minute(60_000).burst(60_000)).cost(|prompt: &&Prompt| prompt.tokens))
///     .limit(Limit::at_once(4))
///     .run(|prompt| Ok::<_, String>(prompt.tokens));
/// assert!(result.is_success());
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
///
/// # Cost
///
/// Without a limit, nothing. An item that need not wait costs a lock and a question to each limiter; an item that waits
/// costs a place in a sorted line. A limit by key keeps one limit for each key that is in use. With 64 keys or more, the
/// batch forgets a key of which no item waits or runs, and whose rate has recovered. It keeps until its end: a limiter of
/// your own, one that has learnt something, and a [`Concurrency`] that others have.
pub struct Limit<'a, I> {
    kind: Kind<'a, I>,
    cost: Option<Cost<'a, I>>,
    name: Option<Arc<str>>,
    /// Where the engine keeps what it knows of it.
    meter: AtomicUsize,
}

type Cost<'a, I> = Box<dyn Fn(&I) -> u64 + Send + Sync + 'a>;

enum Kind<'a, I> {
    Rate(Arc<dyn RateLimiter + 'a>),
    AtOnce(Concurrency),
    PerKey(Box<dyn PerKey<'a, I> + 'a>),
}

/// No meter has this number.
const NO_METER: usize = usize::MAX;

impl<'a, I> Limit<'a, I> {
    /// Permits of a rate: each start takes one, or its [`cost`](Limit::cost).
    ///
    /// A reference or an [`Arc`] serves, too: then one limiter can serve many batches.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Limit, RateLimit};
    ///
    /// let tokens = RateLimit::per_second(1_000_000);
    /// let result = BatchExecutor::new()
    ///     .batch(["a long text", "a"])
    ///     .limit(Limit::rate(&tokens).cost(|text: &&str| text.len() as u64))
    ///     .run(|text| Ok::<_, String>(text.len()));
    /// assert!(result.is_success());
    /// ```
    #[must_use]
    pub fn rate(limiter: impl RateLimiter + 'a) -> Self {
        Self::of(Kind::Rate(Arc::new(limiter)))
    }

    /// Slots: an item takes one, or its [`cost`](Limit::cost), and gives it back when its attempt ends.
    ///
    /// A number is for this batch alone. A [`Concurrency`] is for all batches that have a clone of it.
    ///
    /// An item that costs more than all slots runs when no other item holds one.
    ///
    /// # Panics
    ///
    /// If the number is 0.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Concurrency, Limit};
    ///
    /// let connections = Concurrency::new(2);
    /// let executor = BatchExecutor::builder().workers(8).build()?;
    /// let result = executor.batch(0..100).limit(Limit::at_once(&connections)).run(|n| {
    ///     assert!(connections.in_use() <= 2);
    ///     Ok::<_, String>(n * 2)
    /// });
    /// assert!(result.is_success());
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn at_once(slots: impl Into<Concurrency>) -> Self {
        Self::of(Kind::AtOnce(slots.into()))
    }

    /// A limit for each key: `limit` makes it when an item is the first with its key. Items of other keys do not wait for it.
    ///
    /// The batch may [forget](Limit#cost) the limit of a key that no item needs, and call `limit` again when the key comes back.
    ///
    /// Workers call both functions, one call at a time. A panic of either is the outcome of the item.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Limit};
    ///
    /// let urls = ["https://a.example/1", "https://b.example/1", "https://a.example/2"];
    /// let host = |url: &&str| url.split('/').nth(2).unwrap_or_default().to_owned();
    /// let executor = BatchExecutor::builder().workers(16).build()?;
    /// let result = executor
    ///     .batch(urls)
    ///     .limit(Limit::per_key(host, |_| Limit::at_once(2)))           // two for each host
    ///     .run(|url| Ok::<_, String>(url.len()));
    /// assert!(result.is_success());
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    #[must_use]
    pub fn per_key<'l: 'a, K: Eq + Hash + Send + 'a>(
        key: impl Fn(&I) -> K + Send + Sync + 'a,
        limit: impl Fn(&K) -> Limit<'l, I> + Send + Sync + 'a,
    ) -> Self
    where
        I: 'a,
    {
        let made = Mutex::new(Made { of: HashMap::new(), sweep_at: LEAST_KEYS });
        let limit = move |key: &K| limit(key).shortened();
        Self::of(Kind::PerKey(Box::new(Keyed { key, limit, made })))
    }

    /// How many permits, or slots, an item takes. Default 1; 0 takes none, and does not wait.
    ///
    /// On a limit by key it holds for the limits of all keys that have no cost of their own. The batch calls `cost` before each
    /// attempt. Its panic is the outcome of the item.
    #[must_use]
    pub fn cost(mut self, cost: impl Fn(&I) -> u64 + Send + Sync + 'a) -> Self {
        self.cost = Some(Box::new(cost));
        self
    }

    /// The name of the limit in a timeline: in [`Span::waited_for`](crate::Span::waited_for), in its page
    /// and in its trace. Default: `rate` or `at_once`.
    ///
    /// On a limit by key it holds for the limits of all keys that have no name of their own. The batch
    /// looks the name up only if it records a timeline, and only when an item has waited.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Limit, RateLimit, TestClock};
    ///
    /// let urls = ["https://a.example/1", "https://a.example/2"];
    /// let host = |url: &&str| url.split('/').nth(2).unwrap_or_default().to_owned();
    /// let of_host = |host: &String| Limit::rate(RateLimit::per_minute(6)).named(host.as_str());
    /// let executor = BatchExecutor::builder().clock(TestClock::new()).build()?;     // waits take no time
    /// let result = executor
    ///     .batch(urls)
    ///     .limit(Limit::per_key(host, of_host))
    ///     .record_timeline()
    ///     .run(|url| Ok::<_, String>(url.len()));
    /// let waited: Vec<_> = result.timeline().unwrap().spans().iter().map(|span| span.waited_for()).collect();
    /// assert_eq!(waited, [None, Some("a.example")]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    fn of(kind: Kind<'a, I>) -> Self {
        Limit { kind, cost: None, name: None, meter: AtomicUsize::new(NO_METER) }
    }

    /// The same limit, in a batch that does not last as long.
    pub(crate) fn shortened<'s>(self) -> Limit<'s, I>
    where
        'a: 's,
        I: 's,
    {
        let Limit { kind, cost, name, meter } = self;
        let cost = cost.map(|cost| cost as Cost<'s, I>);
        let kind = match kind {
            Kind::Rate(limiter) => Kind::Rate(limiter),
            Kind::AtOnce(slots) => Kind::AtOnce(slots),
            Kind::PerKey(keys) => Kind::PerKey(Box::new(Shortened(keys))),
        };
        Limit { kind, cost, name, meter }
    }

    /// Tells what the item needs of it: of which meter, and how much; `cost`, unless the limit says something else.
    pub(crate) fn demands(
        &self,
        item: &I,
        cost: u64,
        meters: &mut dyn MakeMeter<'a>,
        add: &mut dyn FnMut(usize, u64),
    ) {
        let cost = self.cost.as_ref().map_or(cost, |own| own(item));
        match &self.kind {
            Kind::PerKey(keys) => match &self.name {
                Some(name) => keys.demands(item, cost, &mut Named { meters, name }, add),
                None => keys.demands(item, cost, meters, add),
            },
            _ if cost == 0 => {}
            _ => add(self.meter(meters), cost),
        }
    }

    /// Whether every item needs it, and the same of it.
    pub(crate) fn is_for_all(&self) -> bool {
        self.cost.is_none() && !matches!(self.kind, Kind::PerKey(_))
    }

    /// The meter of a limit that is not by key.
    pub(crate) fn meter(&self, meters: &mut dyn MakeMeter<'a>) -> usize {
        let meter = self.meter.load(Ordering::Relaxed);
        if meter != NO_METER {
            return meter;
        }
        let meter = match &self.kind {
            Kind::Rate(limiter) => meters.make(Scarce::Permits(limiter.clone()), self.name.clone()),
            Kind::AtOnce(slots) => meters.make(Scarce::Slots(slots.clone()), self.name.clone()),
            Kind::PerKey(_) => unreachable!("a limit by key has no meter of its own"),
        };
        self.meter.store(meter, Ordering::Relaxed);
        meter
    }

    /// Whether nothing needs it any more, and it could be made anew. Then its meters are gone.
    fn is_unused(&self, meters: &mut dyn MakeMeter<'a>) -> bool {
        match (&self.kind, self.meter.load(Ordering::Relaxed)) {
            (Kind::PerKey(keys), _) => keys.are_unused(meters),
            (_, NO_METER) => true,
            (_, meter) => meters.drop_if_unused(meter),
        }
    }
}

/// What a batch shares of a limit that is not by key.
pub(crate) enum Scarce<'a> {
    Permits(Arc<dyn RateLimiter + 'a>),
    Slots(Concurrency),
}

/// Keeps what a batch knows of each limit.
pub(crate) trait MakeMeter<'a> {
    /// The number of a new meter, of a limit that may have a name.
    fn make(&mut self, scarce: Scarce<'a>, name: Option<Arc<str>>) -> usize;

    /// Drops the meter if nothing needs it, and a new one would do the same.
    fn drop_if_unused(&mut self, meter: usize) -> bool;
}

impl<I> fmt::Debug for Limit<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Rate(_) => "rate",
            Kind::AtOnce(_) => "at_once",
            Kind::PerKey(_) => "per_key",
        };
        f.debug_struct("Limit")
            .field("kind", &kind)
            .field("name", &self.name)
            .field("has_cost", &self.cost.is_some())
            .finish()
    }
}

/// A limit for each key, whatever the keys are.
trait PerKey<'a, I>: Send + Sync {
    /// As [`Limit::demands`], of the limit of the item's key. Forgets limits that are not used, now and then.
    fn demands(&self, item: &I, cost: u64, meters: &mut dyn MakeMeter<'a>, add: &mut dyn FnMut(usize, u64));

    /// Forgets limits that are not used; whether none is left.
    fn are_unused(&self, meters: &mut dyn MakeMeter<'a>) -> bool;
}

struct Keyed<'a, I, K, F, G> {
    key: F,
    limit: G,
    made: Mutex<Made<K, Limit<'a, I>>>,
}

struct Made<K, L> {
    of: HashMap<K, L>,
    /// With this many, those that are not used are looked for.
    sweep_at: usize,
}

/// Fewer keys than this are not worth a look.
const LEAST_KEYS: usize = 64;

impl<'a, I, K, F, G> PerKey<'a, I> for Keyed<'a, I, K, F, G>
where
    K: Eq + Hash + Send,
    F: Fn(&I) -> K + Send + Sync,
    G: Fn(&K) -> Limit<'a, I> + Send + Sync,
{
    fn demands(&self, item: &I, cost: u64, meters: &mut dyn MakeMeter<'a>, add: &mut dyn FnMut(usize, u64)) {
        let key = (self.key)(item);
        let mut made = self.made.lock();
        if made.of.len() >= made.sweep_at && !made.of.contains_key(&key) {
            made.of.retain(|_, limit| !limit.is_unused(meters));
            let left = made.of.len();
            made.of.shrink_to(2 * left);
            made.sweep_at = (2 * left).max(LEAST_KEYS);
        }
        made.of.entry(key).or_insert_with_key(&self.limit).demands(item, cost, meters, add);
    }

    fn are_unused(&self, meters: &mut dyn MakeMeter<'a>) -> bool {
        let mut made = self.made.lock();
        made.of.retain(|_, limit| !limit.is_unused(meters));
        made.of.is_empty()
    }
}

/// A limit by key that outlives the batch.
struct Shortened<'l, I>(Box<dyn PerKey<'l, I> + 'l>);

impl<'a, 'l: 'a, I> PerKey<'a, I> for Shortened<'l, I> {
    fn demands(&self, item: &I, cost: u64, meters: &mut dyn MakeMeter<'a>, add: &mut dyn FnMut(usize, u64)) {
        self.0.demands(item, cost, &mut Longer(meters), add);
    }

    fn are_unused(&self, meters: &mut dyn MakeMeter<'a>) -> bool {
        self.0.are_unused(&mut Longer(meters))
    }
}

struct Longer<'m, 'a>(&'m mut dyn MakeMeter<'a>);

impl<'a, 'l: 'a> MakeMeter<'l> for Longer<'_, 'a> {
    fn make(&mut self, scarce: Scarce<'l>, name: Option<Arc<str>>) -> usize {
        self.0.make(scarce, name)
    }

    fn drop_if_unused(&mut self, meter: usize) -> bool {
        self.0.drop_if_unused(meter)
    }
}

/// Meters that have this name, unless they have one of their own.
struct Named<'m, 'a> {
    meters: &'m mut dyn MakeMeter<'a>,
    name: &'m Arc<str>,
}

impl<'a> MakeMeter<'a> for Named<'_, 'a> {
    fn make(&mut self, scarce: Scarce<'a>, name: Option<Arc<str>>) -> usize {
        self.meters.make(scarce, name.or_else(|| Some(Arc::clone(self.name))))
    }

    fn drop_if_unused(&mut self, meter: usize) -> bool {
        self.meters.drop_if_unused(meter)
    }
}

/// Slots that batches share: all batches that have a clone of it use no more than this many at the same time.
///
/// No batch waits behind another one: free slots go to the batch that asks first. So a batch inside an item's operation may
/// use the same slots, as long as one is left.
///
/// ```
/// use batch_executor::{BatchExecutor, Concurrency, Limit};
/// use std::thread;
///
/// let (executor, to_the_server) = (BatchExecutor::builder().workers(8).build()?, Concurrency::new(3));
/// thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             let batch = executor.batch(0..50).limit(Limit::at_once(&to_the_server));
///             assert!(batch.run(|n| Ok::<_, String>(n + 1)).is_success());         // three at once, of both
///         });
///     }
/// });
/// assert_eq!(to_the_server.in_use(), 0);
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Concurrency {
    shared: Arc<Shared>,
}

struct Shared {
    slots: Mutex<Slots>,
    listeners: Listeners,
}

#[derive(Debug, Clone, Copy)]
struct Slots {
    limit: u64,
    in_use: u64,
}

impl Concurrency {
    /// This many slots.
    ///
    /// # Panics
    ///
    /// If `slots` is 0: no item that needs one would ever start.
    #[must_use]
    #[track_caller]
    pub fn new(slots: u64) -> Self {
        assert!(slots > 0, "a limit of 0 at once would never let anything start: use at least 1");
        let slots = Mutex::new(Slots { limit: slots, in_use: 0 });
        Concurrency { shared: Arc::new(Shared { slots, listeners: Listeners::default() }) }
    }

    /// Changes the number of slots, also while batches use them. Items that run keep theirs, so for a while more may be in use than
    /// this number. With 0, no item that needs a slot starts until there are more.
    pub fn set(&self, slots: u64) {
        self.shared.slots.lock().limit = slots;
        self.shared.listeners.tell(Changed::Slots);
    }

    /// How many slots are in use now.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.shared.slots.lock().in_use
    }

    /// Whether both have the same slots.
    pub(crate) fn is_same(&self, other: &Concurrency) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether there are clones of it beside that in one limit and that of the batch which has this limit.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.shared) > 2
    }

    pub(crate) fn has_room(&self, slots: u64) -> bool {
        self.shared.slots.lock().has_room(slots)
    }

    /// Takes this many, if there are.
    pub(crate) fn try_take(&self, slots: u64) -> bool {
        let mut state = self.shared.slots.lock();
        let has_room = state.has_room(slots);
        if has_room {
            state.in_use = state.in_use.saturating_add(slots);
        }
        has_room
    }

    /// Gives back what was taken, and tells the batches that wait.
    pub(crate) fn give_back(&self, slots: u64) {
        {
            let mut state = self.shared.slots.lock();
            state.in_use = state.in_use.saturating_sub(slots);
        }
        if self.is_shared() {
            self.shared.listeners.tell(Changed::Slots);
        }
    }

    /// The batch hears when there may be room.
    pub(crate) fn listen(&self, listener: Listener) {
        self.shared.listeners.add(listener);
    }
}

impl Slots {
    /// What costs more than all there are runs alone.
    fn has_room(self, slots: u64) -> bool {
        let is_alone = self.in_use == 0 && self.limit > 0;
        is_alone || self.in_use.checked_add(slots).is_some_and(|sum| sum <= self.limit)
    }
}

impl From<usize> for Concurrency {
    /// # Panics
    ///
    /// If the number is 0.
    #[track_caller]
    fn from(slots: usize) -> Self {
        Concurrency::new(slots as u64)
    }
}

impl From<&Concurrency> for Concurrency {
    fn from(concurrency: &Concurrency) -> Self {
        concurrency.clone()
    }
}

impl fmt::Debug for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Slots { limit, in_use } = *self.shared.slots.lock();
        f.debug_struct("Concurrency").field("slots", &limit).field("in_use", &in_use).finish()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_as_long_as_there_are_any() {
        let slots = Concurrency::new(3);
        assert!(slots.try_take(2) && !slots.try_take(2) && slots.try_take(1));
        slots.give_back(2);
        assert_eq!(slots.in_use(), 1);
        assert!(slots.has_room(2) && !slots.has_room(3));
    }

    #[test]
    fn what_costs_more_than_all_slots_has_room_when_nothing_else_has_one() {
        let slots = Concurrency::new(3);
        assert!(slots.try_take(9) && !slots.has_room(1));
        slots.give_back(9);
        assert!(slots.try_take(1) && !slots.has_room(9));
    }

    #[test]
    fn with_none_left_nothing_starts_and_with_more_it_does() {
        let slots = Concurrency::new(1);
        slots.set(0);
        assert!(!slots.has_room(1) && !slots.has_room(9));
        slots.set(2);
        assert!(slots.try_take(1) && slots.try_take(1));
        slots.set(1);
        assert_eq!(slots.in_use(), 2, "what runs goes on");
    }

    #[test]
    #[should_panic(expected = "use at least 1")]
    fn none_at_once_is_refused() {
        let _ = Limit::<u32>::at_once(0);
    }

    /// As many meters as were made and not dropped.
    struct Count(usize);

    impl MakeMeter<'_> for Count {
        fn make(&mut self, _: Scarce<'_>, _: Option<Arc<str>>) -> usize {
            self.0 += 1;
            self.0
        }

        fn drop_if_unused(&mut self, _: usize) -> bool {
            self.0 -= 1;
            true
        }
    }

    #[test]
    fn costs_whose_sum_is_too_large_to_count_do_not_run_together() {
        let slots = Concurrency::new(u64::MAX);
        assert!(slots.try_take(u64::MAX) && !slots.try_take(1));
        slots.give_back(u64::MAX);
        assert_eq!(slots.in_use(), 0);
    }

    #[test]
    fn keys_that_are_not_used_are_forgotten() {
        let limit = Limit::per_key(|n: &u32| *n, |_| Limit::at_once(1)).shortened();
        let mut meters = Count(0);
        for n in 0..10_000 {
            limit.demands(&n, 1, &mut meters, &mut |_, cost| assert_eq!(cost, 1));
            assert!(meters.0 <= 2 * LEAST_KEYS, "{}", meters.0);
        }
    }

    #[test]
    fn the_cost_of_a_limit_by_key_holds_for_keys_that_say_nothing() {
        let limit_of = |is_own: &bool| match is_own {
            true => Limit::at_once(1).cost(|n: &u32| u64::from(*n) * 10),
            false => Limit::at_once(1),
        };
        let limit = Limit::per_key(|n: &u32| n % 2 == 0, limit_of).cost(|n| u64::from(*n));
        let cost_of = |n| {
            let mut costs = Vec::new();
            limit.demands(&n, 1, &mut Count(0), &mut |_, cost| costs.push(cost));
            costs
        };
        assert_eq!((cost_of(2), cost_of(3), cost_of(0)), (vec![20], vec![3], vec![]));
    }
}
