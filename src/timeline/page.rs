//! A timeline as a page to look at: the page's text, with the data of one timeline in it.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::iter;

use super::density::{Bucket, Density};
use super::json::{List, Text};
use super::recording::Timeline;
use super::span::{Span, nanos};
use super::stats::{Quantiles, TimelineStats};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Of the data, so that a page and its script never misunderstand each other.
const VERSION: u32 = 1;

impl Timeline {
    /// Writes a page for the browser, in one file: the attempts on a line for each worker, the number of workers at work and the rate over
    /// time, the slowest and the failed attempts, the statistics. It needs no network and no other file.
    ///
    /// About 40 bytes for each span, and its id. Writes in small pieces through a buffer of its own.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// ```no_run
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(["a", "b"]).record_timeline().run(|id| Ok::<_, String>(id.len()));
    /// result.timeline().unwrap().write_html(std::fs::File::create("timeline.html")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_html(&self, out: impl Write) -> io::Result<()> {
        write(self, out)
    }
}

fn write(timeline: &Timeline, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let (before_style, rest) = split(PAGE, "/*STYLE*/");
    let (before_data, rest) = split(rest, "/*DATA*/");
    let (before_script, rest) = split(rest, "/*SCRIPT*/");
    write!(out, "{before_style}{STYLE}{before_data}")?;
    write_data(timeline, &mut out)?;
    write!(out, "{before_script}{SCRIPT}{rest}")?;
    out.flush()
}

fn split(page: &'static str, place: &str) -> (&'static str, &'static str) {
    page.split_once(place).unwrap_or_else(|| unreachable!("page.html has no {place}"))
}

fn write_data(timeline: &Timeline, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{{\"version\":{VERSION}")?;
    write_field(out, "elapsed", nanos(timeline.elapsed()))?;
    write_field(out, "items", timeline.totals.items)?;
    write_field(out, "attempts", timeline.attempts())?;
    write_field(out, "complete", timeline.is_complete())?;
    write_field(out, "workers", timeline.workers)?;
    write_stats(&timeline.stats(), out)?;
    write_spans(timeline.spans(), out)?;
    write_notes(timeline.spans(), out)?;
    write_field(out, "slowest", List(timeline.slowest_positions()))?;
    write_field(out, "failed", List(timeline.failure_positions()))?;
    write_densities(&timeline.densities, out)?;
    let limits = timeline.limits().iter();
    write_field(out, "limit", List(limits.map(|(since, limit)| List([nanos(*since), *limit as u64]))))?;
    out.write_all(b"}")
}

/// Another field of an object, of which one is written already. The text of the value is JSON.
fn write_field(out: &mut impl Write, name: &str, value: impl fmt::Display) -> io::Result<()> {
    write!(out, ",\"{name}\":{value}")
}

fn write_stats(stats: &TimelineStats, out: &mut impl Write) -> io::Result<()> {
    write!(out, ",\"stats\":{{\"throughput\":{}", stats.throughput)?;
    write_field(out, "utilisation", stats.utilisation)?;
    write_field(out, "retries", stats.retries)?;
    write_field(out, "succeeded", stats.succeeded)?;
    write_field(out, "failed", stats.failed)?;
    write_field(out, "panicked", stats.panicked)?;
    write_field(out, "refused", stats.refused)?;
    write_field(out, "run", json_of(&stats.run_time))?;
    write_field(out, "permit", json_of(&stats.limiter_wait))?;
    write_field(out, "queue", json_of(&stats.queue_wait))?;
    out.write_all(b"}")
}

fn json_of(quantiles: &Quantiles) -> String {
    let [p50, p90, p99, max] = [quantiles.p50, quantiles.p90, quantiles.p99, quantiles.max].map(nanos);
    format!(r#"{{"p50":{p50},"p90":{p90},"p99":{p99},"max":{max}}}"#)
}

/// One list for each part of all spans, which is shorter than a list of spans. Each start is told as the time since the one before.
fn write_spans(spans: &[Span], out: &mut impl Write) -> io::Result<()> {
    let starts = spans.iter().map(|span| span.times().started);
    let steps = starts.clone().zip(iter::once(0).chain(starts)).map(|(start, before)| start - before);
    write!(out, ",\"spans\":{{\"started\":{}", List(steps))?;
    write_field(out, "index", List(spans.iter().map(Span::index)))?;
    write_field(out, "attempt", List(spans.iter().map(Span::attempt)))?;
    write_field(out, "worker", List(spans.iter().map(Span::worker)))?;
    write_field(out, "run", List(spans.iter().map(|span| span.times().run_time())))?;
    write_field(out, "permit", List(spans.iter().map(|span| span.times().limiter_wait())))?;
    write_field(out, "queue", List(spans.iter().map(|span| span.times().queue_wait())))?;
    let (limiters, waited) = limiters(spans);
    write_field(out, "waited", List(waited))?;
    write_field(out, "end", List(spans.iter().map(|span| span.ending() as usize)))?;
    write_field(out, "id", List(spans.iter().map(|span| Text(span.id()))))?;
    out.write_all(b"}")?;
    write_field(out, "limiters", List(limiters.iter().map(|name| Text(name))))
}

/// The limits for which spans have waited, and for each span the place of its own among them, from 1; 0 for none.
fn limiters(spans: &[Span]) -> (Vec<&str>, Vec<usize>) {
    let (mut names, mut numbers) = (Vec::new(), HashMap::new());
    let mut number = |name| {
        *numbers.entry(name).or_insert_with(|| {
            names.push(name);
            names.len()
        })
    };
    let waited = spans.iter().map(|span| span.waited_for().map_or(0, &mut number)).collect();
    (names, waited)
}

/// By the positions of their spans.
fn write_notes(spans: &[Span], out: &mut impl Write) -> io::Result<()> {
    let noted = spans.iter().enumerate().filter_map(|(at, span)| Some((at, span.note()?)));
    out.write_all(b",\"notes\":{")?;
    let mut separator = "";
    for (at, note) in noted {
        write!(out, "{separator}\"{at}\":{}", Text(note))?;
        separator = ",";
    }
    out.write_all(b"}")
}

/// Of each worker a list for each of the things that were counted.
fn write_densities(densities: &[Density], out: &mut impl Write) -> io::Result<()> {
    let counts = |of: fn(&Bucket) -> u64| {
        List(densities.iter().map(move |density| List(density.buckets().iter().map(of))))
    };
    write!(out, ",\"density\":{{\"width\":{}", densities.first().map_or(1, Density::width))?;
    write_field(out, "busy", counts(|bucket| bucket.busy))?;
    write_field(out, "waits", counts(|bucket| bucket.waits))?;
    write_field(out, "ended", counts(|bucket| bucket.decided))?;
    write_field(out, "failed", counts(|bucket| bucket.failed))?;
    out.write_all(b"}")
}
