// What the page promises, each promise a test by its name. Paths on the command line are pages of real runs: they are held to
// what holds for every run. `--shots FOLDER` leaves pictures instead.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileOf, frame, launch, open, pixel, pointAt, shown, source, themeColour, visit } from "./browser.mjs";
import { apart, contrast, VISIONS } from "./colours.mjs";
import { AGAIN, CASES, dataOf, FAILED, HOSTILE, PANICKED, REFUSED, SUCCEEDED } from "./made_up.mjs";

const MILLI = 1e6;
const COLOURS = ["--good", "--failed", "--panicked", "--refused", "--again"];
const PHONE = { size: [390, 844], touch: true };

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** A test of one page: a made-up run by its name, or the one below. */
const claim = (name, run, act, options) =>
  test(name, () => {
    const { file, data } = run === "known" ? fileOf("known", known()) : fileOf(run);
    return visit(browser, file, options ?? {}, (page) => act(page, data));
  });

const span = (index, worker, started, run, more = {}) => ({ index, attempt: 1, worker, started: started * MILLI, run: run * MILLI, permit: 0, queue: 0, end: SUCCEEDED, id: `id ${index}`, ...more });

/** Two workers, 100 ms, one span of each outcome and one wait, all of them wide. */
function known() {
  const spans = [
    span(0, 0, 0, 20),
    span(1, 0, 30, 20, { end: FAILED, queue: 1500000, id: "the failed one" }),
    span(2, 0, 60, 20, { end: PANICKED }),
    span(3, 1, 0, 15, { end: REFUSED }),
    span(4, 1, 20, 15, { end: AGAIN }),
    span(4, 1, 60, 40, { attempt: 2, permit: 20 * MILLI }),
  ];
  return dataOf(spans, { workers: 2, notes: { "the failed one": "no such host", "id 2": "boom", "id 3": "quota" }, limits: [[0, 1], [50 * MILLI, 2]], buckets: 100 });
}

const text = (page, selector) => page.locator(selector).innerText();
const tip = async (page) => ((await page.locator("#tip").isVisible()) ? text(page, "#tip") : "");
const hover = async (page, ns, lane) => page.mouse.move(...(await pointAt(page, ns, lane)));
const length = ({ from, to }) => to - from;
const range = async (page) => (await frame(page), shown(page));
const near = (a, b, by, what) => assert.ok(Math.abs(a - b) <= by, `${what}: ${a} is not within ${by} of ${b}`);

// ---------------------------------------------------------------- The files

test("each_placeholder_stands_in_the_markup_once_and_nowhere_else", () => {
  for (const name of ["/*STYLE*/", "/*SCRIPT*/", "/*DATA*/"]) {
    assert.equal(source("html").split(name).length, 2, name);
    assert.ok(!source("css").includes(name) && !source("js").includes(name), name);
  }
  assert.ok(!/<\/(script|style)/i.test(source("css") + source("js")));
});

test("no_text_becomes_markup", () => {
  assert.equal(source("js").match(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\b|setHTML/g), null);
});

// ---------------------------------------------------------------- Every run

/** Does what people do, everywhere, and leaves the judgement to the silence. */
async function useIt(page) {
  const { x, y, left, width, pitch } = await shown(page);
  for (const part of [0.02, 0.3, 0.98]) await page.mouse.move(x + left + part * width, y + pitch / 2);
  for (const delta of [-400, -400, -400, 300]) await page.mouse.wheel(0, delta);
  await frame(page);
  await page.mouse.click(x + left + 0.4 * width, y + pitch / 2);
  await page.locator("#time").focus();
  for (const key of ["+", "ArrowLeft", "ArrowRight", "ArrowDown", "n", "p", "ArrowUp", "-", "0", "Escape"]) await page.keyboard.press(key);
  for (const row of await page.locator("tbody tr[data-span]").all().then((rows) => rows.slice(0, 2))) await row.click();
  await page.locator("#theme").click();
  await page.setViewportSize({ width: 700, height: 600 });
  await frame(page);
}

