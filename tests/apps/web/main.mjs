// Calls the web lines as an app does: `main.mjs LINES MODEL`, texts as a JSON list on
// standard input, answers as a JSON list on standard output.
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {dirname, join} from 'node:path';
import {pathToFileURL} from 'node:url';

import {prepare} from '../../../benchmarks/answering/litert_in_node.mjs';

const [lines, model] = process.argv.slice(2);
const runtime = createRequire(pathToFileURL(lines)).resolve('@litertjs/core');
const wasm = join(dirname(runtime), '..', 'wasm');

prepare(path => path.replace(/^\/wasm\//, wasm + '/').replace(/^\/model-.*/, model));

const {translate} = await import(pathToFileURL(lines));
const answers = [];
for (const text of JSON.parse(readFileSync(0, 'utf8'))) answers.push(await translate(text));
process.stdout.write(JSON.stringify(answers));
