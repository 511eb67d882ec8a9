//! What becomes of a journal when its process, its disk or its file fails. Each test carries the number of its case in
//! `tests/faults/README.md`.
//!
//! After each case: whole lines are still there, no item that has one runs again, every item ends with one line and the outcome
//! of a run that nothing disturbed. Or the file is refused with words, and is as it was.

#![cfg(feature = "journal")]
#![cfg_attr(not(unix), allow(unused_imports, dead_code, reason = "some faults can be had on Unix alone"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use std::{env, process};

use batch_executor::{
    BatchExecutor, BatchResult, Control, Journal, JournalError, Limit, Outcome, Plan, RateLimit, Retry,
    RetryDecision, Shard, StopReason,
};
use serde_json::Value;

use common::{
    AT_THE_END, MEANT, child, collecting, ended, ran_to_its_end, silence_meant_panics, skip, stopped, told_to,
};

type Texts = BatchResult<usize, String, String>;

/// What item `n` comes to, in any run; lines of many lengths, and some of more than a page.
fn outcome(n: usize) -> Result<String, String> {
    match n {
        _ if n % 9 == 4 => Err(format!("no {n}")),
        _ if n % 100 == 50 => Ok(n.to_string().repeat(3_000)),
        _ => Ok(n.to_string().repeat(1 + n % 50)),
    }
}

/// Outcomes as a program would print them, the same for one that was recorded and one that is new.
fn told(result: &Texts) -> String {
    let text = |outcome: &Outcome<String, String>| match outcome {
        Ok(value) => value.clone(),
        Err(error) => error.to_string(),
    };
    let line = |id: &usize, text: String| format!("{id}: {text}\n");
    result.iter().map(|item| line(item.item, text(item.outcome))).collect()
}

/// What a run says that nothing disturbs and that has no journal.
fn undisturbed(items: usize) -> String {
    told(&ran_to_its_end(collecting(1).run(0..items, |&n| outcome(n))))
}

/// A folder with a journal for this many items, and outside of it a log of what was run.
struct Place {
    folder: PathBuf,
    items: usize,
    /// Whether the folder goes with this.
    is_own: bool,
}

/// In the environment of a child: its folder, and the number of items.
const PLACE: [&str; 2] = ["BATCH_EXECUTOR_TEST_FOLDER", "BATCH_EXECUTOR_TEST_ITEMS"];

