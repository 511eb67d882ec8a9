//! A timeline as a page to look at: the page's text, with the data of one timeline in it.

use std::io::{self, BufWriter, Write};
use std::mem;

use super::density::{Bucket, Density};
use super::json::{Text, write_list};
use super::recording::Timeline;
use super::span::{Ending, Span, nanos};
use super::stats::Quantiles;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Of the data, so that a page and its script never misunderstand each other.
const VERSION: u32 = 1;

impl Timeline {
    /// Writes a page to look at, in one file: the attempts on a line for each worker, the number of workers at work and the rate over
    /// time, the slowest and the failed attempts, the statistics. It needs no network, and works where it lies.
    ///
    /// About 40 bytes for each span, and its id. Writes in small pieces through a buffer of its own.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// ```no_run
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(["a", "b"]).record_timeline().run(|id| Ok::<_, String>(id.len()))?;
    /// result.timeline().unwrap().write_html(std::fs::File::create("timeline.html")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_html(&self, out: impl Write) -> io::Result<()> {
        write(self, out)
    }
}

fn write(timeline: &Timeline, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let mut rest = PAGE;
    for (place, text) in [("/*STYLE*/", Some(STYLE)), ("/*DATA*/", None), ("/*SCRIPT*/", Some(SCRIPT))] {
        let Some((before, after)) = rest.split_once(place) else { unreachable!("page.html has no {place}") };
        out.write_all(before.as_bytes())?;
        match text {
            Some(text) => out.write_all(text.as_bytes())?,
            None => write_data(timeline, &mut out)?,
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())?;
    out.flush()
}

fn write_data(timeline: &Timeline, out: &mut impl Write) -> io::Result<()> {
    let (elapsed, items, attempts) = (nanos(timeline.elapsed()), timeline.totals.items, timeline.attempts());
    let (is_complete, workers) = (timeline.is_complete(), timeline.workers);
    write!(out, "{{\"version\":{VERSION},\"elapsed\":{elapsed},\"items\":{items},\"attempts\":{attempts},")?;
    write!(out, "\"complete\":{is_complete},\"workers\":{workers},\"stats\":")?;
    write_stats(timeline, out)?;
    out.write_all(b",\"spans\":")?;
    write_spans(timeline.spans(), out)?;
    out.write_all(b",\"notes\":")?;
    write_notes(timeline.spans(), out)?;
    out.write_all(b",\"slowest\":")?;
    write_list(out, timeline.slowest_positions())?;
    out.write_all(b",\"failed\":")?;
    write_list(out, timeline.failure_positions())?;
    out.write_all(b",\"density\":")?;
    write_densities(&timeline.densities, out)?;
    out.write_all(b",\"limit\":")?;
    write_list(out, timeline.limits().iter().map(|(since, limit)| format!("[{},{limit}]", nanos(*since))))?;
    out.write_all(b"}")
}

fn write_stats(timeline: &Timeline, out: &mut impl Write) -> io::Result<()> {
    let stats = timeline.stats();
    write!(out, "{{\"throughput\":{},\"utilisation\":{},", stats.throughput, stats.utilisation)?;
    write!(out, "\"retries\":{},\"succeeded\":{},", stats.retries, stats.succeeded)?;
    write!(out, "\"failed\":{},\"panicked\":{},", stats.failed, stats.panicked)?;
    write!(out, "\"refused\":{}", stats.refused)?;
    for (name, quantiles) in
        [("run", stats.run_time), ("permit", stats.limiter_wait), ("queue", stats.queue_wait)]
    {
        write!(out, ",\"{name}\":{}", told(&quantiles))?;
    }
    out.write_all(b"}")
}

fn told(quantiles: &Quantiles) -> String {
    let [p50, p90, p99, max] = [quantiles.p50, quantiles.p90, quantiles.p99, quantiles.max].map(nanos);
    format!(r#"{{"p50":{p50},"p90":{p90},"p99":{p99},"max":{max}}}"#)
}

/// One list for each part of all spans, which is shorter than a list of spans.
fn write_spans(spans: &[Span], out: &mut impl Write) -> io::Result<()> {
    let mut before = 0;
    let starts =
        spans.iter().map(|span| span.times().started - mem::replace(&mut before, span.times().started));
    out.write_all(b"{\"started\":")?;
    write_list(out, starts)?;
    write_column(out, "index", spans, |span| span.index() as u64)?;
    write_column(out, "attempt", spans, |span| span.attempt() as u64)?;
    write_column(out, "worker", spans, |span| span.worker() as u64)?;
    write_column(out, "run", spans, |span| span.times().run_time())?;
    write_column(out, "permit", spans, |span| span.times().limiter_wait())?;
    write_column(out, "queue", spans, |span| span.times().queue_wait())?;
    write_column(out, "end", spans, |span| number_of(span.ending()))?;
    out.write_all(b",\"id\":")?;
    write_list(out, spans.iter().map(|span| Text(span.id())))?;
    out.write_all(b"}")
}

/// As the page knows it.
fn number_of(ending: Ending) -> u64 {
    ending as u64
}

fn write_column(
    out: &mut impl Write,
    name: &str,
    spans: &[Span],
    of: impl Fn(&Span) -> u64,
) -> io::Result<()> {
    write!(out, ",\"{name}\":")?;
    write_list(out, spans.iter().map(of))
}

fn write_notes(spans: &[Span], out: &mut impl Write) -> io::Result<()> {
    let noted = spans.iter().enumerate().filter_map(|(at, span)| Some((at, span.note()?)));
    let mut separator = "{";
    for (at, note) in noted {
        write!(out, "{separator}\"{at}\":{}", Text(note))?;
        separator = ",";
    }
    out.write_all(if separator == "{" { b"{}" } else { b"}" })
}

/// Of each worker a list for each of the things that were counted.
fn write_densities(densities: &[Density], out: &mut impl Write) -> io::Result<()> {
    write!(out, "{{\"width\":{}", densities.first().map_or(1, Density::width))?;
    write_counts(out, "busy", densities, |bucket| bucket.busy)?;
    write_counts(out, "waits", densities, |bucket| bucket.waits)?;
    write_counts(out, "ended", densities, |bucket| bucket.ended)?;
    write_counts(out, "failed", densities, |bucket| bucket.failed)?;
    out.write_all(b"}")
}

fn write_counts(
    out: &mut impl Write,
    name: &str,
    densities: &[Density],
    of: impl Fn(&Bucket) -> u64,
) -> io::Result<()> {
    write!(out, ",\"{name}\":[")?;
    for (number, density) in densities.iter().enumerate() {
        out.write_all(if number > 0 { b"," } else { b"" })?;
        write_list(out, density.buckets().iter().map(&of))?;
    }
    out.write_all(b"]")
}
