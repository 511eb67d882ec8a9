//! The promises, each with the function that checks it. All of them are judged by what a caller holds afterwards.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::candidate::{Candidate, Op, Seen};

/// Nothing here takes a tenth of this, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    Broken,
    /// Still running after a time in which it could have been done many times over.
    Hangs,
    /// There is nothing of the kind in it.
    HasNone,
    /// The compiler refuses it.
    DoesNotCompile,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Kept => "✓",
            Verdict::Broken => "✗",
            Verdict::Hangs => "✗ hangs",
            Verdict::HasNone => "✗ has none",
            Verdict::DoesNotCompile => "✗ `'static`",
        })
    }
}

impl From<bool> for Verdict {
    fn from(kept: bool) -> Self {
        if kept { Verdict::Kept } else { Verdict::Broken }
    }
}

/// One row of the table, for one candidate.
pub struct Check {
    pub promise: &'static str,
    run: Run,
}

type Run = fn() -> Verdict;

impl Check {
    pub fn verdict(&self) -> Verdict {
        watched(self.run)
    }
}

/// Every row, for this candidate.
pub fn all<C: Candidate>() -> Vec<Check> {
    let rows: &[(&'static str, Run)] = &[
        ("outcomes come in input order", input_order::<C>),
        ("every outcome is kept although some fail", every_outcome::<C>),
        ("a panic in one item leaves the others' results", panic_leaves_others::<C>),
        ("a panic is an outcome with its message", panic_is_an_outcome::<C>),
        ("the error of a stopped batch is the lowest, for any number of workers", lowest_error::<C>),
        ("a stopped batch keeps what had finished", stopped_keeps::<C>),
        ("a stopped batch starts nothing more", stopped_starts_nothing::<C>),
        ("never more at once than workers", limit_holds::<C>),
        ("a batch inside an item finishes although every worker is busy", nested_finishes::<C>),
        ("items may borrow from the caller", borrows::<C>),
        ("reports progress", progress::<C>),
        ("limits the rate", rate::<C>),
        ("tries again after a back-off that holds no worker", back_off::<C>),
        ("a cancel from another thread ends the batch", cancel::<C>),
        ("outcomes of an endless input, in order, while it is read no further than a window", endless::<C>),
        ("a run that died is gone on with, by what was recorded of it", resumes::<C>),
        ("tells afterwards when each item ran, and on which worker", records::<C>),
        ("works from ordinary code, with nothing set up", bare::<C>),
    ];
    rows.iter().map(|&(promise, run)| Check { promise, run }).collect()
}

/// Runs a check on a thread that is given up if it does not come back; a panic of the candidate is a broken promise.
fn watched(check: Run) -> Verdict {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(catch_unwind(check).unwrap_or(Verdict::Broken)));
    receiver.recv_timeout(PATIENCE).unwrap_or(Verdict::Hangs)
}

fn sleep(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn op(op: impl Fn(u64) -> Result<u64, String> + Send + Sync + 'static) -> Op {
    Arc::new(op)
}

/// 16 items on 4 workers, earlier ones slower: the values are compared with the items, place by place.
fn input_order<C: Candidate>() -> Verdict {
    let earlier_is_slower = op(|id| {
        sleep(16 - id);
        Ok(id)
    });
    let seen = C::collect(4, (0..16).collect(), earlier_is_slower);
    (seen == (0..16).map(Seen::Value).collect::<Vec<_>>()).into()
}

/// 10 items on 2 workers, every other one fails: all values and all errors are there, in whatever order.
fn every_outcome<C: Candidate>() -> Verdict {
    let fails = |id: u64| if id.is_multiple_of(2) { Ok(id) } else { Err(id.to_string()) };
    let seen = C::collect(2, (0..10).collect(), op(fails));
    (seen.len() == 10 && (0..10).all(|id| seen.contains(&fails(id).into()))).into()
}

/// 10 items on 2 workers, the fifth panics.
fn one_panics<C: Candidate>() -> Vec<Seen> {
    let panics = op(|id| if id == 4 { panic!("item four") } else { Ok(id) });
    catch_unwind(AssertUnwindSafe(|| C::collect(2, (0..10).collect(), panics))).unwrap_or_default()
}

/// One of ten items panics: the nine values are there.
fn panic_leaves_others<C: Candidate>() -> Verdict {
    let seen = one_panics::<C>();
    (0..10).filter(|id| *id != 4).all(|id| seen.contains(&Seen::Value(id))).into()
}

/// One of ten items panics: what it said is among the outcomes.
fn panic_is_an_outcome<C: Candidate>() -> Verdict {
    one_panics::<C>().contains(&Seen::Panicked("item four".into())).into()
}

/// 16 items on 1, 2, 4 and 8 workers; the fourth fails slowly, all from the sixth on at once: the error is always the
/// fourth's.
fn lowest_error<C: Candidate>() -> Verdict {
    let fails = op(|id| match id {
        3 => {
            sleep(50);
            Err("3".into())
        }
        5.. => Err(id.to_string()),
        _ => Ok(id),
    });
    let error = |workers| C::stop(workers, (0..16).collect(), Arc::clone(&fails)).error;
    [1, 2, 4, 8].into_iter().all(|workers| error(workers).as_deref() == Some("3")).into()
}

/// 8 items on 2 workers; the first fails slowly, the second is done long before: the second's value is in hand.
fn stopped_keeps<C: Candidate>() -> Verdict {
    let first_fails = op(|id| {
        if id > 0 {
            return Ok(id);
        }
        sleep(100);
        Err("0".into())
    });
    C::stop(2, (0..8).collect(), first_fails).values.contains(&1).into()
}

/// 300 items of 1 ms on 2 workers, the sixth fails: a while later, most have never started.
fn stopped_starts_nothing<C: Candidate>() -> Verdict {
    let started = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&started);
    let sixth_fails = op(move |id| {
        counter.fetch_add(1, Ordering::Relaxed);
        sleep(1);
        if id == 5 { Err("5".into()) } else { Ok(id) }
    });
    drop(C::stop(2, (0..300).collect(), sixth_fails));
    sleep(600);
    (started.load(Ordering::Relaxed) < 150).into()
}