for (const name of Object.keys(CASES)) {
  claim(`${name}: nothing_is_said_on_the_console_and_nothing_is_fetched`, name, useIt);
  claim(`${name}: a_phone_needs_no_sideways_scrolling`, name, async (page) => {
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
  }, { ...PHONE, scheme: "dark" });
}

// ---------------------------------------------------------------- Lanes and charts

claim("spans_are_drawn_in_their_lane_at_their_time_in_the_colour_of_their_outcome", "known", async (page, { spans }) => {
  const { left, width, pitch, bar } = await shown(page);
  let started = 0;
  for (const [i, end] of spans.end.entries()) {
    started += spans.started[i];
    const at = (ns) => pixel(page, "bars", left + (ns / (100 * MILLI)) * width, spans.worker[i] * pitch + bar - 3);
    assert.equal(await at(started + 0.9 * spans.run[i]), await themeColour(page, COLOURS[end]), `span ${i}`);
    if (i < 5) assert.equal(await at(started + spans.run[i] + 2 * MILLI), await themeColour(page, "--lane"), `after span ${i}`);
  }
});

claim("a_wait_for_a_permit_is_hatched_before_its_span", "known", async (page) => {
  const { left, width, pitch } = await shown(page);
  const seen = new Set();
  for (let n = 0; n < 24; n++) seen.add(await pixel(page, "bars", left + 0.5 * width + n, pitch + 8));
  assert.ok(seen.size > 1, [...seen].join());
  assert.ok(!seen.has(await themeColour(page, "--good")));
});

claim("busy_workers_and_their_limit_are_drawn_over_time", "known", async (page) => {
  const { left, width } = await shown(page);
  const column = async (ms) => {
    const found = [];
    for (let y = 0; y < 80; y++) found.push(await pixel(page, "busy", left + (ms / 100) * width + 0.5, y));
    return found;
  };
  const lane = await themeColour(page, "--lane");
  const filled = (colours) => colours.filter((colour) => colour !== lane).length;
  near(filled(await column(93)) / filled(await column(13)), 0.5, 0.1, "one busy, beside two");
  const ink = await themeColour(page, "--ink");
  const heights = new Map();
  for (const from of [10, 80]) for (let n = 0; n < 8; n++) (await column(from + n / 10)).forEach((colour, y) => colour === ink && heights.set(from, y));
  near(80 - heights.get(10), 35, 3, "limit of one");
  near(80 - heights.get(80), 70, 3, "limit of two");
});

claim("throughput_shows_what_failed_in_the_colour_of_failures", "known", async (page) => {
  const { left, width } = await shown(page);
  const seen = new Set();
  for (let n = 0; n < width; n += 4) seen.add(await pixel(page, "rate", left + n, 78));
  assert.ok(seen.has(await themeColour(page, "--failed")));
});

claim("lanes_too_full_for_bars_are_mixed_by_how_busy_they_were", "sampled", async (page) => {
  const { left, width, mode } = await shown(page);
  assert.equal(mode, "density");
  assert.equal(await pixel(page, "bars", left + width / 2, 4), await themeColour(page, "--good"));
});

claim("a_bad_end_is_seen_where_thousands_of_spans_share_the_lanes", "wide", async (page, { spans, failed, elapsed }) => {
  const { left, width, pitch, mode } = await shown(page);
  assert.equal(mode, "mixed");
  const started = spans.started.slice(0, failed[2] + 1).reduce((sum, step) => sum + step);
  const column = (ns) => Math.floor((ns / elapsed) * width) + 0.5;
  const y = spans.worker[failed[2]] * pitch + 1;
  assert.equal(await pixel(page, "bars", left + column(started + spans.run[failed[2]]), y), await themeColour(page, COLOURS[spans.end[failed[2]]]));
  assert.equal(await pixel(page, "bars", left + column(started) - 2, y), await themeColour(page, "--good"), "before it");
});

