//! Appends lines to a disk, and syncs them in groups. After a write or a sync that failed it does neither again.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use crate::journal_hook::{JournalFailure, Spawn, Work};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Instant, Mutex, later};

use super::disk::Disk;
use super::error::JournalError;

/// When lines are synced: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// When this many have come together.
    pub(super) lines: usize,
    /// With the first line so long after the last time.
    pub(super) interval: Duration,
}

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    disk: Box<dyn Disk>,
    state: Mutex<State>,
    /// How many lines were appended, and how many of them are synced.
    appended: AtomicUsize,
    synced: AtomicUsize,
    /// Held by the thread that syncs.
    syncing: Mutex<()>,
    /// Whether a thread does, for those that need not wait for it.
    is_syncing: AtomicBool,
    /// Why nothing is written any more.
    failure: OnceLock<String>,
}

/// A line that is in the file.
struct Written {
    offset: u64,
    number: usize,
    due: Due,
}

/// When a line is synced.
enum Due {
    /// Before its item counts as decided.
    AtOnce,
    /// With those before it, unless a thread syncs already.
    Now,
    /// With those behind it.
    Later,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    /// Where the next line goes.
    end: u64,
    /// When the next line is to be synced, however few there are.
    due: Instant,
}

impl Writer {
    /// For a disk that has this many bytes.
    pub(super) fn new(path: &Path, disk: Box<dyn Disk>, end: u64) -> Self {
        let rule = Rule { lines: 100, interval: Duration::from_secs(1) };
        let state = State { rule, end, due: later(Instant::now(), rule.interval) };
        Writer {
            path: path.to_owned(),
            disk,
            state: Mutex::new(state),
            appended: AtomicUsize::new(0),
            synced: AtomicUsize::new(0),
            syncing: Mutex::new(()),
            is_syncing: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn set_lines(&self, lines: usize) {
        self.state.lock().rule.lines = lines;
    }

    pub(super) fn set_interval(&self, interval: Duration) {
        let mut state = self.state.lock();
        state.rule.interval = interval;
        state.due = later(Instant::now(), interval);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many lines up to this number wait for a sync. Another thread may have synced this one and later ones meanwhile.
    fn unsynced_up_to(&self, number: usize) -> usize {
        number.saturating_sub(self.synced.load(Ordering::Relaxed))
    }

    fn write(&self, line: &[u8]) -> Result<Written, JournalFailure> {
        let now = Instant::now();
        let mut state = self.state.lock();
        self.check()?;
        self.disk.append(state.end, line).map_err(|error| self.fail("write it", error))?;
        let offset = state.end;
        state.end += line.len() as u64;
        let is_late = now >= state.due;
        // Release: a sync up to this number syncs this line, too.
        let number = self.appended.fetch_add(1, Ordering::Release) + 1;
        let due = match state.rule.lines {
            ..=1 => Due::AtOnce,
            lines if is_late || self.unsynced_up_to(number) >= lines => Due::Now,
            _ => Due::Later,
        };
        Ok(Written { offset, number, due })
    }

    /// Whether this is the thread that syncs now. If so, the next sync is due when the interval has passed.
    fn begins_to_sync(&self) -> bool {
        let begins = !self.is_syncing.swap(true, Ordering::Relaxed);
        if begins {
            let mut state = self.state.lock();
            state.due = later(Instant::now(), state.rule.interval);
        }
        begins
    }

    fn sync(&self) -> Result<(), JournalFailure> {
        self.sync_up_to(self.appended.load(Ordering::Acquire))
    }

    /// Until this many lines are synced. Those that wait for one another have one sync for all.
    fn sync_up_to(&self, number: usize) -> Result<(), JournalFailure> {
        let _syncing = self.syncing.lock();
        self.check()?;
        if self.synced.load(Ordering::Relaxed) >= number {
            return Ok(());
        }
        let appended = self.appended.load(Ordering::Acquire);
        self.disk.sync().map_err(|error| self.fail("sync it", error))?;
        self.check_file()?;
        self.synced.store(appended, Ordering::Relaxed);
        Ok(())
    }

    /// Syncs what is not synced. Also if there is nothing, the file has to be there.
    pub(super) fn finish(&self) -> Result<(), JournalFailure> {
        self.sync()?;
        self.check_file()
    }

    /// Whether the file has what was written, under its name.
    fn check_file(&self) -> Result<(), JournalFailure> {
        let state = self.state.lock();
        self.check()?;
        self.disk.check(state.end).map_err(|error| self.fail("sync it", error))
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, JournalFailure> {
        self.disk.read(offset, length).map_err(|error| JournalFailure(self.words("read it", error)))
    }

    pub(super) fn check(&self) -> Result<(), JournalFailure> {
        self.failure.get().map_or(Ok(()), |words| Err(JournalFailure(words.clone())))
    }

    /// From now on nothing is written.
    fn fail(&self, what: &'static str, error: io::Error) -> JournalFailure {
        JournalFailure(self.failure.get_or_init(|| self.words(what, error)).clone())
    }

    fn words(&self, what: &'static str, error: io::Error) -> String {
        JournalError::io(&self.path, what)(error).to_string()
    }
}

/// The writer of a journal. A sync in the background shares it for as long as the sync takes.
#[derive(Debug)]
pub(super) struct Shared {
    writer: Option<Arc<Writer>>,
    /// The process that opened the file. In a forked child no sync of the parent ever ends.
    owner: u32,
}

impl Shared {
    pub(super) fn new(writer: Writer) -> Self {
        Shared { writer: Some(Arc::new(writer)), owner: process::id() }
    }

    /// Appends a line, and has `spawn` sync it if it is time to; where the line is.
    pub(super) fn append(&self, line: &[u8], spawn: Spawn) -> Result<u64, JournalFailure> {
        let Written { offset, number, due } = self.write(line)?;
        match due {
            Due::AtOnce => self.sync_up_to(number)?,
            Due::Now if self.begins_to_sync() => {
                spawn(self.in_background());
                self.check()?;
            }
            Due::Now | Due::Later => (),
        }
        Ok(offset)
    }

    /// Syncs what is there when it is called. What goes wrong is told by the next call. Until then the file is not held open.
    pub(super) fn in_background(&self) -> Work {
        let turn = Turn(self.writer.as_ref().map_or_else(Weak::new, Arc::downgrade));
        Box::new(move || {
            if let Some(writer) = turn.0.upgrade() {
                let _ = writer.sync();
            }
        })
    }
}

impl Deref for Shared {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        self.writer.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

/// The file is closed when this is over, so that it can be opened again.
impl Drop for Shared {
    fn drop(&mut self) {
        let left = self.writer.take().map(|writer| Arc::downgrade(&writer));
        let is_own = self.owner == process::id();
        while is_own && left.as_ref().is_some_and(|left| left.strong_count() > 0) {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A sync in the background, done or not.
struct Turn(Weak<Writer>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(writer) = self.0.upgrade() {
            writer.is_syncing.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// What is in memory, and what would be there after the power was lost.
    #[derive(Debug, Default, Clone)]
    struct Image {
        live: Vec<u8>,
        durable: Vec<u8>,
        appends: usize,
        syncs: usize,
    }

    #[derive(Debug, Default)]
    struct Faulty {
        image: Arc<Mutex<Image>>,
        /// Which call fails: of the appends, after this many bytes of it; of the syncs.
        append_fails: Option<(usize, usize)>,
        sync_fails: Option<usize>,
    }

    impl Disk for Faulty {
        fn append(&self, _: u64, bytes: &[u8]) -> io::Result<()> {
            let mut image = self.image.lock();
            image.appends += 1;
            if let Some((_, written)) = self.append_fails.filter(|(call, _)| *call == image.appends) {
                image.live.extend_from_slice(&bytes[..written]);
                return Err(io::ErrorKind::StorageFull.into());
            }
            image.live.extend_from_slice(bytes);
            Ok(())
        }

        fn read(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
            unreachable!("nothing is read")
        }

        fn sync(&self) -> io::Result<()> {
            let mut image = self.image.lock();
            image.syncs += 1;
            if self.sync_fails == Some(image.syncs) {
                return Err(io::Error::other("the disk is on fire"));
            }
            image.durable = image.live.clone();
            Ok(())
        }

        fn check(&self, length: u64) -> io::Result<()> {
            assert_eq!(self.image.lock().live.len() as u64, length);
            Ok(())
        }

        fn cut(&self, _: u64) -> io::Result<()> {
            unreachable!("nothing is cut")
        }
    }

    fn writer(disk: Faulty, lines: usize, interval: Duration) -> (Shared, Arc<Mutex<Image>>) {
        let image = Arc::clone(&disk.image);
        let writer = Writer::new(Path::new("j"), Box::new(disk), 0);
        writer.set_lines(lines);
        writer.set_interval(interval);
        (Shared::new(writer), image)
    }

    const HERE: Spawn = |work| work();
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn lines_are_synced_in_groups_and_at_the_end() {
        let (writer, image) = writer(Faulty::default(), 3, LONG);
        let synced = (0..7).map(|_| {
            writer.append(b"x\n", HERE).unwrap();
            image.lock().durable.len() / 2
        });
        assert_eq!(synced.collect::<Vec<_>>(), [0, 0, 3, 3, 3, 6, 6]);
        writer.finish().unwrap();
        writer.finish().unwrap();
        let image = image.lock().clone();
        assert_eq!((image.durable.len() / 2, image.syncs), (7, 3));
    }

    #[test]
    fn one_by_one_each_line_is_synced_before_its_worker_goes_on() {
        let (writer, image) = writer(Faulty::default(), 1, LONG);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let end = writer.append(b"x\n", HERE).unwrap() + 2;
                        assert!(image.lock().durable.len() as u64 >= end);
                    }
                });
            }
        });
        assert_eq!(image.lock().durable.len(), 400);
    }

    #[test]
    fn a_line_that_was_synced_with_later_ones_does_not_wait_for_a_sync() {
        let (writer, _) = writer(Faulty::default(), 3, LONG);
        (0..3).for_each(|_| assert!(writer.append(b"x\n", HERE).is_ok()));
        assert_eq!([2, 3, 4].map(|number| writer.unsynced_up_to(number)), [0, 0, 1]);
    }

    #[test]
    fn the_first_line_after_the_interval_is_synced() {
        let (writer, image) = writer(Faulty::default(), 1_000, Duration::from_millis(5));
        thread::sleep(Duration::from_millis(10));
        writer.append(b"x\n", HERE).unwrap();
        assert_eq!(image.lock().syncs, 1);
    }

    #[test]
    fn lines_get_the_offsets_at_which_they_are() {
        let (writer, _) = writer(Faulty::default(), 10, LONG);
        assert_eq!(
            [&b"one\n"[..], b"twelve\n", b"x\n"].map(|line| writer.append(line, HERE).unwrap()),
            [0, 4, 11]
        );
    }

    #[test]
    fn after_a_sync_that_failed_nothing_is_written_or_synced_again() {
        let (writer, image) = writer(Faulty { sync_fails: Some(2), ..Faulty::default() }, 2, LONG);
        let ended: Vec<bool> = (0..6).map(|_| writer.append(b"x\n", HERE).is_ok()).collect();
        assert_eq!(ended, [true, true, true, false, false, false]);
        let Err(JournalFailure(words)) = writer.finish() else { panic!("it must not be forgotten") };
        assert_eq!(words, "journal j: cannot sync it: the disk is on fire");
        let image = image.lock().clone();
        assert_eq!((image.live.len(), image.durable.len(), image.syncs), (8, 4, 2));
    }

    #[test]
    fn after_a_write_that_failed_half_way_nothing_is_written_behind_it() {
        for written in 0..2 {
            let disk = Faulty { append_fails: Some((2, written)), ..Faulty::default() };
            let (writer, image) = writer(disk, 10, LONG);
            writer.append(b"x\n", HERE).unwrap();
            for _ in 0..3 {
                assert!(writer.append(b"x\n", HERE).is_err());
            }
            assert!(writer.finish().is_err());
            assert_eq!(image.lock().live.len(), 2 + written);
        }
    }

    #[test]
    fn the_time_to_sync_comes_once_in_an_interval() {
        let (writer, image) = writer(Faulty::default(), 1_000, LONG);
        writer.state.lock().due = Instant::now();
        let syncs = [(); 3].map(|()| {
            writer.append(b"x\n", HERE).unwrap();
            image.lock().syncs
        });
        assert_eq!(syncs, [1, 1, 1]);
    }

    #[test]
    fn the_interval_begins_with_each_sync_also_with_one_for_the_number_of_lines() {
        let (writer, _) = writer(Faulty::default(), 2, LONG);
        let before = Instant::now();
        writer.state.lock().due = before + LONG / 2;
        writer.append(b"x\n", HERE).unwrap();
        assert_eq!(writer.state.lock().due, before + LONG / 2);
        writer.append(b"x\n", HERE).unwrap();
        let due = writer.state.lock().due;
        assert!((before + LONG..=Instant::now() + LONG).contains(&due));
    }

    /// A disk that is slow to sync: it says so, and then waits for leave.
    #[derive(Debug)]
    struct Slow {
        disk: Faulty,
        begun: mpsc::SyncSender<()>,
        leave: Mutex<mpsc::Receiver<()>>,
    }

    impl Disk for Slow {
        fn append(&self, end: u64, bytes: &[u8]) -> io::Result<()> {
            self.disk.append(end, bytes)
        }

        fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
            self.disk.read(offset, length)
        }

        fn sync(&self) -> io::Result<()> {
            self.disk.sync()?;
            let _ = self.begun.send(());
            let _ = self.leave.lock().recv();
            Ok(())
        }

        fn check(&self, length: u64) -> io::Result<()> {
            self.disk.check(length)
        }

        fn cut(&self, length: u64) -> io::Result<()> {
            self.disk.cut(length)
        }
    }

    /// A writer that syncs each second line, what its disk has, what says that it syncs, and what gives it leave.
    fn slow() -> (Shared, Arc<Mutex<Image>>, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((begun, has_begun), (leave, may_leave)) = (mpsc::sync_channel(9), mpsc::channel());
        let disk = Faulty::default();
        let image = Arc::clone(&disk.image);
        let disk = Slow { disk, begun, leave: Mutex::new(may_leave) };
        let writer = Writer::new(Path::new("j"), Box::new(disk), 0);
        writer.set_lines(2);
        writer.set_interval(LONG);
        (Shared::new(writer), image, has_begun, leave)
    }

    #[test]
    fn a_line_that_comes_during_a_sync_is_not_taken_to_be_synced() {
        let (writer, image, has_begun, leave) = slow();
        thread::scope(|scope| {
            writer.append(b"x\n", HERE).unwrap();
            let second = scope.spawn(|| writer.append(b"x\n", HERE).unwrap());
            has_begun.recv().unwrap();
            writer.append(b"x\n", HERE).unwrap();
            let Image { live, durable, .. } = image.lock().clone();
            assert_eq!((live.len(), durable.len()), (6, 4));
            leave.send(()).unwrap();
            second.join().unwrap();
            drop(leave);
            writer.finish().unwrap();
        });
        assert_eq!(image.lock().durable.len(), 6);
    }

    #[test]
    fn lines_are_appended_during_a_sync_in_the_background_and_the_file_is_open_until_its_end() {
        let (shared, image, has_begun, leave) = slow();
        let spawn: Spawn = |work| drop(thread::spawn(work));
        // The sync that the second line begins goes on during the others, which begin none.
        (0..6).for_each(|_| assert!(shared.append(b"x\n", spawn).is_ok()));
        has_begun.recv().unwrap();
        let Image { live, syncs, .. } = image.lock().clone();
        assert_eq!((live.len(), syncs), (12, 1));
        let is_closed = Arc::new(AtomicBool::new(false));
        let closing = thread::spawn({
            let is_closed = Arc::clone(&is_closed);
            move || {
                drop(shared);
                is_closed.store(true, Ordering::SeqCst);
            }
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!is_closed.load(Ordering::SeqCst), "the sync goes on");
        leave.send(()).unwrap();
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&image), 1, "the disk is closed");
    }

    #[test]
    fn a_line_that_is_late_during_a_sync_is_synced_with_the_next_line() {
        let (shared, image, has_begun, leave) = slow();
        thread::scope(|scope| {
            shared.append(b"x\n", HERE).unwrap();
            let second = scope.spawn(|| shared.append(b"x\n", HERE).unwrap());
            has_begun.recv().unwrap();
            shared.state.lock().due = Instant::now();
            shared.set_lines(1_000);
            shared.append(b"x\n", HERE).unwrap();
            leave.send(()).unwrap();
            second.join().unwrap();
            drop(leave);
            shared.append(b"x\n", HERE).unwrap();
            assert_eq!(image.lock().durable.len(), 8);
        });
    }

    #[test]
    fn a_forked_child_does_not_wait_for_a_sync_of_its_parent() {
        let (mut shared, _image, has_begun, leave) = slow();
        shared.owner = !process::id();
        let spawn: Spawn = |work| drop(thread::spawn(work));
        assert!((0..2).all(|_| shared.append(b"x\n", spawn).is_ok()));
        has_begun.recv().unwrap();
        drop(shared); // it would wait for ever
        leave.send(()).unwrap();
    }

    #[test]
    fn a_sync_that_never_begins_holds_no_file_open_and_keeps_no_other_from_syncing() {
        static LATER: std::sync::Mutex<Vec<Work>> = std::sync::Mutex::new(Vec::new());
        let (shared, image) = writer(Faulty::default(), 2, LONG);
        let spawn: Spawn = |work| LATER.lock().unwrap_or_else(|_| unreachable!("nothing panics")).push(work);
        (0..4).for_each(|_| assert!(shared.append(b"x\n", spawn).is_ok()));
        assert_eq!(LATER.lock().unwrap().len(), 1, "one at a time");
        LATER.lock().unwrap().clear();
        shared.append(b"x\n", HERE).unwrap();
        assert_eq!(image.lock().durable.len(), 10);
        (0..2).for_each(|_| assert!(shared.append(b"x\n", spawn).is_ok()));
        drop(shared);
        assert_eq!(Arc::strong_count(&image), 1, "the disk is closed");
        LATER.lock().unwrap().drain(..).for_each(HERE);
        assert_eq!(image.lock().syncs, 1);
    }

    #[test]
    fn a_sync_in_the_background_that_fails_is_told_by_the_next_call() {
        static LATER: std::sync::Mutex<Option<Work>> = std::sync::Mutex::new(None);
        let spawn: Spawn =
            |work| *LATER.lock().unwrap_or_else(|_| unreachable!("nothing panics")) = Some(work);
        let (shared, image) = writer(Faulty { sync_fails: Some(1), ..Faulty::default() }, 2, LONG);
        assert!((0..2).all(|_| shared.append(b"x\n", spawn).is_ok()));
        LATER.lock().unwrap().take().unwrap()();
        assert!(shared.append(b"x\n", spawn).is_err());
        assert!(shared.finish().is_err());
        let Image { live, syncs, .. } = image.lock().clone();
        assert_eq!((live.len(), syncs), (4, 1));
    }
}
