// Explains one run of a batch: reads the data that the page carries, and draws what the view shows of it.
// All times are nanoseconds since the batch began.

// ---------------------------------------------------------------- Words and numbers

/** How an attempt ended, by its number in the data. `weight` says which one is seen where several share a pixel. */
const OUTCOMES = [
  { name: "Succeeded", colour: "--good", weight: 0 },
  { name: "Failed", colour: "--failed", weight: 3 },
  { name: "Panicked", colour: "--panicked", weight: 4 },
  { name: "Refused by limiter", colour: "--refused", weight: 2 },
  { name: "Failed, tried again", colour: "--again", weight: 1 },
];
const AGAIN = 4;
const WAIT = OUTCOMES.length;
const LIGHT_FIRST = [0, 4, 3, 1, 2];
const SECOND = 1e9;
const DAY = 86400;
const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const LONG_STEPS = [10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, DAY];

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const $ = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const unitOf = (ns) => UNITS.find(([size]) => ns >= size) ?? UNITS[3];
const threeDigits = (x) => x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0);
const rate = (x) => (x >= 100 || x === 0 ? whole.format(Math.round(x)) : threeDigits(x));
const workers = (x) => (x < 100 ? x.toFixed(1) : whole.format(Math.round(x)));
const plural = (n, word) => `${whole.format(n)} ${word}${n === 1 ? "" : "s"}`;
const twoDigits = (n) => String(n).padStart(2, "0");

function time(ns) {
  const rounded = Number(ns.toPrecision(3));
  if (rounded === 0) return "0";
  if (rounded >= 100 * SECOND) return longTime(Math.round(ns / SECOND));
  const [size, unit] = unitOf(rounded);
  return `${size === 1 ? Math.round(rounded) : threeDigits(rounded / size)} ${unit}`;
}

function longTime(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The smallest of 1, 2, 5, 10, 20, .. that is not below `rough`; other steps up to 10 make it rounder or closer. */
function roundUp(rough, steps = [1, 2, 5, 10]) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return steps.map((n) => n * power).find((step) => step >= rough * (1 - 1e-9)) ?? rough;
}

/** A round time: seconds, minutes and hours are no decimal system. */
function roundTime(rough) {
  if (rough <= 5 * SECOND) return Math.max(1, roundUp(Math.max(rough, 1)));
  const seconds = LONG_STEPS.find((step) => step * SECOND >= rough) ?? Math.ceil(rough / SECOND / DAY) * DAY;
  return seconds * SECOND;
}