claim("charts_tell_their_values_at_the_pointer_and_their_means_without_it", "known", async (page) => {
  const said = async () => [await text(page, "#busy-now"), await text(page, "#rate-now")];
  const means = ["1.3 of 2 on average", "50.0 on average"];
  assert.deepEqual(await said(), means);
  await hover(page, 45.2 * MILLI, 0);
  const [busy, ended] = await said();
  assert.match(busy, /^1\.0 of 1, 1\.0 items waiting for a limit at 45\.\d ms$/);
  assert.match(ended, /^[\d.]+(, [\d.]+ not succeeded,)? at 45\.\d ms$/);
  await page.mouse.move(5, 5);
  assert.deepEqual(await said(), means);
});

claim("three_hundred_lanes_fit_and_grow_on_demand", "wide", async (page) => {
  const rows = () => page.evaluate(() => ({ shown: document.getElementById("lanes").clientHeight, all: document.getElementById("lanes").scrollHeight }));
  assert.deepEqual(await rows(), { shown: 600, all: 600 });
  await page.locator("#taller").click();
  assert.deepEqual(await rows(), { shown: 600, all: 4800 });
  await page.locator("#lanes").evaluate((lanes) => (lanes.scrollTop = 1e6));
  await frame(page);
  await hover(page, 0.5e9, 299);
  assert.match(await tip(page), /worker 299/);
});

// ---------------------------------------------------------------- One span

const FAILED_TIP = ["the failed one", "Outcome", "Failed", "Item", "1, attempt 1, worker 0", "Queue wait", "1.50 ms", "Permit wait", "0", "Run", "20.0 ms", "When", "30.0 ms to 50.0 ms", "Note", "no such host"];

claim("the_pointer_on_a_span_tells_everything_about_it", "known", async (page) => {
  await hover(page, 40 * MILLI, 0);
  assert.deepEqual((await tip(page)).split(/\n+/), FAILED_TIP);
  await hover(page, 70 * MILLI, 0);
  assert.deepEqual((await tip(page)).split(/\n+/).slice(0, 3), ["id 2", "Outcome", "Panicked"]);
  await hover(page, 50 * MILLI, 1);
  assert.match(await tip(page), /Permit wait\n+20\.0 ms/, "the wait belongs to its span");
  await hover(page, 25 * MILLI, 0);
  assert.equal(await tip(page), "", "between spans");
});

claim("a_tap_on_a_span_tells_the_same_and_a_tap_beside_it_ends_that", "known", async (page) => {
  await page.touchscreen.tap(...(await pointAt(page, 40 * MILLI, 0)));
  assert.deepEqual((await tip(page)).split(/\n+/), FAILED_TIP);
  await page.touchscreen.tap(...(await pointAt(page, 25 * MILLI, 0)));
  assert.equal(await tip(page), "");
}, PHONE);

claim("keys_go_from_span_to_span_and_say_it", "known", async (page) => {
  await page.locator("#time").focus();
  for (const [key, id] of [["n", "id 0"], ["n", "the failed one"], ["n", "id 2"], ["n", "id 2"], ["p", "the failed one"], ["ArrowDown", "id 4"], ["ArrowUp", "id 0"]]) {
    await page.keyboard.press(key);
    assert.equal((await tip(page)).split("\n")[0], id, key);
    assert.ok((await page.locator("#said").textContent()).startsWith(`${id}. Outcome `), key);
  }
});

claim("of_many_spans_on_a_pixel_the_worst_is_told_and_how_many_there_are", "million", async (page, { spans, failed }) => {
  const started = spans.started.slice(0, failed[3] + 1).reduce((sum, step) => sum + step);
  await hover(page, started, spans.worker[failed[3]]);
  const said = await tip(page);
  assert.match(said, /Outcome\n+(Failed|Panicked|Refused by limiter)\n/);
  assert.match(said, /One of \d+ here; zoom in to tell them apart\.$/);
});

// ---------------------------------------------------------------- Zoom

