// A real browser, and what is done on a page in it: see visit.mjs and session.mjs.
import puppeteer from "puppeteer-core";

/** The middle of an element, or the place that is a share of its width from its left. */
const placeOf = async (page, selector, share = 0.5) => {
  const element = await page.waitForSelector(selector, { timeout: 5000 });
  await element.evaluate((one) => one.scrollIntoView({ block: "center", inline: "center" }));
  const box = await element.boundingBox();
  return [box.x + share * box.width, box.y + box.height / 2];
};

/** Each takes a page and values. What is evaluated is out of reach of the page's policy. */
export const actions = {
  open: (page, another) => page.goto(another, { waitUntil: "load" }).then(() => null),
  reload: (page) => page.reload({ waitUntil: "load" }).then(() => null),
  evaluate: (page, code) => page.evaluate(code),
  hover: async (page, selector) => page.mouse.move(...(await placeOf(page, selector))),
  click: async (page, selector) => page.mouse.click(...(await placeOf(page, selector))),
  focus: (page, selector) => page.focus(selector),
  press: (page, key) => page.keyboard.press(key),
  type: (page, text, delay = 0) => page.keyboard.type(text, { delay }),
  choose: async (page, selector, ...paths) => (await page.$(selector)).uploadFile(...paths),
  drag: async (page, selector, from, to) => {
    const [x, y] = await placeOf(page, selector, from);
    const [end] = await placeOf(page, selector, to);
    await page.mouse.move(x, y);
    await page.mouse.down();
    for (let part = 1; part <= 8; part += 1) await page.mouse.move(x + ((end - x) * part) / 8, y);
    await page.mouse.up();
  },
  view: (page, width, height) => page.setViewport({ width, height }),
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

/** Starts a browser that prefers dark colours or light ones. */
export const openBrowser = (browserName, executablePath, { dark }) =>
  puppeteer.launch({
    browser: browserName,
    executablePath,
    args: browserName === "chrome" ? ["--no-sandbox", "--disable-dev-shm-usage"] : [],
    extraPrefsFirefox: { "layout.css.prefers-color-scheme.content-override": dark ? 0 : 1 },
  });

/**
 * Opens an empty page, and notes what happens on it: `problems`, of the console and
 * against the page's policy, and `requests`.
 */
export async function openPage(browser, browserName, { dark, width, height }) {
  const page = await browser.newPage();
  const [problems, requests] = [[], []];
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
  return { page, problems, requests };
}
