// Explains one run of a batch: reads the data that the page carries, and draws what the view shows of it.
// All times are nanoseconds since the batch began.

// ---------------------------------------------------------------- Words and numbers

/** How an attempt ended, by its number in the data. */
const OUTCOMES = [
  { name: "Succeeded", colour: "--good" },
  { name: "Failed", colour: "--failed" },
  { name: "Panicked", colour: "--panicked" },
  { name: "Refused by the limiter", colour: "--refused" },
  { name: "Failed, tried again", colour: "--again" },
];
const AGAIN = 4;
/** Which outcome is to be seen where several share a pixel: the last. */
const GRAVITY = [0, 3, 4, 2, 1];
const WAIT = OUTCOMES.length;
const SECOND = 1e9;
const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const LONG_STEPS = [10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

const counted = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const $ = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const unitOf = (ns) => UNITS.find(([size]) => ns >= size) ?? UNITS[3];
const decimals = (x) => (x < 10 ? 2 : x < 100 ? 1 : 0);
const plural = (n, one, many = `${one}s`) => `${counted.format(n)} ${n === 1 ? one : many}`;

function time(ns) {
  const rounded = Number(ns.toPrecision(3));
  if (rounded >= 100 * SECOND) return longTime(Math.round(ns / SECOND));
  const [size, unit] = unitOf(rounded);
  return size === 1 ? `${Math.round(rounded)} ns` : `${(rounded / size).toFixed(decimals(rounded / size))} ${unit}`;
}

function longTime(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function rate(x) {
  return x >= 100 || x === 0 ? counted.format(Math.round(x)) : x.toFixed(decimals(x));
}

/** The smallest round step that is not below `rough`. */
function roundStep(rough) {
  const long = LONG_STEPS.find((step) => step * SECOND >= rough);
  if (rough > 5 * SECOND) return (long ?? Math.ceil(rough / 86400 / SECOND) * 86400) * SECOND;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
  return Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((step) => step >= rough) ?? power);
}

function tickLabel(at, step, end) {
  const [size, unit] = unitOf(end);
  if (end >= 100 * SECOND) return clock(at, Math.max(0, Math.ceil(Math.log10(SECOND / step))));
  return `${(at / size).toFixed(Math.max(0, Math.ceil(Math.log10(size / step) - 1e-9)))} ${unit}`;
}

function clock(at, places) {
  const seconds = at / SECOND;
  const two = (n) => String(n).padStart(2, "0");
  const rest = (seconds % 60).toFixed(places).padStart(places ? places + 3 : 2, "0");
  const minutes = Math.floor(seconds / 60);
  return seconds < 3600 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}

// ---------------------------------------------------------------- The run

/** The data as it is drawn: absolute times, a row of spans for each lane, sums over the workers. */
function readRun(data) {
  const spans = { ...data.spans, count: data.spans.id.length, started: sums(data.spans.started) };
  let lanes = Math.max(data.workers, data.density.busy.length);
  let end = data.elapsed;
  for (let i = 0; i < spans.count; i++) {
    lanes = Math.max(lanes, spans.worker[i] + 1);
    end = Math.max(end, spans.started[i] + spans.run[i]);
  }
  return { ...data, spans, lanes, end: Math.max(end, 1), rows: rowsOf(spans, lanes), total: totals(data.density) };
}

function sums(steps) {
  let at = 0;
  return Float64Array.from(steps, (step) => (at += step));
}

/**
 * Spans by lane: those of lane `w` are the slots from `first[w]` up to `first[w + 1]`, by start. `reach` is where the
 * spans up to here have all ended, which rises along a lane and so can be searched.
 */
function rowsOf(spans, lanes) {
  const first = new Uint32Array(lanes + 1);
  for (let i = 0; i < spans.count; i++) first[spans.worker[i] + 1]++;
  for (let lane = 0; lane < lanes; lane++) first[lane + 1] += first[lane];
  const next = first.slice();
  const order = new Uint32Array(spans.count);
  const starts = new Float64Array(spans.count);
  const reach = new Float64Array(spans.count);
  for (let i = 0; i < spans.count; i++) {
    const slot = next[spans.worker[i]]++;
    const before = slot > first[spans.worker[i]] ? reach[slot - 1] : 0;
    order[slot] = i;
    starts[slot] = spans.started[i];
    reach[slot] = Math.max(before, spans.started[i] + spans.run[i]);
  }
  return { first, order, starts, reach };
}

function totals(density) {
  const buckets = Math.max(0, ...density.busy.map((row) => row.length));
  const over = (rows) => {
    const sum = new Float64Array(buckets);
    for (const row of rows) for (let i = 0; i < row.length; i++) sum[i] += row[i];
    return sum;
  };
  const { busy, waits, ended, failed } = density;
  return { buckets, busy: over(busy), waits: over(waits), ended: over(ended), failed: over(failed) };
}

/** The first slot from `low` up to `high` whose value is not below `value`. */
function search(values, value, low, high) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The slots of a lane that touch `from..to`, with the wait before each. */
function slotsWithin(lane, from, to) {
  const { first, starts, reach, order } = run.rows;
  const low = search(reach, from, first[lane], first[lane + 1]);
  let high = search(starts, to, low, first[lane + 1]);
  if (high < first[lane + 1] && starts[high] - run.spans.permit[order[high]] <= to) high++;
  return [low, high];
}

// ---------------------------------------------------------------- What is shown

let run;
let view = { from: 0, to: 1 };
let chosen = -1;
let pointer = null;
let drawing = false;
let palette = {};
let tall = false;
/** Where things are, in CSS pixels; `ratio` is the screen's pixels to one of them. */
const place = { left: 44, width: 0, outer: 0, ratio: 1, pitch: 20, bar: 16, height: 0 };

const xOf = (t) => place.left + ((t - view.from) / (view.to - view.from)) * place.width;
const tOf = (x) => view.from + ((x - place.left) / place.width) * (view.to - view.from);

function setView(from, to) {
  const length = clamp(to - from, Math.min(run.end, 100), run.end);
  const start = clamp(from + (to - from - length) / 2, 0, run.end - length);
  view = { from: start, to: start + length };
  redraw();
}

function zoom(factor, at = (view.from + view.to) / 2) {
  setView(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

function move(by) {
  const shift = clamp(by, -view.from, run.end - view.to);
  setView(view.from + shift, view.to + shift);
}

const isWhole = () => view.to - view.from >= run.end;

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function measure() {
  const outer = $("lanes").clientWidth;
  const narrow = $("time").clientWidth < 600;
  place.left = narrow ? 30 : 44;
  place.outer = outer;
  place.width = Math.max(1, outer - place.left - (narrow ? 8 : 12));
  place.ratio = Math.min(devicePixelRatio || 1, 2);
  const fit = clamp(Math.floor(600 / run.lanes), 1, run.lanes === 1 ? 36 : 24);
  $("taller").hidden = fit >= 14;
  place.pitch = tall ? Math.max(fit, 16) : fit;
  place.bar = place.pitch - (place.pitch >= 8 ? Math.round(place.pitch / 6) : place.pitch >= 4 ? 1 : 0);
  place.height = Math.min(600, place.pitch * run.lanes);
  $("lanes").style.height = `${place.height}px`;
  $("tall").style.height = `${place.pitch * run.lanes}px`;
}

/** The theme's colours, as the canvas and the mixing of pixels want them. */
function readPalette() {
  const probe = document.createElement("i");
  document.body.append(probe);
  const names = [...OUTCOMES.map((outcome) => outcome.colour), "--wait", "--ink", "--soft", "--line", "--lane", "--card"];
  for (const name of names) {
    probe.style.color = `var(${name})`;
    const text = getComputedStyle(probe).color;
    palette[name] = { text, parts: text.match(/[\d.]+/g).slice(0, 3).map(Number) };
  }
  probe.remove();
  palette.hatch = hatch();
}

/** Diagonal stripes: a wait is told from a run without its colour. */
function hatch() {
  const tile = new OffscreenCanvas(6, 6);
  const pen = tile.getContext("2d");
  pen.strokeStyle = palette["--wait"].text;
  pen.lineWidth = 1.6;
  for (const x of [-6, 0, 6]) {
    pen.moveTo(x - 1, 7);
    pen.lineTo(x + 7, -1);
  }
  pen.stroke();
  return tile;
}

const colour = (name) => palette[name].text;

// ---------------------------------------------------------------- Drawing

function draw() {
  drawing = false;
  if (place.outer === 0) measure();
  const ticks = ticksOf();
  drawBusy(ticks);
  drawRate(ticks);
  drawAxis(ticks);
  drawLanes(ticks);
  placeMark();
  tellView();
}

/** A canvas as large as its place, cleared, with a pen that counts in CSS pixels. */
function clean(canvas, height) {
  const [width, tallness] = [Math.round(place.outer * place.ratio), Math.round(height * place.ratio)];
  if (canvas.width !== width || canvas.height !== tallness) Object.assign(canvas, { width, height: tallness });
  canvas.style.width = `${place.outer}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(place.ratio, 0, 0, place.ratio, 0, 0);
  pen.clearRect(0, 0, place.outer, height);
  pen.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
  return pen;
}

function ticksOf() {
  const step = roundStep((view.to - view.from) / Math.max(2, Math.floor(place.width / 110)));
  const ticks = [];
  for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) ticks.push(n * step);
  return { step, ticks };
}

function drawGrid(pen, { ticks }, height) {
  pen.fillStyle = colour("--line");
  for (const tick of ticks) pen.fillRect(Math.round(xOf(tick)), 0, 1, height);
}

function drawAxis({ step, ticks }) {
  const pen = clean($("axis"), 22);
  pen.fillStyle = colour("--soft");
  pen.textBaseline = "middle";
  for (const tick of ticks) {
    const label = tickLabel(tick, step, view.to);
    const half = pen.measureText(label).width / 2;
    pen.fillText(label, clamp(xOf(tick) - half, 0, place.outer - 2 * half), 11);
  }
}

/** The density's buckets that are visible, put together until each is at least `least` pixels wide. */
function binsOf(least) {
  const { width } = run.density;
  const perBin = Math.max(1, Math.ceil((least * (view.to - view.from)) / place.width / width));
  const bins = [];
  for (let bin = Math.floor(view.from / width / perBin); ; bin++) {
    const [first, last] = [bin * perBin, Math.min((bin + 1) * perBin, run.total.buckets)];
    if (first >= last || first * width >= view.to) return bins;
    const [from, to] = [first * width, Math.max(Math.min(last * width, run.end), first * width + 1)];
    bins.push({ from, to, first, last });
  }
}

function sumOf(values, { first, last }) {
  let sum = 0;
  for (let i = first; i < last; i++) sum += values[i];
  return sum;
}

/** Fills the area below a line of steps. */
function fillSteps(pen, bins, heightOf, base, style) {
  if (bins.length === 0) return;
  pen.beginPath();
  pen.moveTo(xOf(bins[0].from), base);
  for (const bin of bins) {
    const y = base - heightOf(bin);
    pen.lineTo(xOf(bin.from), y);
    pen.lineTo(xOf(bin.to), y);
  }
  pen.lineTo(xOf(bins[bins.length - 1].to), base);
  pen.fillStyle = style;
  pen.fill();
}

/** Nothing is drawn beside the plot until `restore`. */
function clipPlot(pen, height) {
  pen.save();
  pen.beginPath();
  pen.rect(place.left, 0, place.width, height);
  pen.clip();
}

/** A chart's frame: grid, floor and the top value at the left; the pen is clipped to the plot afterwards. */
function openChart(canvas, ticks, height, top, label) {
  const pen = clean(canvas, height);
  pen.fillStyle = colour("--lane");
  pen.fillRect(place.left, 0, place.width, height);
  drawGrid(pen, ticks, height);
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  pen.fillText(label, place.left - 6, height - (height - 1) * (1 / top));
  pen.fillText("0", place.left - 6, height - 6);
  clipPlot(pen, height);
  return pen;
}

function drawBusy(ticks) {
  const height = 84;
  const most = Math.max(1, run.lanes, ...run.limit.map(([, limit]) => Math.min(limit, run.lanes * 1.5)));
  const top = 1.12;
  const scale = height / (most * top);
  const pen = openChart($("busy"), ticks, height, top, counted.format(Math.round(most)));
  const bins = binsOf(1.5);
  const busy = (bin) => (sumOf(run.total.busy, bin) / (bin.to - bin.from)) * scale;
  const waits = (bin) => (sumOf(run.total.waits, bin) / (bin.to - bin.from)) * scale;
  fillSteps(pen, bins, (bin) => busy(bin) + waits(bin), height, pen.createPattern(palette.hatch, "repeat"));
  fillSteps(pen, bins, busy, height, colour("--good"));
  drawLimit(pen, (limit) => height - Math.min(limit, most * top) * scale);
  pen.restore();
}

function drawLimit(pen, yOf) {
  pen.beginPath();
  run.limit.forEach(([since, limit], n) => {
    const until = run.limit[n + 1]?.[0] ?? run.end;
    pen.lineTo(xOf(since), yOf(limit));
    pen.lineTo(xOf(until), yOf(limit));
  });
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 3]);
  pen.stroke();
}

function drawRate(ticks) {
  const height = 84;
  const bins = binsOf(binWidth());
  const perSecond = (values, bin) => (sumOf(values, bin) * SECOND) / (bin.to - bin.from);
  const most = bins.reduce((most, bin) => Math.max(most, perSecond(run.total.ended, bin)), 0) || 1;
  const top = 1.12;
  const scale = height / (most * top);
  const pen = openChart($("rate"), ticks, height, top, short.format(most));
  fillSteps(pen, bins, (bin) => perSecond(run.total.ended, bin) * scale, height, colour("--good"));
  fillSteps(pen, bins, (bin) => perSecond(run.total.failed, bin) * scale, height, colour("--failed"));
  pen.restore();
}

/** Pixels for a bin of the throughput: few ends make wide bins, so that the line means something. */
function binWidth() {
  const [all] = [binsOf(place.width)];
  const ended = all.reduce((sum, bin) => sum + sumOf(run.total.ended, bin), 0);
  return clamp((place.width * 8) / Math.max(ended, 1), 4, place.width / 24);
}

// ---------------------------------------------------------------- Lanes

/** With more visible spans than this, pixels are mixed instead of bars drawn; with far more, from the density. */
const MOST_BARS = 4000;
const MOST_MIXED = 300000;

function drawLanes(ticks) {
  const pen = clean($("bars"), place.height);
  const scroll = $("lanes").scrollTop;
  const shown = { first: Math.floor(scroll / place.pitch), last: 0, scroll, slots: [], count: 0 };
  shown.last = Math.min(run.lanes, Math.ceil((scroll + place.height) / place.pitch));
  for (let lane = shown.first; lane < shown.last; lane++) {
    const [low, high] = slotsWithin(lane, view.from, view.to);
    shown.slots.push([low, high]);
    shown.count += high - low;
  }
  pen.fillStyle = colour("--lane");
  for (let lane = shown.first; lane < shown.last; lane++) pen.fillRect(place.left, yOf(lane, scroll), place.width, place.bar);
  drawGrid(pen, ticks, place.height);
  drawLaneNames(pen, shown);
  clipPlot(pen, place.height);
  $("lanes").dataset.mode = fillLanes(pen, shown);
  pen.restore();
}

const yOf = (lane, scroll) => lane * place.pitch - scroll;

function drawLaneNames(pen, { first, last, scroll }) {
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * place.pitch >= 14) ?? 1000;
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (let lane = Math.ceil(first / every) * every; lane < last; lane += every) {
    const y = yOf(lane, scroll) + place.bar / 2;
    pen.fillText(String(lane), place.left - 6, every > 1 ? Math.max(y, 6) : y);
  }
}

/** Picks the way to draw, by how much there is and by what is known; says which. */
function fillLanes(pen, shown) {
  const bucket = (run.density.width / (view.to - view.from)) * place.width;
  const known = run.total.buckets > 0;
  if (known && (bucket <= 2 || shown.count > MOST_MIXED) && shown.count > MOST_BARS) return drawDensity(pen, shown, 1);
  if (!run.complete && known) {
    const faint = shown.count > 0 && bucket > 2;
    drawDensity(pen, shown, faint ? 0.3 : 1);
    if (!faint) return "density";
  }
  return shown.count > MOST_BARS ? drawMixed(pen, shown) : drawBars(pen, shown);
}

/** What goes on in each column of pixels of one lane: shares of time by outcome and of waiting, ends and bad ends. */
function columnsOf(width) {
  const shares = Array.from({ length: WAIT + 1 }, () => new Float32Array(width));
  return { width, shares, ends: new Float32Array(width), bad: new Float32Array(width), worst: new Uint8Array(width) };
}

function clearColumns({ shares, ends, bad, worst }) {
  for (const values of [...shares, ends, bad, worst]) values.fill(0);
}

/** Adds an interval, given in columns, to the shares it covers. */
function cover(share, from, to, width) {
  const [a, b] = [Math.max(from, 0), Math.min(to, width)];
  if (a >= b) return;
  const [first, last] = [Math.floor(a), Math.min(Math.floor(b), width - 1)];
  if (first === last) {
    share[first] += b - a;
    return;
  }
  share[first] += first + 1 - a;
  for (let column = first + 1; column < last; column++) share[column] = 1;
  share[last] += b - last;
}

function mixSpans(columns, [low, high]) {
  const { spans, rows } = run;
  const scale = columns.width / (view.to - view.from);
  for (let slot = low; slot < high; slot++) {
    const i = rows.order[slot];
    const from = (rows.starts[slot] - view.from) * scale;
    const to = from + spans.run[i] * scale;
    cover(columns.shares[spans.end[i]], from, to, columns.width);
    if (spans.permit[i] > 0) cover(columns.shares[WAIT], from - spans.permit[i] * scale, from, columns.width);
    countEnd(columns, Math.floor(to), spans.end[i]);
  }
}

function countEnd(columns, column, end) {
  if (column < 0 || column >= columns.width) return;
  columns.ends[column]++;
  if (end === 0) return;
  columns.bad[column]++;
  if (GRAVITY[end] > GRAVITY[columns.worst[column]]) columns.worst[column] = end;
}

function mixDensity(columns, lane) {
  const { width, busy, waits, ended, failed } = run.density;
  const scale = columns.width / (view.to - view.from);
  const last = Math.min(run.total.buckets, Math.ceil(view.to / width));
  for (let bucket = Math.floor(view.from / width); bucket < last; bucket++) {
    const from = bucket * width;
    const length = Math.max(1, Math.min(from + width, run.end) - from);
    const [a, b] = [(from - view.from) * scale, (from + length - view.from) * scale];
    const parts = [[columns.shares[0], busy, length], [columns.shares[WAIT], waits, length], [columns.ends, ended, 0], [columns.bad, failed, 0]];
    for (const [into, values, whole] of parts) spread(into, a, b, (values[lane]?.[bucket] ?? 0) / (whole || (b - a)), columns.width);
  }
  for (let column = 0; column < columns.width; column++) columns.worst[column] = columns.bad[column] > 0 ? 1 : 0;
}

/** Adds `amount` a column over an interval of columns. */
function spread(into, from, to, amount, width) {
  if (amount === 0) return;
  for (let column = Math.max(0, Math.floor(from)); column < Math.min(width, to); column++) {
    into[column] += amount * (Math.min(to, column + 1) - Math.max(from, column));
  }
}

function drawDensity(pen, shown, strength) {
  return paintLanes(pen, shown, strength, "density", (columns, lane) => mixDensity(columns, lane));
}

function drawMixed(pen, shown) {
  return paintLanes(pen, shown, 1, "mixed", (columns, lane) => mixSpans(columns, shown.slots[lane - shown.first]));
}

/** Mixes each visible lane's pixels: one row of the picture for how busy it was, one for the bad ends, stretched onto the lane. */
function paintLanes(pen, shown, strength, mode, mix) {
  const width = Math.max(1, Math.round(place.width * place.ratio));
  const lanes = shown.last - shown.first;
  const columns = columnsOf(width);
  const picture = new ImageData(width, 2 * Math.max(lanes, 1));
  for (let lane = shown.first; lane < shown.last; lane++) {
    clearColumns(columns);
    mix(columns, lane);
    paintRow(picture.data, columns, 2 * (lane - shown.first) * width * 4);
  }
  const sheet = new OffscreenCanvas(width, picture.height);
  sheet.getContext("2d").putImageData(picture, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.globalAlpha = strength;
  const foot = Math.max(1, Math.round(place.bar / 4));
  for (let n = 0; n < lanes; n++) {
    const y = yOf(shown.first + n, shown.scroll);
    pen.drawImage(sheet, 0, 2 * n, width, 1, place.left, y, place.width, place.bar);
    pen.drawImage(sheet, 0, 2 * n + 1, width, 1, place.left, y + place.bar - foot, place.width, foot);
  }
  pen.globalAlpha = 1;
  return mode;
}

function paintRow(pixels, { width, shares, ends, bad, worst }, at) {
  const colours = [...OUTCOMES.map((outcome) => palette[outcome.colour].parts), palette["--wait"].parts];
  for (let column = 0; column < width; column++, at += 4) {
    let [sum, r, g, b] = [0, 0, 0, 0];
    for (let kind = 0; kind < shares.length; kind++) {
      const share = shares[kind][column];
      sum += share;
      r += share * colours[kind][0];
      g += share * colours[kind][1];
      b += share * colours[kind][2];
    }
    if (sum > 0) setPixel(pixels, at, r / sum, g / sum, b / sum, Math.min(1, sum));
    if (bad[column] > 0) {
      const share = Math.min(1, bad[column] / Math.max(ends[column], 1e-9));
      setPixel(pixels, at + width * 4, ...colours[worst[column]], 0.45 + 0.55 * share);
    }
  }
}

function setPixel(pixels, at, r, g, b, alpha) {
  pixels[at] = r;
  pixels[at + 1] = g;
  pixels[at + 2] = b;
  pixels[at + 3] = 255 * alpha;
}

/** One bar for each span; outcomes one after the other, so that those that matter lie on top. */
function drawBars(pen, shown) {
  const byEnd = OUTCOMES.map(() => []);
  const waits = [];
  shown.slots.forEach(([low, high], n) => {
    const y = yOf(shown.first + n, shown.scroll);
    for (let slot = low; slot < high; slot++) {
      const i = run.rows.order[slot];
      const bar = barOf(i, y);
      byEnd[run.spans.end[i]].push(bar);
      if (run.spans.permit[i] > 0) waits.push({ ...bar, x: xOf(run.spans.started[i] - run.spans.permit[i]), right: bar.x });
    }
  });
  fillBars(pen, waits, pen.createPattern(palette.hatch, "repeat"), 0);
  const order = [0, 1, 2, 3, 4].sort((a, b) => GRAVITY[a] - GRAVITY[b]);
  for (const end of order) fillBars(pen, byEnd[end], colour(OUTCOMES[end].colour), end === 0 ? 1 : 2);
  for (const end of order) nameBars(pen, byEnd[end], palette[OUTCOMES[end].colour].parts);
  return "bars";
}

function barOf(i, y) {
  const x = xOf(run.spans.started[i]);
  return { i, x, y, right: xOf(run.spans.started[i] + run.spans.run[i]) };
}

/** A gap of one pixel tells neighbours apart where there is room for it. */
function fillBars(pen, bars, style, least) {
  pen.fillStyle = style;
  pen.beginPath();
  for (const { x, y, right } of bars) {
    const left = Math.max(x, place.left - 4);
    const width = Math.min(right, place.outer + 4) - left;
    pen.rect(left, y, Math.max(width > 4 ? width - 1 : width, least), place.bar);
  }
  pen.fill();
}

function nameBars(pen, bars, parts) {
  if (place.bar < 13) return;
  pen.fillStyle = 0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2] > 135 ? "#10151b" : "#ffffff";
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  for (const { i, x, y, right } of bars) {
    const [left, end] = [Math.max(x, place.left), Math.min(right, place.outer)];
    const room = end - left - 8;
    if (room < 24) continue;
    pen.fillText(shorten(pen, run.spans.id[i], room), left + 4, y + place.bar / 2 + 0.5);
  }
}

function shorten(pen, text, room) {
  const line = text.slice(0, Math.ceil(room / 3)).replace(/\s+/g, " ");
  if (line.length === text.length && pen.measureText(line).width <= room) return line;
  let [low, high] = [0, line.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(`${line.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low > 1 ? `${line.slice(0, low)}…` : "";
}

// ---------------------------------------------------------------- What the page says of the view

function tellView() {
  const whole = isWhole();
  const step = roundStep((view.to - view.from) / 200);
  const say = (t) => tickLabel(t, step, Math.max(view.to, 1));
  $("range").textContent = whole ? `The whole run, ${time(run.elapsed)}` : `${say(view.from)} to ${say(view.to)} of ${time(run.elapsed)}`;
  Object.assign($("lanes").dataset, { from: view.from, to: view.to, left: place.left, width: place.width, pitch: place.pitch, bar: place.bar });
  $("thumb").style.left = `${(view.from / run.end) * 100}%`;
  $("thumb").style.width = `${((view.to - view.from) / run.end) * 100}%`;
  $("whole").disabled = $("out").disabled = whole;
  tellCharts();
}

/** The value of both charts at the pointer, or their mean. */
function tellCharts() {
  const at = pointer && pointer.x >= place.left ? clamp(tOf(pointer.x), 0, run.end) : null;
  const bins = at === null ? [] : binsOf(1.5).filter((bin) => bin.from <= at && at < bin.to);
  const limit = run.limit.filter(([since]) => since <= (at ?? 0)).pop()?.[1] ?? run.workers;
  if (bins.length === 0) {
    $("busy-now").textContent = `${(run.stats.utilisation * run.workers).toFixed(1)} of ${counted.format(run.workers)} on average`;
    $("rate-now").textContent = `${rate(run.elapsed > 0 ? (run.attempts * SECOND) / run.elapsed : 0)} on average`;
    return;
  }
  const length = bins[0].to - bins[0].from;
  const when = `at ${time(at)}`;
  $("busy-now").textContent = `${(sumOf(run.total.busy, bins[0]) / length).toFixed(1)} busy, limit ${counted.format(limit)}, ${when}`;
  const wide = binsOf(binWidth()).find((bin) => bin.from <= at && at < bin.to) ?? bins[0];
  const each = (values) => rate((sumOf(values, wide) * SECOND) / (wide.to - wide.from));
  const failed = sumOf(run.total.failed, wide) > 0 ? `, ${each(run.total.failed)} not succeeded` : "";
  $("rate-now").textContent = `${each(run.total.ended)}${failed}, ${when}`;
}

/** The frame around the span that the pointer is on, or that was chosen. */
function placeMark() {
  const i = pointer?.span >= 0 ? pointer.span : chosen;
  const mark = $("mark");
  mark.hidden = i < 0 || !isVisible(i);
  if (mark.hidden) return;
  const from = clamp(xOf(startOf(i)), place.left, place.outer - 4);
  const to = clamp(xOf(endOf(i)), from + 2, place.outer - 2);
  const y = run.spans.worker[i] * place.pitch;
  Object.assign(mark.style, { left: `${from - 2}px`, top: `${y - 1}px`, width: `${to - from + 4}px`, height: `${place.bar + 2}px` });
}

const startOf = (i) => run.spans.started[i] - run.spans.permit[i];
const endOf = (i) => run.spans.started[i] + run.spans.run[i];
const isVisible = (i) => endOf(i) >= view.from && startOf(i) <= view.to;

// ---------------------------------------------------------------- From a place to a span

/** The span at a place in the lanes, and how many share it; of several it is the worst, then the longest. */
function spanAt(x, y) {
  const lane = Math.floor(y / place.pitch);
  if (lane < 0 || lane >= run.lanes || x < place.left) return { span: -1, count: 0 };
  const [low, high] = slotsWithin(lane, tOf(x - 2), tOf(x + 2));
  const near = Array.from(run.rows.order.subarray(low, Math.min(high, low + 2000)));
  const wide = near.find((i) => xOf(startOf(i)) <= x && x <= xOf(endOf(i)) && xOf(endOf(i)) - xOf(startOf(i)) >= 4);
  if (wide !== undefined) return { span: wide, count: 1 };
  const worse = (a, b) => GRAVITY[run.spans.end[b]] - GRAVITY[run.spans.end[a]] || run.spans.run[b] - run.spans.run[a];
  return { span: near.sort(worse)[0] ?? -1, count: high - low };
}

function factsOf(i) {
  const { spans } = run;
  const facts = [
    ["Outcome", OUTCOMES[spans.end[i]].name],
    ["Item", `${counted.format(spans.index[i])}, attempt ${counted.format(spans.attempt[i])}, worker ${spans.worker[i]}`],
    ["Queue wait", time(spans.queue[i])],
    ["Permit wait", time(spans.permit[i])],
    ["Run", time(spans.run[i])],
    ["When", `${time(spans.started[i])} to ${time(endOf(i))}`],
  ];
  const note = run.notes[i];
  return note === undefined ? facts : [...facts, ["Note", note]];
}

// ---------------------------------------------------------------- Elements

/** An element with text or children in it; whatever comes from the data is text. */
function make(name, content = [], more = {}) {
  const element = Object.assign(document.createElement(name), more);
  element.append(...[content].flat());
  return element;
}

function swatch(name) {
  const box = make("span", [], { className: "swatch" });
  box.style.background = name === "--wait" ? stripes() : `var(${name})`;
  box.ariaHidden = "true";
  return box;
}

const stripes = () => "repeating-linear-gradient(135deg, var(--wait) 0 2px, transparent 2px 4px)";

/** An id as it is, kept to itself whichever way it is written; one without a letter says so. */
function idElement(i) {
  const id = run.spans.id[i];
  return id === "" ? make("span", "no text", { className: "none" }) : make("bdi", id);
}

function fillTip(i, count) {
  const list = make("dl");
  for (const [name, value] of factsOf(i)) {
    const mark = name === "Outcome" ? [swatch(OUTCOMES[run.spans.end[i]].colour)] : [];
    list.append(make("dt", name), make("dd", [...mark, value], { className: name === "Note" ? "note" : "" }));
  }
  const more = count > 1 ? [make("div", `One of ${counted.format(count)} here; zoom in to tell them apart.`, { className: "more" })] : [];
  $("tip").replaceChildren(make("div", idElement(i), { className: "id" }), list, ...more);
}

function placeTip(x, y) {
  const tip = $("tip");
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = x + 16 + width <= innerWidth - 8 ? x + 16 : x - 16 - width;
  const below = y + 18 + height <= innerHeight - 8 ? y + 18 : y - 14 - height;
  const [left, top] = [clamp(right, 8, innerWidth - 8 - width), clamp(below, 8, Math.max(8, innerHeight - 8 - height))];
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}

/** The tip beside the chosen span; nothing where that is out of sight. */
function tipOfChosen() {
  $("tip").hidden = chosen < 0 || !isVisible(chosen);
  if ($("tip").hidden) return;
  fillTip(chosen, 1);
  placeMark();
  const { left, right, bottom } = $("mark").getBoundingClientRect();
  placeTip(Math.min((left + right) / 2, left + 60) - 16, bottom - 12);
}

function choose(i, { say = false } = {}) {
  chosen = i;
  for (const row of document.querySelectorAll("tr[data-span]")) {
    if (Number(row.dataset.span) === i) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
  if (say && i >= 0) $("said").textContent = [run.spans.id[i], ...factsOf(i).map(([name, value]) => `${name} ${value}`)].join(". ");
  placeMark();
  tipOfChosen();
}

/** Brings a span's lane and time into sight, and chooses it. */
function show(i, options) {
  const length = Math.max(endOf(i) - startOf(i), run.end / 2000);
  setView(startOf(i) - 2 * length, startOf(i) + 3 * length);
  reveal(i);
  draw();
  choose(i, options);
}

function reveal(i) {
  const lanes = $("lanes");
  const top = run.spans.worker[i] * place.pitch;
  if (top < lanes.scrollTop || top + place.pitch > lanes.scrollTop + place.height) lanes.scrollTop = top - place.height / 2;
}

// ---------------------------------------------------------------- Pointer, wheel, keys

const fingers = new Map();
let grip = null;

const inside = (event) => event.clientX - $("time").getBoundingClientRect().left;
const inLanes = (event) => event.clientY - $("tall").getBoundingClientRect().top;
const overLanes = (event) => $("lanes").contains(event.target) || event.target === $("lanes");

function press(event) {
  const x = inside(event);
  if (event.button !== 0 || x < place.left || x > place.outer) return;
  fingers.set(event.pointerId, x);
  const kind = fingers.size > 1 ? "pinch" : event.pointerType === "touch" || event.shiftKey ? "pan" : "select";
  grip = { kind, x, view, moved: kind === "pinch", gap: gap(), at: tOf(middle()), lanes: overLanes(event) };
}

const middle = () => [...fingers.values()].reduce((sum, x) => sum + x, 0) / fingers.size;
const gap = () => Math.max(10, Math.max(...fingers.values()) - Math.min(...fingers.values()));

function moveTo(event) {
  if (fingers.has(event.pointerId)) fingers.set(event.pointerId, inside(event));
  if (!grip) return hover(event);
  const x = inside(event);
  if (!grip.moved && Math.abs(x - grip.x) < 4) return;
  if (!grip.moved) $("time").setPointerCapture(event.pointerId);
  grip.moved = true;
  leave();
  ({ pan: dragView, select: dragRange, pinch: dragFingers })[grip.kind](x);
}

function dragView(x) {
  const by = ((grip.x - x) / place.width) * (grip.view.to - grip.view.from);
  const shift = clamp(by, -grip.view.from, run.end - grip.view.to);
  setView(grip.view.from + shift, grip.view.to + shift);
}

function dragRange(x) {
  const [from, to] = [grip.x, clamp(x, place.left, place.left + place.width)].sort((a, b) => a - b);
  $("chosen").hidden = false;
  Object.assign($("chosen").style, { left: `${from}px`, width: `${to - from}px` });
}

function dragFingers() {
  const factor = grip.gap / gap();
  const length = (grip.view.to - grip.view.from) * factor;
  const from = grip.at - ((middle() - place.left) / place.width) * length;
  setView(from, from + length);
}

function release(event) {
  fingers.delete(event.pointerId);
  const held = grip;
  grip = null;
  $("chosen").hidden = true;
  if (!held || event.type === "pointercancel") return;
  if (!held.moved) return held.lanes ? tap(event) : undefined;
  const [from, to] = [held.x, clamp(inside(event), place.left, place.left + place.width)].sort((a, b) => a - b);
  if (held.kind === "select" && to - from >= 4) setView(tOf(from), tOf(to));
}

function tap(event) {
  const { span } = spanAt(inside(event), inLanes(event));
  pointer = null;
  choose(span);
}

function hover(event) {
  const x = inside(event);
  const found = overLanes(event) ? spanAt(x, inLanes(event)) : { span: -1, count: 0 };
  pointer = { x, span: found.span };
  $("cursor").hidden = x < place.left || x > place.left + place.width;
  $("cursor").style.transform = `translateX(${Math.round(x)}px)`;
  placeMark();
  tellCharts();
  if (found.span < 0) return tipOfChosen();
  fillTip(found.span, found.count);
  placeTip(event.clientX, event.clientY);
}

function leave() {
  pointer = null;
  $("cursor").hidden = true;
  placeMark();
  tellCharts();
  tipOfChosen();
}

/** The wheel zooms around the pointer, and moves when it goes sideways; where it would do nothing, the page scrolls. */
function wheel(event) {
  if (event.ctrlKey && event.deltaY === 0) return;
  const pixels = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? 300 : 1;
  const sideways = event.shiftKey ? event.deltaY + event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  if (isWhole() && (sideways !== 0 || event.deltaY > 0)) return;
  event.preventDefault();
  if (sideways !== 0) move(((sideways * pixels) / place.width) * (view.to - view.from));
  else zoom(Math.exp(clamp(event.deltaY * pixels, -400, 400) * 0.002), tOf(inside(event)));
  $("tip").hidden = true;
}

function whole() {
  choose(-1);
  setView(0, run.end);
}

const KEYS = {
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  "0": whole,
  ArrowLeft: () => move((view.from - view.to) / 5),
  ArrowRight: () => move((view.to - view.from) / 5),
  ArrowUp: () => stepLane(-1),
  ArrowDown: () => stepLane(1),
  n: () => stepSpan(1),
  p: () => stepSpan(-1),
};

function key(event) {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

/** Escape lets go of the chosen span first, then of the zoom. */
function escape(event) {
  if (event.key !== "Escape") return;
  grip = null;
  $("chosen").hidden = true;
  if (chosen >= 0) choose(-1);
  else whole();
}

/** The next span of the lane; the first one that is visible, if none is chosen. */
function stepSpan(by) {
  if (chosen < 0) return stepLane(1);
  const { first, order, starts } = run.rows;
  const lane = run.spans.worker[chosen];
  let slot = search(starts, run.spans.started[chosen], first[lane], first[lane + 1]);
  while (order[slot] !== chosen) slot++;
  if (slot + by >= first[lane] && slot + by < first[lane + 1]) pick(order[slot + by]);
}

/** The span at about the same time in the next lane that has one in sight. */
function stepLane(by) {
  const at = chosen < 0 ? view.from : run.spans.started[chosen];
  let lane = chosen < 0 ? (by > 0 ? -1 : run.lanes) : run.spans.worker[chosen];
  for (lane += by; lane >= 0 && lane < run.lanes; lane += by) {
    const [low, high] = slotsWithin(lane, Math.max(at, view.from), view.to);
    const [from, to] = low < high ? [low, high] : slotsWithin(lane, view.from, view.to);
    if (from < to) return pick(run.rows.order[low < high ? from : to - 1]);
  }
}

function pick(i) {
  if (!isVisible(i)) {
    const length = view.to - view.from;
    setView(startOf(i) - length / 2, startOf(i) + length / 2);
  }
  reveal(i);
  draw();
  choose(i, { say: true });
}

function dragTrack(event) {
  if (event.buttons !== 1 && event.type !== "pointerdown") return;
  $("track").setPointerCapture(event.pointerId);
  const { left, width } = $("track").getBoundingClientRect();
  const length = view.to - view.from;
  const at = clamp(((event.clientX - left) / width) * run.end - length / 2, 0, run.end - length);
  setView(at, at + length);
}

// ---------------------------------------------------------------- Facts and tables

function fillFacts() {
  const { stats } = run;
  const facts = [
    ["Items", counted.format(run.items)], ["Attempts", counted.format(run.attempts)], ["Elapsed", time(run.elapsed)],
    ["Items per second", rate(stats.throughput)], ["Workers", counted.format(run.workers)],
    ["Utilisation", `${Math.round(stats.utilisation * 100)}%`], ["Succeeded", counted.format(stats.succeeded)],
    ["Failed", counted.format(stats.failed)], ["Panicked", counted.format(stats.panicked)],
    ["Refused", counted.format(stats.refused)], ["Retries", counted.format(stats.retries)],
  ];
  $("facts").replaceChildren(...facts.map(([name, value]) => make("div", [make("dt", name), make("dd", value)])));
  $("gist").textContent = `${plural(run.items, "item")} in ${time(run.elapsed)} on ${plural(run.workers, "worker")}`;
  $("sample").hidden = run.complete;
  $("sample").textContent = `The lanes hold ${counted.format(run.spans.count)} of ${counted.format(run.attempts)} attempts: a sample, with the slowest `
    + "and those that did not succeed. Both charts count every attempt.";
  $("nothing").hidden = run.attempts > 0;
}

function fillLegend() {
  const { stats } = run;
  const seen = [true, stats.failed > 0, stats.panicked > 0, stats.refused > 0, stats.retries > 0];
  const entries = OUTCOMES.filter((_, end) => seen[end]).map(({ name, colour: mark }) => [mark, name]);
  if (run.stats.permit.max > 0) entries.push(["--wait", "Waiting for a permit"]);
  $("legend").replaceChildren(...entries.map(([mark, name]) => make("li", [swatch(mark), name])));
}

function fillStats() {
  const names = ["p50", "p90", "p99", "max"];
  const head = make("tr", ["", "Median", "90%", "99%", "Longest"].map((name) => make("th", name, { scope: "col" })));
  const row = ([name, values]) => make("tr", [make("th", name, { scope: "row" }), ...names.map((key) => make("td", time(values[key])))]);
  const { run: runs, permit, queue } = run.stats;
  const rows = [["Run", runs], ["Permit wait", permit], ["Queue wait", queue]].map(row);
  $("stats").replaceChildren(make("thead", head), make("tbody", rows));
}

const COLUMNS = [
  { name: "Id", text: true, of: (i) => make("button", idElement(i), { type: "button" }) },
  { name: "Outcome", text: true, of: (i) => [swatch(OUTCOMES[run.spans.end[i]].colour), OUTCOMES[run.spans.end[i]].name] },
  { name: "Run", of: (i) => time(run.spans.run[i]) },
  { name: "Started", of: (i) => time(run.spans.started[i]) },
  { name: "Permit wait", less: true, of: (i) => time(run.spans.permit[i]) },
  { name: "Queue wait", less: true, of: (i) => time(run.spans.queue[i]) },
  { name: "Item", less: true, of: (i) => counted.format(run.spans.index[i]) },
  { name: "Attempt", less: true, of: (i) => counted.format(run.spans.attempt[i]) },
  { name: "Worker", less: true, of: (i) => String(run.spans.worker[i]) },
];
const NOTE = { name: "Note", text: true, less: true, note: true, of: (i) => run.notes[i] ?? "" };

const classOf = ({ text, less, note }) => [text && "text", less && "less", note && "note"].filter(Boolean).join(" ");

function fillList(table, positions, columns) {
  const head = make("tr", columns.map((column) => make("th", column.name, { scope: "col", className: classOf(column) })));
  const rows = positions.map((i) => {
    const row = make("tr", columns.map((column) => make("td", column.of(i), { className: classOf(column) })));
    row.dataset.span = i;
    return row;
  });
  table.replaceChildren(make("thead", head), make("tbody", rows));
  table.addEventListener("click", (event) => showRow(event.target.closest("tr[data-span]")));
}

function showRow(row) {
  if (!row) return;
  $("time").scrollIntoView({ block: "center" });
  show(Number(row.dataset.span), { say: true });
}

function fillLists() {
  const { failed, panicked, refused } = run.stats;
  const bad = failed + panicked + refused;
  const noted = run.failed.some((i) => run.notes[i] !== undefined);
  $("failed-part").hidden = run.failed.length === 0;
  $("slowest-part").hidden = run.slowest.length === 0;
  $("failed-note").textContent = run.failed.length < bad ? `${counted.format(run.failed.length)} of ${counted.format(bad)}.` : `${plural(bad, "attempt")}.`;
  fillList($("failed"), run.failed, noted ? [...COLUMNS, NOTE] : COLUMNS);
  fillList($("slowest"), run.slowest, COLUMNS);
}

function describe() {
  const average = (run.stats.utilisation * run.workers).toFixed(1);
  $("busy").ariaLabel = `Busy workers over time: on average ${average} of ${run.workers}.`;
  $("rate").ariaLabel = `Attempts ended per second over time: ${rate(run.stats.throughput)} items a second in all.`;
  $("bars").ariaLabel = `${plural(run.spans.count, "attempt")} in ${plural(run.lanes, "lane")} over ${time(run.elapsed)}. The tables below name the slowest and the failed.`;
}

// ---------------------------------------------------------------- Theme and start

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function dress() {
  readPalette();
  $("theme").textContent = isDark() ? "Light theme" : "Dark theme";
  draw();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  dress();
}

function listen() {
  const area = $("time");
  area.addEventListener("pointerdown", press);
  area.addEventListener("pointermove", moveTo);
  area.addEventListener("pointerup", release);
  area.addEventListener("pointercancel", release);
  area.addEventListener("pointerleave", () => grip ?? leave());
  area.addEventListener("wheel", wheel, { passive: false });
  area.addEventListener("dblclick", whole);
  area.addEventListener("keydown", key);
  document.addEventListener("keydown", escape);
  $("lanes").addEventListener("scroll", redraw);
  for (const type of ["pointerdown", "pointermove"]) $("track").addEventListener(type, dragTrack);
  $("in").addEventListener("click", () => zoom(0.5));
  $("out").addEventListener("click", () => zoom(2));
  $("whole").addEventListener("click", whole);
  $("taller").addEventListener("click", makeTaller);
  $("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  listenToWindow();
}

function listenToWindow() {
  let before;
  new ResizeObserver(() => { measure(); redraw(); }).observe($("time"));
  addEventListener("scroll", () => { $("tip").hidden = true; }, { passive: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; setTheme("light"); });
  addEventListener("afterprint", () => setTheme(before));
}

function makeTaller() {
  tall = !tall;
  $("taller").ariaPressed = String(tall);
  measure();
  draw();
}

function start() {
  const data = JSON.parse($("data").textContent);
  if (data.version !== 1) throw new Error(`this page reads version 1 of the data, not ${data.version}`);
  run = readRun(data);
  view = { from: 0, to: run.end };
  fillFacts();
  fillLegend();
  fillStats();
  fillLists();
  describe();
  measure();
  dress();
  listen();
  document.documentElement.dataset.ready = "1";
}

start();
