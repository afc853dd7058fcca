// Calls the web lines as an app does: `main.mjs LINES MODEL`, texts as a JSON list on
// standard input, answers as a JSON list on standard output.
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {dirname, join} from 'node:path';
import {pathToFileURL} from 'node:url';
import {runInThisContext} from 'node:vm';

const [lines, model] = process.argv.slice(2);
const runtime = createRequire(pathToFileURL(lines)).resolve('@litertjs/core');
const wasm = join(dirname(runtime), '..', 'wasm');

// What the lines fetch from the site, and how a classic worker loads a script; what the
// script of the runtime takes for granted under Node.
const atSite = path => path.replace(/^\/wasm\//, wasm + '/').replace(/^\/model-.*/, model);
const respond = async path => {
  const data = readFileSync(atSite(path));
  return {arrayBuffer: async () => data.buffer.slice(data.byteOffset, data.byteOffset + data.length)};
};
Object.assign(globalThis, {
  self: globalThis,
  fetch: respond,
  importScripts(path) {
    const script = atSite(path);
    Object.assign(globalThis, {
      __filename: script, __dirname: dirname(script), require: createRequire(script),
    });
    runInThisContext(readFileSync(script, 'utf8'), {filename: script});
  },
});
// The runtime reports to the console, which is not where the answers go.
console.log = console.info = console.warn = console.error;

const {translate} = await import(pathToFileURL(lines));
const answers = [];
for (const text of JSON.parse(readFileSync(0, 'utf8'))) answers.push(await translate(text));
process.stdout.write(JSON.stringify(answers));
