//! One rate limit for [`batch_executor`] on many machines, kept in Redis: [`RedisLimit`].
//!
//! A share for each machine, [`RateLimit::split`](batch_executor::RateLimit::split), needs no server and wastes what a machine does not use.
//! This limiter is exact: a permit is one round trip, and goes to the process that asks next. It needs Redis 5 or newer, or a server that speaks as
//! Redis does and runs its scripts, such as Valkey.

mod absence;
mod connections;
mod limit;
mod schedule;

pub use limit::{Away, RedisLimit};
pub use redis;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
