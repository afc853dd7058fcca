// Opens a page in a real browser, takes the steps that standard input lists, and prints
// what each one found, as JSON: see browsers.py.
//
// What each step evaluates on the page is run there, out of reach of its policy.
//
//   node visit.mjs chrome|firefox PROGRAM < {"url", "dark", "width", "height", "steps"}
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [browserName, executablePath] = process.argv.slice(2);
const { url, dark, width, height, steps } = JSON.parse(readFileSync(0, "utf-8"));

const browser = await puppeteer.launch({
  browser: browserName,
  executablePath,
  args: browserName === "chrome" ? ["--no-sandbox", "--disable-dev-shm-usage"] : [],
  extraPrefsFirefox: { "layout.css.prefers-color-scheme.content-override": dark ? 0 : 1 },
});
const problems = [];
const requests = [];
const found = [];

/** The middle of an element, or the place that is a share of its width from its left. */
const placeOf = async (page, selector, share = 0.5) => {
  const element = await page.waitForSelector(selector, { timeout: 5000 });
  await element.evaluate((one) => one.scrollIntoView({ block: "center", inline: "center" }));
  const box = await element.boundingBox();
  return [box.x + share * box.width, box.y + box.height / 2];
};

const opened = [url];

const actions = {
  open: async (page, another) => {
    opened.push(another);
    await page.goto(another, { waitUntil: "load" });
  },
  evaluate: (page, code) => page.evaluate(code),
  hover: async (page, selector) => page.mouse.move(...(await placeOf(page, selector))),
  click: async (page, selector) => page.mouse.click(...(await placeOf(page, selector))),
  focus: (page, selector) => page.focus(selector),
  press: (page, key) => page.keyboard.press(key),
  drag: async (page, selector, from, to) => {
    const [x, y] = await placeOf(page, selector, from);
    const [end] = await placeOf(page, selector, to);
    await page.mouse.move(x, y);
    await page.mouse.down();
    for (let part = 1; part <= 8; part += 1) await page.mouse.move(x + ((end - x) * part) / 8, y);
    await page.mouse.up();
  },
  wait: (page, milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
  until: async (page, code) => {
    for (let tries = 0; tries < 200; tries += 1) {
      if (await page.evaluate(code)) return true;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`never true: ${code}`);
  },
  screenshot: (page, path, fullPage = true) => page.screenshot({ path, fullPage }).then(() => path),
};

try {
  const page = await browser.newPage();
  page.on("console", (message) => {
    if (["error", "warn", "warning"].includes(message.type())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.setViewport({ width, height });
  if (browserName === "chrome") {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  }
  // What the policy of the page forbids is an event in the page.
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
  });
  await page.goto(url, { waitUntil: "load" });
  for (const [action, ...values] of steps) found.push((await actions[action](page, ...values)) ?? null);
  problems.push(...(await page.evaluate(() => window.violations)));
  // A browser's own fonts, of the marks of lists, come from no network.
  const asked = requests.filter((one) => !opened.includes(one) && !one.startsWith("data:"));
  console.log(JSON.stringify({ found, problems, requests: asked }));
} finally {
  await browser.close();
}
