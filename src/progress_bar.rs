//! A progress bar: callbacks for `on_progress` that draw with crate `indicatif`, or add lines where nothing can be drawn.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::panic;
use crate::progress::Progress;
use crate::sync::Mutex;

/// Ten pictures a second are as many as anybody sees.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A log keeps what is written to it.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A progress bar on stderr, for [`Batch::on_progress`](crate::Batch::on_progress).
///
/// It shows how many items are done and of how many, [how many a second](Progress::rate), [how much longer](Progress::eta), and how many
/// failed, if any did. While nobody knows how many there will be, as in some [streams](crate::Batch::stream), there is a count and no bar. When
/// the batch is over, stopped, or unwinding, the bar stays as it was then. It moves when an item is decided: while all of them wait, for another
/// attempt or in a pause, it stands still.
///
/// ```text
/// 4213/10000 [==========================>                                    ] 3 failed, 240/s, 24 s left
/// ```
///
/// Where stderr is no terminal, or one that cannot redraw a line, there is a line every five seconds, and one at the end:
///
/// ```text
/// 1200 of 10000, 3 failed, 240/s, 37 s left
/// ```
///
/// It is drawn at most ten times a second, whatever the number of items, from the times that [`Progress`] has: an item costs a
/// few nanoseconds more than a callback that only counts. Nothing is drawn between two items, or before a tenth of a second has passed.
///
/// ```
/// use batch_executor::{BatchExecutor, progress_bar};
///
/// let result = BatchExecutor::new().batch(0..100).on_progress(progress_bar()).run(|n| Ok::<_, String>(n * 2));
/// assert!(result.is_success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn progress_bar() -> impl FnMut(&Progress) {
    let bar = ProgressBar::no_length();
    // It draws on stderr, and is hidden where that cannot be drawn on.
    shown_by(if bar.is_hidden() { Face::Lines(Box::new(io::stderr())) } else { Face::Ours(Bar::new(bar)) })
}

/// Like [`progress_bar`], with a bar of your own: its style, and wherever it draws, a [`MultiProgress`](indicatif::MultiProgress) for
/// example. Where it draws nothing, nothing is written.
///
/// The batch sets its position, and its length where the number of items is known; when it is over it
/// [abandons](ProgressBar::abandon) the bar, which leaves it visible: keep a clone to clear it, or to write a message. The style gets more keys:
///
/// | key | for example | |
/// |---|---|---|
/// | `{failed}` | `3 failed` | empty if none did |
/// | `{rate}` | `240/s`, `7.5/min` | since the batch began; `{per_sec}` is that of the last seconds |
/// | `{left}` | `37 s left` | empty while nobody knows; at the end how long it took, `in 42 s` |
/// | `{batch}` | `3 failed, 240/s, 37 s left` | those of them that say something |
///
/// ```
/// use batch_executor::{BatchExecutor, progress_bar_on};
/// use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
///
/// let bars = MultiProgress::new();
/// let style = ProgressStyle::with_template("{prefix} {bar:30} {percent} % {failed}")?;
/// let bar = bars.add(ProgressBar::no_length().with_style(style).with_prefix("tenants"));
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor
///     .batch(0..100)
///     .on_progress(progress_bar_on(bar.clone()))
///     .run(|&n| if n == 13 { Err("unlucky") } else { Ok(()) });
/// assert_eq!(result.failed(), 1);
/// assert_eq!((bar.position(), bar.length()), (100, Some(100)));
/// bar.finish_and_clear();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn progress_bar_on(bar: ProgressBar) -> impl FnMut(&Progress) {
    let bar = Bar::new(bar);
    bar.restyle(bar.bar.style());
    shown_by(Face::Theirs(bar))
}

fn shown_by(face: Face) -> impl FnMut(&Progress) {
    let mut presenter = Presenter { due: face.pause(), face, last: None };
    move |progress| presenter.tell(progress)
}

/// Shows some of what it is told, and the last of it always: that is when the callback is dropped, at the latest.
struct Presenter {
    face: Face,
    /// The time in the batch at which there is something to show again.
    due: Duration,
    /// Until it has been shown as the last.
    last: Option<Progress>,
}

