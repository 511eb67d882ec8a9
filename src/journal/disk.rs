//! A file to which lines are appended, and from which they are read, and which has one writer.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::sync::Mutex;

use super::error::JournalError;
use super::sole;

/// What a journal needs of a file. Apart, so that a test can have one that fails.
pub(super) trait Disk: Debug + Send + Sync {
    /// Appends to a file that ends at this offset. An error if it ends elsewhere.
    fn append(&self, end: u64, bytes: &[u8]) -> io::Result<()>;

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// What was appended before stays, whatever happens to the machine.
    fn sync(&self) -> io::Result<()>;

    /// Whether what was written is where it will be looked for: the file has its name, and this length.
    fn check(&self, length: u64) -> io::Result<()>;

    /// Cuts off what is behind the first bytes, this many.
    fn cut(&self, length: u64) -> io::Result<()>;
}

#[derive(Debug)]
pub(super) struct FileDisk {
    path: PathBuf,
    /// Reading moves nothing that matters to writing, which begins at the end.
    file: Mutex<File>,
    /// The same file, to be synced while others append.
    synced: File,
    /// The process that opened it.
    owner: u32,
}

impl FileDisk {
    /// Opens the file, or makes one, for this run alone.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let file = sole::open(path)?;
        let synced = file.try_clone().map_err(JournalError::io(path, "open it"))?;
        // Another working folder makes it no other file.
        let path = std::path::absolute(path).map_err(JournalError::io(path, "open it"))?;
        Ok(FileDisk { path, file: Mutex::new(file), synced, owner: process::id() })
    }

    /// From the beginning. What is read is the file that is open, whatever has its name by now.
    pub(super) fn reader(&self) -> io::Result<impl Read> {
        let mut file = self.synced.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// That there is such a file stays, too.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        self.synced.sync_all()?;
        sole::sync_folder(&self.path)
    }
}

/// Whether a file that should have `expected` bytes has this many.
fn check_end(there: u64, expected: u64) -> io::Result<()> {
    match there.cmp(&expected) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(io::Error::other(format!(
            "it was cut while it was written: it has {there} bytes, and should have {expected}"
        ))),
        Ordering::Greater => Err(io::Error::other(format!(
            "another program writes to it: it has {there} bytes, and should have {expected}"
        ))),
    }
}

/// A process that was started meanwhile has the same file open until it is another program, and would keep the lock for so long; one that was
/// forked, for its life. It is for its owner to give it up.
impl Drop for FileDisk {
    fn drop(&mut self) {
        if self.owner == process::id() {
            sole::release(&self.synced);
        }
    }
}

impl Disk for FileDisk {
    fn append(&self, end: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock();
        sole::seek_end(&mut file)?;
        file.write_all(bytes)?;
        // What was written is at the end of the file, wherever that is.
        check_end(file.stream_position()?, end + bytes.len() as u64)
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut file = self.file.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.sync_data()
    }

    fn check(&self, length: u64) -> io::Result<()> {
        sole::check_name(&self.path, &self.synced)?;
        check_end(self.synced.metadata()?.len(), length)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.synced.set_len(length)
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    #[cfg(unix)]
    fn the_lock_goes_with_its_owner_though_a_forked_process_has_the_file_open() {
        let path = std::env::temp_dir().join(format!("disk-lock-{}", process::id()));
        let disk = FileDisk::open(&path).unwrap();
        let theirs = FileDisk {
            path: path.clone(),
            file: Mutex::new(disk.synced.try_clone().unwrap()),
            synced: disk.synced.try_clone().unwrap(),
            owner: 0,
        };
        let forked = disk.synced.try_clone().unwrap();
        drop(theirs);
        assert!(
            matches!(FileDisk::open(&path), Err(JournalError::InUse { .. })),
            "it is not theirs to give up"
        );
        drop(disk);
        assert!(FileDisk::open(&path).is_ok());
        drop(forked);
        fs::remove_file(path).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn what_is_read_is_what_is_locked() {
        let path = std::env::temp_dir().join(format!("disk-test-{}", process::id()));
        fs::write(&path, "mine").unwrap();
        let disk = FileDisk::open(&path).unwrap();
        let moved = path.with_extension("moved");
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "another's").unwrap();
        let text = io::read_to_string(disk.reader().unwrap());
        disk.append(4, b" again").unwrap();
        assert_eq!(
            (text.unwrap(), fs::read_to_string(&moved).unwrap()),
            ("mine".into(), "mine again".into())
        );
        fs::remove_file(path).unwrap();
        fs::remove_file(moved).unwrap();
    }

    #[test]
    fn what_is_appended_is_at_the_end_though_something_was_read_before() {
        let path = std::env::temp_dir().join(format!("disk-append-{}", process::id()));
        let disk = FileDisk::open(&path).unwrap();
        disk.append(0, b"one").unwrap();
        assert_eq!(disk.read(0, 1).unwrap(), b"o");
        disk.append(3, b"two").unwrap();
        drop(io::read_to_string(disk.reader().unwrap().take(2)).unwrap());
        disk.append(6, b"three").unwrap();
        disk.cut(4).unwrap();
        disk.append(4, b"wo").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "onetwo");
        drop(disk);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_ends_elsewhere_than_it_should_is_seen() {
        let path = std::env::temp_dir().join(format!("disk-end-{}", process::id()));
        let disk = FileDisk::open(&path).unwrap();
        disk.append(0, b"0123456789").unwrap();
        disk.check(10).unwrap();
        disk.cut(4).unwrap();
        let cut = "it was cut while it was written: it has 4 bytes, and should have 10";
        assert_eq!(disk.check(10).unwrap_err().to_string(), cut);
        assert_eq!(disk.append(10, b"x").unwrap_err().to_string(), cut.replace('4', "5").replace("10", "11"));
        let grown = "another program writes to it: it has 5 bytes, and should have 3";
        assert_eq!(disk.check(3).unwrap_err().to_string(), grown);
        drop(disk);
        fs::remove_file(path).unwrap();
    }
}
