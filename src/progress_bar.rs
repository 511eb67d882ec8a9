//! A progress bar: what a batch shows with crate `indicatif`, or as lines where nothing can be
//! drawn.

#[cfg(target_family = "wasm")]
compile_error!("feature `indicatif` needs a terminal and a thread that draws; WebAssembly has neither");

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::panic;
use crate::progress::Progress;
use crate::sync::{Mutex, channel};

/// Ten pictures a second are as many as anybody sees.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A log keeps what is written to it.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar that is narrower says nothing.
const NARROWEST: usize = 6;

/// A progress bar on stderr, as a callback for [`Batch::on_progress`](crate::Batch::on_progress).
///
/// The step [`progress_bar`](crate::Batch::progress_bar) of a batch draws the same bar, and more
/// often: at the start, and while no item is decided. This one moves when an item is decided, and
/// not before a tenth of a second has passed. An item costs a few nanoseconds more than with a
/// callback that only counts.
///
/// ```
/// use batch_executor::{BatchExecutor, progress_bar};
///
/// let result = BatchExecutor::new().batch(0..100).on_progress(progress_bar()).run(|n| Ok::<_, String>(n * 2));
/// assert!(result.is_success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn progress_bar() -> impl FnMut(&Progress) {
    let mut presenter = Presenter::new(Face::on_stderr());
    move |progress| presenter.tell(progress)
}

/// Like [`progress_bar`], with a bar of your own, as in
/// [`Batch::progress_bar_on`](crate::Batch::progress_bar_on): there are its rules, and the keys
/// that its style may have.
///
/// ```
/// use batch_executor::{BatchExecutor, progress_bar_on};
/// use indicatif::ProgressBar;
///
/// let (executor, bar) = (BatchExecutor::new(), ProgressBar::no_length());
/// let batch = executor.batch(0..100).on_progress(progress_bar_on(bar.clone()));
/// assert!(batch.run(|_| Ok::<_, String>(())).is_success());
/// assert_eq!((bar.position(), bar.length()), (100, Some(100)));
/// ```
pub fn progress_bar_on(bar: ProgressBar) -> impl FnMut(&Progress) {
    let mut presenter = Presenter::new(Face::of_owner(bar));
    move |progress| presenter.tell(progress)
}

/// What [`Batch::progress_bar`](crate::Batch::progress_bar) shows, told at the start, every tenth
/// of a second and at the end.
pub(crate) fn shown_on_stderr() -> impl FnMut(&Progress) {
    let mut presenter = Presenter::from_the_start(Face::on_stderr());
    move |progress| presenter.tell(progress)
}

/// The same of [`Batch::progress_bar_on`](crate::Batch::progress_bar_on).
pub(crate) fn shown_on(bar: ProgressBar) -> impl FnMut(&Progress) {
    let mut presenter = Presenter::from_the_start(Face::of_owner(bar));
    move |progress| presenter.tell(progress)
}

/// Shows some of what it is told, and the last of it always: that is when the callback is dropped, at the latest.
struct Presenter {
    face: Face,
    /// The time in the batch at which there is something to show again.
    due: Duration,
    /// Until it has been shown as the last.
    last: Option<Progress>,
    /// How many items were completed when it was.
    ended_at: Option<usize>,
    /// Draws the time that goes on while nothing is told.
    redrawer: Option<Redrawer>,
}

impl Presenter {
    fn new(face: Face) -> Self {
        Presenter { due: face.pause(), face, last: None, ended_at: None, redrawer: None }
    }

    /// One that draws what there is at the start, and draws the time while the calling thread is
    /// busy.
    fn from_the_start(face: Face) -> Self {
        let mut presenter = Presenter::new(face);
        if presenter.face.bar().is_some() {
            presenter.due = Duration::ZERO;
        }
        presenter
    }

    fn tell(&mut self, progress: &Progress) {
        let is_empty = progress.total_hint == Some(0);
        if is_empty || self.ended_at == Some(progress.completed) {
            return;
        }
        self.last = Some(*progress);
        if progress.total_hint == Some(progress.completed) {
            self.finish();
        } else if progress.elapsed >= self.due {
            if self.due.is_zero() {
                self.redrawer = self.face.bar().and_then(Redrawer::of);
            }
            self.due = progress.elapsed.saturating_add(self.face.pause());
            self.face.show(Told { progress: *progress, stage: Stage::Running, room: usize::MAX });
        } else if let Some(bar) = self.face.bar().filter(|_| self.redrawer.is_some()) {
            bar.told.lock().iter_mut().for_each(|shown| shown.is_now(progress));
        }
    }