claim("the_wheel_zooms_around_the_pointer", "known", async (page) => {
  const whole = await shown(page);
  await hover(page, 75 * MILLI, 1);
  const [x] = await pointAt(page, 75 * MILLI, 1);
  await page.mouse.wheel(0, -300);
  const zoomed = await range(page);
  assert.ok(length(zoomed) < 0.7 * length(whole));
  near(zoomed.from + ((x - zoomed.x - zoomed.left) / zoomed.width) * length(zoomed), 75 * MILLI, MILLI, "under the pointer");
  assert.match(await text(page, "#range"), /^\d+\.\d+ ms to \d+\.\d+ ms of 100 ms$/);
  for (let n = 0; n < 4; n++) await page.mouse.wheel(0, 300);
  assert.equal(length(await range(page)), length(whole));
  assert.equal(await text(page, "#range"), "The whole run, 100 ms");
});

async function dragFrom(page, from, to) {
  await hover(page, from, 0);
  const target = await pointAt(page, to, 0);
  await page.mouse.down();
  await page.mouse.move(...target, { steps: 4 });
  await page.mouse.up();
  return range(page);
}

claim("dragging_shows_the_range_and_with_shift_moves_it", "known", async (page) => {
  const zoomed = await dragFrom(page, 20 * MILLI, 60 * MILLI);
  near(zoomed.from, 20 * MILLI, MILLI, "from");
  near(zoomed.to, 60 * MILLI, MILLI, "to");
  await page.keyboard.down("Shift");
  const moved = await dragFrom(page, 40 * MILLI, 30 * MILLI);
  near(moved.from, 30 * MILLI, MILLI, "moved from");
  near(moved.to, 70 * MILLI, MILLI, "moved to");
});

claim("double_click_escape_zero_and_the_button_show_the_whole_run", "known", async (page) => {
  const whole = length(await shown(page));
  const resets = [
    async () => page.mouse.dblclick(...(await pointAt(page, 40 * MILLI, 0))),
    () => page.keyboard.press("Escape"),
    async () => (await page.locator("#time").focus(), page.keyboard.press("0")),
    () => page.locator("#whole").click(),
  ];
  for (const [n, reset] of resets.entries()) {
    assert.ok(length(await dragFrom(page, 30 * MILLI, 50 * MILLI)) < whole / 2, `zoomed for ${n}`);
    await reset();
    assert.equal(length(await range(page)), whole, `reset ${n}`);
    assert.equal(await tip(page), "", `reset ${n}`);
  }
});

claim("the_bar_below_shows_what_is_in_view_and_moves_it", "known", async (page) => {
  assert.ok(!(await page.locator("#track").isVisible()), "nothing to move");
  await dragFrom(page, 20 * MILLI, 60 * MILLI);
  const [track, thumb] = [await page.locator("#track").boundingBox(), await page.locator("#thumb").boundingBox()];
  near((thumb.x - track.x) / track.width, 0.2, 0.02, "left end");
  near(thumb.width / track.width, 0.4, 0.02, "length");
  await page.mouse.click(track.x + 0.7 * track.width, track.y + 4);
  near((await range(page)).from, 50 * MILLI, MILLI, "moved");
});

claim("keys_zoom_and_move", "known", async (page) => {
  await page.locator("#time").focus();
  const lengths = [length(await shown(page))];
  for (const key of ["+", "+", "-"]) {
    await page.keyboard.press(key);
    lengths.push(length(await range(page)));
  }
  assert.deepEqual(lengths.map((ns) => ns / MILLI), [100, 50, 25, 50]);
  const { from } = await shown(page);
  await page.keyboard.press("ArrowRight");
  near((await range(page)).from - from, 10 * MILLI, 1, "to the right");
  await page.keyboard.press("ArrowLeft");
  near((await range(page)).from - from, 0, 1, "and back");
});

claim("a_finger_drags_and_two_fingers_pinch", "known", async (page) => {
  const [x, y] = await pointAt(page, 50 * MILLI, 0);
  const touch = (type, ...points) => page.evaluate(([type, points]) => points.forEach(([id, x, y]) => {
    const event = { pointerId: id, pointerType: "touch", clientX: x, clientY: y, button: 0, buttons: 1, bubbles: true, cancelable: true };
    document.getElementById("bars").dispatchEvent(new PointerEvent(type, event));
  }), [type, points]);
  await page.evaluate(() => (Element.prototype.setPointerCapture = () => {}));
  await touch("pointerdown", [1, x - 40, y], [2, x + 40, y]);
  await touch("pointermove", [1, x - 80, y], [2, x + 80, y]);
  await touch("pointerup", [1, x - 80, y], [2, x + 80, y]);
  const pinched = await range(page);
  near(length(pinched), 50 * MILLI, 2 * MILLI, "pinched to half");
  await touch("pointerdown", [3, x, y]);
  await touch("pointermove", [3, x + 30, y]);
  await touch("pointerup", [3, x + 30, y]);
  assert.ok((await range(page)).from < pinched.from - MILLI);
}, PHONE);