impl Presenter {
    fn tell(&mut self, progress: &Progress) {
        self.last = Some(*progress);
        if progress.total_hint == Some(progress.completed) {
            self.finish();
        } else if progress.elapsed >= self.due {
            self.due = progress.elapsed.saturating_add(self.face.pause());
            self.face.show(Told { progress: *progress, stage: Stage::Running });
        }
    }

    fn finish(&mut self) {
        if let Some(progress) = self.last.take() {
            self.face.show(Told { progress, stage: Stage::Over });
        }
    }
}

/// A style or a terminal of the user's may panic, when the bar is drawn for the last time and once more when it is dropped. From a
/// destructor, that could be the end of the process.
impl Drop for Presenter {
    fn drop(&mut self) {
        let finished = panic::catch(|| self.finish());
        let nothing = Face::Lines(Box::new(io::sink()));
        let _ = finished.and(panic::catch(|| drop(mem::replace(&mut self.face, nothing))));
    }
}

/// Where it is shown.
enum Face {
    /// A bar that looks as we want.
    Ours(Bar),
    /// A bar that looks as its owner wants.
    Theirs(Bar),
    /// A line now and then.
    Lines(Box<dyn Write + Send>),
}

impl Face {
    fn pause(&self) -> Duration {
        match self {
            Face::Ours(_) | Face::Theirs(_) => DRAW_EVERY,
            Face::Lines(_) => LINE_EVERY,
        }
    }

    fn show(&mut self, told: Told) {
        match self {
            Face::Ours(bar) => {
                bar.restyle(our_style(told.progress.total_hint));
                bar.show(told);
            }
            Face::Theirs(bar) => bar.show(told),
            // Nobody may be reading, which is no reason to stop a batch. In one piece, so that nothing comes in between.
            Face::Lines(out) => drop(out.write_all(format!("{}\n", told.line()).as_bytes())),
        }
    }
}

fn our_style(total: Option<usize>) -> ProgressStyle {
    let template = match total {
        Some(_) => "{pos}/{len} [{wide_bar}] {batch}",
        None => "{pos} done, {batch} {spinner}",
    };
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|error| unreachable!("our own template: {error}"));
    style.progress_chars("=> ").tick_chars(r"-\|/ ")
}

struct Bar {
    bar: ProgressBar,
    told: Arc<Mutex<Option<Told>>>,
}

impl Bar {
    fn new(bar: ProgressBar) -> Self {
        Bar { bar, told: Arc::default() }
    }

    /// Draws nothing.
    fn restyle(&self, style: ProgressStyle) {
        self.bar.set_style(KEYS.into_iter().fold(style, |style, (key, words)| {
            let told = Arc::clone(&self.told);
            style.with_key(key, move |_: &ProgressState, out: &mut dyn fmt::Write| {
                let words = told.lock().as_ref().map(words);
                let _ = out.write_str(&words.unwrap_or_default()); // into a `String`
            })
        }));
    }

    fn show(&self, told: Told) {
        let Progress { completed, total_hint, .. } = told.progress;
        *self.told.lock() = Some(told);
        self.bar.update(|state| {
            state.set_pos(completed as u64);
            if let Some(total) = total_hint {
                state.set_len(total as u64);
            }
        });
        match told.stage {
            Stage::Running => {}
            Stage::Over => self.bar.abandon(),
        }
    }
}

type Words = fn(&Told) -> String;

/// What a style may have in braces, beside what `indicatif` knows.
const KEYS: [(&str, Words); 4] =
    [("failed", Told::failed), ("rate", Told::rate), ("left", Told::left), ("batch", Told::batch)];

#[derive(Clone, Copy)]
enum Stage {
    Running,
    Over,
}

/// What is to be put into words.
#[derive(Clone, Copy)]
struct Told {
    progress: Progress,
    stage: Stage,
}

impl Told {
    fn failed(&self) -> String {
        match self.progress.failed {
            0 => String::new(),
            failed => format!("{failed} failed"),
        }
    }

