//! Visits all pages that can be reached from one, 16 at a time, and no more than 2 at a time of each host. Prints them in the
//! order of their addresses, with what could not be read.
//!
//! The hosts are servers of this example, on loopback. They refuse what is more than 2 at a time, and count that.

mod web;

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use batch_executor::{BatchExecutor, Limit};
use web::Web;

fn main() -> Result<(), Box<dyn Error>> {
    let (web, start) = (Web::start(["a.example", "b.example", "c.example"])?, "a.example/0".to_owned());
    let seen = Mutex::new(HashSet::from([start.clone()]));
    let executor = BatchExecutor::builder().workers(16).stop_on_error(false).build()?;

    let result = executor
        .batch([start])
        .limit(Limit::per_key(|page: &String| web::host(page).to_owned(), |_| Limit::at_once(2)))
        .run_growing(|page, _, more| {
            let html = web.get(page)?;
            let links = web::links(&html, page);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for link in &links {
                if seen.insert(link.clone()) {
                    more.push(link.clone());
                }
            }
            Ok::<_, web::Error>(links.len())
        });

    // Which page was the first to link to another depends on how long each took, and so does the order of the result.
    let mut pages: Vec<_> = result.iter().map(|page| (page.item, page.outcome)).collect();
    pages.sort_unstable_by_key(|(address, _)| *address);
    for (address, outcome) in pages {
        match outcome {
            Ok(links) => println!("{address}: {links} links"),
            Err(error) => println!("{address}: {error}"),
        }
    }
    println!("{} pages, {} of them broken", result.total(), result.failed());
    println!("{} requests, {} of them refused", web.requests(), web.refused());
    Ok(())
}