/** A time on the axis, exact to the step, in the unit of the axis' end. */
function tickLabel(at, step, end) {
  const [size, unit] = unitOf(end);
  const places = Math.max(0, Math.ceil(Math.log10(size / step) - 1e-9));
  if (end < 100 * SECOND) return `${(at / size).toFixed(places)} ${unit}`;
  const rest = ((at / SECOND) % 60).toFixed(places).padStart(places ? places + 3 : 2, "0");
  const minutes = Math.floor(at / SECOND / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${twoDigits(minutes % 60)}:${rest}`;
}

// ---------------------------------------------------------------- The run

/** The data as it is drawn: absolute times, the spans of each lane, sums over the workers. */
function readRun(data) {
  let at = 0;
  const started = Float64Array.from(data.spans.started, (step) => (at += step));
  const spans = { ...data.spans, started, count: started.length };
  let lanes = Math.max(data.workers, data.density.busy.length, 1);
  let end = Math.max(data.elapsed, 1);
  for (let i = 0; i < spans.count; i++) {
    lanes = Math.max(lanes, spans.worker[i] + 1);
    end = Math.max(end, started[i] + spans.run[i]);
  }
  return { ...data, spans, lanes, end, rows: rowsOf(spans, lanes), total: totalsOf(data.density) };
}

/**
 * Spans by lane: those of lane `w` are the slots from `first[w]` up to `first[w + 1]`, by start. `reach` is where the spans up
 * to here have all ended: it never falls along a lane and so can be searched.
 */
function rowsOf(spans, lanes) {
  const first = new Uint32Array(lanes + 1);
  for (let i = 0; i < spans.count; i++) first[spans.worker[i] + 1]++;
  for (let lane = 0; lane < lanes; lane++) first[lane + 1] += first[lane];
  const next = first.slice();
  const [order, starts, reach] = [new Uint32Array(spans.count), new Float64Array(spans.count), new Float64Array(spans.count)];
  for (let i = 0; i < spans.count; i++) {
    const lane = spans.worker[i];
    const slot = next[lane]++;
    order[slot] = i;
    starts[slot] = spans.started[i];
    reach[slot] = Math.max(slot > first[lane] ? reach[slot - 1] : 0, endOf(i, spans));
  }
  return { first, order, starts, reach };
}

function totalsOf({ busy, waits, ended, failed }) {
  const buckets = busy.reduce((most, row) => Math.max(most, row.length), 0);
  const over = (rows) => {
    const sum = new Float64Array(buckets);
    for (const row of rows) row.forEach((value, bucket) => (sum[bucket] += value));
    return sum;
  };
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
  const high = search(starts, to, low, first[lane + 1]);
  return [low, high < first[lane + 1] && startOf(order[high]) <= to ? high + 1 : high];
}

/** From the wait for a limit, which holds no worker and is drawn behind the runs, to the end of the run. */
const startOf = (i) => run.spans.started[i] - run.spans.permit[i];
const endOf = (i, spans = run.spans) => spans.started[i] + spans.run[i];
const isVisible = (i) => endOf(i) >= view.from && startOf(i) <= view.to;

// ---------------------------------------------------------------- What is shown

let run;
let view = { from: 0, to: 1 };
let chosen = -1;
let pointer = null;
let drawing = false;
let tall = false;
const palette = {};
/** Where things are, in CSS pixels; `ratio` is the screen's pixels to one of them. */
const place = { left: 44, width: 0, outer: 0, ratio: 1, pitch: 20, bar: 16, height: 0 };

const xOf = (t) => place.left + ((t - view.from) / (view.to - view.from)) * place.width;
const tOf = (x) => view.from + ((x - place.left) / place.width) * (view.to - view.from);
const yOf = (lane, scroll) => lane * place.pitch - scroll;
const isWhole = () => view.to - view.from >= run.end;
const colour = (name) => palette[name].text;

function setView(from, to) {
  const length = clamp(to - from, Math.min(run.end, 100), run.end);
  const start = clamp(from + (to - from - length) / 2, 0, run.end - length);
  view = { from: start, to: start + length };
  redraw();
}

function zoom(factor, at = (view.from + view.to) / 2) {
  setView(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

/** Shows what lies `by` later than what `base` shows. */
function move(by, base = view) {
  const shift = clamp(by, -base.from, run.end - base.to);
  setView(base.from + shift, base.to + shift);
}

function showWhole() {
  choose(-1);
  setView(0, run.end);
}

function redraw() {
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

function measure() {
  const pitch = clamp(Math.floor(600 / run.lanes), 1, run.lanes === 1 ? 36 : 24);
  $("taller").hidden = pitch >= 14;
  place.pitch = tall ? Math.max(pitch, 16) : pitch;
  place.bar = place.pitch - (place.pitch >= 8 ? Math.round(place.pitch / 6) : place.pitch >= 4 ? 1 : 0);
  place.height = Math.min(600, place.pitch * run.lanes);
  $("lanes").style.height = `${place.height}px`;
  $("tall").style.height = `${place.pitch * run.lanes}px`;
  const narrow = $("time").clientWidth < 600;
  place.left = narrow ? 36 : 44;
  place.outer = $("lanes").clientWidth;
  place.width = Math.max(1, place.outer - place.left - (narrow ? 8 : 12));
  place.ratio = clamp(devicePixelRatio, 1, 2);
}

/** The theme's colours, as the canvas and the mixing of pixels want them. */
function readPalette() {
  const probe = make("i");
  document.body.append(probe);
  for (const name of [...OUTCOMES.map((outcome) => outcome.colour), "--wait", "--ink", "--soft", "--line", "--lane"]) {
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
  pen.strokeStyle = colour("--wait");
  pen.lineWidth = 1.6;
  for (const x of [-6, 0, 6]) {
    pen.moveTo(x - 1, 7);
    pen.lineTo(x + 7, -1);
  }
  pen.stroke();
  return tile;
}

// ---------------------------------------------------------------- Charts

const CHART = 80;
/** The part of a chart's height that its highest value takes. */
const FULL = 0.88;

function draw() {
  drawing = false;
  const step = roundTime((view.to - view.from) / Math.max(3, Math.floor(place.width / 110)));
  const ticks = [];
  for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) ticks.push(n * step);
  drawBusy(ticks);
  drawRate(ticks);
  drawAxis(ticks, step);
  drawLanes(ticks);
  placeMark();
  tellView();
}

/** A pen that counts in CSS pixels, on a canvas that is as large as its place, and clean. */
function clean(canvas, height) {
  const size = { width: Math.round(place.outer * place.ratio), height: Math.round(height * place.ratio) };
  if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
  Object.assign(canvas.style, { width: `${place.outer}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.setTransform(place.ratio, 0, 0, place.ratio, 0, 0);
  pen.clearRect(0, 0, place.outer, height);
  pen.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
  pen.textBaseline = "middle";
  return pen;
}

/** Nothing is drawn beside the plot until the pen is restored. */
function clipPlot(pen, height) {
  pen.save();
  pen.beginPath();
  pen.rect(place.left, 0, place.width, height);
  pen.clip();
}

function drawGrid(pen, ticks, height) {
  pen.fillStyle = colour("--line");
  for (const tick of ticks) pen.fillRect(Math.round(xOf(tick)), 0, 1, height);
}

function drawAxis(ticks, step) {
  const pen = clean($("axis"), 24);
  pen.fillStyle = colour("--soft");
  for (const tick of ticks) {
    const label = tickLabel(tick, step, view.to);
    const { width } = pen.measureText(label);
    pen.fillText(label, clamp(xOf(tick) - width / 2, 0, place.outer - width), 12);
  }
}

/** The density's buckets in view, put together until each is `least` pixels wide; a short one at the end joins the one before. */
function binsOf(least) {
  const { width } = run.density;
  const each = Math.max(1, Math.ceil((least * (view.to - view.from)) / place.width / width));
  const bins = [];
  for (let first = Math.floor(view.from / width / each) * each; first < run.total.buckets; first += each) {
    if (first * width >= view.to && bins.length > 0) break;
    const last = Math.min(first + each, run.total.buckets);
    const [from, to] = [first * width, Math.min(last * width, run.end)];
    if (bins.length > 0 && to - from < (each * width) / 2) Object.assign(bins[bins.length - 1], { last, to });
    else if (to > from) bins.push({ first, last, from, to });
  }
  return bins;
}

/** The mean of a sum's growth over a bin. */
function pace(values, { first, last, from, to }) {
  let sum = 0;
  for (let bucket = first; bucket < last; bucket++) sum += values[bucket];
  return sum / (to - from);
}

/** Bins of the throughput: few ends make wide ones, or the line would mean nothing. */
function rateBins() {
  const ended = binsOf(place.width).reduce((sum, bin) => sum + pace(run.total.ended, bin) * (bin.to - bin.from), 0);
  return binsOf(clamp((place.width * 8) / Math.max(ended, 1), 4, place.width / 24));
}

/** Fills the area below a line of steps. */
function fillSteps(pen, bins, heightOf, style, strength) {
  if (bins.length === 0) return;
  pen.beginPath();
  pen.moveTo(xOf(bins[0].from), CHART);
  for (const bin of bins) {
    pen.lineTo(xOf(bin.from), CHART - heightOf(bin));
    pen.lineTo(xOf(bin.to), CHART - heightOf(bin));
  }
  pen.lineTo(xOf(bins[bins.length - 1].to), CHART);
  pen.fillStyle = pen.strokeStyle = style;
  pen.globalAlpha = strength;
  pen.fill();
  pen.globalAlpha = 1;
  if (strength < 1) pen.stroke();
}

/** A chart's ground, grid and numbers; the pen keeps to the plot until it is restored. */
function openChart(canvas, ticks, most) {
  const pen = clean(canvas, CHART);
  pen.fillStyle = colour("--lane");
  pen.fillRect(place.left, 0, place.width, CHART);
  drawGrid(pen, ticks, CHART);
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  pen.fillText(short.format(most), place.left - 6, CHART * (1 - FULL));
  pen.fillText("0", place.left - 6, CHART - 6);
  clipPlot(pen, CHART);
  return pen;
}

function drawBusy(ticks) {
  const most = run.limit.reduce((most, [, limit]) => Math.max(most, Math.min(limit, Math.ceil(run.lanes * 1.5))), run.lanes);
  const scale = (CHART * FULL) / most;
  const pen = openChart($("busy"), ticks, most);
  const bins = binsOf(1.5);
  const busy = (bin) => pace(run.total.busy, bin) * scale;
  fillSteps(pen, bins, (bin) => busy(bin) + pace(run.total.waits, bin) * scale, pen.createPattern(palette.hatch, "repeat"), 1);
  fillSteps(pen, bins, busy, colour("--lane"), 1);
  fillSteps(pen, bins, busy, colour("--good"), 0.5);
  drawLimit(pen, (limit) => CHART - Math.min(limit * scale, CHART));
  pen.restore();
}

function drawLimit(pen, heightOf) {
  pen.beginPath();
  run.limit.forEach(([since, limit], n) => {
    pen.lineTo(xOf(since), heightOf(limit));
    pen.lineTo(xOf(run.limit[n + 1]?.[0] ?? run.end), heightOf(limit));
  });
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 3]);
  pen.stroke();
}