    fn finish(&mut self) {
        if let Some(progress) = self.last.take() {
            self.ended_at = Some(progress.completed);
            drop(self.redrawer.take());
            self.face.show(Told { progress, stage: Stage::Over, room: usize::MAX });
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

/// A thread that draws the time while the calling thread is busy, with an item or in the consumer
/// of a stream. Where the system gives no thread, the bar stands still meanwhile.
struct Redrawer {
    goes_on: Option<channel::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Redrawer {
    /// None for a bar that is not shown.
    fn of(bar: &Bar) -> Option<Self> {
        if bar.bar.is_hidden() {
            return None;
        }
        let (goes_on, ends) = channel::bounded(0);
        let (bar, told) = (bar.bar.clone(), Arc::clone(&bar.told));
        let draw = move || {
            while ends.recv_timeout(DRAW_EVERY) == Err(channel::RecvTimeoutError::Timeout) {
                let behind = told.lock().as_mut().and_then(Shown::catch_up);
                // A terminal or a style of the user's may panic.
                if behind.is_some_and(|progress| panic::catch(|| draw_on(&bar, &progress)).is_err()) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("batch-bar".to_owned()).spawn(draw).ok()?;
        Some(Redrawer { goes_on: Some(goes_on), thread: Some(thread) })
    }
}

impl Drop for Redrawer {
    fn drop(&mut self) {
        drop(self.goes_on.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// What a bar shows, or will when it is drawn next.
struct Shown {
    told: Told,
    told_at: Instant,
    drawn_at: Instant,
}

impl Shown {
    fn is_now(&mut self, progress: &Progress) {
        (self.told.progress, self.told_at) = (*progress, Instant::now());
    }

    /// What there is to draw now, if nothing has been drawn for longer than usual.
    fn catch_up(&mut self) -> Option<Progress> {
        let now = Instant::now();
        let is_running = matches!(self.told.stage, Stage::Running);
        if !is_running || now - self.drawn_at < DRAW_EVERY * 3 / 2 {
            return None;
        }
        self.told.progress = self.told.progress.after(now - self.told_at);
        (self.told_at, self.drawn_at) = (now, now);
        Some(self.told.progress)
    }
}

/// The style asks what is told for its words.
fn draw_on(bar: &ProgressBar, progress: &Progress) {
    bar.update(|state| {
        state.set_pos(progress.completed as u64);
        if let Some(total) = progress.total_hint {
            state.set_len(total as u64);
        }
    });
}

/// Where it is shown.
enum Face {
    /// A bar that looks as we want, on a terminal with this many columns.
    Ours(Bar, Box<dyn Fn() -> usize + Send>),
    /// A bar that looks as its owner wants.
    Theirs(Bar),
    /// A line now and then.
    Lines(Box<dyn Write + Send>),
}

impl Face {
    fn on_stderr() -> Self {
        let bar = ProgressBar::no_length();
        // It draws on stderr, and is hidden where that cannot be drawn on.
        if bar.is_hidden() {
            return Face::Lines(Box::new(io::stderr()));
        }
        Face::Ours(Bar::new(bar), Box::new(|| usize::from(Term::stderr().size().1)))
    }

    fn of_owner(bar: ProgressBar) -> Self {
        let bar = Bar::new(bar);
        bar.restyle(bar.bar.style());
        Face::Theirs(bar)
    }

    fn bar(&self) -> Option<&Bar> {
        match self {
            Face::Ours(bar, _) | Face::Theirs(bar) => Some(bar),
            Face::Lines(_) => None,
        }
    }

    fn pause(&self) -> Duration {
        match self {
            Face::Ours(..) | Face::Theirs(_) => DRAW_EVERY,
            Face::Lines(_) => LINE_EVERY,
        }
    }

    fn show(&mut self, told: Told) {
        match self {
            Face::Ours(bar, columns) => {
                let (style, room) = our_style(&told, columns());
                bar.restyle(style);
                bar.show(Told { room, ..told });
            }
            Face::Theirs(bar) => bar.show(told),
            // The reader may be gone, which is no reason to stop a batch. In one piece, so that nothing comes in between.
            Face::Lines(out) => drop(out.write_all(format!("{}\n", told.line()).as_bytes())),
        }
    }
}

/// What our bar looks like on this many columns, and how many of them are left for words. Where there
/// is no room for both, the words stay, and no bar.
fn our_style(told: &Told, columns: usize) -> (ProgressStyle, usize) {
    let Progress { completed, total_hint, .. } = told.progress;
    let count = total_hint.map_or_else(String::new, |total| format!("{completed}/{total}")).len();
    let fits = count + " [] ".len() + NARROWEST + told.batch().len() <= columns;
    let (template, room) = match total_hint {
        Some(_) if fits => ("{pos}/{len} [{wide_bar}] {batch}", usize::MAX),
        Some(_) => ("{pos}/{len}, {batch}", columns.saturating_sub(count + ", ".len())),
        None => ("{pos} done, {batch} {spinner}", usize::MAX),
    };
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|error| unreachable!("our own template: {error}"));
    (style.progress_chars("=> ").tick_chars(r"-\|/ "), room)
}

struct Bar {
    bar: ProgressBar,
    told: Arc<Mutex<Option<Shown>>>,
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
                let words = told.lock().as_ref().map(|shown| words(&shown.told));
                let _ = out.write_str(&words.unwrap_or_default()); // into a `String`
            })
        }));
    }

    fn show(&self, told: Told) {
        let now = Instant::now();
        *self.told.lock() = Some(Shown { told, told_at: now, drawn_at: now });
        draw_on(&self.bar, &told.progress);
        match told.stage {
            Stage::Running => {}
            Stage::Over => self.bar.abandon(),
        }
    }
}

type Words = fn(&Told) -> String;

/// What a style may have in braces, beside what `indicatif` knows.
const KEYS: [(&str, Words); 6] = [
    ("failed", Told::failed),
    ("paused", Told::paused),
    ("waiting", Told::waiting),
    ("rate", Told::rate),
    ("left", Told::left),
    ("batch", Told::batch),
];

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
    /// As many columns are there for all words together.
    room: usize,
}

impl Told {
    fn failed(&self) -> String {
        match self.progress.failed {
            0 => String::new(),
            failed => format!("{failed} failed"),
        }
    }

