// Made-up runs, each a small simulation, in the form in which a page carries them: for what real runs reach slowly or never.

const MILLI = 1e6;
export const [SUCCEEDED, FAILED, PANICKED, REFUSED, AGAIN] = [0, 1, 2, 3, 4];

/** Numbers from 0 to 1, the same for the same seed. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Mostly near `typical`, sometimes many times as long. */
const skewed = (random, typical) => Math.round(typical * (0.4 + 0.8 * random() + (random() < 0.03 ? 6 * random() : 0)));

/**
 * Items one after the other onto the worker that is free first.
 * `limits` are pairs of a time and a worker limit; `permitEvery` is a limiter's pace, 0 for none.
 */
export function simulate({ items, workers, typical = 8 * MILLI, seed = 1, bad = 0, retried = 0, permitEvery = 0, limits, name }) {
  const random = seeded(seed);
  const free = Float64Array.from({ length: workers }, (_, w) => limits?.find(([, limit]) => limit > w)[0] ?? 0);
  const limitAt = (t) => (limits ? limits.filter(([since]) => since <= t).pop()[1] : workers);
  const spans = [];
  const todo = [];
  let permit = 0;
  for (let index = 0; index < items || todo.length > 0; ) {
    const again = todo.length > 0 && (index >= items || todo[0].due < Math.min(...free.subarray(0, Math.min(workers, 64))));
    const item = again ? todo.shift() : { index: index++, attempt: 1, due: 0 };
    const worker = firstFree(free, limitAt);
    const ready = Math.max(free[worker], item.due);
    permit = permitEvery ? Math.max(ready, permit + permitEvery) : ready;
    const started = permit + Math.round(random() * 2000);
    const end = outcome(random, item, bad, retried);
    const run = end === REFUSED ? 0 : Math.round(skewed(random, typical) * (end === AGAIN ? 0.5 : 1));
    spans.push({ index: item.index, attempt: item.attempt, worker, started, run, permit: permit - ready, queue: Math.round(ready - item.due), end, id: name ? name(item.index) : `item-${item.index}` });
    if (end === AGAIN) todo.push({ index: item.index, attempt: item.attempt + 1, due: started + run + 2 * typical });
    free[worker] = started + run;
  }
  return spans;
}

/** The worker that is free first, among those that the limit lets start when they are. */
function firstFree(free, limitAt) {
  let best = -1;
  for (let w = 0; w < free.length; w++) if ((best < 0 || free[w] < free[best]) && w < limitAt(free[w])) best = w;
  return Math.max(best, 0);
}

function outcome(random, { attempt }, bad, retried) {
  if (attempt < 3 && random() < retried) return AGAIN;
  if (random() >= bad) return SUCCEEDED;
  const kind = random();
  return kind < 0.7 ? FAILED : kind < 0.85 ? PANICKED : REFUSED;
}

const quantiles = (values) => {
  const sorted = Float64Array.from(values).sort();
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
};

function density(spans, workers, elapsed, buckets) {
  let width = 1;
  while (width * buckets < elapsed) width *= 2;
  const rows = () => Array.from({ length: workers }, () => new Array(Math.max(1, Math.ceil(elapsed / width))).fill(0));
  const sums = { width, busy: rows(), waits: rows(), ended: rows(), failed: rows() };
  for (const { worker, started, run, permit, end } of spans) {
    cover(sums.busy[worker], started, started + run, width);
    cover(sums.waits[worker], started - permit, started, width);
    const last = Math.min(Math.floor((started + run) / width), sums.ended[worker].length - 1);
    if (end === AGAIN) continue; // its item is decided by another attempt
    sums.ended[worker][last]++;
    if (end !== SUCCEEDED) sums.failed[worker][last]++;
  }
  return sums;
}

function cover(row, from, to, width) {
  for (let bucket = Math.floor(from / width); bucket * width < to && bucket < row.length; bucket++) {
    row[bucket] += Math.min(to, (bucket + 1) * width) - Math.max(from, bucket * width);
  }
}

/** The data of a page, from spans in any order. `keep` leaves a sample of so many. */
export function dataOf(all, { workers, limits, keep = Infinity, notes = {}, elapsed, buckets = 1024 }) {
  all.sort((a, b) => a.started - b.started);
  const whole = elapsed ?? all.reduce((most, { started, run }) => Math.max(most, started + run), 0);
  const spans = sample(all, keep);
  const of = (end) => all.filter((span) => span.end === end).length;
  const busy = all.reduce((sum, { run }) => sum + run, 0);
  const ended = all.length - of(AGAIN);
  return {
    version: 1, elapsed: whole, items: new Set(all.map(({ index }) => index)).size, attempts: all.length, complete: spans.length === all.length, workers,
    stats: {
      throughput: whole > 0 ? (ended * 1e9) / whole : 0, utilisation: whole > 0 ? busy / workers / whole : 0, retries: of(AGAIN),
      succeeded: of(SUCCEEDED), failed: of(FAILED), panicked: of(PANICKED), refused: of(REFUSED),
      run: quantiles(all.map(({ run }) => run)), permit: quantiles(all.map(({ permit }) => permit)), queue: quantiles(all.map(({ queue }) => queue)),
    },
    spans: columns(spans), notes: notesOf(spans, notes), ...lists(spans), density: density(all, workers, whole, buckets), limit: limits ?? [[0, workers]],
  };
}