/// 60 items of 2 ms on 3 workers, counted while they run: never more than three.
fn limit_holds<C: Candidate>() -> Verdict {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, highest) = (running, Arc::clone(&most));
    let counted = op(move |id| {
        highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        sleep(2);
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(id)
    });
    let seen = C::collect(3, (0..60).collect(), counted);
    (seen.len() == 60 && most.load(Ordering::SeqCst) <= 3).into()
}

/// 2 items on 2 workers, each running a batch of 4 once both have started: all 8 inner items run.
fn nested_finishes<C: Candidate>() -> Verdict {
    (C::nested(2) == 8).into()
}

/// A batch over strings that live on this function's stack, or the word of the candidate that it does not compile.
fn borrows<C: Candidate>() -> Verdict {
    let words = ["a", "bc", "def"].map(str::to_owned);
    C::borrow(&words).map_or(Verdict::DoesNotCompile, |letters| (letters == 6).into())
}

/// 100 items: 100 calls, if it can call at all.
fn progress<C: Candidate>() -> Verdict {
    C::progress(100).map_or(Verdict::HasNone, |calls| (calls == 100).into())
}

/// 6 items, one every 20 ms: they take at least the five gaps, less a clock's grain.
fn rate<C: Candidate>() -> Verdict {
    let took = C::paced(6, Duration::from_millis(20));
    took.map_or(Verdict::HasNone, |took| (took >= Duration::from_millis(98)).into())
}

/// 40 items on 2 workers, each of which fails once and waits 100 ms: one wait, where workers that sleep would take 20.
fn back_off<C: Candidate>() -> Verdict {
    let took = C::backed_off(40, Duration::from_millis(100));
    took.map_or(Verdict::HasNone, |took| (took < Duration::from_secs(1)).into())
}

/// 300 items of 2 ms on 2 workers, cancelled after 20 ms: a while later, most have never started.
fn cancel<C: Candidate>() -> Verdict {
    let started = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&started);
    let sleeping = op(move |id| {
        counter.fetch_add(1, Ordering::Relaxed);
        sleep(2);
        Ok(id)
    });
    if C::cancelled((0..300).collect(), sleeping, Duration::from_millis(20)).is_none() {
        return Verdict::HasNone;
    }
    sleep(600);
    (started.load(Ordering::Relaxed) < 150).into()
}

/// 100 outcomes of an input without end: they are the first, in order, and not many more items than that were read.
fn endless<C: Candidate>() -> Verdict {
    let read = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    let items = (0..).inspect(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
    let outcomes = C::first_of(Box::new(items), 100);
    let is_window = read.load(Ordering::Relaxed) < 200;
    outcomes.map_or(Verdict::HasNone, |outcomes| (outcomes.into_iter().eq(0..100) && is_window).into())
}

/// Seven of ten are there from the first run, so three are run in the second.
fn resumes<C: Candidate>() -> Verdict {
    C::resumed(10, 7).map_or(Verdict::HasNone, |calls| (calls == 3).into())
}

fn records<C: Candidate>() -> Verdict {
    C::recorded(100).map_or(Verdict::HasNone, |items| (items == 100).into())
}

/// A batch of three, from a plain thread.
fn bare<C: Candidate>() -> Verdict {
    (C::bare() == [0, 1, 2]).into()
}
