// What LiteRT.js takes for granted in a browser, for Node.js: `prepare(atSite)`
// lets it fetch files and load scripts. `atSite` maps the paths of a site to files.
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {dirname} from 'node:path';
import {runInThisContext} from 'node:vm';

export function prepare(atSite) {
  Object.assign(globalThis, {
    self: globalThis,
    async fetch(path) {
      const data = readFileSync(atSite(path));
      return {arrayBuffer: async () => data.buffer.slice(data.byteOffset, data.byteOffset + data.length)};
    },
    // As a classic worker loads a script.
    importScripts(path) {
      const script = atSite(path);
      Object.assign(globalThis, {
        __filename: script, __dirname: dirname(script), require: createRequire(script),
      });
      runInThisContext(readFileSync(script, 'utf8'), {filename: script});
    },
  });
  // The runtime reports to the console, which is not where answers go.
  console.log = console.info = console.warn = console.error;
}
