// Copies LiteRT.js out of node_modules into a folder that a site serves:
//
//   npm install @litertjs/core@2.5.3
//   node litert.mjs public/litert
//
// A worker cannot resolve the names of packages, so these become relative paths. Of the
// runtime's variants the two are copied that need no special headers: one with relaxed
// SIMD, and one for browsers without it.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const WASM_UTILS = "@litertjs/wasm-utils";
const VARIANTS = ["litert_wasm_internal", "litert_wasm_compat_internal"];

const folder = process.argv[2];
if (!folder || process.argv.length > 3) {
  console.error("expected: node litert.mjs FOLDER");
  process.exit(2);
}

const require = createRequire(import.meta.url);
const core = require.resolve("@litertjs/core");
const wasmUtils = createRequire(core).resolve(WASM_UTILS);

// The maps of sources are not copied.
const source = (path) => readFileSync(path, "utf-8").replace(/^\/\/# sourceMappingURL=.*$/m, "");
const resolved = source(core).replaceAll(`from "${WASM_UTILS}"`, 'from "./wasm-utils.js"');
if (resolved.includes(WASM_UTILS)) throw new Error(`${core}: imports ${WASM_UTILS} in another form, expected version 2.5.3`);

mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, "core.js"), resolved);
writeFileSync(join(folder, "wasm-utils.js"), source(wasmUtils));
for (const variant of VARIANTS) {
  for (const ending of [".js", ".wasm"]) {
    copyFileSync(join(dirname(core), "..", "wasm", variant + ending), join(folder, variant + ending));
  }
}
