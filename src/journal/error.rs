//! What can be wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal, or a plan for one, cannot be used. No item ran, and every whole line of the file is unchanged.
///
/// ```
/// use batch_executor::Plan;
///
/// let error = Plan::of(["a", "b", "a"]).unwrap_err();
/// assert_eq!(error.to_string(), r#"items 0 and 2 have the same id "a"; each item of a journal needs an id of its own"#);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Two items have the same id.
    #[error(
        "items {first} and {second} have the same id {id}; each item of a journal needs an id of its own"
    )]
    DuplicateId {
        /// The index of the first.
        first: usize,
        /// The index of the second.
        second: usize,
        /// Their id, as JSON.
        id: String,
    },
    /// An item cannot be written as JSON.
    #[error("the id of item {index} cannot be written as JSON: {problem}")]
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
        /// The attempted action.
        what: &'static str,
        /// The error of the system.
        error: io::Error,
    },
    /// Another process, or this one, has the file open. On Windows this may also be a program that only reads it, and lets no other
    /// program write.
    #[error("journal {}: another run has it open", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is a journal of another version, plan or shard, or not a journal.
    #[error("journal {}: {problem}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// How it differs.
        problem: String,
    },
    /// A line was changed after it was written, in a way that no crash explains. Or the program reads its value or id as another type
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
