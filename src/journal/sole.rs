//! A file that one run at a time may write. What differs between systems is here, and nowhere else in the journal.

#[cfg(not(any(unix, windows)))]
compile_error!("feature `journal` needs a system that can keep a file for one writer: Unix or Windows");

#[cfg(unix)]
pub(super) use unix::{check_name, open, release, seek_end, sync_folder};
#[cfg(windows)]
pub(super) use windows::{check_name, open, release, seek_end, sync_folder};

/// A lock, which binds those who ask for it: every program may still read, and one that does not ask may write.
#[cfg(unix)]
mod unix {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use fs4::{FileExt, TryLockError};

    use super::super::error::JournalError;

    /// Opens the file, or makes one, for this run alone.
    pub(in super::super) fn open(path: &Path) -> Result<File, JournalError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(JournalError::io(path, "open it"))?;
        FileExt::try_lock(&file).map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::InUse { path: path.to_owned() },
            TryLockError::Error(error) => JournalError::io(path, "lock it")(error),
        })?;
        Ok(file)
    }

    pub(in super::super) fn release(file: &File) {
        let _ = FileExt::unlock(file);
    }

    /// Where the next write goes: it is opened for appending, so the system does it with the write.
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere it is a call that can fail")]
    pub(in super::super) fn seek_end(_: &mut File) -> io::Result<()> {
        Ok(())
    }

    /// Whether what has this name is this file.
    pub(in super::super) fn check_name(path: &Path, own: &File) -> io::Result<()> {
        let (own, there) = (own.metadata()?, path.metadata()?);
        if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
        Err(io::Error::other("another file has taken its place"))
    }

    /// That there is such a file stays.
    pub(in super::super) fn sync_folder(path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// No lock, since one would keep others from reading. While the file is open, others may read it; the system refuses them to write,
/// rename or delete it.
#[cfg(windows)]
mod windows {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Seek, SeekFrom};
    use std::os::windows::fs::OpenOptionsExt;
    use std::path::Path;

    use super::super::error::JournalError;

    const FILE_SHARE_READ: u32 = 1;
    const ERROR_SHARING_VIOLATION: i32 = 32;

    /// Opens the file, or makes one, for this run alone. Not for appending: such a file cannot be cut, since that needs the right to
    /// write anywhere in it.
    pub(in super::super) fn open(path: &Path) -> Result<File, JournalError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).share_mode(FILE_SHARE_READ);
        options.open(path).map_err(|error| match error.raw_os_error() {
            Some(ERROR_SHARING_VIOLATION) => JournalError::InUse { path: path.to_owned() },
            _ => JournalError::io(path, "open it")(error),
        })
    }

    /// The system does it, when the last handle is closed; no process that was started meanwhile has one.
    pub(in super::super) fn release(_: &File) {}

    /// Where the next write goes. Nothing else writes, so the end stays where it is until then.
    pub(in super::super) fn seek_end(file: &mut File) -> io::Result<()> {
        file.seek(SeekFrom::End(0)).map(drop)
    }

    /// What has this name is this file: the system refuses to rename and to delete it. Unless the drive is gone.
    pub(in super::super) fn check_name(path: &Path, _: &File) -> io::Result<()> {
        path.metadata().map(drop)
    }

    /// The system has no such call. Its file systems keep the names of files themselves.
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere it is a call that can fail")]
    pub(in super::super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::fs;
    use std::process;

    use super::super::error::JournalError;
    use super::*;

    #[test]
    fn while_it_is_open_others_may_read_and_no_second_may_open_it() {
        let path = std::env::temp_dir().join(format!("sole-{}", process::id()));
        fs::write(&path, "text").unwrap();
        let file = open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert!(matches!(open(&path), Err(JournalError::InUse { .. })));
        drop(file);
        drop(open(&path).unwrap());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_has_another_place_is_seen_or_it_cannot_have_one() {
        let path = std::env::temp_dir().join(format!("sole-moved-{}", process::id()));
        let moved = path.with_extension("moved");
        let file = open(&path).unwrap();
        check_name(&path, &file).unwrap();
        let is_moved = fs::rename(&path, &moved).is_ok();
        assert_eq!(is_moved, cfg!(unix));
        if is_moved {
            assert!(check_name(&path, &file).is_err(), "nothing is there");
            fs::write(&path, "").unwrap();
            let words = check_name(&path, &file).unwrap_err().to_string();
            assert_eq!(words, "another file has taken its place");
            fs::remove_file(moved).unwrap();
        } else {
            assert!(fs::remove_file(&path).is_err());
            check_name(&path, &file).unwrap();
        }
        drop(file);
        fs::remove_file(path).unwrap();
    }
}
