//! Asks two models on two hosts, each with limits for requests and for tokens, and each host for what it does at once.
//! First with the right limits, then with rates that are learnt, and then with the crate `governor`, semaphores and threads.
//!
//! The API is a server of this example, on loopback. It counts what it refuses, and how much of its limits was used.

mod api;
mod by_hand;
mod server;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use api::ApiError;
use batch_executor::{BatchExecutor, BatchResult, Limit, RateLimit, Retry, RetryDecision};
use server::{AT_ONCE, MODELS, Model, Server};

struct Prompt {
    model: Model,
    host: SocketAddr,
    tokens: u64,
}

type Rate = fn(&Model) -> RateLimit;
type Answers<'p> = BatchResult<&'p Prompt, (), ApiError>;

fn ask_all(prompts: &[Prompt], requests: Rate, tokens: Rate) -> Result<Answers<'_>, Box<dyn Error>> {
    let executor = BatchExecutor::builder().workers(16).stop_on_error(false).build()?;
    let agent = api::agent();
    let model = |prompt: &&Prompt| prompt.model;
    let result = executor
        .batch(prompts)
        .limit(Limit::per_key(model, move |model| Limit::rate(requests(model))))
        .limit(Limit::per_key(model, move |model| Limit::rate(tokens(model))).cost(|prompt| prompt.tokens))
        .limit(Limit::per_key(|prompt: &&Prompt| prompt.host, |_| Limit::at_once(AT_ONCE)))
        .retry(Retry::exponential(Duration::from_millis(50), Duration::from_secs(1), 20).when(decide))
        .run(|prompt| api::ask(&agent, prompt));
    Ok(result)
}

fn decide(error: &ApiError) -> RetryDecision {
    match error {
        ApiError::TooMany { retry_after } => RetryDecision::PauseAll(*retry_after),
        ApiError::Other(_) => RetryDecision::GiveUp,
    }
}

/// Of 600, ten seconds of work for both: many short prompts for the small model, and some long ones for the large one.
fn prompts(server: &Server, count: u64) -> Vec<Prompt> {
    let prompt = |n: u64, model, tokens| Prompt { model, host: server.hosts[(n % 2) as usize], tokens };
    let of_three = |n| match n % 3 {
        0 => prompt(n, MODELS[1], 100 + n * 7 % 200),
        _ => prompt(n, MODELS[0], 20 + n * 7 % 160),
    };
    (0..count).map(of_three).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(600), |count| count.parse())?;
    let known: [Rate; 2] =
        [|m| RateLimit::per_second(m.requests_a_second), |m| RateLimit::per_second(m.tokens_a_second)];
    let unknown: [Rate; 2] = [|_| RateLimit::learning(10), |_| RateLimit::learning(1_000)];
    for (name, [requests, tokens]) in [("limits", known), ("learning", unknown)] {
        let server = Server::start()?;
        println!("{name}: {}\n  {}", ask_all(&prompts(&server, count), requests, tokens)?, server.report());
    }
    let server = Server::start()?;
    println!("governor: {}\n  {}", by_hand::run(&prompts(&server, count)), server.report());
    Ok(())
}