function drawRate(ticks) {
  const bins = rateBins();
  const highest = bins.reduce((most, bin) => Math.max(most, pace(run.total.ended, bin) * SECOND), 0);
  const most = roundUp(highest || 1, [1, 1.5, 2, 3, 4, 5, 6, 8, 10]);
  const scale = (CHART * FULL * SECOND) / most;
  const pen = openChart($("rate"), ticks, most);
  fillSteps(pen, bins, (bin) => pace(run.total.ended, bin) * scale, colour("--good"), 0.5);
  fillSteps(pen, bins, (bin) => pace(run.total.failed, bin) * scale, colour("--failed"), 1);
  pen.restore();
}

// ---------------------------------------------------------------- Lanes

/** With more spans in view than this, pixels are mixed instead of bars drawn; with far more, the density is mixed. */
const MOST_BARS = 4000;
const MOST_MIXED = 300000;

function drawLanes(ticks) {
  const pen = clean($("bars"), place.height);
  const scroll = $("lanes").scrollTop;
  const shown = { scroll, first: Math.floor(scroll / place.pitch), slots: [], count: 0 };
  shown.last = Math.min(run.lanes, Math.ceil((scroll + place.height) / place.pitch));
  pen.fillStyle = colour("--lane");
  for (let lane = shown.first; lane < shown.last; lane++) {
    const [low, high] = slotsWithin(lane, view.from, view.to);
    shown.slots.push([low, high]);
    shown.count += high - low;
    pen.fillRect(place.left, yOf(lane, scroll), place.width, place.bar);
  }
  drawGrid(pen, ticks, place.height);
  nameLanes(pen, shown);
  clipPlot(pen, place.height);
  $("lanes").dataset.mode = fillLanes(pen, shown);
  pen.restore();
}

function nameLanes(pen, { first, last, scroll }) {
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * place.pitch >= 14) ?? 1000;
  pen.fillStyle = colour("--soft");
  pen.textAlign = "right";
  for (let lane = Math.ceil(first / every) * every; lane < last; lane += every) {
    pen.fillText(String(lane), place.left - 6, Math.max(yOf(lane, scroll) + place.bar / 2, 6));
  }
}

/** Picks the way to draw, by how much there is and by what is known; says which. */
function fillLanes(pen, shown) {
  const bucket = (run.density.width / (view.to - view.from)) * place.width;
  if (shown.count > MOST_MIXED || (!run.complete && bucket <= 2)) return paintLanes(pen, shown, "density", mixDensity);
  pen.globalAlpha = 0.35;
  if (!run.complete) paintLanes(pen, shown, "density", mixDensity);
  pen.globalAlpha = 1;
  return shown.count > MOST_BARS ? paintLanes(pen, shown, "mixed", mixSpans) : drawBars(pen, shown);
}

/** What goes on in each column of pixels of one lane: shares of the time, by outcome and waiting, and the worst end. */
function columnsOf(width) {
  return { width, shares: OUTCOMES.concat("wait").map(() => new Float32Array(width)), worst: new Uint8Array(width), used: new Set() };
}