impl Place {
    /// Where a sync costs nothing, if there is such a place.
    fn new(name: &str, items: usize) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Place::within(memory, name, items) } else { Place::on_disk(name, items) }
    }

    fn on_disk(name: &str, items: usize) -> Self {
        Place::within(Path::new(env!("CARGO_TARGET_TMPDIR")), name, items)
    }

    fn within(folder: &Path, name: &str, items: usize) -> Self {
        let folder = folder.join(format!("journal-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder); // a test that was killed left it, and the system gave the same process id again
        fs::create_dir_all(&folder).unwrap();
        Place { folder, items, is_own: true }
    }

    /// In a child, where its parent wants it.
    fn of_parent() -> Self {
        let [folder, items] = PLACE.map(|name| env::var(name).unwrap());
        Place { folder: folder.into(), items: items.parse().unwrap(), is_own: false }
    }

    /// A journal that all items went through, all but the lines behind the first `lines` cut off again.
    fn begun(name: &str, items: usize, lines: usize) -> Self {
        let place = Place::new(name, items);
        drop(ran_to_its_end(place.run(place.open().unwrap(), 1, |_| {})));
        let whole: Vec<u8> =
            place.bytes().split_inclusive(|byte| *byte == b'\n').take(lines).flatten().copied().collect();
        place.put(&whole);
        fs::write(place.log(), "").unwrap();
        place
    }

    fn journal(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.journal()).unwrap_or_default()
    }

    fn put(&self, bytes: &[u8]) {
        fs::write(self.journal(), bytes).unwrap();
    }

    fn open(&self) -> Result<Journal, JournalError> {
        Journal::open(self.journal(), Plan::of(0..self.items).unwrap())
    }

    /// Why it does not open: the words behind the name of the file.
    #[track_caller]
    fn refusal(&self) -> String {
        let words = self.open().expect_err("it is refused").to_string();
        self.behind_name(&words).to_owned()
    }

    /// The words behind the name of the file, up to the end of the line.
    #[track_caller]
    fn behind_name<'w>(&self, words: &'w str) -> &'w str {
        let name = format!("journal {}: ", self.journal().display());
        let (_, rest) = words.split_once(&name).unwrap_or_else(|| panic!("{words}"));
        rest.lines().next().unwrap_or_default()
    }

    /// Each item notes itself outside before it is done. `first` is what happens before that.
    fn run(&self, journal: Journal, workers: usize, first: impl Fn(usize) + Sync) -> Texts {
        // Behind a lock, since not every system appends what two threads write at the same time.
        let log = Mutex::new(OpenOptions::new().append(true).create(true).open(self.log()).unwrap());
        let executor = BatchExecutor::builder().workers(workers).stop_on_error(false).build().unwrap();
        let journal = journal.retry_failed(false);
        executor.batch(0..self.items).journal(&journal).run(|&n| {
            first(n);
            // Of a length that no page ends within.
            log.lock().unwrap().write_all(format!("{n:7}\n").as_bytes()).unwrap();
            outcome(n)
        })
    }

    /// The same with all that may hold an item back or start it again: a rate, slots, retries, a control that pauses, resumes and
    /// changes the number of workers.
    fn run_held_back(&self, journal: Journal) -> Texts {
        let log = Mutex::new(OpenOptions::new().append(true).create(true).open(self.log()).unwrap());
        let (executor, control, is_over) = (collecting(4), Control::new(), AtomicBool::new(false));
        let journal = journal.retry_failed(false);
        let retry = Retry::delays(|| [Duration::from_micros(200); 2].into_iter()).when(|error: &String| {
            if error == "again" { RetryDecision::Retry } else { RetryDecision::GiveUp }
        });
        let batch = executor
            .batch(0..self.items)
            .journal(&journal)
            .limit(Limit::rate(RateLimit::every(Duration::from_micros(50)).burst(10)))
            .limit(Limit::per_key(|n: &usize| n % 3, |_| Limit::at_once(2)))
            .retry(retry)
            .control(&control);
        thread::scope(|scope| {
            scope.spawn(|| {
                for workers in (1..=4).cycle().take_while(|_| !is_over.load(Ordering::SeqCst)) {
                    control.pause();
                    spin_for(Duration::from_micros(300));
                    control.set_workers(workers);
                    control.resume();
                    spin_for(Duration::from_millis(1));
                }
            });
            let result = batch.run_with(|&n, cx| {
                if n % 5 == 1 && cx.attempt() < 3 {
                    return Err("again".to_owned());
                }
                log.lock().unwrap().write_all(format!("{n:7}\n").as_bytes()).unwrap();
                outcome(n)
            });
            is_over.store(true, Ordering::SeqCst);
            result
        })
    }

    /// What was run, in this order.
    fn ran(&self) -> Vec<usize> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().map(|line| line.trim().parse().unwrap()).collect()
    }

    /// The items that have a whole line, line by line. Read by nothing of ours.
    fn recorded(&self) -> Vec<usize> {
        let bytes = self.bytes();
        let lines = bytes.split(|byte| *byte == b'\n').skip(1);
        let items = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        items.map(|line| usize::try_from(line["index"].as_u64().unwrap()).unwrap()).collect()
    }

    /// What a program is loaded with so that it leaves a copy of what it has synced.
    fn disk_that_forgets(&self) -> Option<PathBuf> {
        let library = self.folder.join("forget.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals/forget.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", source, "-ldl", "-lpthread", "-o"]).arg(&library);
        compiler.status().ok().filter(ExitStatus::success).map(|_| library)
    }

    /// Of what was not synced, a part is left, perhaps with zeros behind it.
    fn lose_power(&self, durable: &Path, dice: &mut Dice) -> Loss {
        let (image, live) = (durable.join("journal.jsonl"), self.bytes());
        let synced = fs::read(&image).unwrap_or_default();
        assert!(live.starts_with(&synced), "lines that were synced are others now");
        let rest = &live[synced.len()..];
        let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
        let (all, unsynced) = (lines(&live), lines(rest));
        if durable.join("named").exists() {
            let left = dice.below(rest.len() + 1);
            let zeros = vec![0; if left < rest.len() { dice.below(100) } else { 0 }];
            let kept = [&synced, &rest[..left]].concat();
            self.put(&[kept.as_slice(), &zeros].concat());
            let whole = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            fs::write(image, &kept[..whole]).unwrap();
            return Loss { all, unsynced, lost: lines(&rest[left..]) };
        }
        assert!(all < 2, "items are recorded in a file whose name may be lost");
        let _ = fs::remove_file(self.journal());
        let _ = fs::remove_file(image);
        Loss { all, unsynced: all, lost: all }
    }

    fn child(&self, behind: &[&str], test: &str, told_to: &str) -> Command {
        let mut command = child(behind, test, told_to);
        command.env(PLACE[0], &self.folder).env(PLACE[1], self.items.to_string());
        command
    }

    /// Goes on with what is there. Returns how many items ran.
    #[track_caller]
    fn assert_goes_on(&self, why: &str) -> usize {
        let (recorded, before, bytes) = (self.recorded(), self.ran().len(), self.bytes());
        let opened = self.open().unwrap_or_else(|error| panic!("{why}: {error}"));
        let result = self.run(opened, 4, |_| {});
        assert_eq!((result.stopped(), result.journal_error()), (None, None), "{why}: {result}");
        let again = self.ran().split_off(before);
        let all = || (0..self.items).collect::<Vec<_>>();
        assert_eq!(sorted(&[&recorded[..], &again].concat()), all(), "{why}: recorded before, or run now");
        assert_eq!(sorted(&self.recorded()), all(), "{why}: a line for each item");
        assert_eq!(told(&result), undisturbed(self.items), "{why}");
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        assert!(self.bytes().starts_with(&bytes[..whole]), "{why}: whole lines stay");
        again.len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_own {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn sorted(numbers: &[usize]) -> Vec<usize> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Numbers that are others in each run.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        Dice(u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() % (1 << 60)).unwrap() | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 8) % end as u64).unwrap()
    }
}

fn spin_for(time: Duration) {
    let since = Instant::now();
    while since.elapsed() < time {
        thread::yield_now();
    }
}

/// How many times a run is killed; `KILLS` says another number.
fn kills() -> usize {
    env::var("KILLS").map_or(20, |kills| kills.parse().unwrap())
}

/// How a run goes that a test kills: the number of lines between two syncs, and whether limits, retries and a control hold items back.
const RUNS: [&str; 4] = ["1", "7", "100", "7 held back"];

fn run_to_be_killed(told: &str) {
    let (place, (lines, rest)) = (Place::of_parent(), told.split_once(' ').unwrap_or((told, "")));
    let journal = place.open().unwrap().sync_every(lines.parse().unwrap());
    let result = match rest {
        "" => place.run(journal, 4, |n| spin_for(Duration::from_micros(n as u64 % 7 * 30))),
        _ => place.run_held_back(journal),
    };
    drop(ran_to_its_end(result));
}

/// Lines of a journal at a loss of power.
#[derive(Debug)]
struct Loss {
    all: usize,
    unsynced: usize,
    lost: usize,
}

