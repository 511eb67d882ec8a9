//! A record of what has become of each item, in a file, so that a run that died is gone on with and not begun again.

mod disk;
mod error;
mod id;
mod journaled;
mod line;
mod merge;
mod notebook;
mod plan;
mod recovery;
mod sole;
mod writer;

pub use error::JournalError;
pub use merge::Merged;
pub use notebook::Journal;
pub use plan::Plan;

pub(crate) use journaled::{Journaled, Serialized};
