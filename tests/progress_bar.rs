//! The progress bar of feature `indicatif`, as batches draw it: on a terminal in memory, on a real one, and where there is none.

#![cfg(feature = "indicatif")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{
    Batch, BatchExecutor, CancelToken, Progress, Results, Retry, RetryDecision, StopReason, Workers,
    progress_bar, progress_bar_on,
};
use indicatif::{InMemoryTerm, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use common::{child, collecting, ended, settings, stopping, told_to, wait_until, within_a_minute};

fn bar_on(terminal: impl TermLike + 'static, template: &str) -> ProgressBar {
    let target = ProgressDrawTarget::term_like(Box::new(terminal));
    ProgressBar::with_draw_target(None, target).with_style(ProgressStyle::with_template(template).unwrap())
}

fn in_memory(template: &str) -> (ProgressBar, InMemoryTerm) {
    let terminal = InMemoryTerm::new(5, 80);
    (bar_on(terminal.clone(), template), terminal)
}

#[test]
fn a_million_items_are_drawn_at_most_ten_times_a_second() {
    let (bar, terminal) = in_memory("{pos}/{len}");
    let executor = collecting(2);
    let result = executor.batch(0..1_000_000).on_progress(progress_bar_on(bar)).run(|_| Ok::<_, String>(()));
    assert_eq!(result.stopped(), None);
    let draws = terminal.moves_since_last_check().matches("Flush").count();
    let tenths = usize::try_from(result.elapsed().as_millis() / 100).unwrap();
    assert!((1..=tenths + 2).contains(&draws), "{draws} in {tenths} tenths of a second");
    assert_eq!(terminal.contents(), "1000000/1000000");
}

#[test]
fn failures_are_told_if_there_are_any() {
    for workers in settings() {
        for (failing, expected) in [(0, "100/100 , end"), (3, "100/100 3 failed, end")] {
            let (bar, terminal) = in_memory("{pos}/{len} {failed}, end");
            let op = |&n: &i32| if n < failing { Err("no") } else { Ok(()) };
            let result = collecting(workers).batch(0..100).on_progress(progress_bar_on(bar)).run(op);
            assert_eq!(result.stopped(), None);
            assert_eq!(terminal.contents(), expected, "{workers:?}");
        }
    }
}

#[test]
fn a_batch_that_stops_leaves_the_bar_where_it_was() {
    let (bar, terminal) = in_memory("{pos}/{len} {failed}");
    let op = |&n: &i32| if n == 6 { Err("no") } else { Ok(()) };
    let callback = progress_bar_on(bar.clone());
    let result = stopping(Workers::Sequential).batch(0..100).on_progress(callback).run(op);
    assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 6 }));
    assert_eq!(terminal.contents(), "7/100 1 failed");
    assert!(bar.is_finished());

    let (bar, terminal) = in_memory("{pos}/{len}");
    let token = CancelToken::new();
    let op = |&n: &i32| {
        if n == 6 {
            token.cancel();
        }
        Ok::<_, String>(())
    };
    let result = stopping(Workers::Sequential)
        .batch(0..100)
        .cancel_on(&token)
        .on_progress(progress_bar_on(bar))
        .run(op);
    assert_eq!(result.stopped(), Some(StopReason::Cancelled));
    assert_eq!(terminal.contents(), "7/100");
}

#[test]
fn a_panic_leaves_the_bar_where_it_was() {
    let (bar, terminal) = in_memory("{pos}/{len} {failed}");
    let op = |&n: &i32| if n == 6 { panic!("an item") } else { Ok::<_, String>(()) };
    let result = stopping(1).batch(0..100).on_progress(progress_bar_on(bar)).run(op);
    assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 6 }));
    assert_eq!(terminal.contents(), "7/100 1 failed");

    let (bar, terminal) = in_memory("{pos}/{len}");
    let mut draw = progress_bar_on(bar.clone());
    let callback = move |p: &Progress| {
        draw(p);
        assert!(p.completed < 4, "the callback");
    };
    let run = || stopping(1).batch(0..100).on_progress(callback).run(|_| Ok::<_, String>(()));
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    assert_eq!(terminal.contents(), "4/100");
    assert!(bar.is_finished());

    for workers in [Workers::Sequential, Workers::Fixed(2)] {
        let (bar, terminal) = in_memory("{pos}/{len}");
        let executor = stopping(workers);
        let batch = executor.batch(0..100).progress_bar_on(bar.clone());
        let batch = batch.on_progress(|p| assert!(p.completed < 4, "the callback"));
        let run = || batch.run(|_| Ok::<_, String>(()));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!((terminal.contents().as_str(), bar.is_finished()), ("4/100", true));
    }
}