/// Starts it and kills it: at the start, or when some items have run, and a little later.
fn kill(mut command: Command, place: &Place, dice: &mut Dice) {
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (lines, later) = (dice.below(place.items), dice.below(300));
    if dice.below(5) == 0 {
        spin_for(Duration::from_micros(later as u64 * 30));
    } else {
        while place.ran().len() < lines && run.try_wait().unwrap().is_none() {
            thread::yield_now();
        }
        spin_for(Duration::from_micros(later as u64));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

/// F63: at any moment, from the opening of the file on. Some are killed twice.
#[test]
fn a_run_that_is_killed_at_a_random_moment_is_gone_on_with() {
    const TEST: &str = "a_run_that_is_killed_at_a_random_moment_is_gone_on_with";
    const ITEMS: usize = 300;
    if let Some(lines) = told_to() {
        return run_to_be_killed(&lines);
    }
    let (mut dice, mut under_way) = (Dice::new(), 0);
    for round in 0..kills() {
        let place = Place::on_disk("killed", ITEMS);
        for _ in 0..=dice.below(2) {
            kill(place.child(&[], TEST, RUNS[round % RUNS.len()]), &place, &mut dice);
        }
        let ran = place.assert_goes_on(&format!("round {round}"));
        under_way += usize::from((1..ITEMS).contains(&ran));
    }
    assert!(under_way > kills() / 4, "only {under_way} of {} were killed in their midst", kills());
}

/// F63: the power is lost at any moment, by a disk that forgets what was not synced, but for a part of it. What was synced is there and
/// is not done again; of the rest, what is whole is believed and is right.
#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "it may run in an emulator, which loads nothing of `cc`"
)]
fn after_a_loss_of_power_what_was_synced_is_there() {
    const TEST: &str = "after_a_loss_of_power_what_was_synced_is_there";
    const ITEMS: usize = 300;
    if let Some(told) = told_to() {
        return run_to_be_killed(&told);
    }
    let (mut dice, mut forgotten, mut late, mut in_time) = (Dice::new(), 0, 0, 0);
    for round in 0..kills() / 2 {
        let place = Place::new("power", ITEMS);
        let Some(forgets) = place.disk_that_forgets() else { return skip(TEST, "there is no cc") };
        let durable = place.folder.join("durable");
        fs::create_dir(&durable).unwrap();
        let told = RUNS[round % RUNS.len()];
        let lines: usize = told.split(' ').next().unwrap().parse().unwrap();
        for _ in 0..=dice.below(3) {
            let mut run = place.child(&[], TEST, told);
            run.env("LD_PRELOAD", &forgets).env("DURABLE", &durable);
            kill(run, &place, &mut dice);
            let loss = place.lose_power(&durable, &mut dice);
            forgotten += loss.lost;
            // Each of four workers waits for its line, and one line is cut off.
            assert!(lines > 1 || loss.unsynced <= 5, "round {round}: {loss:?}");
            // Where not each line is synced, the others write on while a sync lasts; and on a busy machine one lasts long.
            let most = 4 * lines + 40;
            late += usize::from(loss.unsynced > most);
            in_time += usize::from(loss.all > most && loss.unsynced <= most);
        }
        place.assert_goes_on(&format!("round {round}, {told}"));
    }
    assert!(forgotten > 0, "no line was forgotten");
    assert!(in_time > 0 || late == 0, "{late} times more lines were not synced than in one sync come");
}

/// F63: many workers, one of which syncs what others have written. A value is a value, with one line.
#[test]
fn whoever_syncs_whose_lines_every_outcome_is_what_it_was() {
    const ITEMS: usize = 20_000;
    let place = Place::new("many", ITEMS);
    for round in 0..5 {
        let journal = place.open().unwrap().sync_every(2);
        let result = collecting(16).batch(0..ITEMS).journal(&journal).run(|&n| Ok::<_, String>(n));
        let result = ran_to_its_end(result);
        let failure = result.failures().next().map(|failure| failure.to_string());
        assert_eq!((failure, place.recorded().len()), (None, ITEMS), "round {round}");
        drop(journal);
        fs::remove_file(place.journal()).unwrap();
    }
}

/// F63: what a kill, a full disk or a lost power can leave of the end of the file.
#[test]
fn a_journal_that_is_cut_at_any_byte_opens_and_nothing_recorded_runs_again() {
    const ITEMS: usize = 52;
    let plan = Plan::of(0..ITEMS).unwrap();
    let run = |path: &Path| {
        let (ran, journal) = (AtomicUsize::new(0), Journal::open(path, plan.clone())?);
        let executor = BatchExecutor::new();
        let result = executor.batch(0..ITEMS).journal(&journal).run(|&n| {
            ran.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>(n * n)
        });
        let values: Vec<usize> = result.into_values().unwrap();
        Ok::<_, JournalError>((ran.into_inner(), values))
    };
    let place = Place::new("cut", ITEMS);
    let (_, expected) = run(&place.journal()).unwrap();
    let whole = place.bytes();
    assert!(whole.len() > 4096, "only {} bytes", whole.len());
    // Every byte of the first lines, about the size of a block, and of the last lines, and every seventh of those between.
    let is_near = |cut: usize| cut < 300 || cut.abs_diff(4096) < 120 || cut + 250 > whole.len();
    let cuts = (0..=whole.len()).filter(|&cut| cut % 7 == 0 || is_near(cut));
    let result = collecting(4).run(cuts, |&cut| {
        let path = place.folder.join(format!("{cut}.jsonl"));
        fs::write(&path, &whole[..cut]).unwrap();
        // A line that lacks nothing but its end is whole.
        let ends = whole[..whole.len().min(cut + 1)].split(|byte| *byte == b'\n').count() - 1;
        let (ran, values) = run(&path).map_err(|error| format!("cut at {cut}: {error}"))?;
        let after = fs::read(&path).unwrap();
        let lines = after.split(|byte| *byte == b'\n').count() - 1;
        let stays = &whole[..whole[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)];
        assert_eq!((ran, lines), (ITEMS - ends.saturating_sub(1), ITEMS + 1), "cut at {cut}");
        assert!(values == expected && after.starts_with(stays), "cut at {cut}");
        assert_eq!(
            run(&path).map_err(|error| error.to_string())?,
            (0, values),
            "cut at {cut}, and opened again"
        );
        fs::remove_file(path).unwrap();
        Ok::<_, String>(())
    });
    let result = ran_to_its_end(result);
    let first = result.failures().next().map(|failure| failure.to_string());
    assert_eq!(first, None, "{result}");
}

