// Opens an empty page in a real browser, takes the steps that come on standard input, a
// line of JSON each, and answers each of them by a line, {"found"} or {"error"}: see
// demo.py. The step ["problems"] tells, and forgets, what went wrong on the page.
//
//   node session.mjs chrome|firefox PROGRAM '{"dark", "width", "height"}'
import { createInterface } from "node:readline";
import { actions, openBrowser, openPage } from "./actions.mjs";

const [browserName, program, options] = process.argv.slice(2);
const browser = await openBrowser(browserName, program, JSON.parse(options));
const { page, problems } = await openPage(browser, browserName, JSON.parse(options));

const steps = {
  ...actions,
  problems: async () => [...problems.splice(0), ...(await page.evaluate(() => window.violations?.splice(0) ?? []))],
};

try {
  for await (const line of createInterface({ input: process.stdin })) {
    const [action, ...values] = JSON.parse(line);
    const answer = await Promise.resolve(steps[action](page, ...values)).then(
      (found) => ({ found: found ?? null }),
      (error) => ({ error: String(error) }),
    );
    console.log(JSON.stringify(answer));
  }
} finally {
  await browser.close();
}