    fn rate(&self) -> String {
        let rate = self.progress.rate();
        let (number, unit) = match rate {
            1.0.. => (rate, "s"),
            0.016.. => (rate * 60.0, "min"),
            _ => (rate * 3600.0, "h"),
        };
        let digits = usize::from(number < 10.0);
        if rate > 0.0 { format!("{number:.digits$}/{unit}") } else { String::new() }
    }

    fn left(&self) -> String {
        match self.stage {
            Stage::Running => {
                self.progress.eta().map(|time| format!("{} left", readable(time))).unwrap_or_default()
            }
            Stage::Over => format!("in {}", readable(self.progress.elapsed)),
        }
    }

    fn batch(&self) -> String {
        sentence([self.failed(), self.rate(), self.left()])
    }

    fn line(&self) -> String {
        let completed = self.progress.completed;
        let count = match self.progress.total_hint {
            Some(total) => format!("{completed} of {total}"),
            None => format!("{completed} done"),
        };
        sentence([count, self.batch()])
    }
}

fn sentence<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Two units at most, as one would say it.
fn readable(time: Duration) -> String {
    let seconds = time.saturating_add(Duration::from_millis(500)).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        _ if time < Duration::from_millis(9_950) => format!("{:.1} s", time.as_secs_f64()),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::*;
    use crate::counts::Counts;

    const SECOND: Duration = Duration::from_secs(1);

    fn progress(completed: usize, failed: usize, total_hint: Option<usize>, elapsed: Duration) -> Progress {
        let counts = Counts { succeeded: completed - failed, failed };
        Progress::new(counts, total_hint.unwrap_or(completed), total_hint, elapsed)
    }

    fn running(progress: Progress) -> Told {
        Told { progress, stage: Stage::Running }
    }

    /// Our bar on a terminal of 80 columns.
    fn in_memory() -> (Face, InMemoryTerm) {
        let terminal = InMemoryTerm::new(5, 80);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        (Face::Ours(Bar::new(ProgressBar::with_draw_target(None, target))), terminal)
    }

    /// One picture is one flush.
    fn draws(terminal: &InMemoryTerm) -> usize {
        terminal.moves_since_last_check().matches("Flush").count()
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).expect("text")
        }
    }

    #[test]
    fn a_line_says_how_far_how_fast_how_much_longer_and_how_many_failed() {
        let line = |completed, failed, hint, time| running(progress(completed, failed, hint, time)).line();
        assert_eq!(line(1200, 3, Some(10_000), 5 * SECOND), "1200 of 10000, 3 failed, 240/s, 37 s left");
        assert_eq!(line(1200, 0, Some(10_000), 5 * SECOND), "1200 of 10000, 240/s, 37 s left");
        assert_eq!(line(1200, 0, None, 5 * SECOND), "1200 done, 240/s");
        assert_eq!(line(1, 1, Some(2), Duration::ZERO), "1 of 2, 1 failed");
        let last = Told { progress: progress(9, 1, Some(10), 3 * SECOND), stage: Stage::Over };
        assert_eq!(last.line(), "9 of 10, 1 failed, 3.0/s, in 3.0 s");
    }

    #[test]
    fn a_rate_is_told_in_the_unit_that_suits_it() {
        let rate = |completed, time| running(progress(completed, 0, None, time)).rate();
        assert_eq!(rate(3_812_345, SECOND), "3812345/s");
        assert_eq!(rate(9, 2 * SECOND), "4.5/s");
        assert_eq!(rate(1, 8 * SECOND), "7.5/min");
        assert_eq!(rate(1, 1200 * SECOND), "3.0/h");
    }

    #[test]
    fn a_time_is_told_in_the_two_largest_units() {
        let times = [0, 9, 10, 59, 60, 3_599, 3_600, 86_399, 86_400, 200_000];
        let told = times.map(|seconds| readable(Duration::from_secs(seconds)));
        let expected = [
            "0.0 s",
            "9.0 s",
            "10 s",
            "59 s",
            "1 min 0 s",
            "59 min 59 s",
            "1 h 0 min",
            "23 h 59 min",
            "1 d 0 h",
            "2 d 7 h",
        ];
        assert_eq!(told, expected);
        assert_eq!([9_949, 9_950].map(|millis| readable(Duration::from_millis(millis))), ["9.9 s", "10 s"]);
        assert_eq!(readable(Duration::from_millis(250)), "0.2 s");
        readable(Duration::MAX);
    }

    #[test]
    fn the_bar_shows_a_share_and_words() {
        let (mut face, terminal) = in_memory();
        face.show(running(progress(2500, 0, Some(10_000), 10 * SECOND)));
        assert_eq!(
            terminal.contents(),
            format!("2500/10000 [{}>{}] 250/s, 30 s left", "=".repeat(12), " ".repeat(37))
        );
        face.show(running(progress(5000, 7, Some(10_000), 20 * SECOND)));
        assert_eq!(
            terminal.contents(),
            format!("5000/10000 [{}>{}] 7 failed, 250/s, 20 s left", "=".repeat(20), " ".repeat(19))
        );
    }

    #[test]
    fn without_a_total_there_is_a_count_and_no_bar_until_there_is_one() {
        let (mut face, terminal) = in_memory();
        face.show(running(progress(2500, 1, None, 10 * SECOND)));
        assert_eq!(terminal.contents(), r"2500 done, 1 failed, 250/s \");
        face.show(running(progress(3000, 1, Some(4000), 12 * SECOND)));
        assert!(terminal.contents().starts_with("3000/4000 [====="), "{}", terminal.contents());
    }

    #[test]
    fn ten_pictures_a_second_whatever_the_number_of_items() {
        let (face, terminal) = in_memory();
        let mut callback = shown_by(face);
        for completed in 1..1_000_000 {
            let elapsed = Duration::from_micros(completed as u64 * 2);
            callback(&progress(completed, 0, Some(1_000_000), elapsed));
        }
        assert_eq!(draws(&terminal), 19, "after 0.1 s to 1.9 s");
        callback(&progress(1_000_000, 0, Some(1_000_000), 2 * SECOND));
        drop(callback);
        assert!(draws(&terminal) <= 2, "the end, and that it is the end");
        assert_eq!(terminal.contents(), format!("1000000/1000000 [{}] 500000/s, in 2.0 s", "=".repeat(43)));
    }

    #[test]
    fn what_is_shown_last_is_the_last_call_however_soon_it_came() {
        let (face, terminal) = in_memory();
        let mut callback = shown_by(face);
        callback(&progress(1, 0, Some(9), Duration::from_millis(1)));
        callback(&progress(2, 1, Some(9), Duration::from_millis(2)));
        assert_eq!(draws(&terminal), 0);
        drop(callback);
        assert_eq!(
            terminal.contents(),
            format!("2/9 [{}>{}] 1 failed, 1000/s, in 0.0 s", "=".repeat(10), " ".repeat(36))
        );
    }

    #[test]
    fn what_was_never_called_shows_nothing() {
        let (face, terminal) = in_memory();
        drop(shown_by(face));
        let log = Log::default();
        drop(shown_by(Face::Lines(Box::new(log.clone()))));
        assert_eq!((terminal.contents().as_str(), log.text().as_str()), ("", ""));
    }

    #[test]
    fn lines_come_every_five_seconds_and_one_at_the_end() {
        let log = Log::default();
        let mut callback = shown_by(Face::Lines(Box::new(log.clone())));
        for completed in 1..=12 {
            callback(&progress(
                completed,
                usize::from(completed > 6),
                Some(12),
                Duration::from_secs(completed as u64),
            ));
        }
        drop(callback);
        let lines = "5 of 12, 1.0/s, 7.0 s left\n10 of 12, 1 failed, 1.0/s, 2.0 s left\n12 of 12, 1 failed, 1.0/s, in 12 s\n";
        assert_eq!(log.text(), lines);
    }

    #[test]
    fn nobody_reads_the_lines_and_nothing_stops() {
        struct Closed(Arc<Mutex<usize>>);

        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                *self.0.lock() += 1;
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let tries = Arc::new(Mutex::new(0));
        let mut callback = shown_by(Face::Lines(Box::new(Closed(Arc::clone(&tries)))));
        callback(&progress(1, 0, Some(2), 6 * SECOND));
        drop(callback);
        assert_eq!(*tries.lock(), 2);
    }
}
