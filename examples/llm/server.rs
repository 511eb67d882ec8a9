//! The API: two models on two hosts. It counts requests and tokens of each model, as token buckets that hold a second of both, and
//! what runs at once on each host. It refuses what is too much with 429, and says when to come again.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a host does at once.
pub(crate) const AT_ONCE: usize = 8;

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) requests_a_second: u32,
    pub(crate) tokens_a_second: u32,
}

pub(crate) const MODELS: [Model; 2] = [
    Model { name: "small", requests_a_second: 40, tokens_a_second: 8_000 },
    Model { name: "large", requests_a_second: 30, tokens_a_second: 4_000 },
];

/// Until the process ends.
pub(crate) struct Server {
    pub(crate) hosts: [SocketAddr; 2],
    state: Mutex<State>,
}

struct State {
    accounts: [Account; 2],
    running: [usize; 2],
    refused: usize,
}

struct Account {
    requests: Bucket,
    tokens: Bucket,
    first: Option<Instant>,
    last: Instant,
    admitted: (f64, f64),
}

struct Bucket {
    a_second: f64,
    left: f64,
    at: Instant,
}

impl Server {
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let listeners =
            [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let hosts = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        let state = State { accounts: MODELS.map(Account::new), running: [0; 2], refused: 0 };
        let server = Arc::new(Server { hosts, state: Mutex::new(state) });
        for (host, listener) in listeners.into_iter().enumerate() {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    let server = Arc::clone(&server);
                    thread::spawn(move || server.serve(host, &connection));
                }
            });
        }
        Ok(server)
    }

    /// One request after another, until the client closes the connection. None of them has a body.
    fn serve(&self, host: usize, mut connection: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(connection).lines();
        while let Some(line) = lines.next().transpose()? {
            let mut path = line.split([' ', '/']).filter(|part| !part.is_empty()).skip(1);
            let model = path.next().and_then(|name| MODELS.iter().position(|model| model.name == name));
            let tokens = path.next().and_then(|tokens| tokens.parse().ok()).unwrap_or(1.0);
            while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
            let answer = match model.map(|model| self.state().admit(host, model, tokens)) {
                None => "404 Not Found\r\n".to_owned(),
                Some(Err(wait)) => {
                    format!("429 Too Many Requests\r\nRetry-After-Ms: {}\r\n", wait.as_millis() + 1)
                }
                Some(Ok(())) => {
                    thread::sleep(LATENCY);
                    self.state().running[host] -= 1;
                    "200 OK\r\n".to_owned()
                }
            };
            connection.write_all(format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n").as_bytes())?;
        }
        Ok(())
    }

    /// What was refused, and how much of the scarcer limit of each model was used, from its first request to its last.
    pub(crate) fn report(&self) -> String {
        let state = self.state();
        let [small, large] = state.accounts.each_ref().map(Account::used);
        format!("{} requests refused, {small:.0} % and {large:.0} % of the limits used", state.refused)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self, host: usize, model: usize, tokens: f64) -> Result<(), Duration> {
        let (now, account) = (Instant::now(), &mut self.accounts[model]);
        let busy = if self.running[host] < AT_ONCE { Duration::ZERO } else { LATENCY };
        let wait = busy.max(account.requests.wait_for(1.0, now)).max(account.tokens.wait_for(tokens, now));
        if !wait.is_zero() {
            self.refused += 1;
            return Err(wait);
        }
        self.running[host] += 1;
        account.take(tokens, now);
        Ok(())
    }
}

impl Account {
    fn new(model: Model) -> Self {
        let (requests, tokens) = (Bucket::new(model.requests_a_second), Bucket::new(model.tokens_a_second));
        Account { requests, tokens, first: None, last: Instant::now(), admitted: (0.0, 0.0) }
    }

    fn take(&mut self, tokens: f64, now: Instant) {
        self.requests.left -= 1.0;
        self.tokens.left -= tokens;
        self.first.get_or_insert(now);
        self.last = now;
        self.admitted = (self.admitted.0 + 1.0, self.admitted.1 + tokens);
    }

    /// In per cent.
    fn used(&self) -> f64 {
        let time = self.first.map_or(Duration::ZERO, |first| self.last - first).as_secs_f64();
        let (requests, tokens) = self.admitted;
        100.0 * (requests / self.requests.a_second).max(tokens / self.tokens.a_second) / time
    }
}

impl Bucket {
    fn new(a_second: u32) -> Self {
        Bucket { a_second: a_second.into(), left: a_second.into(), at: Instant::now() }
    }

    /// How long it is until there is so much.
    fn wait_for(&mut self, amount: f64, now: Instant) -> Duration {
        self.left = (self.left + self.a_second * (now - self.at).as_secs_f64()).min(self.a_second);
        self.at = now;
        Duration::from_secs_f64(((amount - self.left) / self.a_second).max(0.0))
    }
}
