//! A timeline in Chrome's trace event format.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::mem;

use super::json::Text;
use super::recording::Timeline;
use super::span::{Span, nanos};

/// All events belong to one process, whose number is no worker's: a thread with the number of its process would be taken for the main
/// one.
const PROCESS: u32 = 10_000;

/// The number of a worker's thread. Perfetto has none with number 0, and would draw it over another.
fn thread(worker: usize) -> usize {
    worker + 1
}

impl Timeline {
    /// Writes the attempts in the trace event format of Chrome: for [Perfetto](https://ui.perfetto.dev) and `chrome://tracing`. With
    /// counters for the workers at work, the worker limit and the rate.
    ///
    /// The format is *Trace Event Format* by Nat Duca and Dan Sinclair (JSON object format: complete events, counters,
    /// metadata); times are in microseconds with three decimals.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(["a", "b"]).record_timeline().run(|id| Ok::<_, String>(id.len()));
    /// let mut trace = Vec::new();
    /// result.timeline().unwrap().write_chrome_trace(&mut trace)?;
    /// assert!(String::from_utf8(trace)?.starts_with(r#"{"displayTimeUnit":"ms","traceEvents":["#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_chrome_trace(&self, out: impl Write) -> io::Result<()> {
        write(self, out)
    }
}

fn write(timeline: &Timeline, out: impl Write) -> io::Result<()> {
    let mut events = Events { out: BufWriter::new(out), is_first: true };
    events.out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    write_names(timeline, &mut events)?;
    for span in timeline.spans() {
        write_span(span, &mut events)?;
    }
    write_counters(timeline, &mut events)?;
    write!(events.out, "],\"otherData\":{{\"attempts\":{},", timeline.attempts())?;
    write!(events.out, "\"isComplete\":{}}}}}", timeline.is_complete())?;
    events.out.flush()
}

/// What the process and each worker's lane are called, and in which order the lanes stand.
fn write_names(timeline: &Timeline, events: &mut Events<impl Write>) -> io::Result<()> {
    events.write(format_args!(
        r#""ph":"M","name":"process_name","pid":{PROCESS},"tid":1,"args":{{"name":"batch"}}"#
    ))?;
    for worker in 0..timeline.densities.len() {
        let thread = thread(worker);
        events.write(format_args!(
            r#""ph":"M","name":"thread_name","pid":{PROCESS},"tid":{thread},"args":{{"name":"worker {worker}"}}"#
        ))?;
        events.write(format_args!(
            r#""ph":"M","name":"thread_sort_index","pid":{PROCESS},"tid":{thread},"args":{{"sort_index":{worker}}}"#
        ))?;
    }
    Ok(())
}

/// The wait for its permit, if it waited, and the run.
fn write_span(span: &Span, events: &mut Events<impl Write>) -> io::Result<()> {
    let (times, thread) = (span.times(), thread(span.worker()));
    if let Some(limit) = span.waited_for() {
        // It holds no worker, so it is drawn beside their lanes.
        let (id, limit) = (span.index(), Text(limit));
        for (phase, at) in [("b", Micros(times.taken)), ("e", Micros(times.started))] {
            events.write(format_args!(
                r#""ph":"{phase}","name":"waits for a permit","cat":"limiter","id":{id},"pid":{PROCESS},"tid":{thread},"ts":{at},"args":{{"index":{id},"limit":{limit}}}"#
            ))?;
        }
    }
    let (since, time, id) = (Micros(times.started), Micros(times.run_time()), Text(span.id()));
    let (index, attempt, ending) = (span.index(), span.attempt(), span.ending());
    let (queue_wait, note) = (Micros(times.queue_wait()), Text(span.note().unwrap_or_default()));
    events.write(format_args!(
        r#""ph":"X","name":{id},"cat":"item","pid":{PROCESS},"tid":{thread},"ts":{since},"dur":{time},"args":{{"index":{index},"attempt":{attempt},"ending":"{ending}","queue_wait_us":{queue_wait},"note":{note}}}"#
    ))
}

/// Each counter holds its value until the next, so the last is followed by a zero where the batch ended.
fn write_counters(timeline: &Timeline, events: &mut Events<impl Write>) -> io::Result<()> {
    for part in timeline.intervals() {
        let start = nanos(part.start);
        write_counter(events, "busy workers", start, part.busy_workers)?;
        write_counter(events, "items per second", start, part.rate)?;
    }
    for &(since, limit) in timeline.limits() {
        write_counter(events, "worker limit", nanos(since), limit)?;
    }
    for name in ["busy workers", "items per second"] {
        write_counter(events, name, nanos(timeline.elapsed()), 0)?;
    }
    Ok(())
}

fn write_counter(
    events: &mut Events<impl Write>,
    name: &str,
    time: u64,
    value: impl fmt::Display,
) -> io::Result<()> {
    let time = Micros(time);
    events.write(format_args!(
        r#""ph":"C","name":"{name}","pid":{PROCESS},"tid":1,"ts":{time},"args":{{"{name}":{value}}}"#
    ))
}

/// Events with commas between them.
struct Events<W: Write> {
    out: BufWriter<W>,
    is_first: bool,
}

impl<W: Write> Events<W> {
    fn write(&mut self, fields: fmt::Arguments<'_>) -> io::Result<()> {
        let separator = if mem::take(&mut self.is_first) { "\n{" } else { ",\n{" };
        self.out.write_all(separator.as_bytes())?;
        self.out.write_fmt(fields)?;
        self.out.write_all(b"}")
    }
}

/// Nanoseconds as microseconds, exact.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