function clear({ shares, worst, used }) {
  for (const kind of used) shares[kind].fill(0);
  worst.fill(0);
  used.clear();
}

/** Adds to a lane's columns what covers them from `from` to `to`, at `amount` a column. */
function cover({ shares, width, used }, kind, from, to, amount = 1) {
  const [share, last] = [shares[kind], Math.min(to, width)];
  used.add(kind);
  for (let column = Math.max(0, Math.floor(from)); column < last; column++) {
    share[column] += amount * (Math.min(to, column + 1) - Math.max(from, column));
  }
}

function mixSpans(columns, lane, [low, high]) {
  const { spans, rows } = run;
  const { width, worst } = columns;
  const scale = width / (view.to - view.from);
  for (let slot = low; slot < high; slot++) {
    const i = rows.order[slot];
    const from = (rows.starts[slot] - view.from) * scale;
    const to = from + spans.run[i] * scale;
    const end = spans.end[i];
    cover(columns, end, from, to);
    if (spans.permit[i] > 0) cover(columns, WAIT, from - spans.permit[i] * scale, from);
    if (end > 0 && OUTCOMES[end].weight > OUTCOMES[worst[Math.floor(to)] ?? 0].weight) worst[Math.floor(to)] = end;
  }
}

function mixDensity(columns, lane) {
  const { width: length, busy, waits, failed } = run.density;
  const scale = columns.width / (view.to - view.from);
  const last = Math.min(run.total.buckets, Math.ceil(view.to / length));
  for (let bucket = Math.floor(view.from / length); bucket < last; bucket++) {
    const known = Math.max(1, Math.min(length, run.end - bucket * length));
    const [from, to] = [(bucket * length - view.from) * scale, (bucket * length + known - view.from) * scale];
    const runs = (busy[lane]?.[bucket] ?? 0) / known;
    cover(columns, 0, from, to, runs);
    cover(columns, WAIT, from, to, Math.max(0, Math.min((waits[lane]?.[bucket] ?? 0) / known, 1 - runs)));
    if (failed[lane]?.[bucket] > 0) columns.worst.fill(1, Math.max(0, Math.floor(from)), Math.max(0, Math.ceil(to)));
  }
}

/** Paints two rows of a picture for each lane, how busy it was and what ended badly, and stretches them onto the lane. */
function paintLanes(pen, shown, mode, mix) {
  const width = Math.round(place.width * place.ratio);
  const lanes = shown.last - shown.first;
  const columns = columnsOf(width);
  const picture = new ImageData(width, 2 * lanes);
  for (let n = 0; n < lanes; n++) {
    clear(columns);
    mix(columns, shown.first + n, shown.slots[n]);
    paintShares(picture.data, columns, 2 * n * width * 4);
    paintEnds(picture.data, columns, (2 * n + 1) * width * 4);
  }
  stretch(pen, picture, shown, lanes);
  return mode;
}

function stretch(pen, picture, shown, lanes) {
  const { width, height } = picture;
  const sheet = new OffscreenCanvas(width, height);
  sheet.getContext("2d").putImageData(picture, 0, 0);
  pen.imageSmoothingEnabled = false;
  const foot = place.bar < 8 ? place.bar : Math.round(place.bar / 4);
  for (let n = 0; n < lanes; n++) {
    const y = yOf(shown.first + n, shown.scroll);
    pen.drawImage(sheet, 0, 2 * n, width, 1, place.left, y, place.width, place.bar);
    pen.drawImage(sheet, 0, 2 * n + 1, width, 1, place.left, y + place.bar - foot, place.width, foot);
  }
}

/** Plain loops over the kinds that occur: this runs for every visible pixel. */
function paintShares(pixels, { width, shares, used }, at) {
  const kinds = [...used].map((kind) => ({ share: shares[kind], parts: palette[OUTCOMES[kind]?.colour ?? "--wait"].parts }));
  for (let column = 0; column < width; column++, at += 4) {
    let [sum, red, green, blue] = [0, 0, 0, 0];
    for (const { share, parts } of kinds) {
      sum += share[column];
      red += share[column] * parts[0];
      green += share[column] * parts[1];
      blue += share[column] * parts[2];
    }
    if (sum === 0) continue;
    pixels[at] = red / sum;
    pixels[at + 1] = green / sum;
    pixels[at + 2] = blue / sum;
    pixels[at + 3] = 255 * sum;
  }
}

/** A bad end is two pixels wide at least, or it would not be seen. */
function paintEnds(pixels, { width, worst }, at) {
  for (let column = 0; column < width; column++) {
    if (worst[column] === 0) continue;
    const pixel = [...palette[OUTCOMES[worst[column]].colour].parts, 255];
    for (let n = column; n < Math.min(width, column + 2 * place.ratio); n++) pixels.set(pixel, at + 4 * n);
  }
}

/** One bar for each span, those that matter on top. */
function drawBars(pen, shown) {
  const byEnd = OUTCOMES.map(() => []);
  const waits = [];
  shown.slots.forEach(([low, high], n) => {
    const y = yOf(shown.first + n, shown.scroll);
    for (let slot = low; slot < high; slot++) {
      const i = run.rows.order[slot];
      const x = xOf(run.spans.started[i]);
      byEnd[run.spans.end[i]].push({ i, x, y, right: xOf(endOf(i)) });
      if (run.spans.permit[i] > 0) waits.push({ i, x: xOf(startOf(i)), y, right: x });
    }
  });
  fillBars(pen, waits, pen.createPattern(palette.hatch, "repeat"), 0);
  for (const end of LIGHT_FIRST) fillBars(pen, byEnd[end], colour(OUTCOMES[end].colour), end === 0 ? 1 : 2);
  for (const end of LIGHT_FIRST) nameBars(pen, byEnd[end], palette[OUTCOMES[end].colour].parts);
  return "bars";
}

