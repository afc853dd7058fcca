// Lets LiteRT.js answer in Node.js: `node_driver.mjs FOLDER`, the folder with LiteRT.js.
// A request on standard input, and what was found on standard output, are as those of
// python_driver.py; of memory Node.js tells nothing that would compare.
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';

import {prepare} from './litert_in_node.mjs';

// Hypotheses that do not exist have a score below this.
const NO_SCORE = -1e6;

const [folder] = process.argv.slice(2);
const {file, rows} = JSON.parse(readFileSync(0, 'utf8'));
prepare(path => path.startsWith('/litert/') ? join(folder, path.slice('/litert/'.length)) : path);

const {loadAndCompile, loadLiteRt, Tensor} = await import(pathToFileURL(join(folder, 'core.js')));
await loadLiteRt('/litert/');

const start = performance.now();
const model = await loadAndCompile(new Uint8Array(readFileSync(file)), {accelerator: 'wasm'});

async function answer(signature, row) {
  const input = new Tensor(Int32Array.from(row), [1, row.length]);
  const output = await model.run(signature, {text: input});
  const [text, score] = await Promise.all([output.text.data(), output.score.data()]);
  for (const tensor of [input, ...Object.values(output)]) tensor.delete();
  const longest = text.length / score.length;
  const found = [];
  for (let rank = 0; rank < score.length && score[rank] >= NO_SCORE; rank += 1) {
    const codes = [...text.subarray(rank * longest, (rank + 1) * longest), 0];
    found.push([codes.slice(0, codes.indexOf(0)), score[rank]]);
  }
  return found;
}

const [first] = Object.keys(rows);
await answer(first, rows[first][0]);
const loadSeconds = (performance.now() - start) / 1000;

const answers = {};
for (const [signature, some] of Object.entries(rows)) {
  answers[signature] = [];
  for (const row of some) answers[signature].push(await answer(signature, row));
}
process.stdout.write(`\n${JSON.stringify({answers, load_seconds: loadSeconds, bytes: null})}\n`);