#[test]
fn while_the_total_is_unknown_the_owner_may_have_one() {
    let odd = || (0..100).filter(|n| n % 2 == 1); // says "between 0 and 100"
    for (own, expected) in [(None, None), (Some(60), Some(60))] {
        let (bar, terminal) = in_memory("{pos} {left}");
        if let Some(length) = own {
            bar.set_length(length);
        }
        let _ = collecting(2)
            .batch(odd())
            .window(8)
            .on_progress(progress_bar_on(bar.clone()))
            .stream(|_| Ok::<_, String>(()), |results| results.take(10).count());
        assert!(terminal.contents().contains(" in "), "{}", terminal.contents());
        assert_eq!(bar.length(), expected);
    }
}

#[test]
fn a_stream_that_knows_its_length_has_a_total() {
    let (bar, terminal) = in_memory("{pos}/{len}");
    let callback = progress_bar_on(bar.clone());
    let all = |results: &mut Results<'_, _, _, _>| results.count();
    let streamed = collecting(2).batch(0..50).on_progress(callback).stream(|_| Ok::<_, String>(()), all);
    assert_eq!((streamed.output, bar.length(), terminal.contents().as_str()), (50, Some(50), "50/50"));
}

#[test]
fn one_of_several_bars_leaves_the_others_alone() {
    let terminal = InMemoryTerm::new(5, 80);
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
    let style = ProgressStyle::with_template("{prefix} {pos}/{len}").unwrap();
    let bar = |name| bars.add(ProgressBar::new(9).with_style(style.clone()).with_prefix(name));
    let (first, second) = (bar("first"), bar("second"));
    first.set_position(5);
    let result =
        collecting(2).batch(0..3).on_progress(progress_bar_on(second.clone())).run(|_| Ok::<_, String>(()));
    assert_eq!(result.stopped(), None);
    assert_eq!(terminal.contents(), "first 5/9\nsecond 3/3");
    assert!(!first.is_finished());
}

#[test]
fn the_owner_may_clear_the_bar_when_it_is_over() {
    let (bar, terminal) = in_memory("{pos}/{len}");
    let result =
        collecting(1).batch(0..3).on_progress(progress_bar_on(bar.clone())).run(|_| Ok::<_, String>(()));
    assert_eq!(result.stopped(), None);
    assert_eq!(terminal.contents(), "3/3");
    bar.finish_and_clear();
    assert_eq!(terminal.contents(), "");
}

/// A terminal that panics when it is drawn on.
#[derive(Debug)]
struct Burning(Arc<AtomicBool>);

impl TermLike for Burning {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn write_str(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Relaxed);
        panic!("the terminal burns");
    }
}

#[test]
fn a_terminal_that_panics_at_the_end_is_no_panic_of_the_batch() {
    let burnt = Arc::new(AtomicBool::new(false));
    let bar = bar_on(Burning(Arc::clone(&burnt)), "{pos}");
    let input = (0..3).filter(|_| true); // the stream does not know that two are the end, so the bar ends when it is dropped
    let two = |results: &mut Results<'_, _, _, _>| results.take(2).count();
    let streamed =
        collecting(1).batch(input).on_progress(progress_bar_on(bar)).stream(|_| Ok::<_, String>(()), two);
    assert_eq!(streamed.output, 2);
    assert!(burnt.load(Ordering::Relaxed), "it was drawn on");
}