/** A gap tells neighbours apart where there is room for it. */
function fillBars(pen, bars, style, least) {
  pen.fillStyle = style;
  pen.beginPath();
  for (const { x, y, right } of bars) {
    const left = Math.max(x, place.left - 4);
    const width = Math.min(right, place.outer + 4) - left;
    pen.rect(left, y, Math.max(width - (width > 10 ? 1 : width > 3 ? 0.5 : 0), least), place.bar);
  }
  pen.fill();
}

function nameBars(pen, bars, [red, green, blue]) {
  if (place.bar < 13) return;
  pen.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 120 ? "#10151b" : "#ffffff";
  pen.textAlign = "left";
  for (const { i, x, y, right } of bars) {
    const left = Math.max(x, place.left) + 5;
    const name = shorten(pen, run.spans.id[i], Math.min(right, place.outer) - left - 5);
    if (name) pen.fillText(name, left, y + place.bar / 2 + 0.5);
  }
}

/** The end of a text, since beginnings are often the same; nothing where there is no room for enough of it. */
function shorten(pen, text, room) {
  if (room < 16) return "";
  const line = text.slice(-Math.ceil(room / 2)).replace(/\s+/g, " ");
  if (line.length === text.length && pen.measureText(line).width <= room) return line;
  const letters = Array.from(line);
  const cut = (n) => `…${letters.slice(letters.length - n).join("")}`;
  let fit = Math.min(letters.length, Math.floor(room / 5));
  while (fit > 0 && pen.measureText(cut(fit)).width > room) fit--;
  return fit >= 10 ? cut(fit) : "";
}

// ---------------------------------------------------------------- What the page says of the view

function tellView() {
  const step = roundTime((view.to - view.from) / 200);
  const [from, to] = [view.from, view.to].map((t) => tickLabel(t, step, view.to));
  $("range").textContent = isWhole() ? `The whole run, ${time(run.elapsed)}` : `${from} to ${to} of ${time(run.elapsed)}`;
  const { left, width, pitch, bar } = place;
  Object.assign($("lanes").dataset, { from: view.from, to: view.to, left, width, pitch, bar });
  $("track").style.visibility = isWhole() ? "hidden" : "visible";
  $("thumb").style.left = `${(view.from / run.end) * 100}%`;
  $("thumb").style.width = `${((view.to - view.from) / run.end) * 100}%`;
  $("whole").disabled = $("out").disabled = isWhole();
  tellCharts();
}

/** The values of both charts at the pointer, or their mean. */
function tellCharts() {
  const at = pointer ? tOf(clamp(pointer.x, place.left, place.left + place.width)) : -1;
  const here = ({ from, to }) => from <= at && at <= to;
  const [bin, wide] = [binsOf(1.5).find(here), rateBins().find(here)];
  if (!bin || !wide) return tellMeans();
  const limit = run.limit.filter(([since]) => since <= at).pop()?.[1];
  const waits = run.stats.permit.max > 0 ? `, ${pace(run.total.waits, bin).toFixed(1)} items waiting for a limit` : "";
  const failed = pace(run.total.failed, wide) * SECOND;
  const when = tickLabel(at, roundTime((view.to - view.from) / 1000), view.to);
  $("busy-now").textContent = `${workers(pace(run.total.busy, bin))} of ${whole.format(limit ?? run.workers)}${waits} at ${when}`;
  $("rate-now").textContent = `${rate(pace(run.total.ended, wide) * SECOND)}${failed ? `, ${rate(failed)} not succeeded,` : ""} at ${when}`;
}

function tellMeans() {
  $("busy-now").textContent = `${meanBusy()} of ${whole.format(run.workers)} on average`;
  $("rate-now").textContent = `${rate(run.stats.throughput)} on average`;
}

const meanBusy = () => workers(run.stats.utilisation * run.workers);