// ---------------------------------------------------------------- Facts and tables

claim("facts_and_statistics_are_those_of_the_data", "known", async (page) => {
  const facts = (await page.locator("#facts > div").allInnerTexts()).map((fact) => fact.split(/\n+/).reverse().join(" "));
  assert.deepEqual(facts.map((fact) => fact.split(" ").sort().join(" ")), ["5 Items", "6 Attempts", "100 Elapsed ms", "50.0 Items a second", "65% Utilisation",
    "2 Succeeded", "1 Failed", "1 Panicked", "1 Refused", "1 Retries"].map((fact) => fact.split(" ").sort().join(" ")));
  assert.equal(await text(page, "#gist"), "5 items in 100 ms on 2 workers");
  const rows = await page.locator("#stats tr").evaluateAll((rows) => rows.map((row) => [...row.cells].slice(0, 5).map((cell) => cell.textContent).join("|")));
  assert.deepEqual(rows, ["Time|Median|90%|99%|Longest", "Run|20.0 ms|40.0 ms|40.0 ms|40.0 ms", "Permit wait|0|20.0 ms|20.0 ms|20.0 ms", "Queue wait|0|1.50 ms|1.50 ms|1.50 ms"]);
  assert.ok(!(await page.locator("#sample").isVisible()));
});

claim("a_sample_says_that_it_is_one", "sampled", async (page, { spans, attempts }) => {
  assert.ok(spans.id.length < attempts);
  assert.ok(await page.locator("#sample").isVisible());
  assert.ok((await text(page, "#sample")).startsWith(`The lanes hold ${spans.id.length.toLocaleString("en")} of 200,000 attempts: a sample, `));
});

claim("a_row_brings_its_span_into_view_and_tells_of_it", "mixed", async (page, { spans, slowest }) => {
  const i = slowest[4];
  const started = spans.started.slice(0, i + 1).reduce((sum, step) => sum + step);
  await page.locator("#slowest tbody tr").nth(4).click();
  const { from, to } = await range(page);
  assert.ok(from <= started && started + spans.run[i] <= to, "in view");
  assert.ok(to - from < 10 * spans.run[i], "and large");
  assert.equal((await tip(page)).split("\n")[0], spans.id[i]);
  assert.equal(await page.locator("tr[aria-current]").first().getAttribute("data-span"), String(i));
});

claim("lists_are_in_order_and_complete", "mixed", async (page, { spans, slowest, failed }) => {
  const ids = (table) => page.locator(`#${table} tbody td:first-child`).allInnerTexts();
  assert.deepEqual(await ids("slowest"), slowest.map((i) => spans.id[i]));
  assert.deepEqual(await ids("failed"), failed.map((i) => spans.id[i]));
});

claim("a_run_in_which_nothing_started_says_so", "nothing", async (page) => {
  assert.ok(await page.getByText("No attempt was started.").isVisible());
  assert.ok(!(await page.locator("#failed-part").isVisible()) && !(await page.locator("#slowest-part").isVisible()));
});

// ---------------------------------------------------------------- Texts from outside

