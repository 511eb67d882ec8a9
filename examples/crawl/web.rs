//! A small web on loopback: hosts with pages that link to each other, and a client for them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ureq::Agent;

pub(crate) type Error = Box<ureq::Error>;

/// How many requests a host answers at a time, and how many pages it has.
const AT_ONCE: usize = 2;
const PAGES: usize = 12;

pub(crate) struct Web {
    hosts: BTreeMap<&'static str, (SocketAddr, Arc<Host>)>,
    agent: Agent,
}

#[derive(Default)]
struct Host {
    /// Whose pages its own link to.
    next: &'static str,
    at_work: AtomicUsize,
    requests: AtomicUsize,
    refused: AtomicUsize,
}

impl Web {
    /// Each host on a port that the system picks, until the process ends.
    pub(crate) fn start<const N: usize>(names: [&'static str; N]) -> io::Result<Self> {
        let mut hosts = BTreeMap::new();
        for (number, name) in names.into_iter().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let host = Arc::new(Host { next: names[(number + 1) % N], ..Host::default() });
            hosts.insert(name, (listener.local_addr()?, Arc::clone(&host)));
            thread::spawn(move || host.live(&listener));
        }
        let agent = Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(60))).build();
        Ok(Web { hosts, agent: agent.new_agent() })
    }

    /// The page at this address, such as `a.example/3`.
    pub(crate) fn get(&self, page: &str) -> Result<String, Error> {
        let (address, _) = self.hosts.get(host(page)).ok_or(ureq::Error::HostNotFound)?;
        let url = format!("http://{address}{}", &page[host(page).len()..]);
        Ok(self.agent.get(url).call()?.body_mut().read_to_string()?)
    }

    pub(crate) fn requests(&self) -> usize {
        self.hosts.values().map(|(_, host)| host.requests.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn refused(&self) -> usize {
        self.hosts.values().map(|(_, host)| host.refused.load(Ordering::Relaxed)).sum()
    }
}

/// The host in an address.
pub(crate) fn host(page: &str) -> &str {
    page.split('/').next().unwrap_or_default()
}

/// The addresses that a page links to. Those without a host are on its own.
pub(crate) fn links(html: &str, page: &str) -> Vec<String> {
    let links = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let absolute = |link: &str| match link.strip_prefix("http://") {
        Some(link) => link.to_owned(),
        None => format!("{}{link}", host(page)),
    };
    links.map(absolute).collect()
}

impl Host {
    fn live(self: &Arc<Self>, listener: &TcpListener) {
        for connection in listener.incoming().flatten() {
            let host = Arc::clone(self);
            thread::spawn(move || host.serve(&connection));
        }
    }

    /// One request after another, until the client closes the connection.
    fn serve(&self, mut connection: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(connection).lines();
        while let Some(request) = lines.next().transpose()? {
            while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
            let is_refused = self.at_work.fetch_add(1, Ordering::SeqCst) >= AT_ONCE;
            thread::sleep(Duration::from_millis(5));
            self.at_work.fetch_sub(1, Ordering::SeqCst);
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.refused.fetch_add(usize::from(is_refused), Ordering::Relaxed);
            let (status, body) = if is_refused {
                ("503 Service Unavailable", String::new())
            } else {
                self.page(request.split(['/', ' ']).nth(2).and_then(|page| page.parse().ok()))
            };
            let length = body.len();
            write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
        Ok(())
    }

    /// Each page links to two others of its host, some to the same page of the next host, and some to one that is not there.
    fn page(&self, number: Option<usize>) -> (&'static str, String) {
        let Some(number) = number.filter(|number| *number < PAGES) else {
            return ("404 Not Found", String::new());
        };
        let mut links =
            vec![format!("/{}", (2 * number + 1) % PAGES), format!("/{}", (2 * number + 2) % PAGES)];
        if number % 3 == 0 {
            links.push(format!("http://{}/{number}", self.next));
        }
        if number % 5 == 4 {
            links.push(format!("/{}", PAGES + number));
        }
        let links: Vec<_> = links.iter().map(|link| format!("<a href=\"{link}\">{link}</a>")).collect();
        ("200 OK", format!("<!doctype html>\n<title>Page {number}</title>\n{}\n", links.join("\n")))
    }
}