    fn paused(&self) -> String {
        let left = self.progress.paused_for.filter(|_| matches!(self.stage, Stage::Running));
        left.map(|left| format!("paused for {}", readable_to_wait(left))).unwrap_or_default()
    }

    fn waiting(&self) -> String {
        match (self.progress.retrying(), self.stage) {
            (0, _) | (_, Stage::Over) => String::new(),
            (waiting, Stage::Running) => format!("{waiting} waiting to be retried"),
        }
    }

    fn rate(&self) -> String {
        let rate = self.progress.rate();
        let (number, unit) = match rate {
            1.0.. => (rate, "s"),
            0.016.. => (rate * 60.0, "min"),
            _ => (rate * 3600.0, "h"),
        };
        let digits = usize::from(number < 9.95); // else it would be rounded to 10.0
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

    /// What fits. In a pause nothing goes on at a rate.
    fn batch(&self) -> String {
        let mut words = match self.paused() {
            paused if paused.is_empty() => vec![self.failed(), self.waiting(), self.rate(), self.left()],
            paused => vec![self.failed(), paused, self.waiting()],
        };
        while sentence(&words).len() > self.room {
            words.pop();
        }
        sentence(&words)
    }

    fn line(&self) -> String {
        let completed = self.progress.completed;
        let count = match self.progress.total_hint {
            Some(total) => format!("{completed} of {total}"),
            None => format!("{completed} done"),
        };
        sentence(&[count, self.batch()])
    }
}

fn sentence(parts: &[String]) -> String {
    parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// In whole seconds until an hour, and never none.
fn readable_to_wait(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    if seconds < 60 { format!("{seconds} s") } else { readable(Duration::from_secs(seconds)) }
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
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::*;
    use crate::counts::Counts;
    use crate::progress::{Earlier, Load};

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn progress(completed: usize, failed: usize, total_hint: Option<usize>, elapsed: Duration) -> Progress {
        at(completed, failed, total_hint, elapsed, Load::default())
    }

    fn at(completed: usize, failed: usize, hint: Option<usize>, elapsed: Duration, load: Load) -> Progress {
        let counts = Counts { succeeded: completed - failed, failed, recorded: 0 };
        Progress::new(counts, (hint.unwrap_or(completed), hint), elapsed, load, Earlier::default())
    }

    fn running(progress: Progress) -> Told {
        Told { progress, stage: Stage::Running, room: usize::MAX }
    }

    fn in_memory() -> (Face, InMemoryTerm) {
        in_columns(80)
    }

    /// Our bar on a terminal with this many columns.
    fn in_columns(columns: u16) -> (Face, InMemoryTerm) {
        let terminal = InMemoryTerm::new(5, columns);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bar = Bar::new(ProgressBar::with_draw_target(None, target));
        (Face::Ours(bar, Box::new(move || usize::from(columns))), terminal)
    }

    fn shown_by(face: Face) -> impl FnMut(&Progress) {
        let mut presenter = Presenter::new(face);
        move |progress| presenter.tell(progress)
    }

    #[test]
    fn a_bar_that_catches_up_adds_the_time_since_the_last_call() {
        let ago = Instant::now().checked_sub(60 * SECOND).unwrap();
        let told = Told { progress: progress(0, 0, Some(9), SECOND), stage: Stage::Running, room: 80 };
        let mut shown = Shown { told, told_at: ago, drawn_at: ago };
        shown.is_now(&progress(3, 0, Some(9), 5 * SECOND));
        let drawn = shown.catch_up().expect("it was not drawn for a minute");
        assert!(drawn.elapsed < 30 * SECOND, "{:?} in all", drawn.elapsed);

        (shown.told_at, shown.drawn_at) = (ago, ago);
        let drawn = shown.catch_up().expect("it was not drawn for a minute");
        shown.drawn_at = ago;
        let again = shown.catch_up().expect("nor was it since");
        assert!(again.elapsed < drawn.elapsed + 30 * SECOND, "the minute was added twice");
    }

    #[test]
    fn a_pause_and_what_is_to_be_retried_are_told_while_they_last() {
        let load = Load { waiting: 3, retrying: 2, paused_for: Some(1_200 * MS), ..Load::default() };
        let (mut face, terminal) = in_memory();
        face.show(running(at(18, 1, Some(40), 2 * SECOND, load)));
        let words = "1 failed, paused for 2 s, 2 waiting to be retried";
        assert!(terminal.contents().ends_with(&format!("] {words}")), "{}", terminal.contents());
        assert_eq!(terminal.contents().len(), 80);
        let words = |load, stage| {
            Told { progress: at(18, 1, Some(40), 2 * SECOND, load), stage, room: usize::MAX }.batch()
        };
        let unpaused = Load { paused_for: None, ..load };
        let expected = "1 failed, 2 waiting to be retried, 9.0/s, 2.4 s left";
        assert_eq!(words(unpaused, Stage::Running), expected);
        assert_eq!(words(load, Stage::Over), "1 failed, 9.0/s, in 2.0 s");
        let long = Load { paused_for: Some(90 * SECOND), ..Load::default() };
        assert_eq!(words(long, Stage::Running), "1 failed, paused for 1 min 30 s");
    }

    #[test]
    fn on_few_columns_there_are_words_that_fit_and_no_bar() {
        let load = Load { retrying: 2, ..Load::default() };
        for (columns, expected) in [
            (74, "18/40 [=>   ] 1 failed, 2 waiting to be retried, 9.0/s, 2.4 s left"),
            (60, "18/40, 1 failed, 2 waiting to be retried, 9.0/s, 2.4 s left"),
            (40, "18/40, 1 failed, 2 waiting to be retried"),
            (39, "18/40, 1 failed"),
            (10, "18/40,"),
        ] {
            let (mut face, terminal) = in_columns(columns);
            face.show(running(at(18, 1, Some(40), 2 * SECOND, load)));
            let shown = terminal.contents();
            if columns == 74 {
                assert_eq!(shown.split_once('[').unwrap().0, expected.split_once('[').unwrap().0);
                assert_eq!(shown.split_once(']').unwrap().1, expected.split_once(']').unwrap().1);
            } else {
                assert_eq!(shown, expected, "{columns} columns");
            }
        }
    }

    #[test]
    fn the_time_goes_on_while_nothing_is_told() {
        let (face, terminal) = in_memory();
        let mut presenter = Presenter::from_the_start(face);
        presenter.tell(&progress(0, 0, Some(9), Duration::ZERO));
        assert!(terminal.contents().starts_with("0/9 ["), "{}", terminal.contents());
        presenter.tell(&progress(1, 0, Some(9), SECOND));
        let before = terminal.contents();
        assert!(before.ends_with("1.0/s, 8.0 s left"), "{before}");
        let since = Instant::now();
        while terminal.contents() == before {
            assert!(since.elapsed() < 30 * SECOND, "it stands still");
            thread::sleep(10 * MS);
        }
        assert!(terminal.contents().starts_with("1/9 ["), "{}", terminal.contents());
        presenter.tell(&progress(9, 0, Some(9), 2 * SECOND));
        assert!(terminal.contents().ends_with("4.5/s, in 2.0 s"), "{}", terminal.contents());
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
        let last =
            Told { progress: progress(9, 1, Some(10), 3 * SECOND), stage: Stage::Over, room: usize::MAX };
        assert_eq!(last.line(), "9 of 10, 1 failed, 3.0/s, in 3.0 s");
    }

    #[test]
    fn a_rate_is_told_in_the_unit_that_suits_it() {
        let rate = |completed, time| running(progress(completed, 0, None, time)).rate();
        assert_eq!(rate(3_812_345, SECOND), "3812345/s");
        assert_eq!(rate(9, 2 * SECOND), "4.5/s");
        assert_eq!([993, 997].map(|completed| rate(completed, 100 * SECOND)), ["9.9/s", "10/s"]);
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
        let nearly = |seconds: u64| readable(Duration::from_millis(1_000 * seconds - 300));
        assert_eq!([60, 120].map(nearly), ["1 min 0 s", "2 min 0 s"]);
        assert_eq!([7_200, 172_800].map(nearly), ["2 h 0 min", "2 d 0 h"]);
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
