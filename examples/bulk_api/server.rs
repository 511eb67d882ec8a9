//! The API: just enough HTTP/1.1 to delete tenants, and a rate limit that is kept to the request.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Requests that are let through in any one second, wherever it begins.
const ALLOWED: usize = 100;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    refused: AtomicUsize,
    /// When the requests of the last second were let through.
    recent: Mutex<Vec<Instant>>,
}

impl Server {
    /// On a port that the system picks, until the process ends.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let server = Arc::new(Server { address, refused: AtomicUsize::new(0), recent: Mutex::default() });
        let serving = Arc::clone(&server);
        thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                let server = Arc::clone(&serving);
                thread::spawn(move || server.serve(&connection));
            }
        });
        Ok(server)
    }

    /// How many requests were answered 429.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// One request after another, until the client closes the connection. None of them has a body.
    fn serve(&self, mut connection: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(connection).lines();
        while let Some(request) = lines.next().transpose()? {
            while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
            let status =
                if self.admits() { delete(&request) } else { "429 Too Many Requests\r\nRetry-After: 1" };
            connection.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
        }
        Ok(())
    }

    fn admits(&self) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        recent.retain(|&then| now - then < Duration::from_secs(1));
        if recent.len() == ALLOWED {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        recent.push(now);
        true
    }
}

/// Every fortieth tenant is gone already, and every seventieth cannot be deleted.
fn delete(request: &str) -> &'static str {
    let id = request.strip_prefix("DELETE /tenants/").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    match id.and_then(|id| id.parse::<u32>().ok()) {
        Some(id) if id % 70 == 0 => "500 Internal Server Error",
        Some(id) if id % 40 != 0 => "200 OK",
        _ => "404 Not Found",
    }
}
