// A browser with a page in it, and an ear on everything that the page should not say or ask for.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { CASES, pageOf } from "./made_up.mjs";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const WORK = process.env.BROWSER_WORK ?? path.join(ROOT, "target/browser");
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const source = (ending) => fs.readFileSync(path.join(ROOT, `src/timeline/page.${ending}`), "utf8");
export const template = () => ({ html: source("html"), css: source("css"), js: source("js") });

export async function launch() {
  const { chromium } = createRequire(path.join(WORK, "index.js"))("playwright-core");
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGUMENTS });
}

const written = new Map();

/** The file of a made-up run, and its data; made once. */
export function fileOf(name, data) {
  if (written.has(name)) return written.get(name);
  const made = data ?? CASES[name]();
  const file = path.join(WORK, "pages", `${name}.html`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, pageOf(made, template()));
  written.set(name, { file, data: made });
  return written.get(name);
}

/** Opens a file and waits until it is drawn. `noises` is filled with what the page says or asks for. */
export async function open(browser, file, { scheme = "light", size = [1280, 800], touch = false, before } = {}) {
  const context = await browser.newContext({ viewport: { width: size[0], height: size[1] }, colorScheme: scheme, hasTouch: touch });
  const page = await context.newPage();
  const url = pathToFileURL(file).href;
  const noises = [];
  page.on("console", (message) => noises.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => noises.push(`error: ${error.stack}`));
  page.on("dialog", (dialog) => (noises.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => request.url() === url || request.url().startsWith("data:") || noises.push(`request: ${request.url()}`));
  if (before) await page.addInitScript(before);
  const broken = new Promise((_, reject) => page.once("pageerror", reject));
  broken.catch(() => {});
  await page.goto(url);
  await Promise.race([broken, page.waitForFunction(() => document.documentElement.dataset.ready === "1", null, { timeout: 120000 })]);
  return { page, noises };
}

/** Opens a page for a claim, and holds it to silence afterwards. */
export async function visit(browser, file, options, claim) {
  const { page, noises } = await open(browser, file, options);
  try {
    await claim(page);
    await frame(page);
    assert.deepEqual(noises, []);
  } finally {
    await page.context().close();
  }
}

/** Two frames later, what was asked for is drawn. */
export const frame = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

/** What the lanes say of themselves: the visible range in nanoseconds, and where the plot is in pixels. */
export function shown(page) {
  return page.evaluate(() => {
    const { dataset, scrollTop } = document.getElementById("lanes");
    const numbers = Object.fromEntries(["from", "to", "left", "width", "pitch", "bar"].map((key) => [key, Number(dataset[key])]));
    const { left, top } = document.getElementById("lanes").getBoundingClientRect();
    return { ...numbers, mode: dataset.mode, x: left, y: top, scroll: scrollTop };
  });
}

/** The point of the window at a time and a lane. */
export async function pointAt(page, ns, lane) {
  await page.evaluate(() => document.getElementById("lanes").scrollIntoView({ block: "nearest" }));
  // Scrolling ends a hover, and the page hears of it a frame later.
  await frame(page);
  const { from, to, left, width, pitch, bar, x, y, scroll } = await shown(page);
  return [x + left + ((ns - from) / (to - from)) * width, y + lane * pitch - scroll + bar / 2];
}

/** The colour of a canvas at a point in CSS pixels, and of the theme's names. */
export const pixel = (page, id, x, y) =>
  page.evaluate(([id, x, y]) => {
    const canvas = document.getElementById(id);
    const ratio = canvas.width / canvas.clientWidth;
    // A copy of it: the page's own canvas is not made for being read.
    const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    pen.drawImage(canvas, -Math.floor(x * ratio), -Math.floor(y * ratio));
    const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
    return `rgb(${r}, ${g}, ${b})`;
  }, [id, x, y]);

export const themeColour = (page, name) =>
  page.evaluate((name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(${name})`;
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }, name);
