//! What can be wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal, or a plan for one, cannot be used. Nothing was run, and every whole line of the file is as it was.
///
/// ```
/// use batch_executor::Plan;
///
/// let error = Plan::of(["a", "b", "a"]).unwrap_err();
/// assert_eq!(error.to_string(), r#"items 0 and 2 have the same id "a"; a journal needs one of its own for each"#);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Two items have the same id.
    #[error("items {first} and {second} have the same id {id}; a journal needs one of its own for each")]
    DuplicateId {
        /// The index of the first.
        first: usize,
        /// The index of the second.
        second: usize,
        /// Their id, as JSON.
        id: String,
    },
    /// An item cannot be written as JSON.
    #[error("item {index} has no id that can be written: {problem}")]
    Id {
        /// The item's index.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The file cannot be opened, read or written.
    #[error("journal {}: cannot {what}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// Another process, or this one, has it open. On Windows that may also be a program that only reads it, and lets no other write
    /// meanwhile.
    #[error("journal {}: another run has it open", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is a journal, but of another version, plan or shard; or it is none.
    #[error("journal {}: {problem}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// How it differs.
        problem: String,
    },
    /// A line is not what was once written, and more than a crash would leave behind. Or it is asked for as a value or an id of another type
    /// than it was written as.
    #[error("journal {}: line {line} is damaged: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line. The first has number 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl JournalError {
    pub(super) fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| JournalError::Io { path: path.to_owned(), what, error }
    }

    pub(super) fn damaged(path: &Path, line: usize, problem: String) -> Self {
        JournalError::Damaged { path: path.to_owned(), line, problem }
    }

    pub(super) fn other(path: &Path, problem: impl Into<String>) -> Self {
        JournalError::Other { path: path.to_owned(), problem: problem.into() }
    }
}
