// Opens pages in a real browser, which is started once: each line of standard input is a
// page and the steps to take on it, and a line of JSON answers with what each one found:
// see browsers.py.
//
//   node visit.mjs chrome|firefox PROGRAM dark|light < {"url", "width", "height", "steps"}
import { createInterface } from "node:readline";
import { actions, openBrowser, openPage } from "./actions.mjs";

const [browserName, program, scheme] = process.argv.slice(2);
const dark = scheme === "dark";
const browser = await openBrowser(browserName, program, { dark });

async function visit({ url, steps, ...size }) {
  const { page, problems, requests } = await openPage(browser, browserName, { dark, ...size });
  const found = [];
  const opened = [url, ...steps.filter(([action]) => action === "open").map(([, another]) => another)];
  try {
    await page.goto(url, { waitUntil: "load" });
    for (const [action, ...values] of steps) found.push((await actions[action](page, ...values)) ?? null);
    problems.push(...(await page.evaluate(() => window.violations)));
  } finally {
    await page.close();
  }
  // A browser's own fonts, of the marks of lists, come from no network.
  const asked = requests.filter((one) => !opened.includes(one) && !one.startsWith("data:"));
  return { found, problems, requests: asked };
}

try {
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await visit(JSON.parse(line)).catch((error) => ({ error: String(error) }));
    console.log(JSON.stringify(answer));
  }
} finally {
  await browser.close();
}
