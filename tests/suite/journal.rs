//! The journal of a batch: what is done is not done again, whatever the batch was and however it ended, and what does not belong
//! together is refused in words before anything runs.

#![cfg(feature = "journal")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Census, Way, assert_survived, collecting, ran_to_its_end, stopped, stopping};
use batch_executor::{
    AdaptiveWorkers, BatchExecutor, BatchItem, CancelToken, ItemContext, ItemError, Journal, JournalError,
    LimiterError, Outcome, Plan, RateLimit, Retry, RetryDecision, Shard, StopReason, TestClock, limiter_fn,
};

/// A folder of the test's own, gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("journal-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path, items: usize) -> Journal {
    Journal::open(path, Plan::of(0..items).unwrap()).unwrap()
}

/// The words behind the name of the file, which is `j`.
#[track_caller]
fn behind_name(words: &str) -> &str {
    let behind = [r"\j: ", "/j: "].iter().find_map(|name| words.rsplit_once(name));
    behind.unwrap_or_else(|| panic!("no name of a journal: {words}")).1
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
fn number(count: usize) -> f64 {
    count as f64
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines as they were before they had checksums.
fn without_checksums(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let bare = text.lines().map(|line| line.rsplit_once(r#","sum":""#).unwrap().0);
    bare.flat_map(|line| [line, "}\n"]).collect()
}

/// Fails at first for every third.
fn fails_first(n: usize, run: usize) -> Result<usize, String> {
    if run == 1 && n % 3 == 1 { Err(format!("not {n}")) } else { Ok(n * 10 + run) }
}

#[test]
fn a_second_run_does_what_is_not_done_and_its_result_has_everything() {
    for way in Way::with_threads() {
        let (folder, executor) = (Folder::new(), way.collecting());
        let path = folder.file("j");
        for run in 1..=3 {
            let (journal, census) = (open(&path, 100), Census::of(100));
            let result = way.batch(&executor, 0..100).journal(&journal).run(|n| {
                census.count(*n);
                fails_first(*n, run)
            });
            assert_eq!(result.stopped(), None);
            let expected = |n: &usize| match (run, n % 3) {
                (1, 1) => None,
                (_, 1) => Some(n * 10 + 2),
                _ => Some(n * 10 + 1),
            };
            crate::common::assert_each_outcome_at_its_index(&result, expected);
            let ran: Vec<usize> = (0..100).filter(|n| run == 1 || run == 2 && n % 3 == 1).collect();
            assert_eq!(census.ran(), ran, "{way:?}, run {run}");
            assert_eq!((result.succeeded(), result.failed()), if run == 1 { (67, 33) } else { (100, 0) });
            assert_eq!(journal.done(), result.succeeded());
        }
        assert_eq!(lines(&path).len(), 1 + 100 + 33);
        assert_survived(executor);
    }
}

#[test]
fn what_is_done_asks_for_no_permit_and_has_no_span() {
    let folder = Folder::new();
    for (run, expected) in [(1, 30), (2, 10)] {
        let permits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&permits);
        let limiter = limiter_fn(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, LimiterError>(Duration::ZERO)
        });
        let executor = BatchExecutor::builder().workers(2).stop_on_error(false).rate_limiter(limiter);
        let (executor, journal) = (executor.build().unwrap(), open(&folder.file("j"), 30));
        let batch = executor.batch(0..30).journal(&journal).record_timeline();
        let result = ran_to_its_end(batch.run(|n| fails_first(*n, run)));
        assert_eq!(
            (permits.load(Ordering::SeqCst), result.timeline().unwrap().attempts()),
            (expected, expected)
        );
    }
}

#[test]
fn failures_of_an_earlier_run_stay_if_that_is_wanted_and_refusals_never_do() {
    let folder = Folder::new();
    let path = folder.file("j");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let limiter = limiter_fn(move || match counted.fetch_add(1, Ordering::SeqCst) {
        3 => Err(LimiterError::new("no")),
        _ => Ok(Duration::ZERO),
    });
    let executor = BatchExecutor::builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
    let run = |journal: &Journal| {
        let batch = executor.batch(0..5).journal(journal);
        batch.run(|n| match n {
            1 => Err("one"),
            2 => panic!("two"),
            n => Ok(*n),
        })
    };
    let first = ran_to_its_end(run(&open(&path, 5)));
    assert!(matches!(first.outcomes()[3], Err(ItemError::RateLimiter(_))));
    let merged = Journal::merge::<usize, usize>([&path]).unwrap().result;
    assert!(matches!(&merged.outcomes()[3], Err(ItemError::RateLimiter(error)) if error.to_string() == "no"));
    assert!(matches!(merged.outcomes()[1], Err(ItemError::Failed(_))));
    assert!(matches!(&merged.outcomes()[2], Err(ItemError::FailedEarlier(text)) if text == "panicked: two"));
    let second = ran_to_its_end(run(&open(&path, 5).retry_failed(false)));
    let texts: Vec<_> = second.failures().map(|failure| (*failure.item, failure.error.to_string())).collect();
    assert_eq!(texts, [(1, "one".to_owned()), (2, "panicked: two".to_owned())]);
    assert!(second.failures().all(|failure| matches!(failure.error, ItemError::FailedEarlier(_))));
    assert_eq!(calls.load(Ordering::SeqCst), 5 + 1, "only the one without a permit asked again");
    let third = ran_to_its_end(run(&open(&path, 5)));
    assert!(matches!(third.outcomes()[2], Err(ItemError::Panicked(_))), "they are run again by default");
}

#[test]
fn failures_that_were_recorded_count_as_recorded() {
    let folder = Folder::new();
    let path = folder.file("j");
    for recorded in [0, 4] {
        let (executor, mut told) = (collecting(1), None);
        let journal = open(&path, 4).retry_failed(false);
        let batch = executor.batch(0..4).journal(&journal).on_progress(|p| told = Some(p.recorded));
        let result = batch.run(|n| if n % 2 == 0 { Ok(*n) } else { Err("odd".to_owned()) });
        assert_eq!((result.failed(), told), (2, Some(recorded)));
    }
}

/// The first ten had no permit in the first run, the others failed in it. Of the second run, ten seconds are work.
#[test]
fn what_is_left_is_what_has_no_outcome_in_the_journal() {
    let folder = Folder::new();
    let path = folder.file("j");
    let asked = AtomicUsize::new(0);
    let limiter = limiter_fn(move || match asked.fetch_add(1, Ordering::SeqCst) {
        0..10 => Err(LimiterError::new("no")),
        _ => Ok(Duration::ZERO),
    });
    let executor =
        BatchExecutor::builder().workers(1).stop_on_error(false).rate_limiter(limiter).build().unwrap();
    drop(ran_to_its_end(executor.batch(0..20).journal(&open(&path, 20)).run(|_| Err::<usize, _>("no"))));

    let (journal, mut etas) = (open(&path, 20).retry_failed(false), Vec::new());
    let executor = BatchExecutor::builder().workers(1).stop_on_error(false).clock(TestClock::new());
    let executor = executor.rate_limiter(RateLimit::per_second(1)).build().unwrap();
    let batch = executor.batch(0..20).journal(&journal).on_progress(|p| etas.push(p.eta()));
    assert_eq!(ran_to_its_end(batch.run(|n| Ok::<_, String>(*n))).succeeded(), 10);
    let halfway = etas[4].expect("some have run");
    let seconds = halfway.as_secs_f64();
    assert!((3.0..7.0).contains(&seconds), "{seconds} s for 5 items of 1 s");
}

/// Of the 20 items of this shard the last ten are recorded; the others take a second each.
#[test]
fn what_is_left_of_a_shard_is_what_has_no_outcome_in_its_journal() {
    let folder = Folder::new();
    let (path, shard) = (folder.file("j"), Shard::new(1, 2).unwrap());
    let journal = || Journal::open(&path, Plan::of(0..40).unwrap().shard(shard)).unwrap();
    let mine = || shard.select(0..40).map(|(_, n)| n);
    let op = |n: &i32| if *n < 20 { Err("down") } else { Ok(*n) };
    drop(ran_to_its_end(collecting(1).batch(mine()).journal(&journal()).run(op)));

    let (journal, mut etas) = (journal(), Vec::new());
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new());
    let executor = executor.rate_limiter(RateLimit::per_second(1)).build().unwrap();
    let batch = executor.batch(mine()).journal(&journal).on_progress(|p| etas.push(p.eta()));
    assert!(ran_to_its_end(batch.run(|n| Ok::<_, String>(*n))).is_success());
    let seconds = etas[4].expect("some have run").as_secs_f64();
    assert!((3.0..7.0).contains(&seconds), "{seconds} s for 5 items of 1 s");
}

/// The first pause of an item that alone is refused costs no delay. The server did not serve the items that the journal has.
#[test]
fn an_item_that_is_refused_in_a_resumed_run_is_refused_for_all() {
    let folder = Folder::new();
    let path = folder.file("j");
    let run = |refusals: usize| {
        let refused = AtomicUsize::new(0);
        let retry = Retry::delays(|| iter::once(Duration::from_millis(1)))
            .when(|_: &&str| RetryDecision::PauseAll(Duration::from_millis(1)));
        let journal = open(&path, 6);
        let executor = collecting(1);
        let batch = executor.batch(0..6).journal(&journal).retry(retry);
        let count = |n: &usize| *n == 0 && refused.fetch_add(1, Ordering::SeqCst) < refusals;
        ran_to_its_end(batch.run(|n| if count(n) { Err("429") } else { Ok(*n) }))
    };
    assert_eq!(run(usize::MAX).failed(), 1);
    assert!(run(2).is_success(), "one free pause and one delay");
}

#[test]
fn a_recorded_failure_stops_a_batch_that_stops_on_failures() {
    let folder = Folder::new();
    let path = folder.file("j");
    let op = |n: &usize| if *n == 4 { Err("four") } else { Ok(*n) };
    let (reason, _) = stopped(stopping(2).batch(0..50).journal(&open(&path, 50)).run(op));
    assert_eq!(reason, StopReason::ItemFailed { index: 4 });
    let journal = open(&path, 50).retry_failed(false);
    let (reason, partial) = stopped(stopping(2).batch(0..50).journal(&journal).run(op));
    assert_eq!(reason, StopReason::ItemFailed { index: 4 });
    assert!(matches!(&partial.outcomes()[4], Err(ItemError::FailedEarlier(text)) if text == "four"));
}

#[test]
fn attempts_are_those_of_the_run_in_which_an_item_was_decided() {
    let folder = Folder::new();
    let path = folder.file("j");
    for run in 1..=2 {
        let retry = Retry::delays(|| [Duration::ZERO; 3].into_iter());
        let journal = open(&path, 6);
        let executor = collecting(2);
        let batch = executor.batch(0..6_usize).retry(retry).journal(&journal);
        let result = ran_to_its_end(batch.run_with(|n, cx| {
            assert_eq!(run, 1, "all is done");
            if cx.attempt() <= n % 3 { Err("again") } else { Ok(*n) }
        }));
        assert_eq!((0..6).map(|n| result.attempts(n)).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
    }
    assert_eq!(lines(&path).len(), 7, "a line an item, not an attempt");
}

#[test]
fn steps_come_in_any_order() {
    let folder = Folder::new();
    let journal = open(&folder.file("j"), 3);
    let retry = || Retry::delays(|| [Duration::ZERO].into_iter());
    let executor = collecting(2);
    let one = executor.batch(0..3_usize).journal(&journal).retry(retry());
    let other = executor.batch(0..3_usize).retry(retry()).journal(&journal);
    let run = one.run_init(String::new, |n, _| Ok::<_, String>(*n));
    assert_eq!(ran_to_its_end(run).succeeded(), 3);
    let run = other.run_init(String::new, |_, _| Err::<usize, _>("nothing is left".to_owned()));
    assert_eq!(ran_to_its_end(run).succeeded(), 3, "on the same journal");
}

#[test]
fn a_stream_goes_on_where_it_was_however_long_its_input() {
    for way in Way::with_threads() {
        let (folder, executor) = (Folder::new(), way.stopping());
        let path = folder.file("j");
        let census = Census::of(10_000);
        for (run, wanted) in [(1, 40), (2, 100)] {
            let journal = Journal::open(&path, Plan::named("endless")).unwrap();
            let streamed = way.batch(&executor, 0..10_000_usize).window(20).journal(&journal).stream(
                |n| {
                    census.count(*n);
                    Ok::<_, String>((*n, run))
                },
                |results| results.take(wanted).map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
            );
            assert!(streamed.output.iter().map(|(n, _)| *n).eq(0..wanted), "{way:?}");
            assert!(
                streamed.output.iter().take(40).all(|(_, run)| *run == 1),
                "they were handed on by the first"
            );
            assert!(streamed.stopped.is_none());
            census.assert_none_ran_twice();
            assert_eq!(journal.done(), census.total(), "{way:?}");
        }
    }
}

#[test]
fn of_two_items_with_one_id_the_plan_says_so_and_so_does_a_batch_whose_plan_knows_none() {
    let error = Plan::of(["a", "b", "c", "b"]).unwrap_err();
    assert!(matches!(error, JournalError::DuplicateId { first: 1, second: 3, .. }), "{error}");

    let (folder, census) = (Folder::new(), Census::of(1));
    let journal = Journal::open(folder.file("j"), Plan::named("words")).unwrap();
    let executor = stopping(2);
    let op = |_: &&str| {
        census.count(0);
        Ok::<_, String>(())
    };
    let (reason, partial) = stopped(executor.batch(["a", "b", "c", "b"]).journal(&journal).run(op));
    assert_eq!((reason, partial.skipped(), census.total()), (StopReason::Journal, 4, 0), "nothing has run");
    let expected = r#"items 1 and 3 have the same id "b"; each item of a journal needs an id of its own"#;
    assert!(partial.journal_error().unwrap().ends_with(expected), "{partial:?}");
    let words = partial.into_result().unwrap_err().to_string();
    assert!(words.contains(expected), "{words}");

    // It stops when the fourth comes. Of several workers, others may not have started the items before it then.
    for executor in [&executor, &stopping(1)] {
        let streamed =
            executor.batch(["a", "b", "c", "b"]).journal(&journal).stream(op, |results| results.count());
        assert!(streamed.output == 3 || streamed.output < 3 && executor.workers_for(4) > 1, "{streamed:?}");
        assert_eq!(streamed.stopped, Some(StopReason::Journal));
        assert!(streamed.journal_error().unwrap().ends_with(expected));
    }
    drop(journal);
    assert_survived(executor);
}

#[test]
fn of_two_items_of_a_shard_with_one_id_the_batch_names_the_places_among_all_items() {
    let folder = Folder::new();
    let plan = Plan::named("words").shard(Shard::new(1, 3).unwrap());
    let journal = Journal::open(folder.file("j"), plan).unwrap();
    let executor = stopping(2);
    let result = executor.batch(["a", "b", "b"]).journal(&journal).run(|_| Ok::<_, String>(()));
    let error = result.journal_error().unwrap();
    assert!(error.contains(r#"items 4 and 7 have the same id "b""#), "{error}");
}

/// Why this batch of a journal for five numbers does not run.
#[track_caller]
fn refusal(items: impl IntoIterator<Item = usize>) -> String {
    let folder = Folder::new();
    let journal = open(&folder.file("j"), 5);
    let result = stopping(2).batch(items).journal(&journal).run(|_| panic!("it runs") as Result<(), String>);
    let (reason, partial) = stopped(result);
    assert_eq!((reason, partial.total()), (StopReason::Journal, partial.skipped()));
    let words = partial.journal_error().unwrap().to_owned();
    behind_name(&words).to_owned()
}

#[test]
fn a_batch_of_other_items_than_the_plans_is_refused() {
    assert_eq!(refusal(0..4), "the plan has 5 items for this batch, which has 4");
    assert_eq!(refusal(0..6), "the plan has 5 items for this batch, which has 6");
    assert_eq!(refusal([0, 1, 3, 2, 4]), "item 2 is 3, which the plan does not have there");
    assert_eq!(refusal([0, 1, 2, 3, 9]), "item 4 is 9, which the plan does not have there");
}

#[test]
fn where_the_plan_knows_no_ids_those_that_were_recorded_are_compared() {
    let folder = Folder::new();
    let path = folder.file("j");
    let run = |items: [&'static str; 3]| {
        let journal = Journal::open(&path, Plan::named("n")).unwrap();
        collecting(1).batch(items).journal(&journal).run(|item| Ok::<_, String>(item.len()))
    };
    assert_eq!(ran_to_its_end(run(["a", "b", "c"])).succeeded(), 3);
    let (_, partial) = stopped(run(["a", "x", "c"]));
    assert!(partial.journal_error().unwrap().ends_with(r#"item 1 is "x", and was "b" when it was recorded"#));
}

/// What is said of a file that was begun with one plan and is opened with another; and it stays as it is.
#[track_caller]
fn conflict(one: Plan, other: Plan) -> String {
    let folder = Folder::new();
    let path = folder.file("j");
    drop(Journal::open(&path, one).unwrap());
    let before = fs::read(&path).unwrap();
    let error = Journal::open(&path, other).unwrap_err();
    assert!(matches!(error, JournalError::Other { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    behind_name(&error.to_string()).to_owned()
}

#[test]
fn another_plan_another_shard_and_another_number_of_shards_are_refused() {
    let plan = |items: usize| Plan::of(0..items).unwrap();
    let shard = |index, count| plan(9).shard(Shard::new(index, count).unwrap());
    assert_eq!(conflict(shard(0, 3), shard(0, 4)), "it is one of 3 shards, and this run one of 4");
    assert_eq!(conflict(shard(0, 3), shard(1, 3)), "it is that of shard 0/3, and this run is shard 1/3");
    let words = conflict(plan(9), plan(8));
    assert!(
        words.starts_with("it was begun for other items: its plan is ") && words.contains("(9 items)"),
        "{words}"
    );
    let swapped = Plan::of([1, 0, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let words = conflict(plan(9), swapped);
    assert!(words.starts_with("it was begun for other items"), "the order counts: {words}");
    assert!(!words.contains("HashSet"), "no item is a list: {words}");
    let words = conflict(Plan::named("may"), Plan::named("june"));
    assert_eq!(words, "it was begun for other items: its plan is may, that of this run june");
    let words = conflict(Plan::of([[1, 2]]).unwrap(), Plan::of([[1, 2], [3, 4]]).unwrap());
    assert!(!words.contains("HashSet"), "a set in another order is as many items: {words}");
}

#[test]
fn a_fingerprint_is_the_same_for_ever() {
    let folder = Folder::new();
    drop(Journal::open(folder.file("j"), Plan::of(["a", "b"]).unwrap()).unwrap());
    let header = &lines(&folder.file("j"))[0];
    // What other versions have written has to be found again.
    assert_eq!(header["plan"], "e4b11f58e350f504641cad98223aa543");
    assert_eq!((&header["version"], &header["items"]), (&1.into(), &2.into()));
}

#[test]
fn one_has_it_open_at_a_time() {
    let folder = Folder::new();
    let path = folder.file("j");
    let first = open(&path, 3);
    let error = Journal::open(&path, Plan::of(0..3).unwrap()).unwrap_err();
    assert_eq!(behind_name(&error.to_string()), "another run has it open");
    drop(first);
    drop(open(&path, 3));
}

#[test]
fn a_value_that_cannot_be_written_stops_the_batch_in_words_and_is_in_the_result() {
    let folder = Folder::new();
    let journal = open(&folder.file("j"), 3);
    let map = |n: &usize| Ok::<_, String>(HashMap::from([((1_u8, 2_u8), *n)]));
    let (reason, partial) = stopped(stopping(1).batch(0..3).journal(&journal).run(map));
    assert_eq!((reason, partial.succeeded(), partial.skipped()), (StopReason::Journal, 1, 2));
    let words = partial.journal_error().unwrap();
    assert!(words.contains("item 0 cannot be written: key must be a string"), "{words}");
}

#[test]
fn a_value_that_could_not_be_read_again_is_not_recorded() {
    let folder = Folder::new();
    let path = folder.file("j");
    let number = |n: &u8| Ok::<_, String>(if *n == 1 { f64::NAN } else { 0.5 });
    let journal = Journal::open(&path, Plan::of(0..3_u8).unwrap()).unwrap();
    let (reason, partial) = stopped(stopping(1).batch(0..3_u8).journal(&journal).run(number));
    assert_eq!((reason, partial.succeeded()), (StopReason::Journal, 2), "it is in the result");
    let words = partial.journal_error().unwrap();
    assert!(words.contains("item 1 could not be read again: invalid type: null, expected f64"), "{words}");
    drop(journal);
    assert_eq!(lines(&path).len(), 2, "the first line, and item 0");
    drop(Journal::open(&path, Plan::of(0..3_u8).unwrap()).unwrap());
    let many = |_: &usize| Ok::<_, String>(vec![f64::NAN; 10_000]);
    let (_, partial) = stopped(stopping(1).batch(0..3).journal(&open(&folder.file("long"), 3)).run(many));
    let words = partial.journal_error().unwrap();
    assert!(words.contains("item 0 could not be read again"), "{words}");
}

#[test]
fn numbers_come_back_to_the_last_digit() {
    let folder = Folder::new();
    let path = folder.file("j");
    let op = |n: &usize| Ok::<_, String>((1.0 + number(*n)).sqrt() / 3e7);
    let runs = [1, 2].map(|_| {
        let result = stopping(1).batch(0..2_000).journal(&open(&path, 2_000)).run(op);
        result.into_values().unwrap()
    });
    assert_eq!(
        runs[0].iter().map(|n| n.to_bits()).collect::<Vec<_>>(),
        runs[1].iter().map(|n| n.to_bits()).collect::<Vec<_>>()
    );
}

#[test]
fn a_value_with_line_ends_in_it_is_one_line() {
    let folder = Folder::new();
    let path = folder.file("j");
    for run in 1..=2 {
        let result = stopping(1)
            .batch(["a"])
            .journal(&Journal::open(&path, Plan::of(["a"]).unwrap()).unwrap())
            .run(|_| {
                assert_eq!(run, 1);
                serde_json::from_str::<Box<serde_json::value::RawValue>>("{\n  \"text\": \"two\\nlines\"\n}")
            });
        let value = result.into_values().unwrap().remove(0);
        assert_eq!(serde_json::from_str::<serde_json::Value>(value.get()).unwrap()["text"], "two\nlines");
    }
    assert_eq!(lines(&path).len(), 2);
}

#[test]
fn an_item_with_line_ends_in_it_is_the_same_in_each_run() {
    let folder = Folder::new();
    let path = folder.file("j");
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    for run in 1..=2 {
        let items = || ["[1,\n2]", "[3]"].map(raw);
        let journal = Journal::open(&path, Plan::of(items()).unwrap()).unwrap();
        let result = stopping(1).batch(items()).journal(&journal).run(|_| {
            assert_eq!(run, 1, "all is done");
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
    }
    assert_eq!(lines(&path).len(), 3);
}

#[test]
fn values_of_another_type_than_those_recorded_stop_the_batch_in_words() {
    let folder = Folder::new();
    let path = folder.file("j");
    let texts = stopping(1).batch(0..3).journal(&open(&path, 3)).run(|n| Ok::<_, String>(n.to_string()));
    assert!(ran_to_its_end(texts).is_success());
    let numbers = stopping(1).batch(0..3).journal(&open(&path, 3)).run(|n| Ok::<_, String>(*n));
    let (reason, partial) = stopped(numbers);
    assert_eq!((reason, partial.skipped()), (StopReason::Journal, 3));
    assert!(
        partial.journal_error().unwrap().contains("what it has of item 0: invalid type: string"),
        "{partial:?}"
    );
}

#[test]
fn a_batch_that_is_cancelled_again_and_again_does_each_item_once() {
    for way in Way::with_threads() {
        let (folder, executor, census) = (Folder::new(), way.collecting(), Census::of(200));
        let path = folder.file("j");
        let (mut runs, mut last) = (0, None);
        while last.is_none() {
            let (journal, token, started) = (open(&path, 200), CancelToken::new(), AtomicUsize::new(0));
            let batch = way.batch(&executor, 0..200_usize).cancel_on(&token).journal(&journal);
            let result = batch.run(|n| {
                if started.fetch_add(1, Ordering::SeqCst) == 30 {
                    token.cancel();
                }
                census.count(*n);
                Ok::<_, String>(n + 1)
            });
            runs += 1;
            last = Some(result).filter(|result| result.stopped().is_none() && result.is_success());
            assert!(runs < 100, "{way:?} never ends");
        }
        census.assert_each_ran_once();
        crate::common::assert_each_outcome_at_its_index(&last.unwrap(), |n| Some(n + 1));
        assert!(runs > 1, "{way:?}");
    }
}

#[test]
fn shards_together_are_one_run_and_what_is_missing_is_told() {
    let folder = Folder::new();
    let mut paths = Vec::new();
    let op = |n: &usize, cx: &mut ItemContext<'_>| match *n {
        5 => Err(format!("not {n}")),
        11 if cx.attempt() < 3 => Err("later".to_owned()),
        n => Ok(n * n),
    };
    let retry = || Retry::delays(|| iter::repeat_n(Duration::ZERO, 3));
    for index in 0..3 {
        let shard = Shard::new(index, 3).unwrap();
        let path = folder.file(&format!("{shard}").replace('/', "-"));
        let journal = Journal::open(&path, Plan::of(0..20).unwrap().shard(shard)).unwrap();
        let mine = shard.select(0..20_usize).map(|(_, n)| n);
        let result = ran_to_its_end(collecting(2).batch(mine).journal(&journal).retry(retry()).run_with(op));
        assert_eq!(result.total(), if index < 2 { 7 } else { 6 });
        paths.push(path);
    }
    let merged = Journal::merge::<usize, usize>(&paths).unwrap();
    assert!(merged.missing.is_empty());
    let whole = ran_to_its_end(collecting(1).batch(0..20_usize).retry(retry()).run_with(op));
    let outcome = |item: BatchItem<&usize, &Outcome<usize, String>>| {
        (item.index, *item.item, item.outcome.as_ref().map(|n| *n).map_err(ToString::to_string))
    };
    assert!(merged.result.iter().map(outcome).eq(whole.iter().map(outcome)));
    assert_eq!((merged.result.succeeded(), merged.result.failed()), (19, 1));

    let two = Journal::merge::<usize, usize>(&paths[..2]).unwrap();
    assert_eq!(two.missing, [2, 5, 8, 11, 14, 17]);
    assert_eq!(two.result.total(), 14);
    let others = Journal::merge::<usize, usize>([&paths[0], &paths[2]]).unwrap();
    for merged in [&merged, &others] {
        let attempts =
            merged.result.items().iter().enumerate().map(|(at, n)| (*n, merged.result.attempts(at)));
        assert_eq!(attempts.filter(|(_, attempts)| *attempts > 1).collect::<Vec<_>>(), [(5, 4), (11, 3)]);
    }

    let others = folder.file("others");
    drop(open(&others, 20));
    let error = Journal::merge::<usize, usize>([&paths[0], &others]).unwrap_err();
    assert!(error.to_string().ends_with("others: it is one of 1 shards, and this run one of 3"), "{error}");
}

#[test]
fn shards_that_each_have_run_all_items_are_not_merged() {
    let folder = Folder::new();
    let paths = [0, 1].map(|index| {
        let path = folder.file(&format!("all-{index}"));
        let plan = Plan::named("words").shard(Shard::new(index, 2).unwrap());
        let journal = Journal::open(&path, plan).unwrap();
        // Not the items that the shard selects.
        let result =
            collecting(1).batch(["a", "b"]).journal(&journal).run(|word| Ok::<_, String>(word.len()));
        assert!(result.is_success());
        path
    });
    let error = Journal::merge::<String, usize>(&paths).unwrap_err();
    assert!(matches!(error, JournalError::DuplicateId { first: 0, second: 1, .. }), "{error}");
}

#[test]
fn a_shard_without_items_has_a_journal_without_lines() {
    let (folder, shard) = (Folder::new(), Shard::new(5, 8).unwrap());
    let path = folder.file("j");
    let journal = Journal::open(&path, Plan::of(0..3).unwrap().shard(shard)).unwrap();
    let mine = shard.select(0..3_usize).map(|(_, n)| n);
    let result = stopping(1).batch(mine).journal(&journal).run(|n| Ok::<_, String>(*n));
    assert_eq!((ran_to_its_end(result).total(), lines(&path).len()), (0, 1));
    assert_eq!(Journal::merge::<usize, usize>([&path]).unwrap().missing, [0, 1, 2]);
}

#[test]
fn of_two_attempts_at_one_shard_the_later_line_of_each_item_counts() {
    let folder = Folder::new();
    let paths = ["first", "second"].map(|name| folder.file(name));
    for (attempt, path) in paths.iter().enumerate() {
        let items = if attempt == 0 { 4 } else { 2 }; // the second has not come as far
        let journal = open(path, 4);
        let token = CancelToken::new();
        let _ = stopping(1).batch(0..4_usize).cancel_on(&token).journal(&journal).run(|n| {
            if n + 1 == items {
                token.cancel();
            }
            Ok::<_, String>(format!("attempt {attempt}"))
        });
    }
    for order in [[0, 1], [1, 0]] {
        let merged = Journal::merge::<usize, String>(order.map(|at| &paths[at])).unwrap();
        let values: Vec<&String> = merged.result.values().collect();
        assert_eq!(values, ["attempt 1", "attempt 1", "attempt 0", "attempt 0"]);
    }
}

#[test]
fn ids_may_be_made_for_items_that_have_none() {
    struct Opaque(u32);
    let folder = Folder::new();
    let path = folder.file("j");
    for run in 1..=2 {
        let items = [Opaque(7), Opaque(8)];
        let plan = Plan::of(items.iter().map(|item| format!("no {}", item.0))).unwrap();
        let journal = Journal::open(&path, plan).unwrap();
        let executor = stopping(2);
        let batch = executor.batch(items).journal_as(&journal, |item| format!("no {}", item.0));
        let result = batch.run(|item| if run == 1 { Ok(item.0) } else { Err("done before") });
        assert_eq!(result.into_values().unwrap(), [7, 8]);
    }
    let mut ids: Vec<String> = lines(&path)[1..].iter().map(|line| line["id"].to_string()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [r#""no 7""#, r#""no 8""#]);
}

#[test]
fn a_path_that_is_no_utf8_has_no_id() {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"odd \xff"));
        let error = Plan::of([Path::new("fine"), odd]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the id of item 1 cannot be written as JSON: path contains invalid UTF-8 characters"
        );
    }
}

#[cfg(unix)]
#[test]
fn an_item_of_a_shard_that_has_no_id_is_named_by_its_place_among_all_items() {
    use std::os::unix::ffi::OsStrExt;

    let folder = Folder::new();
    let plan = Plan::named("paths").shard(Shard::new(1, 3).unwrap());
    let journal = Journal::open(folder.file("j"), plan).unwrap();
    let items = || [Path::new("fine"), Path::new(std::ffi::OsStr::from_bytes(b"odd \xff"))];
    let executor = stopping(1);
    let batch = executor.batch(items()).journal(&journal).run(|_| Ok::<_, String>(()));
    let stream = executor.batch(items()).journal(&journal).stream(|_| Ok::<_, String>(()), |all| all.count());
    for error in [batch.journal_error(), stream.journal_error()] {
        let words = behind_name(error.expect("the second has no id"));
        assert!(words.starts_with("the id of item 4 cannot be written as JSON: "), "{words}");
    }
}

#[test]
fn a_unit_is_a_value_like_any_other() {
    let folder = Folder::new();
    let path = folder.file("j");
    for run in 1..=2 {
        let result = stopping(1).batch(0..3).journal(&open(&path, 3)).run(|_| {
            assert_eq!(run, 1);
            Ok::<(), String>(())
        });
        assert!(ran_to_its_end(result).is_success());
    }
}

#[test]
fn a_batch_error_of_a_journal_is_told_like_any_other() {
    let folder = Folder::new();
    let journal = open(&folder.file("j"), 2);
    let result = stopping(1).batch([5, 6]).journal(&journal).run(|_| Ok::<(), String>(()));
    let error = result.into_result().unwrap_err();
    assert_eq!(error.stopped(), Some(StopReason::Journal));
    // `main` prints this of an error that it returns.
    assert!(
        format!("{error:?}").contains("j: item 0 is 5, which the plan does not have there\""),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("j: item 0 is 5, which the plan does not have there (0 of 2 succeeded, 2 skipped in "),
        "{text}"
    );
    assert_eq!(StopReason::Journal.to_string(), "the journal cannot go on");
}

#[test]
fn the_error_of_a_stream_tells_what_is_wrong_with_its_journal() {
    let folder = Folder::new();
    let journal = open(&folder.file("j"), 2);
    let executor = stopping(1);
    let batch = executor.batch([5, 6]).journal(&journal);
    let streamed = batch.stream(|n| Ok::<i32, String>(*n), |results| results.count());
    let error = streamed.into_result().unwrap_err().to_string();
    let expected = "j: item 0 is 5, which the plan does not have there (0 of 0 succeeded)";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_would_have_been_tried_again_and_what_never_ran_is_no_failure_for_the_next_run() {
    let folder = Folder::new();
    let path = folder.file("j");
    let token = CancelToken::new();
    let executor = collecting(1);
    let retry = || Retry::delays(|| [Duration::ZERO; 5].into_iter());
    let journal = open(&path, 3);
    let result = executor.batch(0..3).retry(retry()).cancel_on(&token).journal(&journal).run(|_| {
        token.cancel();
        Err::<usize, _>("flaky")
    });
    let (reason, partial) = stopped(result);
    assert_eq!((reason, partial.failed(), partial.skipped()), (StopReason::Cancelled, 0, 3));
    assert!(matches!(partial.outcomes()[0], Err(ItemError::Interrupted(Some("flaky")))), "{partial:?}");
    drop(journal);

    let journal = open(&path, 3).retry_failed(false);
    let broken = executor.batch(0..3).journal(&journal);
    let result =
        ran_to_its_end(broken.run_init(|| -> () { panic!("no connection") }, |n, _| Ok::<_, &str>(*n)));
    assert!(
        result.outcomes().iter().all(|outcome| matches!(outcome, Err(ItemError::Panicked(_)))),
        "{result:?}"
    );
    drop(journal);

    let journal = open(&path, 3).retry_failed(false);
    let result = executor.batch(0..3).journal(&journal).run(|n| Ok::<_, &str>(*n));
    assert_eq!(result.into_values().unwrap(), [0, 1, 2]);
}

#[test]
fn a_journal_is_kept_by_one_batch_at_a_time() {
    let folder = Folder::new();
    let (journal, executor) = (open(&folder.file("j"), 4), collecting(2));
    let inner = AtomicUsize::new(0);
    let result = executor.batch(0..4_usize).journal(&journal).run(|n| {
        let (reason, partial) =
            stopped(executor.batch(0..4).journal(&journal).run(|n| Ok::<usize, String>(*n)));
        assert!(partial.journal_error().unwrap().ends_with("another batch keeps it at this time"));
        inner.fetch_add(usize::from(reason == StopReason::Journal), Ordering::SeqCst);
        Ok::<_, String>(*n)
    });
    assert_eq!((ran_to_its_end(result).succeeded(), inner.into_inner()), (4, 4));
    let streamed =
        executor.batch(0..4).journal(&journal).stream(|n| Ok::<usize, String>(*n), |results| results.count());
    assert_eq!((streamed.output, streamed.stopped), (4, None), "it is free again");
}

#[test]
fn within_a_file_the_last_line_counts_whatever_the_clock_said() {
    let folder = Folder::new();
    let path = folder.file("j");
    let run = |fails: bool| {
        let batch = collecting(1)
            .batch(0..2_usize)
            .journal(&open(&path, 2))
            .run(|n| if fails { Err("down") } else { Ok(*n) });
        ran_to_its_end(batch).succeeded()
    };
    assert_eq!((run(true), run(false)), (0, 2));
    let text = without_checksums(&path);
    let later = |line: &str| {
        if line.contains("failed") { line.replace(r#""at":1"#, r#""at":9"#) } else { line.to_owned() }
    };
    fs::write(&path, text.lines().map(|line| later(line) + "\n").collect::<String>()).unwrap();
    assert_eq!(Journal::merge::<usize, usize>([&path]).unwrap().result.succeeded(), 2);
}

#[test]
fn what_cannot_be_in_a_journal_is_seen_when_it_is_merged() {
    let folder = Folder::new();
    let path = folder.file("j");
    let shard = Shard::new(0, 2).unwrap();
    let journal = Journal::open(&path, Plan::of(0..4).unwrap().shard(shard)).unwrap();
    let result = collecting(1).batch([0, 2]).journal(&journal).run(|n| Ok::<usize, String>(*n));
    assert!(ran_to_its_end(result).is_success());
    drop(journal);
    let text = without_checksums(&path);
    for (from, to, words) in [
        (r#""index":2"#, r#""index":1"#, "line 3 is damaged: item 1 is not of shard 0/2"),
        (r#""index":2"#, r#""index":4"#, "line 3 is damaged: there is no item 4, there are 4"),
        (
            r#""id":2"#,
            r#""id":0"#,
            "items 0 and 2 have the same id 0; each item of a journal needs an id of its own",
        ),
    ] {
        fs::write(&path, text.replace(from, to)).unwrap();
        let error = Journal::merge::<usize, usize>([&path]).unwrap_err();
        assert!(error.to_string().ends_with(words), "{error}");
    }
    fs::write(&path, "some notes").unwrap();
    let error = Journal::merge::<usize, usize>([&path]).unwrap_err();
    assert!(error.to_string().ends_with("it is no journal"), "{error}");
    fs::write(&path, &text[..20]).unwrap();
    assert_eq!(Journal::merge::<usize, usize>([&path]).unwrap().result.total(), 0, "the beginning of one");
}

#[test]
fn the_time_that_a_line_takes_is_no_time_of_the_next_item() {
    /// Some take their time to be written.
    struct Slow(bool);
    impl serde::Serialize for Slow {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            serializer.serialize_unit()
        }
    }
    impl<'de> serde::Deserialize<'de> for Slow {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <()>::deserialize(deserializer).map(|()| Slow(false))
        }
    }
    let folder = Folder::new();
    // Kept or not; adaptive workers take many quick items at a time.
    let workers = AdaptiveWorkers::new().max(2);
    for spans in [10_000, 1] {
        let (journal, executor) = (open(&folder.file(&spans.to_string()), 2_000), collecting(workers));
        let batch = executor.batch(0..2_000).journal(&journal).record_timeline().timeline_spans(spans);
        let result = batch.run(|n| Ok::<_, String>(Slow(n % 200 == 150)));
        let stats = ran_to_its_end(result).timeline().unwrap().stats();
        let busy = stats.elapsed.mul_f64(stats.utilisation * number(stats.workers));
        assert!(
            busy < Duration::from_millis(500),
            "no-ops ran for {busy:?}, beside ten lines of 200 ms\n{stats}"
        );
    }
}

/// The journal of a program of 2026-11-28, and one with checksums: whatever changes, they are read.
#[test]
fn journals_of_earlier_programs_are_still_read() {
    let folder = Folder::new();
    for name in ["without_checksums", "with_checksums"] {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/journals/{name}.jsonl"));
        let path = folder.file(name);
        fs::copy(&kept, &path).unwrap();
        let items = ["a.txt", "b \"quoted\".txt", "c\nline.txt", "d.txt", "\u{fc}.txt", "f.txt"];
        let journal = Journal::open(&path, Plan::of(items).unwrap()).unwrap().retry_failed(false);
        assert_eq!(journal.done(), 3, "{name}");
        let ran = Census::of(6);
        let executor = collecting(1);
        let result = executor.batch(items).journal(&journal).run_with(|item, cx| {
            ran.count(cx.index());
            Ok::<_, String>(BTreeMap::from([("bytes".to_owned(), number(item.len()))]))
        });
        assert_eq!(ran.ran(), [4], "{name}: the one that got no permit");
        let bytes = |index: usize| result.outcomes()[index].as_ref().unwrap()["bytes"].to_bits();
        let expected = [5.0_f64 / 3.0, 14.0 / 3.0, 5.0 / 3.0].map(f64::to_bits);
        assert_eq!([bytes(0), bytes(1), bytes(5)], expected, "{name}");
        let texts: Vec<String> = result.failures().map(|failure| failure.to_string()).collect();
        assert_eq!(texts, ["item 2: no such file", "item 3: panicked: out of range"], "{name}");
        assert_eq!((result.attempts(1), result.attempts(2)), (2, 2), "{name}");
        drop(journal);
        let (before, after) = (fs::read_to_string(&kept).unwrap(), fs::read_to_string(&path).unwrap());
        assert!(after.starts_with(&before) && after.lines().count() == 8, "{name}: {after}");
        let merged = Journal::merge::<String, BTreeMap<String, f64>>([&path]).unwrap();
        assert_eq!((merged.result.succeeded(), merged.result.failed(), merged.missing.len()), (4, 2, 0));
        let attempts = |result: &dyn Fn(usize) -> usize| (0..6).map(result).collect::<Vec<_>>();
        let told = attempts(&|index| merged.result.attempts(index));
        assert_eq!(told, attempts(&|index| result.attempts(index)), "{name}");
    }
}

/// A line is what the journal in the repository says: names of fields, and the checksum.
#[test]
fn the_fields_of_a_line_have_the_names_that_they_had() {
    let folder = Folder::new();
    let path = folder.file("j");
    let journal = Journal::open(&path, Plan::of(["a.txt"]).unwrap()).unwrap();
    let result = stopping(1).batch(["a.txt"]).journal(&journal).run(|text| Ok::<_, String>(text.len()));
    assert!(ran_to_its_end(result).is_success());
    let kept = include_str!("../journals/with_checksums.jsonl").lines().take(2);
    let names = |line: &str| -> Vec<String> {
        // In their order: a map of this crate would sort them.
        line.split(",\"")
            .map(|field| field.split('"').find(|text| text.len() > 1).unwrap().to_owned())
            .collect()
    };
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().map(names).eq(kept.map(names)), "{text}");
    let [header, line] = &lines(&path)[..] else { panic!("{text}") };
    assert_eq!((&header["kind"], &header["version"]), (&"batch-executor journal".into(), &1.into()));
    assert_eq!((&line["id"], &line["outcome"]["value"]), (&"a.txt".into(), &5.into()));
}

/// Two maps with the same entries, in another order.
fn in_two_orders() -> [HashMap<String, u32>; 2] {
    let entries = || (0..20).map(|n| (format!("key {n}"), n));
    let one: HashMap<_, _> = entries().collect();
    loop {
        let other: HashMap<_, _> = entries().collect();
        if !one.keys().eq(other.keys()) {
            return [one, other];
        }
    }
}

/// P7
#[test]
fn items_with_maps_are_the_same_in_each_run() {
    #[derive(serde::Serialize, Clone)]
    struct Request {
        url: &'static str,
        headers: HashMap<String, u32>,
    }
    let folder = Folder::new();
    for (number, plan) in [Plan::of::<Request>, |_| Ok(Plan::named("requests"))].into_iter().enumerate() {
        let path = folder.file(&number.to_string());
        for (run, headers) in in_two_orders().into_iter().enumerate() {
            let items = [
                Request { url: "/a", headers: headers.clone() },
                Request { url: "/b", headers: HashMap::new() },
            ];
            let journal = Journal::open(&path, plan(items.to_vec()).unwrap()).unwrap();
            let result = stopping(1).batch(items).journal(&journal).run(|request| {
                assert_eq!(run, 0, "all is done");
                Ok::<_, String>(request.url.len())
            });
            assert!(ran_to_its_end(result).is_success());
        }
        assert_eq!(lines(&path)[1]["id"]["url"], "/a");
    }
}

/// P7: nothing in JSON tells a set from a list, whose order is data.
#[test]
fn items_with_sets_are_refused_with_the_way_out_which_is_one() {
    let folder = Folder::new();
    let path = folder.file("j");
    let plan = |set| Plan::of([serde_json::json!(set), serde_json::json!("none")]).unwrap();
    let [first, second] = in_two_orders().map(|map| plan(map.into_keys().collect::<Vec<_>>()));
    drop(Journal::open(&path, first).unwrap());
    let words = Journal::open(&path, second).unwrap_err().to_string();
    assert!(words.contains("it was begun for other items") && words.contains("HashSet"), "{words}");
    assert!(words.contains("Plan::named"), "{words}");

    let named = folder.file("named");
    for run in 0..2 {
        // Another order in each run, in practice.
        let items = [(0..50).collect::<HashSet<u32>>(), (0..70).collect()];
        let journal = Journal::open(&named, Plan::named("sets")).unwrap();
        let result = stopping(1).batch(items).journal(&journal).run(|set| {
            assert_eq!(run, 0, "all is done");
            Ok::<_, String>(set.len())
        });
        assert_eq!(result.into_values().unwrap(), [50, 70]);
    }
    let journal = Journal::open(&named, Plan::named("sets")).unwrap();
    let (_, partial) = stopped(stopping(1).batch([[1, 2]]).journal(&journal).run(|_| Ok::<usize, String>(0)));
    assert!(partial.journal_error().unwrap().contains("when it was recorded"), "another item is seen");
}

#[test]
fn an_item_that_may_be_a_set_is_refused_with_the_way_out() {
    let folder = Folder::new();
    let journal = Journal::open(folder.file("j"), Plan::of([[1, 2]]).unwrap()).unwrap();
    let result = stopping(1).batch([[2, 1]]).journal(&journal).run(|_| Ok::<_, String>(()));
    let words = behind_name(result.journal_error().unwrap());
    let expected = "item 0 is [2,1], which the plan does not have there; if it has a set in it";
    assert!(words.starts_with(expected), "{words}");
    assert!(words.contains("Plan::named"), "{words}");
}

#[test]
fn a_list_that_has_changed_is_refused_with_the_way_out() {
    let words = conflict(Plan::of(0..9).unwrap(), Plan::of(0..10).unwrap());
    assert!(
        words.ends_with(
            "; a list that grows only at its end can have Plan::named, and another list needs another file"
        ),
        "{words}"
    );
}

/// Old journals have the fingerprint of the items as they were written, fields of structs in their order.
#[test]
fn a_plan_from_before_keys_were_sorted_is_the_same_plan() {
    #[derive(serde::Serialize)]
    struct Item {
        url: &'static str,
        id: u32,
    }
    let folder = Folder::new();
    let path = folder.file("j");
    // What the program of 2026-11-28 wrote for these two.
    fs::write(&path, include_str!("../journals/of_structs.jsonl")).unwrap();
    let items = [Item { url: "/a", id: 1 }, Item { url: "/b", id: 2 }];
    let journal = Journal::open(&path, Plan::of(&items).unwrap()).unwrap();
    assert_eq!(journal.done(), 1);
    let result = stopping(1).batch(&items).journal(&journal).run(|item| Ok::<_, String>(item.id));
    assert_eq!(result.into_values().unwrap(), [1, 2]);
    assert_eq!(lines(&path).len(), 3);
}

#[test]
fn damage_that_is_valid_json_is_seen() {
    let folder = Folder::new();
    let path = folder.file("j");
    let result = stopping(1).batch(0..3_usize).journal(&open(&path, 3)).run(|n| Ok::<_, String>(n + 100));
    assert!(ran_to_its_end(result).is_success());
    let whole = fs::read_to_string(&path).unwrap();
    for (from, to, line) in [
        (r#""value":101"#, r#""value":107"#, "line 3 is damaged: its checksum is "),
        (r#""attempts":1,"at":1"#, r#""attempts":2,"at":1"#, "line 2 is damaged: its checksum is "),
        (r#""sum":""#, r#""sun":""#, "line 1 is damaged: it has no whole checksum"),
        (r#""sum":""#, r#""sum":"0"#, "line 1 is damaged: it has no whole checksum"),
        (r#""items":3"#, r#""items":4"#, "line 1 is damaged: its checksum is "),
    ] {
        let damaged = whole.replacen(from, to, 1);
        assert_ne!(damaged, whole);
        fs::write(&path, &damaged).unwrap();
        let words = Journal::open(&path, Plan::of(0..3).unwrap()).unwrap_err().to_string();
        let merged = Journal::merge::<usize, usize>([&path]).unwrap_err().to_string();
        assert!(words.contains(line) && merged.contains(line), "{words}\n{merged}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
    let long = folder.file("long");
    let text = |_: &usize| Ok::<_, String>(format!("{}0", "text ".repeat(100_000)));
    let result = stopping(1).batch(0..3_usize).journal(&open(&long, 3)).run(text);
    assert!(ran_to_its_end(result).is_success());
    fs::write(&long, fs::read_to_string(&long).unwrap().replacen("text 0", "text 1", 1)).unwrap();
    let words = Journal::open(&long, Plan::of(0..3).unwrap()).unwrap_err().to_string();
    assert!(words.contains("line 2 is damaged: its checksum is "), "{words}");
    let bare = whole.lines().enumerate().map(|(number, line)| match number {
        2 => format!("{}}}\n", line.rsplit_once(r#","sum":""#).unwrap().0),
        _ => format!("{line}\n"),
    });
    fs::write(&path, bare.collect::<String>()).unwrap();
    let words = Journal::open(&path, Plan::of(0..3).unwrap()).unwrap_err().to_string();
    assert!(words.ends_with("line 3 is damaged: it has no checksum"), "{words}");
}

#[test]
fn a_damaged_line_has_its_number_where_an_item_has_several_lines() {
    let folder = Folder::new();
    let path = folder.file("j");
    for run in 0..3 {
        let result = collecting(1).batch(0..3_usize).journal(&open(&path, 3)).run(|n| match n {
            1 => Err(format!("not in run {run}")),
            n => Ok(*n),
        });
        assert_eq!(ran_to_its_end(result).failed(), 1);
    }
    let damaged = fs::read_to_string(&path).unwrap().replace("not in run 2", "not in run 7");
    fs::write(&path, damaged).unwrap();
    let words = Journal::open(&path, Plan::of(0..3).unwrap()).unwrap_err().to_string();
    assert!(words.contains("line 6 is damaged: its checksum is "), "{words}");
}

#[test]
fn a_name_that_is_too_long_is_refused_before_there_is_a_file() {
    let folder = Folder::new();
    for (length, fits) in [(0, true), (512, true), (513, false), (2 << 20, false)] {
        let path = folder.file(&length.to_string());
        for _ in 0..2 {
            let opened = Journal::open(&path, Plan::named("\u{1}".repeat(length)));
            assert_eq!((opened.is_ok(), path.exists()), (fits, fits), "{length}");
            let words = format!("the name of the plan has {length} bytes; it may have at most 512");
            assert!(opened.map_or_else(|error| error.to_string().ends_with(&words), |_| true));
        }
    }
    let two_bytes_each = Journal::open(folder.file("letters"), Plan::named("\u{e4}".repeat(257)));
    assert!(two_bytes_each.unwrap_err().to_string().contains("has 514 bytes"));
}

#[test]
#[cfg(target_pointer_width = "64")] // with fewer bits these are no numbers of items
fn a_number_in_a_file_takes_no_memory() {
    let folder = Folder::new();
    let path = folder.file("j");
    let journal = Journal::open(&path, Plan::named("few")).unwrap();
    assert!(
        ran_to_its_end(stopping(1).batch(0..3).journal(&journal).run(|n| Ok::<usize, String>(*n)))
            .is_success()
    );
    drop(journal);
    let text = without_checksums(&path);
    for index in ["999999999999", "18446744073709551615"] {
        fs::write(&path, text.replace(r#""index":2"#, &format!(r#""index":{index}"#))).unwrap();
        let words = Journal::merge::<usize, usize>([&path]).unwrap_err().to_string();
        assert!(words.contains("only 3 are recorded"), "{words}");
    }
    fs::write(&path, text.replace(r#""items":null"#, r#""items":999999999999"#)).unwrap();
    let words = Journal::merge::<usize, usize>([&path]).unwrap_err().to_string();
    assert!(words.contains("there are 999999999999 items, of which only 3 are recorded"), "{words}");
    fs::write(&path, text.replace(r#""index":2"#, r#""index":1000000"#)).unwrap();
    assert_eq!(Journal::merge::<usize, usize>([&path]).unwrap().missing.len(), 999_998, "that may be");
}

#[test]
fn errors_are_recorded_with_their_causes() {
    let folder = Folder::new();
    let path = folder.file("j");
    let run = || {
        let journal = open(&path, 2).retry_failed(false);
        ran_to_its_end(collecting(1).batch(0..2_usize).journal(&journal).run(|n| match n {
            0 => Err(anyhow::anyhow!("HTTP 404").context("item 401")),
            n => Ok(*n),
        }))
    };
    for _ in 0..2 {
        let texts: Vec<String> = run().failures().map(|failure| failure.to_string()).collect();
        assert_eq!(texts, ["item 0: item 401: HTTP 404"]);
    }
    assert_eq!(lines(&path)[1]["outcome"]["failed"], "item 401: HTTP 404");
}

#[test]
fn a_refusal_is_recorded_with_its_causes() {
    let folder = Folder::new();
    let path = folder.file("j");
    let down = || anyhow::anyhow!("connection reset").context("the quota server");
    let limiter = limiter_fn(move || Err(LimiterError::new(down())));
    let executor = BatchExecutor::builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
    drop(ran_to_its_end(executor.batch(0..1).journal(&open(&path, 1)).run(|n| Ok::<_, String>(*n))));
    assert_eq!(lines(&path)[1]["outcome"]["refused"], "the quota server: connection reset");
}

/// What a killed run can leave: the last line is cut off, and its item runs again.
#[test]
fn a_journal_with_a_torn_tail_is_cut_and_gone_on_with() {
    let folder = Folder::new();
    let path = folder.file("j");
    let run = || {
        let census = Census::of(9);
        let result = stopping(2).batch(0..9_usize).journal(&open(&path, 9)).run(|n| {
            census.count(*n);
            Ok::<_, String>(n * n)
        });
        (census.total(), result.into_values().unwrap())
    };
    let (_, values) = run();
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for (kept, runs) in [(last + 1, 1), (whole.len() - 2, 1), (whole.len() - 1, 0), (whole.len(), 0)] {
        fs::write(&path, &whole[..kept]).unwrap();
        assert_eq!(run(), (runs, values.clone()), "{kept} of {} bytes", whole.len());
        assert!(fs::read(&path).unwrap().starts_with(&whole[..last]));
        assert_eq!(lines(&path).len(), 10, "a line for each item, and the first");
        assert_eq!(run().0, 0, "all is done");
    }
    // Zeros, longer than a line: what is written next must not leave any of them behind it.
    fs::write(&path, [&whole[..last], &[0; 5_000]].concat()).unwrap();
    assert_eq!(run(), (1, values));
    assert_eq!(lines(&path).len(), 10);
}

#[test]
fn while_a_run_writes_its_journal_others_may_read_and_merge_it() {
    let folder = Folder::new();
    let path = folder.file("j");
    let journal = open(&path, 20);
    let result = stopping(1).batch(0..20_usize).journal(&journal).run(|n| {
        let merged = Journal::merge::<usize, usize>([&path]).map_err(|error| error.to_string())?;
        assert!(merged.result.values().copied().eq(0..*n), "what was done before");
        assert_eq!(merged.missing.len(), 20 - n);
        assert_eq!(lines(&path).len(), 1 + n);
        Ok::<_, String>(*n)
    });
    assert_eq!(result.into_values().unwrap().len(), 20);
    assert_eq!(journal.done(), 20);
    let copy = folder.file("copy");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(open(&copy, 20).done(), 20);
}

/// Where the system lets a file go that a run has open, the run sees it with the next sync; Windows does not let it go.
#[test]
fn a_journal_cannot_be_replaced_unnoticed_while_a_run_writes_it() {
    let folder = Folder::new();
    let (path, moved) = (folder.file("j"), folder.file("moved"));
    let journal = open(&path, 20).sync_every(1);
    let replaced = AtomicUsize::new(0);
    let result = stopping(1).batch(0..20_usize).journal(&journal).run(|n| {
        if *n == 5 && fs::rename(&path, &moved).is_ok() {
            fs::write(&path, "mine").unwrap();
            replaced.fetch_add(1, Ordering::SeqCst);
        }
        Ok::<_, String>(*n)
    });
    assert_eq!(replaced.into_inner(), usize::from(cfg!(unix)));
    if cfg!(unix) {
        let (reason, partial) = stopped(result);
        assert_eq!((reason, partial.succeeded()), (StopReason::Journal, 6));
        let words = behind_name(partial.journal_error().unwrap()).to_owned();
        assert_eq!(words, "cannot sync it: another file has taken its place");
        assert_eq!((fs::read_to_string(&path).unwrap(), lines(&moved).len()), ("mine".to_owned(), 7));
    } else {
        assert!(fs::remove_file(&path).is_err() && fs::write(&path, "mine").is_err());
        assert!(fs::OpenOptions::new().append(true).open(&path).is_err(), "nor may another write it");
        assert_eq!(ran_to_its_end(result).succeeded(), 20);
        assert_eq!(lines(&path).len(), 21);
    }
}

/// The first line after an interval, a second by default, has the file synced. A sync sees that the file is gone.
#[cfg(unix)]
#[test]
fn where_the_interval_is_over_with_each_line_a_file_that_is_gone_is_seen_with_the_next() {
    let folder = Folder::new();
    let path = folder.file("j");
    let journal = open(&path, 20).sync_interval(Duration::ZERO);
    let result = stopping(1).batch(0..20_usize).journal(&journal).run(|n| {
        if *n == 5 {
            fs::remove_file(&path).unwrap();
        }
        Ok::<_, String>(*n)
    });
    let (reason, partial) = stopped(result);
    assert_eq!((reason, partial.succeeded()), (StopReason::Journal, 6));
}

#[test]
fn an_item_that_got_no_permit_was_not_tried() {
    let folder = Folder::new();
    let path = folder.file("j");
    let limiter = limiter_fn(|| Err(LimiterError::new("no")));
    let executor = BatchExecutor::builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
    let result = ran_to_its_end(executor.batch(0..2).journal(&open(&path, 2)).run(|n| Ok::<_, String>(*n)));
    assert_eq!([result.attempts(0), result.attempts(1)], [0, 0]);
    let attempts: Vec<_> = lines(&path).iter().skip(1).map(|line| line["attempts"].clone()).collect();
    assert_eq!(attempts, [0, 0]);
}

/// On Windows no other may cut the file.
#[cfg(unix)]
#[test]
fn where_its_journal_and_its_item_fail_a_batch_tells_of_the_journal() {
    let (folder, executor) = (Folder::new(), BatchExecutor::new());
    let journal = Journal::open(folder.file("j"), Plan::named("cut")).unwrap();
    let result = executor.batch([0]).journal(&journal).run(|_| {
        let file = fs::OpenOptions::new().write(true).open(folder.file("j")).unwrap();
        file.set_len(3).unwrap();
        Err::<(), _>("down".to_owned())
    });
    assert!(result.journal_error().is_some(), "{result}");
    assert_eq!(result.stopped(), Some(StopReason::Journal));
}
