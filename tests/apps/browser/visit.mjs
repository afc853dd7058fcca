// Opens a page in a real browser, takes the steps that standard input lists, and prints
// what each one found, as JSON: see browsers.py.
//
//   node visit.mjs chrome|firefox PROGRAM < {"url", "dark", "width", "height", "steps"}
import { readFileSync } from "node:fs";
import { actions, openPage } from "./actions.mjs";

const { url, steps, ...options } = JSON.parse(readFileSync(0, "utf-8"));
const { browser, page, problems, requests } = await openPage(...process.argv.slice(2), options);
const found = [];
const opened = [url, ...steps.filter(([action]) => action === "open").map(([, another]) => another)];

try {
  await page.goto(url, { waitUntil: "load" });
  for (const [action, ...values] of steps) found.push((await actions[action](page, ...values)) ?? null);
  problems.push(...(await page.evaluate(() => window.violations)));
  // A browser's own fonts, of the marks of lists, come from no network.
  const asked = requests.filter((one) => !opened.includes(one) && !one.startsWith("data:"));
  console.log(JSON.stringify({ found, problems, requests: asked }));
} finally {
  await browser.close();
}