/// F63: room was made for the end of the file, and what was to be there never came.
#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    for zeros in [1, 100, 4096, 10_000] {
        for torn in [0, 30] {
            let place = Place::begun("zeros", 20, 12);
            let mut bytes = place.bytes();
            let line = bytes.split(|byte| *byte == b'\n').nth(1).unwrap()[..torn].to_vec();
            bytes.extend(line);
            bytes.resize(bytes.len() + zeros, 0);
            place.put(&bytes);
            assert_eq!(place.assert_goes_on("zeros"), 20 - 11, "{zeros} behind {torn}");
        }
    }
}

/// F63: the power may be lost while the first line is written.
#[test]
fn a_first_line_that_is_torn_may_have_zeros_behind_it() {
    let header = Place::begun("beginning", 20, 1).bytes();
    for (written, zeros) in [(0, 1), (0, 100), (1, 10_000), (60, 100), (header.len() - 1, 1)] {
        let place = Place::begun("beginning", 20, 0);
        place.put(&[&header[..written], &vec![0; zeros]].concat());
        let merged = Journal::merge::<usize, String>([place.journal()]).unwrap();
        assert_eq!(merged.result.total(), 0, "{zeros} behind {written}");
        assert_eq!(place.assert_goes_on("zeros"), 20, "{zeros} behind {written}");
    }
    let place = Place::begun("beginning", 20, 0);
    for other in [vec![0; header.len() + 1], [b"mine", [0; 9].as_slice()].concat()] {
        place.put(&other);
        assert_eq!((place.refusal(), place.bytes()), ("it is no journal".to_owned(), other));
    }
}

