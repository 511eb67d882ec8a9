//! A short book about the crate, a page for each topic. Its pages hold text and no code.
//!
//! | page | answers |
//! |---|---|
//! | [`recipes`] | What do programs do with it? |
//! | [`workers`] | How many at once? What does `adaptive()` do? |
//! | [`errors`] | What can become of an item, when does a batch stop, and what is there then? |
//! | [`limits`] | How many a minute, how many at once, how many bytes, for each key? |
//! | [`retries`] | How many a second? What is tried again, and when? |
//! | [`progress`] | How far is it, and how does the bar look? |
//! | [`growing`] | What if items make more items? |
//! | [`streams`] | What if the input is endless, or larger than memory? |
//! | `asynchronous` | How in async code? (With feature `tokio`.) |
//! | [`timelines`] | Where has the time gone? |
//! | `resuming` | What if the process dies at item 139,999? (With feature `journal`.) |
//! | [`machines`] | What if one machine is not enough? |
//! | [`costs`] | What does each step cost, beside others and beside itself? |
//! | [`platforms`] | Does it run on Windows, on a Mac, on ARM, and how is that known? |
//! | [`promises`] | What may be relied on, and how is that tested? |
//! | [`design`] | Why is it made like this? |
//! | [`migration`] | I know Python's pool, rayon, `buffered` or p-map: what is that here? |

#[doc = include_str!("guide/asynchronous.md")]
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub mod asynchronous {}

#[doc = include_str!("guide/costs.md")]
pub mod costs {}

#[doc = include_str!("../DESIGN.md")]
pub mod design {}

#[doc = include_str!("guide/errors.md")]
pub mod errors {}

#[doc = include_str!("guide/growing.md")]
pub mod growing {}

#[doc = include_str!("guide/limits.md")]
pub mod limits {}

#[doc = include_str!("guide/machines.md")]
pub mod machines {}

#[doc = include_str!("guide/migration.md")]
pub mod migration {}

#[doc = include_str!("guide/progress.md")]
pub mod progress {}

#[doc = include_str!("guide/platforms.md")]
pub mod platforms {}

#[doc = include_str!("guide/promises.md")]
pub mod promises {}

#[doc = include_str!("guide/recipes.md")]
pub mod recipes {}

#[doc = include_str!("guide/resuming.md")]
#[cfg(feature = "journal")]
#[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
pub mod resuming {}

#[doc = include_str!("guide/retries.md")]
pub mod retries {}

#[doc = include_str!("guide/streams.md")]
pub mod streams {}

#[doc = include_str!("guide/timelines.md")]
pub mod timelines {}

#[doc = include_str!("guide/workers.md")]
pub mod workers {}
