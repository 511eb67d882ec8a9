//! Texts whose code is compiled and run as doctests.

#[cfg(all(feature = "journal", feature = "tokio"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[doc = include_str!("../tests/must_not_compile.md")]
mod must_not_compile {}