/// F63: whichever line it is, and be it the last.
#[test]
fn damage_within_a_line_is_refused_with_its_number_and_the_file_is_as_it_was() {
    let place = Place::begun("damaged", 20, 12);
    let whole = place.bytes();
    let starts: Vec<usize> = [0]
        .into_iter()
        .chain(whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    for (line, ends) in (1..).zip(starts.windows(2)) {
        for at in [ends[0], ends[0] + 5, ends[1] - 2] {
            for garbage in *b"\0{\n" {
                let mut bytes = whole.clone();
                bytes[at] = garbage;
                if bytes == whole {
                    continue;
                }
                place.put(&bytes);
                let words = place.refusal();
                let expected =
                    if line == 1 { "it is no journal".into() } else { format!("line {line} is damaged: ") };
                assert!(words.starts_with(&expected), "byte {at} is {garbage}: {words}");
                assert_eq!(place.bytes(), bytes, "byte {at} is {garbage}");
            }
        }
    }
    place.put(&whole);
    place.assert_goes_on("mended by hand");
}

/// F63: another version, other items, another number of them, another shard, and files that are no journals.
#[test]
fn a_journal_of_something_else_is_refused_with_words_and_is_as_it_was() {
    let place = Place::begun("other", 20, 12);
    let whole = String::from_utf8(place.bytes()).unwrap();
    let (header, lines) = whole.split_once('\n').unwrap();
    let version = header.replace(r#""version":1"#, r#""version":2"#);
    assert_ne!(version, header);
    let newer = "it has the format version 2; this program writes version 1";
    for (bytes, expected) in [
        (format!("{version}\n{lines}"), newer),
        (format!("{version}\nsomething that version 1 does not know\n"), newer),
        (format!("{version}\n"), newer),
        (version, newer),
        (format!("hello\n{lines}"), "it is no journal"),
        ("hello".into(), "it is no journal"),
        ("\n".into(), "it is no journal"),
        (lines.into(), "it is no journal"),
        ("{}\n".into(), "it is no journal"),
    ] {
        place.put(bytes.as_bytes());
        assert_eq!(place.refusal(), expected, "{bytes}");
        assert_eq!(place.bytes(), bytes.as_bytes());
    }
    place.put(whole.as_bytes());
    let plan = |items: std::ops::Range<usize>| Plan::of(items).unwrap();
    for (plan, expected) in [
        (plan(0..21), "it was begun for other items: its plan is "),
        (plan(1..21), "it was begun for other items: its plan is "),
        (Plan::named("others"), "it was begun for other items: its plan is "),
        (plan(0..20).shard(Shard::new(0, 2).unwrap()), "it is one of 1 shards, and this run one of 2"),
    ] {
        let words = Journal::open(place.journal(), plan).unwrap_err().to_string();
        assert!(place.behind_name(&words).starts_with(expected), "{words}");
        assert_eq!(place.bytes(), whole.as_bytes());
    }
    place.assert_goes_on("with its own plan");
}

/// F30: before anything runs, in a stream when the second comes; and nothing is made where there is no plan to be had.
#[test]
fn equal_ids_are_refused_by_a_journal() {
    let place = Place::new("equal", 3);
    let words = Plan::of(["a", "b", "a"]).unwrap_err().to_string();
    assert_eq!(words, r#"items 0 and 2 have the same id "a"; each item of a journal needs an id of its own"#);
    let journal = Journal::open(place.journal(), Plan::named("three")).unwrap();
    let (executor, ran) = (collecting(2), AtomicUsize::new(0));
    let count = |_: &&str| Ok::<_, String>(ran.fetch_add(1, Ordering::SeqCst));
    let error = executor.batch(["a", "b", "a"]).journal(&journal).run(count).into_result().unwrap_err();
    assert_eq!(error.stopped(), Some(StopReason::Journal));
    let why = error.to_string();
    assert!(place.behind_name(&why).starts_with(&words), "{why}");
    assert_eq!(ran.load(Ordering::SeqCst), 0, "nothing ran");
    // One worker: another could come to the third item before the second has started.
    let alone =
        collecting(1).batch(["a", "b", "a"]).journal(&journal).stream(count, |results| results.count());
    assert_eq!((alone.stopped, alone.output), (Some(StopReason::Journal), 2));
    assert_eq!(place.recorded().len(), 2);
}

/// F63: the name is free again with its process, however that ended.
#[test]
fn a_second_run_on_one_journal_is_refused_while_the_first_lives() {
    const TEST: &str = "a_second_run_on_one_journal_is_refused_while_the_first_lives";
    const WORDS: &str = "another run has it open";
    if told_to().is_some() {
        let place = Place::of_parent();
        let _ = place.run(place.open().unwrap(), 1, |n| {
            if n == 7 {
                thread::sleep(Duration::from_secs(50));
            }
        });
        return;
    }
    let place = Place::new("locked", 20);
    let here = place.open().unwrap();
    assert_eq!(place.refusal(), WORDS, "within one process");
    drop(here);
    let mut command = place.child(&[], TEST, "run");
    let mut other = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    common::wait_until("the other has begun", || place.ran().len() == 7);
    common::wait_until("its lines are there", || place.recorded().len() == 7);
    let bytes = place.bytes();
    assert_eq!(place.refusal(), WORDS, "from another process");
    assert_eq!(place.bytes(), bytes);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(place.assert_goes_on("the other is dead"), 13);
}

/// F63: seen at the next sync, for what is written afterwards would be nowhere.
#[test]
#[cfg(unix)]
fn a_journal_that_is_deleted_or_replaced_while_it_runs_stops_the_batch() {
    const GONE: &str = "cannot sync it: No such file or directory (os error 2)";
    const ANOTHER: &str = "cannot sync it: another file has taken its place";
    for (other, expected) in [(None, GONE), (Some("mine\n"), ANOTHER)] {
        let place = Place::new("gone", 20);
        let swap = |n| {
            if n == 5 {
                fs::remove_file(place.journal()).unwrap();
                if let Some(other) = other {
                    fs::write(place.journal(), other).unwrap();
                }
            }
        };
        let (reason, partial) = stopped(place.run(place.open().unwrap().sync_every(1), 1, swap));
        let words = partial.journal_error().unwrap();
        assert_eq!((place.behind_name(words), reason), (expected, StopReason::Journal));
        // The item at hand has its outcome, though the next run will not know of it.
        assert_eq!((partial.total() - partial.skipped(), place.ran().len()), (6, 6));
        if let Some(other) = other {
            assert_eq!((place.refusal(), place.bytes()), ("it is no journal".into(), other.into()));
            fs::remove_file(place.journal()).unwrap();
        }
        assert_eq!(place.assert_goes_on("from the beginning"), 20);
    }
}

/// F63: in a process of its own, whose working folder an item changes.
#[test]
#[cfg(unix)]
fn a_journal_with_a_relative_path_stays_the_same_file_in_another_working_folder() {
    const TEST: &str = "a_journal_with_a_relative_path_stays_the_same_file_in_another_working_folder";
    if told_to().is_some() {
        let place = Place::of_parent();
        let journal = Journal::open("journal.jsonl", Plan::of(0..20).unwrap()).unwrap().sync_every(1);
        let moves = |n| {
            if n == 5 {
                env::set_current_dir("/").unwrap();
            }
        };
        drop(ran_to_its_end(place.run(journal, 1, moves)));
        return println!("{AT_THE_END}");
    }
    let place = Place::new("relative", 20);
    let mut command = place.child(&[], TEST, "run");
    command.current_dir(&place.folder);
    common::assert_ends_well(command);
    assert_eq!(place.recorded().len(), 20);
}

/// F38, F39, F12: whatever an item does to its process, all that finished before is there.
#[test]
fn an_item_that_ends_the_process_takes_nothing_recorded_with_it() {
    const TEST: &str = "an_item_that_ends_the_process_takes_nothing_recorded_with_it";
    const ITEMS: usize = 100;
    if let Some(told) = told_to() {
        silence_meant_panics();
        let place = Place::of_parent();
        let _ = place.run(place.open().unwrap(), 4, |n| match (n, told.as_str()) {
            (57, "exits") => process::exit(7),
            (57, "overflows") => drop(deep(usize::MAX)),
            (57, "panics twice") => panics_twice(),
            _ => spin_for(Duration::from_micros(50)),
        });
        println!("{AT_THE_END}");
        return;
    }
    for told in ["exits", "overflows", "panics twice"] {
        let place = Place::on_disk("ended", ITEMS);
        let (status, printed) = ended(place.child(&[], TEST, told));
        assert_eq!(
            (status.code() == Some(7), is_abort(status)),
            (told == "exits", told != "exits"),
            "{printed}"
        );
        let (ran, recorded) = (place.ran(), place.recorded());
        // Three others were at work.
        assert!(ran.len() <= recorded.len() + 3, "{told}: {} ran, {} recorded", ran.len(), recorded.len());
        assert!(recorded.len() >= 50 && !recorded.contains(&57), "{told}: {recorded:?}");
        assert_eq!(place.assert_goes_on(told), ITEMS - recorded.len());
    }
}

#[cfg(unix)]
fn is_abort(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;

    status.signal() == Some(6)
}

/// By the code for a stack that overflows, or that of an abort.
#[cfg(not(unix))]
fn is_abort(status: ExitStatus) -> bool {
    let codes = [0xC000_00FD_u32, 0xC000_0409].map(u32::to_ne_bytes);
    status.code().is_some_and(|code| codes.contains(&code.to_ne_bytes()))
}

/// As deep as it is told.
#[allow(unconditional_recursion, reason = "the depth is meant to have no end")]
fn deep(depth: usize) -> usize {
    let room = std::hint::black_box([depth; 512]);
    if std::hint::black_box(depth) == 0 { room[0] } else { deep(depth - 1) + room[511] % 2 }
}

fn panics_twice() {
    struct Always;

    impl Drop for Always {
        fn drop(&mut self) {
            panic!("{MEANT}in the destructor");
        }
    }

    let _always = Always;
    panic!("{MEANT}in the item");
}

/// What a child does whose disk fails: goes on with its journal on this thread alone, a sync every ten lines.
fn run_on_a_failing_disk() {
    let place = Place::of_parent();
    match place.open().map(|journal| place.run(journal.sync_every(10), 1, |_| {}).into_result()) {
        Err(refused) => println!("refused: {refused}"),
        Ok(Err(stopped)) => println!("stopped: {stopped}"),
        Ok(Ok(_)) => println!("ended well"),
    }
    println!("{AT_THE_END}");
}

/// What such a child said, and the calls that it made on its journal.
#[track_caller]
fn injected(place: &Place, test: &str, inject: &str) -> (String, Vec<String>) {
    let (call, trace) = (inject.split_once(':').unwrap().0, place.folder.join("trace"));
    let (journal, inject, calls) = (place.journal(), format!("inject={inject}"), format!("trace={call}"));
    let [journal, out] = [&journal, &trace].map(|path| path.to_str().unwrap());
    let behind = ["strace", "-f", "-o", out, "-P", journal, "-e", &calls, "-e", &inject];
    let (status, printed) = ended(place.child(&behind, test, "run"));
    assert!(status.success() && printed.contains(AT_THE_END), "{inject}: {status}:\n{printed}");
    let trace = fs::read_to_string(trace).unwrap();
    let calls = trace.lines().filter(|line| line.contains(&format!("{call}("))).map(str::to_owned).collect();
    (printed, calls)
}

/// Whether `strace` is there and may trace. Loud if not.
fn has_strace(test: &str) -> bool {
    let traces = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let works = traces.is_ok_and(|output| output.status.success());
    if !works {
        skip(test, "strace is missing or may not trace here");
    }
    works
}

/// The call that cuts a file has another name with 32 bits.
const CUT_FAILS: &str = if cfg!(target_pointer_width = "64") {
    "ftruncate:error=EIO:when=1"
} else {
    "ftruncate64:error=EIO:when=1"
};

const NO_DISK: &str = "Input/output error (os error 5)";
const NO_ROOM: &str = "No space left on device (os error 28)";

/// F63: the first sync is that of the first line. The next ten items are not tried.
#[test]
fn a_sync_that_fails_stops_the_batch_and_is_never_tried_again() {
    const TEST: &str = "a_sync_that_fails_stops_the_batch_and_is_never_tried_again";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    for (k, words) in [(1, "refused"), (2, "stopped"), (3, "stopped"), (5, "stopped")] {
        let place = Place::new("no-sync", 40);
        let (printed, calls) = injected(&place, TEST, &format!("fdatasync:error=EIO:when={k}"));
        assert!(printed.contains(&format!("{words}: journal ")), "{printed}");
        assert!(place.behind_name(&printed).starts_with(&format!("cannot sync it: {NO_DISK}")), "{printed}");
        assert_eq!(calls.len(), k, "syncs: {calls:?}");
        assert_eq!(place.ran().len(), 10 * (k - 1), "items that ran");
        place.assert_goes_on(&printed);
    }
}

/// F63: the first write is that of the first line.
#[test]
fn a_write_that_fails_stops_the_batch_and_nothing_is_written_behind_it() {
    const TEST: &str = "a_write_that_fails_stops_the_batch_and_nothing_is_written_behind_it";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    for (error, text) in [("ENOSPC", NO_ROOM), ("EIO", NO_DISK)] {
        for (k, words) in [(1, "refused"), (2, "stopped"), (13, "stopped"), (41, "stopped")] {
            let place = Place::new("no-write", 40);
            let (printed, calls) = injected(&place, TEST, &format!("write:error={error}:when={k}"));
            assert!(printed.contains(&format!("{words}: journal ")), "{printed}");
            assert!(
                place.behind_name(&printed).starts_with(&format!("cannot write it: {text}")),
                "{printed}"
            );
            assert_eq!((calls.len(), place.ran().len()), (k, k - 1), "writes, and items that ran: {calls:?}");
            assert_eq!(place.recorded().len(), k.saturating_sub(2));
            place.assert_goes_on(&printed);
        }
    }
}

/// F63: a limit of the file's size is a disk that takes half of a line, and then no more.
#[test]
#[cfg(unix)]
fn a_write_that_falls_short_leaves_a_torn_tail() {
    const TEST: &str = "a_write_that_falls_short_leaves_a_torn_tail";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    for blocks in 1..=8 {
        let place = Place::new("short", 40);
        // Blocks of 512 bytes. A process that no signal tells is told by an error.
        let limited = format!(r#"trap "" XFSZ; ulimit -f {blocks}; exec "$0" "$@""#);
        let (_, printed) = ended(place.child(&["sh", "-c", &limited], TEST, "run"));
        let words = place.behind_name(&printed);
        assert!(words.starts_with("cannot write it: File too large (os error 27)"), "{printed}");
        assert_eq!(place.bytes().len(), blocks * 512);
        place.assert_goes_on(&printed);
    }
}

/// F63: a disk that says it has written three bytes and has not.
#[test]
fn a_write_that_lies_stops_the_batch_and_leaves_what_was_written_before() {
    const TEST: &str = "a_write_that_lies_stops_the_batch_and_leaves_what_was_written_before";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    for (k, words) in [(1, "refused"), (2, "stopped"), (20, "stopped"), (41, "stopped")] {
        let place = Place::new("lies", 40);
        let (printed, _) = injected(&place, TEST, &format!("write:retval=3:when={k}"));
        assert!(printed.contains(&format!("{words}: journal ")), "{printed}");
        let problem = place.behind_name(&printed);
        assert!(
            problem.starts_with("cannot write it: it was cut while it was written: it has "),
            "{printed}"
        );
        assert_eq!(place.ran().len(), k - 1, "items that ran");
        // The rest of that line follows without its first three bytes.
        let (bytes, words) = (place.bytes(), place.refusal());
        let expected = if k == 1 { "it is no journal".into() } else { format!("line {k} is damaged: ") };
        assert!(words.starts_with(&expected), "{words}");
        assert_eq!(place.bytes(), bytes);
    }
}

/// P10: whatever another program does to the file, the batch stops with the next line, or at its end.
#[test]
#[cfg(unix)]
fn a_file_that_is_cut_or_written_by_another_program_stops_the_batch() {
    let cut =
        |path: &Path, length| OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    let add = |path: &Path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"mine\n").unwrap();
    for (at, is_cut, expected) in [
        (5, true, "cannot write it: it was cut while it was written: it has "),
        (5, false, "cannot write it: another program writes to it: it has "),
        (19, true, "cannot write it: it was cut while it was written: it has "),
        (20, true, "cannot sync it: it was cut while it was written: it has 0 bytes, and should have "),
        (20, false, "cannot sync it: another program writes to it: it has "),
    ] {
        let place = Place::new("cut", 20);
        let change = || if is_cut { cut(&place.journal(), 0) } else { add(&place.journal()) };
        let journal = place.open().unwrap().retry_failed(false);
        let executor = collecting(1);
        let batch = executor.batch(0..20).journal(&journal).on_progress(|progress| {
            if at == 20 && progress.completed == 20 {
                change();
            }
        });
        let result = batch.run(|&n| {
            if n == at {
                change();
            }
            outcome(n)
        });
        let words = result.journal_error().unwrap_or_else(|| panic!("{at}: {result}"));
        assert!(place.behind_name(words).starts_with(expected), "{at}: {words}");
        assert_eq!(result.stopped(), Some(StopReason::Journal));
        assert_eq!(result.total() - result.skipped(), (at + 1).min(20), "the next does not start");
    }
}

/// P10: removed or replaced when all is written and synced.
#[test]
#[cfg(unix)]
fn a_file_that_is_gone_at_the_end_stops_the_batch() {
    for other in [None, Some("mine\n")] {
        let place = Place::new("gone-at-the-end", 20);
        let journal = place.open().unwrap().sync_every(1);
        let executor = collecting(1);
        let batch = executor.batch(0..20).journal(&journal).on_progress(|progress| {
            if progress.completed == 20 {
                fs::remove_file(place.journal()).unwrap();
                if let Some(other) = other {
                    fs::write(place.journal(), other).unwrap();
                }
            }
        });
        let result = batch.run(|&n| Ok::<_, String>(n));
        assert_eq!((result.stopped(), result.succeeded()), (Some(StopReason::Journal), 20));
        let error = result.into_result().unwrap_err().to_string();
        assert!(place.behind_name(&error).starts_with("cannot sync it: "), "{error}");
    }
}

/// F63: that there is a file is nothing if its name is lost with the power.
#[test]
fn the_folder_of_a_new_journal_is_synced_and_that_of_an_old_one_is_not() {
    const TEST: &str = "the_folder_of_a_new_journal_is_synced_and_that_of_an_old_one_is_not";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    let place = Place::new("folder", 3);
    for syncs in [1, 0] {
        let trace = place.folder.join("trace");
        let [folder, out] = [&place.folder, &trace].map(|path| path.to_str().unwrap());
        let behind = ["strace", "-f", "-o", out, "-P", folder, "-e", "trace=fsync"];
        let (status, printed) = ended(place.child(&behind, TEST, "run"));
        assert!(status.success() && printed.contains("ended well"), "{printed}");
        let trace = fs::read_to_string(trace).unwrap();
        assert_eq!(trace.matches("fsync(").count(), syncs, "{trace}");
    }
}

/// F63, F41
#[test]
fn a_signal_during_a_write_or_a_sync_is_no_failure() {
    const TEST: &str = "a_signal_during_a_write_or_a_sync_is_no_failure";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    for call in ["write", "fdatasync"] {
        for k in [1, 2, 5] {
            let place = Place::new("signal", 40);
            let (printed, calls) = injected(&place, TEST, &format!("{call}:error=EINTR:when={k}"));
            assert!(printed.contains("ended well"), "{call} {k}: {printed}");
            assert!(calls.iter().any(|call| call.contains("EINTR")), "{calls:?}");
            assert_eq!(place.assert_goes_on(&printed), 0);
        }
    }
}

/// F63: at each call that opening makes, be the last line torn, or only its end missing, or the first line torn.
#[test]
fn a_failure_while_a_journal_is_mended_leaves_it_as_it_was() {
    const TEST: &str = "a_failure_while_a_journal_is_mended_leaves_it_as_it_was";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    let whole = Place::begun("mended", 20, 12).bytes();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let (torn, unended, no_header) =
        (&whole[..whole.len() - 9], &whole[..whole.len() - 1], &whole[..header - 9]);
    for (bytes, inject, expected) in [
        (torn, "openat:error=EACCES:when=1", "cannot open it: Permission denied (os error 13)"),
        (torn, "flock:error=ENOLCK:when=1", "cannot lock it: No locks available (os error 37)"),
        (torn, "read:error=EIO:when=1", "cannot read it: Input/output error (os error 5)"),
        (torn, CUT_FAILS, "cannot cut it: Input/output error (os error 5)"),
        (unended, "write:error=ENOSPC:when=1", "cannot write it: No space left on device (os error 28)"),
        (no_header, "fsync:error=EIO:when=1", "cannot sync its folder: Input/output error (os error 5)"),
        (no_header, "write:error=ENOSPC:when=1", "cannot write it: No space left on device (os error 28)"),
    ] {
        let place = Place::new("mending", 20);
        place.put(bytes);
        let (printed, _) = injected(&place, TEST, inject);
        assert!(printed.contains("refused: journal "), "{inject}: {printed}");
        assert_eq!(place.behind_name(&printed), expected, "{inject}");
        assert!(place.bytes() == bytes, "{inject}: the file is another");
        assert!(place.ran().is_empty(), "{inject}: nothing ran");
        place.assert_goes_on(inject);
    }
}

/// F63: when the end has been put in order, and it is not known whether that stays.
#[test]
fn a_sync_that_fails_while_a_journal_is_mended_leaves_every_whole_line() {
    const TEST: &str = "a_sync_that_fails_while_a_journal_is_mended_leaves_every_whole_line";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    let place = Place::begun("mended", 20, 12);
    let whole = place.bytes();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    for (before, after) in [
        (whole.len(), whole.len()),
        (whole.len() - 1, whole.len()),
        (whole.len() - 9, last + 1),
        (header - 9, header + 1),
        (0, header + 1),
    ] {
        place.put(&whole[..before]);
        let (printed, calls) = injected(&place, TEST, "fdatasync:error=EIO:when=1");
        assert_eq!((place.behind_name(&printed), calls.len()), (&*format!("cannot sync it: {NO_DISK}"), 1));
        assert!(place.bytes() == whole[..after] && place.ran().is_empty(), "{before} bytes");
    }
    place.assert_goes_on("the disk is back");
}

/// F63: a run that was killed has written lines that no sync has reached. The run that takes them for done has to see to it that they stay.
#[test]
fn lines_that_an_earlier_run_did_not_sync_are_synced_before_they_count() {
    const TEST: &str = "lines_that_an_earlier_run_did_not_sync_are_synced_before_they_count";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    if !has_strace(TEST) {
        return;
    }
    let place = Place::begun("unsynced", 20, 21);
    let (printed, calls) = injected(&place, TEST, "fdatasync:delay_enter=1:when=1");
    assert!(printed.contains("ended well"), "{printed}");
    assert!(place.ran().is_empty(), "all was done");
    assert_eq!(calls.len(), 1, "{calls:?}");
}

/// F63: for an ordinary user, or for one who may write what is read-only and is denied just that.
#[test]
#[cfg(unix)]
fn a_journal_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    const TEST: &str = "a_journal_that_may_not_be_written_is_refused";
    if told_to().is_some() {
        return run_on_a_failing_disk();
    }
    let place = Place::begun("read-only", 20, 12);
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let denied = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    set(&place.journal(), 0o400);
    let may_anyway = OpenOptions::new().append(true).open(place.journal()).is_ok();
    let behind = if may_anyway { &denied[..] } else { &[] };
    let works = |behind: &[&str]| {
        behind.is_empty()
            || Command::new(behind[0])
                .args(&behind[1..])
                .arg("true")
                .status()
                .is_ok_and(|status| status.success())
    };
    if !works(behind) {
        return skip(TEST, "this user may write anything, and cannot be denied it by setpriv");
    }
    let assert_refused = |expected: &str| {
        let (bytes, (_, printed)) = (place.bytes(), ended(place.child(behind, TEST, "run")));
        assert_eq!(place.behind_name(&printed), expected, "{printed}");
        assert!(place.bytes() == bytes && place.ran().is_empty());
    };
    assert_refused("cannot open it: Permission denied (os error 13)");
    set(&place.journal(), 0o600);
    let (own, beside) = (place.journal(), place.folder.join("beside"));
    fs::rename(&own, &beside).unwrap();
    set(&place.folder, 0o500);
    assert_refused("cannot open it: Permission denied (os error 13)");
    assert!(!own.exists());
    set(&place.folder, 0o700);
    fs::rename(&beside, &own).unwrap();
    assert_eq!(place.assert_goes_on("it may be written again"), 20 - 11);
}

/// F63: nor is a folder one.
#[test]
fn a_place_where_no_file_can_be_is_refused() {
    let place = Place::new("nowhere", 3);
    let plan = || Plan::of(0..3).unwrap();
    fs::create_dir(place.journal()).unwrap();
    let is_folder = if cfg!(unix) { "Is a directory (os error 21)" } else { "" };
    assert!(place.refusal().starts_with(&format!("cannot open it: {is_folder}")));
    let nowhere = place.folder.join("nowhere/journal");
    let words = Journal::open(&nowhere, plan()).unwrap_err().to_string();
    let is_nowhere = if cfg!(unix) { "No such file or directory (os error 2)" } else { "" };
    let expected = format!("journal {}: cannot open it: {is_nowhere}", nowhere.display());
    assert!(words.starts_with(&expected), "{words}");
}