#[test]
fn a_terminal_that_panics_again_and_again_panics_once() {
    let bar = bar_on(Burning(Arc::default()), "{pos}");
    let mut callback = progress_bar_on(bar);
    let run = || collecting(1).batch(0..3).on_progress(&mut callback).run(|_| Ok::<_, String>(()));
    let panicked = catch_unwind(AssertUnwindSafe(run));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"the terminal burns"));
    drop(callback);
}

/// The first look at it is that of the first item.
#[test]
fn the_bar_is_there_before_the_first_item_is_done() {
    within_a_minute(|| {
        for workers in settings() {
            let (bar, terminal) = in_memory("{pos}/{len} {rate}");
            let op = |_: &i32| {
                wait_until("it is drawn", || terminal.contents().starts_with("0/3"));
                Ok::<_, String>(())
            };
            let executor = collecting(workers);
            // One for each worker, so that none is done before.
            let batch = executor.batch(0..3).workers(if workers == Workers::Sequential { 1 } else { 3 });
            let first = AtomicBool::new(true);
            let result = batch.progress_bar_on(bar).run(|n| {
                if workers != Workers::Sequential || first.swap(false, Ordering::Relaxed) {
                    op(n)
                } else {
                    Ok(())
                }
            });
            assert!(result.is_success());
            assert!(terminal.contents().starts_with("3/3"), "{}", terminal.contents());
        }
    });
}

/// Also while the calling thread itself runs an item, or is in the consumer of a stream.
#[test]
fn the_time_goes_on_while_nothing_ends() {
    within_a_minute(|| {
        for workers in settings() {
            let (bar, terminal) = in_memory("{pos} {rate} {left}");
            let op = |n: &i32| {
                if *n == 1 {
                    wait_until("one is drawn as done", || terminal.contents().starts_with("1 "));
                    let before = terminal.contents();
                    wait_until("another time is drawn", || terminal.contents() != before);
                }
                Ok::<_, String>(())
            };
            let batch = collecting(workers);
            let result = batch.batch(0..3).window(1).workers(1).progress_bar_on(bar).run(op);
            assert!(result.is_success(), "{:?}", result.failures().next());
        }
        let (bar, terminal) = in_memory("{pos} {elapsed_precise}");
        let executor = collecting(2);
        let streamed = executor.batch(0..3).window(1).progress_bar_on(bar).stream(
            |_| Ok::<_, String>(()),
            |results| {
                assert!(results.next().is_some());
                let before = terminal.contents();
                wait_until("another time is drawn", || terminal.contents() != before);
                1 + results.count()
            },
        );
        assert_eq!(streamed.output, 3);
    });
}

#[test]
fn a_pause_and_items_to_be_retried_are_told_while_they_last() {
    within_a_minute(|| {
        for workers in settings() {
            let (bar, terminal) = in_memory("{pos}/{len}: {paused}, {waiting}");
            let (token, executor) = (CancelToken::new(), collecting(workers));
            let retry = Retry::delays(|| [Duration::MAX].into_iter()).when(|n: &usize| match n {
                5 => RetryDecision::PauseAll(Duration::from_secs(3_599)),
                _ => RetryDecision::Retry,
            });
            let batch = executor.batch(0..9usize).workers(1).retry(retry).cancel_on(&token);
            let batch = batch.progress_bar_on(bar).on_tick(Duration::from_millis(1), |_| {
                if terminal.contents().starts_with("3/9: paused for 59 min 59 s, 3 waiting to be retried") {
                    token.cancel();
                }
            });
            let result = batch.run(|&n| if n < 3 { Ok(()) } else { Err(n) });
            assert_eq!((result.stopped(), result.succeeded()), (Some(StopReason::Cancelled), 3));
            assert_eq!(terminal.contents(), "3/9: ,");
        }
    });
}

#[test]
fn an_empty_batch_shows_nothing() {
    for workers in settings() {
        let (bar, terminal) = in_memory("{pos}/{len}");
        let executor = collecting(workers);
        assert!(executor.batch(0..0).progress_bar_on(bar).run(|_| Ok::<_, String>(())).is_success());
        assert_eq!(terminal.contents(), "");
    }
}

