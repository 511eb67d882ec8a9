//! The API: a thread for each connection, a bucket of permits, and no answer to the first request for each fiftieth item.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many requests a second the server answers, and how many more at once after a while without any.
const A_SECOND: f64 = 400.0;
const BURST: f64 = 40.0;

const LATENCY: Duration = Duration::from_millis(20);

pub(crate) struct Server(Mutex<State>);

struct State {
    left: f64,
    at: Instant,
    first: Option<Instant>,
    answered: u32,
    refused: usize,
    hung: HashSet<u32>,
}

/// On a port that the system picks, until the process ends.
pub(crate) fn start() -> io::Result<(SocketAddr, Arc<Server>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let state =
        State { left: BURST, at: Instant::now(), first: None, answered: 0, refused: 0, hung: HashSet::new() };
    let server = Arc::new(Server(Mutex::new(state)));
    let serving = Arc::clone(&server);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let server = Arc::clone(&serving);
            thread::spawn(move || server.serve(&connection));
        }
    });
    Ok((address, server))
}

enum Answer {
    Number,
    NotNow(Duration),
    None,
}

impl Server {
    /// One request after another, until the client closes the connection.
    fn serve(&self, mut connection: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(connection).lines();
        while let Some(line) = lines.next().transpose()? {
            let number = line.split([' ', '/']).find_map(|part| part.parse().ok()).unwrap_or(0);
            while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
            let answer = match self.admit(number) {
                Answer::None => return connection.read_to_end(&mut Vec::new()).map(|_| ()),
                Answer::NotNow(wait) => {
                    let millis = wait.as_millis() + 1;
                    format!("429 Too Many Requests\r\nRetry-After-Ms: {millis}\r\nContent-Length: 0\r\n\r\n")
                }
                Answer::Number => {
                    thread::sleep(LATENCY);
                    let text = number.to_string();
                    format!("200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
                }
            };
            connection.write_all(format!("HTTP/1.1 {answer}").as_bytes())?;
        }
        Ok(())
    }

    fn admit(&self, number: u32) -> Answer {
        let (mut state, now) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let state = &mut *state;
        state.left = (state.left + A_SECOND * (now - state.at).as_secs_f64()).min(BURST);
        state.at = now;
        if state.left < 1.0 {
            state.refused += 1;
            return Answer::NotNow(Duration::from_secs_f64((1.0 - state.left) / A_SECOND));
        }
        state.left -= 1.0;
        state.first.get_or_insert(now);
        if number % 50 == 7 && state.hung.insert(number) {
            return Answer::None;
        }
        state.answered += 1;
        Answer::Number
    }

    pub(crate) fn report(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let time = state.first.map_or(Duration::ZERO, |first| state.at - first).as_secs_f64();
        let used = 100.0 * f64::from(state.answered) / (time * A_SECOND + BURST);
        format!(
            "{} answered, {} refused, {} without an answer, {used:.0} % of the limit used",
            state.answered,
            state.refused,
            state.hung.len()
        )
    }
}