claim("hostile_ids_stay_text_and_are_shown_as_they_are", "hostile", async (page, { spans }) => {
  const elements = () => page.evaluate(() => document.querySelectorAll("img, script, iframe, object, embed, svg, a").length);
  assert.equal(await elements(), 2, "the page's own scripts");
  for (const [i, id] of spans.id.entries()) {
    await page.locator(`#slowest tr[data-span="${i}"]`).click();
    const shownId = await page.locator("#tip .id").textContent();
    assert.equal(shownId, id.trim() === "" ? "blank" : id);
    const note = await page.locator("#tip .note").textContent();
    assert.equal(note, `note: ${id}`);
    const { height, width } = await page.locator("#tip").boundingBox();
    assert.ok(height < 420 && width < 400, `${width} x ${height}`);
  }
  assert.equal(await elements(), 2);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test("the_page_may_not_reach_the_network", async () => {
  const { page } = await open(browser, fileOf("one").file);
  const asked = await page.evaluate(() => fetch("data:,x").then(() => "let through", () => "refused"));
  await page.context().close();
  assert.equal(asked, "refused");
});

// ---------------------------------------------------------------- Colours

/** Each visible text with its colour and that of the nearest ground below it. */
const inks = (page) =>
  page.evaluate(() => {
    const ground = (element) => {
      const { backgroundColor } = getComputedStyle(element);
      return backgroundColor !== "rgba(0, 0, 0, 0)" ? backgroundColor : ground(element.parentElement);
    };
    const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const all = [...document.body.querySelectorAll("*")].filter((element) => own(element) && element.checkVisibility());
    return all.map((element) => [element.textContent.slice(0, 30), getComputedStyle(element).color, ground(element)]);
  });

async function legible(page) {
  await hover(page, 40 * MILLI, 0);
  const seen = await inks(page);
  assert.ok(seen.length > 60);
  for (const [what, ink, ground] of seen) assert.ok(contrast(ink, ground) >= 4.5, `${what}: ${ink} on ${ground}`);
  const canvas = [await themeColour(page, "--soft"), await themeColour(page, "--card")];
  assert.ok(contrast(...canvas) >= 4.5, "numbers in the charts");
}

const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

claim("text_is_legible_in_light", "known", legible);
claim("text_is_legible_in_dark", "known", async (page) => {
  assert.ok(contrast(await ground(page), "rgb(0, 0, 0)") < 1.5, "a dark ground");
  await legible(page);
}, { scheme: "dark" });

claim("the_button_switches_the_theme_and_the_drawing_with_it", "known", async (page) => {
  const { left, width } = await shown(page);
  const at = async () => [await ground(page), await pixel(page, "bars", left + 0.1 * width, 15)];
  const light = await at();
  await page.getByRole("button", { name: "Dark theme" }).click();
  const dark = await at();
  assert.ok(light.every((colour, n) => colour !== dark[n]), `${light} ${dark}`);
  await page.getByRole("button", { name: "Light theme" }).click();
  assert.deepEqual(await at(), light);
});

for (const scheme of ["light", "dark"]) {
  claim(`outcomes_are_told_apart_by_the_colour_blind_in_${scheme}`, "known", async (page) => {
    const colours = await Promise.all([...COLOURS, "--wait"].map((name) => themeColour(page, name)));
    for (const vision of Object.keys(VISIONS)) {
      colours.forEach((a, n) => colours.slice(n + 1).forEach((b) => assert.ok(apart(a, b, vision) >= 15, `${vision}: ${a} and ${b}`)));
    }
  }, { scheme });
}

claim("paper_is_white_and_the_screen_dark_again_afterwards", "known", async (page) => {
  const dark = await ground(page);
  const { left, width } = await shown(page);
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  await page.emulateMedia({ media: "print" });
  assert.equal(await ground(page), "rgb(255, 255, 255)");
  assert.equal(await pixel(page, "bars", left + 0.1 * width, 15), await themeColour(page, "--good"));
  assert.ok(!(await page.locator("#whole").isVisible()));
  await page.emulateMedia({ media: "screen" });
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  assert.equal(await ground(page), dark);
}, { scheme: "dark" });

// ---------------------------------------------------------------- For everybody

claim("the_page_has_landmarks_headings_and_texts_for_its_pictures", "mixed", async (page) => {
  for (const role of ["banner", "main", "contentinfo"]) assert.equal(await page.getByRole(role).count(), 1, role);
  for (const name of ["Over time", "In figures", "Not succeeded", "Slowest"]) assert.equal(await page.getByRole("region", { name }).count(), 1, name);
  assert.equal(await page.locator("th:not([scope])").count(), 0);
  assert.deepEqual(await page.locator("canvas").evaluateAll((all) => all.filter((c) => !c.ariaLabel && !c.ariaHidden).map((c) => c.id)), []);
  assert.equal(await page.evaluate(() => document.documentElement.lang), "en");
});

claim("whatever_takes_the_focus_shows_it", "known", async (page) => {
  const seen = [];
  for (let n = 0; n < 14; n++) {
    await page.keyboard.press("Tab");
    const [what, outline] = await page.evaluate(() => [document.activeElement.id || document.activeElement.tagName, getComputedStyle(document.activeElement).outline]);
    if (what === "BODY") break;
    assert.match(outline, /solid 2px/, what);
    seen.push(what);
  }
  assert.ok(["theme", "in", "time", "BUTTON"].every((id) => seen.includes(id)), seen.join());
});

// ---------------------------------------------------------------- A million

const COUNTERS = () => {
  window.drawn = 0;
  for (const name of ["rect", "fillRect", "drawImage", "fillText", "lineTo"]) {
    const real = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...rest) {
      window.drawn++;
      return real.apply(this, rest);
    };
  }
};

test("a_million_spans_are_ready_within_ten_seconds_and_no_frame_draws_more_than_some_thousand_shapes", async (t) => {
  const { file } = fileOf("million");
  let best = Infinity;
  for (let tries = 0; tries < 3 && best > 10000; tries++) {
    await visit(browser, file, { before: COUNTERS }, async (page) => {
      best = Math.min(best, await page.evaluate(() => performance.now()));
      const modes = new Set();
      await hover(page, 1.1e10, 3);
      for (let n = 0; n < 24; n++) {
        await page.evaluate(() => (window.drawn = 0));
        await page.mouse.wheel(0, -400);
        modes.add((await range(page)).mode);
        const drawn = await page.evaluate(() => window.drawn);
        assert.ok(drawn > 50 && drawn < 15000, `${drawn} shapes`);
      }
      assert.deepEqual([...modes], ["density", "mixed", "bars"]);
    });
  }
  t.diagnostic(`ready after ${Math.round(best)} ms`);
  assert.ok(best < 10000, `ready after ${best} ms`);
});

// ---------------------------------------------------------------- Pages of real runs, and pictures

/** What holds for the page of any run, by the data in it. */
async function explains(page) {
  const { spans, items, attempts } = JSON.parse(await page.locator("#data").textContent());
  assert.match(await text(page, "#gist"), new RegExp(`^${items.toLocaleString("en")} items? in `));
  assert.match(await text(page, "#facts"), new RegExp(attempts.toLocaleString("en")));
  if (spans.id.length > 0) {
    await page.locator("#slowest tbody tr").first().click();
    const ids = spans.id.map((id) => (id.trim() === "" ? "blank" : id));
    assert.ok(ids.includes(await page.locator("#tip .id").textContent()));
  }
  await useIt(page);
}

const folder = process.argv.indexOf("--shots");
const pages = folder < 0 ? process.argv.slice(2) : [];

for (const file of pages) {
  for (const scheme of ["light", "dark"]) {
    test(`${path.basename(file)} in ${scheme}: explains_its_run`, () => visit(browser, path.resolve(file), { scheme }, explains));
  }
}

const SHOTS = [["ten", "light"], ["mixed", "light"], ["mixed", "dark"], ["adaptive", "light"], ["limited", "dark"], ["million", "light"], ["wide", "light"], ["sampled", "dark"],
  ["mixed", "light", 390, 844], ["limited", "dark", 390, 844]];

test("pictures", { skip: folder < 0 && "without --shots FOLDER" }, async () => {
  const into = process.argv[folder + 1];
  fs.mkdirSync(into, { recursive: true });
  for (const [name, scheme, width = 1280, height = 800] of SHOTS) {
    await visit(browser, fileOf(name).file, { scheme, size: [width, height] }, (page) =>
      page.screenshot({ path: path.join(into, `${name}-${scheme}-${width}.png`), fullPage: true }));
  }
});
