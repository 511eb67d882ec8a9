//! The API: just enough HTTP/1.1 to delete tenants, a rate limit that is kept to the request, and a death.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many requests the server admits within any period of this length.
const ALLOWED: usize = 100;
const PERIOD: Duration = Duration::from_secs(1);

/// The server dies when it has deleted `DIES_AT` tenants, and comes back after `GONE_FOR`.
const DIES_AT: usize = 150;
const GONE_FOR: Duration = Duration::from_secs(2);

const OK: &str = "200 OK";
const NOT_FOUND: &str = "404 Not Found";
const UNAVAILABLE: &str = "503 Service Unavailable";
const TOO_MANY: &str = "429 Too Many Requests\r\nRetry-After: 1";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Mutex<State>,
}

/// What it counts.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) deleted: usize,
    pub(crate) deleted_again: usize,
    /// Answered 429.
    pub(crate) refused: usize,
    /// Came on a connection on which `Retry-After` had not passed yet.
    pub(crate) too_early: usize,
    /// Came with the key of a request that it had done.
    pub(crate) repeated: usize,
}

/// All of it outlives the server's death, as in a database.
#[derive(Default)]
struct State {
    is_dead: bool,
    /// When the requests of the last second were let through.
    recent: Vec<Instant>,
    /// What was answered to a request that was done, by its key.
    answers: HashMap<String, &'static str>,
    deleted: HashSet<u32>,
    was_unavailable: HashSet<u32>,
    counts: Counts,
}

struct Request {
    tenant: Option<u32>,
    key: String,
}

impl Server {
    /// On a port that the system picks, until the process ends.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let server = Arc::new(Server { address: listener.local_addr()?, state: Mutex::default() });
        let living = Arc::clone(&server);
        thread::spawn(move || living.live_twice(listener));
        Ok(server)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    fn live_twice(&self, listener: TcpListener) -> io::Result<()> {
        self.live(listener);
        thread::sleep(GONE_FOR);
        let listener = TcpListener::bind(self.address)?;
        self.state().is_dead = false;
        self.live(listener);
        Ok(())
    }

    /// Listens until the server dies. Then closes the listener and every connection.
    fn live(&self, listener: TcpListener) {
        let mut connections = Vec::new();
        thread::scope(|scope| {
            for connection in listener.incoming().flatten() {
                if self.state().is_dead {
                    break;
                }
                connections.extend(connection.try_clone());
                scope.spawn(move || self.serve(&connection));
            }
            drop(listener);
            for connection in &connections {
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
    }

    /// One request after another, until one of the two closes the connection. None of them has a body.
    fn serve(&self, mut connection: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(connection).lines();
        let mut welcome_at = Instant::now();
        while let Some(line) = lines.next().transpose()? {
            let request = Request::read(&line, &mut lines)?;
            let Some(answer) = self.answer(&request, welcome_at) else { break };
            if answer == TOO_MANY {
                welcome_at = Instant::now() + PERIOD;
            }
            connection.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
        }
        Ok(())
    }

    /// None if it has died over it, or before.
    fn answer(&self, request: &Request, welcome_at: Instant) -> Option<&'static str> {
        let mut state = self.state();
        if state.is_dead {
            return None;
        }
        let now = Instant::now();
        state.counts.too_early += usize::from(now < welcome_at);
        let before = state.counts.deleted;
        let answer = if state.admits(now) { state.perform(request) } else { TOO_MANY };
        if before < DIES_AT && state.counts.deleted == DIES_AT {
            state.is_dead = true;
            drop(TcpStream::connect(self.address)); // wakes the thread that waits for connections
        }
        (!state.is_dead).then_some(answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admits(&mut self, now: Instant) -> bool {
        self.recent.retain(|&then| now - then < PERIOD);
        let admits = self.recent.len() < ALLOWED;
        if admits {
            self.recent.push(now);
        } else {
            self.counts.refused += 1;
        }
        admits
    }

    /// A request that was done is not done again: it is answered as it was before.
    fn perform(&mut self, request: &Request) -> &'static str {
        if let Some(answer) = self.answers.get(&request.key) {
            self.counts.repeated += 1;
            return answer;
        }
        let answer = request.tenant.map_or(NOT_FOUND, |tenant| self.delete(tenant));
        if answer != UNAVAILABLE {
            self.answers.insert(request.key.clone(), answer);
        }
        answer
    }

    /// Every seventieth tenant takes a second attempt, and every fortieth is not there.
    fn delete(&mut self, tenant: u32) -> &'static str {
        if tenant % 70 == 0 && self.was_unavailable.insert(tenant) {
            return UNAVAILABLE;
        }
        if tenant % 40 == 0 {
            return NOT_FOUND;
        }
        if self.deleted.insert(tenant) {
            self.counts.deleted += 1;
        } else {
            self.counts.deleted_again += 1;
        }
        OK
    }
}

impl Request {
    /// From its first line and its headers.
    fn read(line: &str, headers: &mut impl Iterator<Item = io::Result<String>>) -> io::Result<Self> {
        let tenant = line.strip_prefix("DELETE /tenants/").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let mut request =
            Request { tenant: tenant.and_then(|tenant| tenant.parse().ok()), key: String::new() };
        while let Some(header) = headers.next().transpose()?.filter(|header| !header.is_empty()) {
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("Idempotency-Key") => {
                    value.trim().clone_into(&mut request.key);
                }
                _ => {}
            }
        }
        Ok(request)
    }
}