function sample(all, keep) {
  if (all.length <= keep) return all;
  const step = Math.ceil(all.length / keep);
  const slow = new Set([...all].sort((a, b) => b.run - a.run).slice(0, 100));
  return all.filter((span, n) => n % step === 0 || slow.has(span) || (span.end !== SUCCEEDED && span.end !== AGAIN));
}

function columns(spans) {
  const of = (key) => spans.map((span) => span[key]);
  const started = spans.map((span, n) => span.started - (n > 0 ? spans[n - 1].started : 0));
  return { index: of("index"), attempt: of("attempt"), worker: of("worker"), started, run: of("run"), permit: of("permit"), queue: of("queue"), end: of("end"), id: of("id") };
}

function notesOf(spans, notes) {
  const found = {};
  spans.forEach(({ end, id }, n) => {
    const note = notes[id] ?? (end === PANICKED ? "index out of bounds: the len is 3 but the index is 7" : end === FAILED ? "connection reset by peer" : undefined);
    if (note !== undefined) found[n] = note;
  });
  return found;
}

function lists(spans) {
  const positions = spans.map((_, n) => n);
  const isBad = (n) => spans[n].end !== SUCCEEDED && spans[n].end !== AGAIN;
  return { slowest: [...positions].sort((a, b) => spans[b].run - spans[a].run).slice(0, 100), failed: positions.filter(isBad).slice(0, 100) };
}

export const HOSTILE = [
  "", " ", "</script><script>window.pwned=1</script>", "<img src=x onerror=\"window.pwned=1\">", "<!-- <script>", "\u202Eright to left\u202C \u200F\u05D0\u05D1",
  "👩‍👩‍👧‍👦🦀 emoji", "two\nlines\r\n\tand a tab", "x".repeat(10000), "\u2028line\u2029paragraph", "__proto__", "${alert(1)}", "&lt;b&gt;", "javascript:alert(1)", "\u0000\uFFFD",
];

const urls = (n) => `https://example.net/a/${(n * 7919) % 4093}/${n}.json`;
const STEPS = [[0, 2], [60 * MILLI, 4], [140 * MILLI, 8], [400 * MILLI, 16], [700 * MILLI, 12]];

/** Every kind of run, by name; functions, since the large ones take their time. */
export const CASES = {
  ten: () => dataOf(simulate({ items: 10, workers: 4, typical: 300 * MILLI, name: urls }), { workers: 4 }),
  mixed: () => dataOf(simulate({ items: 1000, workers: 8, bad: 0.02, retried: 0.02, name: urls }), { workers: 8 }),
  adaptive: () => dataOf(simulate({ items: 1200, workers: 16, bad: 0.004, limits: STEPS }), { workers: 16, limits: STEPS }),
  wide: () => dataOf(simulate({ items: 30000, workers: 300, bad: 0.003, typical: 20 * MILLI }), { workers: 300 }),
  crowd: () => dataOf(simulate({ items: 9000, workers: 4096, bad: 0.01, typical: 50 * MILLI }), { workers: 4096, buckets: 64 }),
  limited: () => dataOf(simulate({ items: 200, workers: 6, bad: 0.02, retried: 0.12, permitEvery: 12 * MILLI, typical: 40 * MILLI }), { workers: 6 }),
  alone: () => dataOf(simulate({ items: 60, workers: 1, bad: 0.05, typical: 90 * MILLI }), { workers: 1 }),
  hostile: () => dataOf(HOSTILE.map((id, n) => ({ index: n, attempt: 1, worker: n % 3, started: n * 10 * MILLI, run: 25 * MILLI, permit: 0, queue: 0, end: n % 5, id })), { workers: 3, notes: Object.fromEntries(HOSTILE.map((id) => [id, `note: ${id}`])) }),
  million: () => dataOf(simulate({ items: 1000000, workers: 8, bad: 0.001, typical: 200000 }), { workers: 8 }),
  sampled: () => dataOf(simulate({ items: 200000, workers: 8, bad: 0.001, typical: 2 * MILLI }), { workers: 8, keep: 20000 }),
  hours: () => dataOf(simulate({ items: 900, workers: 12, bad: 0.01, typical: 200e9 }), { workers: 12 }),
  one: () => dataOf(simulate({ items: 1, workers: 1 }), { workers: 1 }),
  nothing: () => dataOf([], { workers: 0, elapsed: 5000 }),
  instant: () => dataOf(simulate({ items: 100, workers: 4 }).map((span) => ({ ...span, run: 0, permit: 0 })), { workers: 4 }),
  timeless: () => dataOf(simulate({ items: 5, workers: 2 }).map((span) => ({ ...span, run: 0, permit: 0, queue: 0, started: 0 })), { workers: 2, elapsed: 0 }),
};

const ESCAPES = /[<>&\u2028\u2029]/g;
const escaped = (json) => json.replace(ESCAPES, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The page with the data in its place, as the crate writes it. */
export function pageOf(data, { html, css, js }) {
  const parts = { STYLE: css, SCRIPT: js, DATA: escaped(JSON.stringify(data)) };
  return html.replace(/\/\*(STYLE|SCRIPT|DATA)\*\//g, (_, name) => parts[name]);
}