#[test]
fn a_bar_keeps_no_other_callback_from_being_called() {
    let (bar, terminal) = in_memory("{pos}/{len}");
    let mut calls = 0;
    let batch = collecting(2);
    let batch =
        batch.batch(0..9).on_progress(|_| calls += 1).progress_bar_on(bar.clone()).progress_bar_on(bar);
    assert!(batch.run(|_| Ok::<_, String>(())).is_success());
    assert_eq!((calls, terminal.contents().as_str()), (9, "9/9"));
}

#[test]
fn what_a_clone_of_the_bar_prints_stands_above_it_whole() {
    for workers in settings() {
        let (bar, terminal) = in_memory("{pos}/{len} {batch}");
        let batch = collecting(workers);
        let result = batch.batch(0..3).progress_bar_on(bar.clone()).run(|n| {
            bar.println(format!("note {n}"));
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        let shown = terminal.contents();
        let mut lines: Vec<&str> = shown.lines().collect();
        let last = lines.pop().unwrap();
        lines.sort_unstable();
        assert_eq!(lines, ["note 0", "note 1", "note 2"], "{workers:?}");
        assert!(last.starts_with("3/3 ") && last.contains("in "), "{last}");
    }
}

#[test]
fn a_terminal_that_panics_at_the_start_stops_the_batch_and_one_at_the_end_does_not() {
    let run = |batch: Batch<'_, std::ops::Range<i32>, (), String>| batch.run(|_| Ok(()));
    let bar = bar_on(Burning(Arc::default()), "{pos}");
    let executor = collecting(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| run(executor.batch(0..3).progress_bar_on(bar))));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"the terminal burns"));
    common::assert_still_works(&executor);
}

/// What the child does in the tests below: 20 items, 3 of which fail, a tenth of a second and more.
fn draw_if_child() -> bool {
    let Some(told) = told_to() else { return false };
    let op = |&n: &i32| {
        thread::sleep(Duration::from_millis(10));
        if n % 7 == 3 { Err("no") } else { Ok(()) }
    };
    let executor = BatchExecutor::builder().stop_on_error(false).build().unwrap();
    let batch = executor.batch(0..20);
    let batch = if told == "draw by step" { batch.progress_bar() } else { batch.on_progress(progress_bar()) };
    assert_eq!(batch.run(op).stopped(), None);
    true
}

#[test]
fn where_stderr_is_no_terminal_there_are_plain_lines() {
    if draw_if_child() {
        return;
    }
    for how in ["draw", "draw by step"] {
        let (status, printed) = ended(child(&[], "where_stderr_is_no_terminal_there_are_plain_lines", how));
        assert!(status.success(), "{printed}");
        let lines: Vec<&str> = printed.lines().filter(|line| line.contains(" of ")).collect();
        let last = lines.last().unwrap();
        assert!(last.starts_with("20 of 20, 3 failed, ") && last.contains("/s, in "), "{printed:?}");
        assert!(!printed.contains('\x1b') && !printed.contains('\r'), "{printed:?}");
    }
}

#[test]
fn on_a_real_terminal_there_is_a_bar_that_stays() {
    if draw_if_child() {
        return;
    }
    if Command::new("script").arg("--version").output().is_err() {
        let _ =
            writeln!(io::stderr(), "SKIPPED on_a_real_terminal_there_is_a_bar_that_stays: no `script` here");
        return;
    }
    let test = "on_a_real_terminal_there_is_a_bar_that_stays";
    for how in ["draw", "draw by step"] {
        let in_columns = r#"script -qec "stty cols 80; '$0' $*" /dev/null"#;
        let mut script = child(&["sh", "-c", in_columns], test, how);
        script.env("TERM", "xterm");
        let (status, printed) = ended(script);
        assert!(status.success(), "{printed}");
        let pictures: Vec<&str> = printed.split('\r').filter(|text| text.contains("/20 [")).collect();
        assert!(pictures.len() > 1, "it is drawn while the batch runs: {printed:?}");
        assert!(how == "draw" || pictures[0].contains("0/20 [     "), "{printed:?}");
        assert!(pictures.last().unwrap().contains("20/20 [====="), "{printed:?}");
        assert!(pictures.last().unwrap().contains("] 3 failed, "), "{printed:?}");
    }
}
