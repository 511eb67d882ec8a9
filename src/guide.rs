//! A short book about the crate, a page for each topic. Its pages hold text and no code.
#![doc = "\n"]
#![doc = include_str!("guide/links.md")]
#![cfg_attr(feature = "indicatif", doc = include_str!("guide/links_indicatif.md"))]
#![cfg_attr(feature = "journal", doc = include_str!("guide/links_journal.md"))]
#![cfg_attr(feature = "tokio", doc = include_str!("guide/links_tokio.md"))]
#![doc = "\n"]
#![doc = include_str!("guide/README.md")]

// Links. A page refers to items and pages by labels, such as [`RateLimit`], and ends with definitions of them for readers on a
// code host, which lead to files. Here, definitions for rustdoc stand before the page, in `links.md`: of two definitions of a
// label, Markdown takes the first. `tests/guide.rs` checks both.

/// A page of the book with its links.
macro_rules! page {
    ($name:ident, $file:literal $(, $feature:literal)?) => {
        #[doc = include_str!("guide/links.md")]
        #[cfg_attr(feature = "indicatif", doc = include_str!("guide/links_indicatif.md"))]
        #[cfg_attr(feature = "journal", doc = include_str!("guide/links_journal.md"))]
        #[cfg_attr(feature = "tokio", doc = include_str!("guide/links_tokio.md"))]
        #[doc = "\n"]
        #[doc = include_str!($file)]
        $(#[cfg(feature = $feature)] #[cfg_attr(docsrs, doc(cfg(feature = $feature)))])?
        pub mod $name {}
    };
}

page!(asynchronous, "guide/asynchronous.md", "tokio");
page!(choosing, "guide/choosing.md");
page!(costs, "guide/costs.md");
page!(design, "../DESIGN.md");
page!(errors, "guide/errors.md");
page!(growing, "guide/growing.md");
page!(limits, "guide/limits.md");
page!(machines, "guide/machines.md");
page!(migration, "guide/migration.md");
page!(platforms, "guide/platforms.md");
page!(progress, "guide/progress.md");
page!(progress_bar, "guide/progress_bar.md", "indicatif");
page!(promises, "guide/promises.md");
page!(recipes, "guide/recipes.md");
page!(resuming, "guide/resuming.md", "journal");
page!(retries, "guide/retries.md");
page!(streams, "guide/streams.md");
page!(testing, "guide/testing.md");
page!(timelines, "guide/timelines.md");
page!(workers, "guide/workers.md");