/** The frame around the span that the pointer is on, or that was chosen. */
function placeMark() {
  const i = pointer?.span >= 0 ? pointer.span : chosen;
  const mark = $("mark");
  mark.hidden = i < 0 || !isVisible(i);
  if (mark.hidden) return;
  const from = clamp(xOf(startOf(i)), place.left, place.outer - 4);
  const to = clamp(xOf(endOf(i)), from + 2, place.outer - 2);
  const [left, top, width, height] = [from - 2, run.spans.worker[i] * place.pitch - 1, to - from + 4, place.bar + 2];
  Object.assign(mark.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
}

// ---------------------------------------------------------------- One span

/** The span at a place in the lanes, and how many share it; of several it is the worst, then the longest. */
function spanAt(x, y) {
  const lane = Math.floor(y / place.pitch);
  if (lane < 0 || lane >= run.lanes || x < place.left) return { span: -1, count: 0 };
  const [low, high] = slotsWithin(lane, tOf(x - 2), tOf(x + 2));
  const near = Array.from(run.rows.order.subarray(low, Math.min(high, low + 2000)));
  const wide = near.find((i) => xOf(startOf(i)) <= x && x <= xOf(endOf(i)) && xOf(endOf(i)) - xOf(startOf(i)) >= 4);
  if (wide !== undefined) return { span: wide, count: 1 };
  const weight = (i) => OUTCOMES[run.spans.end[i]].weight;
  near.sort((a, b) => weight(b) - weight(a) || run.spans.run[b] - run.spans.run[a]);
  return { span: near[0] ?? -1, count: high - low };
}

/** With the limit for which it waited longest. */
function permitWait(i) {
  const wait = time(run.spans.permit[i]);
  const limit = run.limiters?.[(run.spans.waited?.[i] ?? 0) - 1];
  return limit === undefined ? wait : `${wait}, longest for ${limit}`;
}

function factsOf(i) {
  const { spans, notes } = run;
  const step = roundTime(Math.max(spans.run[i], run.end / 10000) / 100);
  const facts = [
    ["Outcome", OUTCOMES[spans.end[i]].name],
    ["Item", `${whole.format(spans.index[i])}, attempt ${whole.format(spans.attempt[i])}, worker ${spans.worker[i]}`],
    ["Queue wait", time(spans.queue[i])],
    ["Permit wait", permitWait(i)],
    ["Run", time(spans.run[i])],
    ["When", `${tickLabel(spans.started[i], step, endOf(i))} to ${tickLabel(endOf(i), step, endOf(i))}`],
  ];
  return notes[i] === undefined ? facts : [...facts, ["Note", notes[i]]];
}

/** An element with text or elements in it: whatever comes from the data is text. */
function make(name, content = [], more = {}) {
  const element = Object.assign(document.createElement(name), more);
  element.append(...[content].flat());
  return element;
}

function swatch(kind) {
  const box = make("span", [], { className: `swatch ${kind.startsWith("--") ? "" : kind}`, ariaHidden: "true" });
  if (kind.startsWith("--")) box.style.background = `var(${kind})`;
  return box;
}

/** An id as it is, kept to itself whichever way it is written. */
function idElement(i) {
  const id = run.spans.id[i];
  return id.trim() === "" ? make("span", "blank", { className: "none" }) : make("bdi", id);
}

function fillTip(i, count) {
  const list = make("dl");
  for (const [name, value] of factsOf(i)) {
    const mark = name === "Outcome" ? [swatch(OUTCOMES[run.spans.end[i]].colour)] : [];
    list.append(make("dt", name), make("dd", [...mark, value], { className: name === "Note" ? "note" : "" }));
  }
  const more = make("div", `One of ${whole.format(count)} here; zoom in to tell them apart.`, { className: "more", hidden: count < 2 });
  $("tip").replaceChildren(make("div", idElement(i), { className: "id" }), list, more);
}

/** Puts the tip beside a point, where there is room. */
function placeTip(x, y) {
  const tip = $("tip");
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 16 + width <= innerWidth - 8 ? x + 16 : x - 16 - width;
  const top = y + 18 + height <= innerHeight - 8 ? y + 18 : y - 14 - height;
  const inside = [clamp(left, 8, Math.max(8, innerWidth - 8 - width)), clamp(top, 8, Math.max(8, innerHeight - 8 - height))];
  tip.style.transform = `translate(${inside.map((at) => `${Math.round(at)}px`).join(", ")})`;
}

/** The tip beside the chosen span; none where that is out of sight. */
function tipOfChosen() {
  placeMark();
  const { left, right, top, bottom } = $("mark").getBoundingClientRect();
  $("tip").hidden = chosen < 0 || $("mark").hidden || bottom < 0 || top > innerHeight;
  if ($("tip").hidden) return;
  fillTip(chosen, 1);
  placeTip(Math.min((left + right) / 2, left + 60) - 16, bottom - 12);
}

function choose(i) {
  chosen = i;
  for (const row of document.querySelectorAll("tr[data-span]")) row.ariaCurrent = Number(row.dataset.span) === i ? "true" : null;
  tipOfChosen();
}

/** Chooses a span and brings it into sight, with `length` around it if it is not; says it to those who do not see it. */
function goTo(i, length) {
  if (length !== undefined || !isVisible(i)) {
    const around = length ?? view.to - view.from;
    setView(startOf(i) - 0.4 * around, startOf(i) + 0.6 * around);
  }
  const [lanes, top] = [$("lanes"), run.spans.worker[i] * place.pitch];
  if (top < lanes.scrollTop || top + place.pitch > lanes.scrollTop + place.height) lanes.scrollTop = top - place.height / 2;
  draw();
  choose(i);
  $("said").textContent = [run.spans.id[i].slice(0, 200), ...factsOf(i).map((fact) => fact.join(" "))].join(". ");
}

// ---------------------------------------------------------------- Pointer, wheel, keys

const fingers = new Map();
let grip = null;

const xIn = (event) => event.clientX - $("time").getBoundingClientRect().left;
const overLanes = (event) => $("lanes").contains(event.target);
const spanUnder = (event) => spanAt(xIn(event), event.clientY - $("tall").getBoundingClientRect().top);
const middle = () => [...fingers.values()].reduce((sum, x) => sum + x, 0) / fingers.size;
const gap = () => Math.max(10, Math.max(...fingers.values()) - Math.min(...fingers.values()));
const range = (x) => [grip.x, clamp(x, place.left, place.left + place.width)].sort((a, b) => a - b);

function press(event) {
  const x = xIn(event);
  if (event.button !== 0 || x < place.left || x > place.outer) return;
  fingers.set(event.pointerId, x);
  const kind = fingers.size > 1 ? "pinch" : event.pointerType === "touch" || event.shiftKey ? "pan" : "select";
  grip = { kind, x, view, moved: kind === "pinch", gap: gap(), at: tOf(middle()), lanes: overLanes(event) };
}

const DRAGS = {
  pan: (x) => move(((grip.x - x) / place.width) * (grip.view.to - grip.view.from), grip.view),
  select: (x) => {
    const [from, to] = range(x);
    $("chosen").hidden = false;
    Object.assign($("chosen").style, { left: `${from}px`, width: `${to - from}px` });
  },
  pinch: () => {
    const length = ((grip.view.to - grip.view.from) * grip.gap) / gap();
    const from = grip.at - ((middle() - place.left) / place.width) * length;
    setView(from, from + length);
  },
};

function drag(event) {
  const x = xIn(event);
  if (fingers.has(event.pointerId)) fingers.set(event.pointerId, x);
  if (!grip) return hover(event, x);
  if (!grip.moved && Math.abs(x - grip.x) < 4) return;
  if (!grip.moved) $("time").setPointerCapture(event.pointerId);
  grip.moved = true;
  leave();
  DRAGS[grip.kind](x);
}

function release(event) {
  fingers.delete(event.pointerId);
  $("chosen").hidden = true;
  if (grip && event.type === "pointerup") {
    const [from, to] = range(xIn(event));
    if (!grip.moved && grip.lanes) choose(spanUnder(event).span);
    else if (grip.moved && grip.kind === "select" && to - from >= 4) setView(tOf(from), tOf(to));
  }
  grip = null;
}

function hover(event, x) {
  const { span, count } = overLanes(event) ? spanUnder(event) : { span: -1, count: 0 };
  pointer = { x, span };
  $("cursor").hidden = x < place.left || x > place.left + place.width;
  $("cursor").style.transform = `translateX(${Math.round(x)}px)`;
  placeMark();
  tellCharts();
  if (span < 0) return tipOfChosen();
  fillTip(span, count);
  placeTip(event.clientX, event.clientY);
}

function leave() {
  pointer = null;
  $("cursor").hidden = true;
  tellCharts();
  tipOfChosen();
}

/** The wheel zooms around the pointer, and moves when it goes sideways; where it would do nothing, the page scrolls. */
function wheel(event) {
  const pixels = [1, 20, 300][event.deltaMode];
  const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
  if (isWhole() && (sideways || event.deltaY >= 0)) return;
  event.preventDefault();
  if (sideways) move(((event.deltaX || event.deltaY) * pixels * (view.to - view.from)) / place.width);
  else zoom(Math.exp(clamp(event.deltaY * pixels, -400, 400) * 0.002), tOf(xIn(event)));
  hover(event, xIn(event));
}

const KEYS = {
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: showWhole,
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

/** Escape lets go of what is being dragged, then of the chosen span, then of the zoom. */
function escape(event) {
  if (event.key !== "Escape") return;
  const dragged = grip?.moved;
  grip = null;
  $("chosen").hidden = true;
  if (dragged) return;
  if (chosen >= 0) choose(-1);
  else showWhole();
}

/** The next span of the lane; the first one in sight, if none is chosen. */
function stepSpan(by) {
  if (chosen < 0) return stepLane(1);
  const { first, order, starts } = run.rows;
  const lane = run.spans.worker[chosen];
  let slot = search(starts, run.spans.started[chosen], first[lane], first[lane + 1]);
  while (order[slot] !== chosen) slot++;
  if (slot + by >= first[lane] && slot + by < first[lane + 1]) goTo(order[slot + by]);
}

/** The span at about the same time in the next lane that has one in sight. */
function stepLane(by) {
  const at = chosen < 0 ? view.from : Math.max(run.spans.started[chosen], view.from);
  let lane = chosen >= 0 ? run.spans.worker[chosen] : by > 0 ? -1 : run.lanes;
  for (lane += by; lane >= 0 && lane < run.lanes; lane += by) {
    const [low, high] = slotsWithin(lane, view.from, view.to);
    const [from] = slotsWithin(lane, at, view.to);
    if (low < high) return goTo(run.rows.order[Math.min(from, high - 1)]);
  }
}

function dragTrack(event) {
  if (event.buttons !== 1) return;
  $("track").setPointerCapture(event.pointerId);
  const { left, width } = $("track").getBoundingClientRect();
  move(((event.clientX - left) / width) * run.end - (view.from + view.to) / 2);
}

// ---------------------------------------------------------------- Facts and tables

function fillFacts() {
  const { stats } = run;
  const facts = [
    ["Items", whole.format(run.items)], ["Attempts", whole.format(run.attempts)], ["Elapsed", time(run.elapsed)],
    ["Items a second", rate(stats.throughput)], ["Utilisation", `${Math.round(stats.utilisation * 100)}%`],
    ...[["Succeeded", "succeeded", 0], ["Failed", "failed", 1], ["Panicked", "panicked", 2], ["Refused", "refused", 3], ["Retries", "retries", AGAIN]]
      .map(([name, key, end]) => [name, whole.format(stats[key]), stats[key] > 0 ? swatch(OUTCOMES[end].colour) : ""]),
  ];
  $("facts").replaceChildren(...facts.map(([name, value, mark = ""]) => make("div", [make("dt", [mark, name]), make("dd", value)])));
  $("gist").textContent = `${plural(run.items, "item")} in ${time(run.elapsed)} on ${plural(run.workers, "worker")}`;
  $("sample").hidden = run.complete;
  $("sample").textContent = `The lanes hold ${whole.format(run.spans.count)} of ${whole.format(run.attempts)} attempts: a sample, with the slowest `
    + "and those that did not succeed. Where a lane is faint, it was busy with others. Both charts count every attempt.";
  $("nothing").hidden = run.attempts > 0;
}

function fillLegend() {
  const { stats } = run;
  const seen = [true, stats.failed, stats.panicked, stats.refused, stats.retries];
  const entries = OUTCOMES.filter((_, end) => seen[end]).map((outcome) => [outcome.colour, outcome.name]);
  if (stats.permit.max > 0) entries.push(["stripes", "Waiting for a permit"]);
  entries.push(["dashes", "Worker limit"]);
  $("legend").replaceChildren(...entries.map(([mark, name]) => make("li", [swatch(mark), name])));
}

function fillStats() {
  const { run: runs, permit, queue } = run.stats;
  const head = ["Time", "Median", "90%", "99%", "Longest"].map((name) => make("th", name, { scope: "col" }));
  const meaning = (text, name = "td") => make(name, text, { className: "text less", scope: "col" });
  const row = (name, { p50, p90, p99, max }, text) =>
    make("tr", [make("th", name, { scope: "row" }), ...[p50, p90, p99, max].map((ns) => make("td", time(ns))), meaning(text)]);
  $("stats").replaceChildren(make("thead", make("tr", [...head, meaning("What it is", "th")])), make("tbody", [
    row("Run", runs, "From the start of an attempt to its end"),
    row("Permit wait", permit, "At a limit, or in a pause after that, just before the start; it holds no worker"),
    row("Queue wait", queue, "Before that, for a worker to be free"),
  ]));
}

/** The columns of a list of spans; those of the class `less` have no room on a narrow screen. */
const COLUMNS = [
  { name: "Id", className: "text", of: (i) => make("button", idElement(i), { type: "button" }) },
  { name: "Outcome", className: "text", of: (i) => [swatch(OUTCOMES[run.spans.end[i]].colour), OUTCOMES[run.spans.end[i]].name] },
  { name: "Run", className: "", of: (i) => time(run.spans.run[i]) },
  { name: "Started", className: "less", of: (i) => time(run.spans.started[i]) },
  { name: "Permit wait", className: "less", of: (i) => time(run.spans.permit[i]) },
  { name: "Queue wait", className: "less", of: (i) => time(run.spans.queue[i]) },
  { name: "Item", className: "less", of: (i) => whole.format(run.spans.index[i]) },
  { name: "Attempt", className: "less", of: (i) => whole.format(run.spans.attempt[i]) },
  { name: "Worker", className: "less", of: (i) => String(run.spans.worker[i]) },
];
const NOTE = { name: "Note", className: "text note less", of: (i) => run.notes[i] ?? "" };

function fillList(table, positions, columns) {
  const head = make("tr", columns.map(({ name, className }) => make("th", name, { scope: "col", className })));
  const rows = positions.map((i) => make("tr", columns.map(({ of, className }) => make("td", of(i), { className }))));
  rows.forEach((row, n) => (row.dataset.span = positions[n]));
  table.replaceChildren(make("thead", head), make("tbody", rows));
  table.addEventListener("click", (event) => showRow(event.target.closest("tr[data-span]")));
}

function showRow(row) {
  if (!row) return;
  const i = Number(row.dataset.span);
  $("time").scrollIntoView({ block: "center" });
  goTo(i, 5 * Math.max(endOf(i) - startOf(i), run.end / 5000));
}

function fillLists() {
  const { failed, slowest, notes, stats } = run;
  const all = stats.failed + stats.panicked + stats.refused;
  $("failed-part").hidden = failed.length === 0;
  $("slowest-part").hidden = slowest.length === 0;
  $("failed-note").textContent = failed.length < all ? `${whole.format(failed.length)} of ${plural(all, "attempt")}.` : `${plural(all, "attempt")}.`;
  const noted = failed.some((i) => notes[i] !== undefined);
  fillList($("failed"), failed, noted ? [...COLUMNS.filter(({ name }) => !name.endsWith("wait")), NOTE] : COLUMNS);
  fillList($("slowest"), slowest, COLUMNS);
}

function describe() {
  const { stats, spans, lanes, elapsed } = run;
  $("busy").ariaLabel = `Busy workers over time: on average ${meanBusy()} of ${run.workers}.`;
  $("rate").ariaLabel = `Items decided per second over time: ${rate(stats.throughput)} in all.`;
  $("bars").ariaLabel = `${plural(spans.count, "attempt")} in ${plural(lanes, "lane")} over ${time(elapsed)}. The tables below name the slowest and the failed.`;
}

// ---------------------------------------------------------------- Theme and start

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

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

function refit() {
  measure();
  draw();
  tipOfChosen();
}

function makeTaller() {
  tall = !tall;
  $("taller").ariaPressed = String(tall);
  refit();
}

function listen() {
  const area = $("time");
  const drags = { pointerdown: press, pointermove: drag, pointerup: release, pointercancel: release };
  for (const [type, act] of Object.entries(drags)) area.addEventListener(type, act);
  area.addEventListener("pointerleave", () => grip ?? leave());
  area.addEventListener("wheel", wheel, { passive: false });
  area.addEventListener("dblclick", showWhole);
  area.addEventListener("keydown", key);
  for (const type of ["pointerdown", "pointermove"]) $("track").addEventListener(type, dragTrack);
  const clicks = { in: () => zoom(0.5), out: () => zoom(2), whole: showWhole, taller: makeTaller, theme: () => setTheme(isDark() ? "light" : "dark") };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("lanes").addEventListener("scroll", redraw);
  document.addEventListener("keydown", escape);
  listenToWindow();
}

function listenToWindow() {
  let before;
  // Not at once: measuring changes the height of what is observed.
  new ResizeObserver(() => requestAnimationFrame(refit)).observe($("time"));
  addEventListener("scroll", leave, { passive: true });
  system.addEventListener("change", dress);
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    setTheme("light");
  });
  addEventListener("afterprint", () => setTheme(before));
}

function start() {
  const data = JSON.parse($("data").textContent);
  if (data.version !== 1) throw new Error(`this page reads version 1 of the data, not ${data.version}`);
  run = readRun(data);
  view = { from: 0, to: run.end };
  for (const fill of [fillFacts, fillLegend, fillStats, fillLists, describe, measure, dress, listen]) fill();
  document.documentElement.dataset.ready = "1";
}

start();
