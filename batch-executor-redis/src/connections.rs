//! Connections that are used again, each by one thread at a time, and never after an answer that was not taken.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Client, Connection, RedisError, RedisResult};

pub(crate) struct Connections {
    client: Client,
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
    /// Each has had the answer to all that was asked on it.
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    pub(crate) fn new(client: Client, timeout: Duration) -> Self {
        Connections { client, connect_timeout: timeout, read_timeout: timeout, idle: Mutex::default() }
    }

    /// Asks on a connection that is free, or else on a new one. Where the server has closed the free one meanwhile, as when it was
    /// started again, the question is asked once more.
    pub(crate) fn ask<T>(&self, question: impl Fn(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        let idle = self.idle().pop();
        let answer = idle.map(|connection| self.ask_on(connection, &question));
        match answer {
            Some(answer) if !is_dropped(&answer) => answer,
            _ => self.ask_on(self.open()?, &question),
        }
    }

    /// Keeps the connection if it has answered. After a time-out its answer is still to come, and the next to ask would take it
    /// for their own; so it is closed.
    fn ask_on<T>(
        &self,
        mut connection: Connection,
        question: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let answer = question(&mut connection)?;
        self.idle().push(connection);
        Ok(answer)
    }

    fn open(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(self.connect_timeout)?;
        connection.set_read_timeout(Some(self.read_timeout))?;
        connection.set_write_timeout(Some(self.read_timeout))?;
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_dropped<T>(answer: &RedisResult<T>) -> bool {
    answer.as_ref().is_err_and(RedisError::is_connection_dropped)
}

/// Without the client, which may know a password.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .finish_non_exhaustive()
    }
}
