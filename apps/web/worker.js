// The worker in which the model runs, so that typing never waits for it: see
// pocketseq.js, which starts it. A classic worker, because LiteRT.js loads its WebAssembly
// by importScripts, which module workers do not have.
"use strict";

/** The runtime and the opened model. */
let litert;
let model;

/** The runtime's last reports, which tell why a model was refused. */
let reports = [];

self.onmessage = async ({ data: { task, ...given } }) => {
  try {
    const result = await { load, open, run }[task](given);
    const buffers = Object.values(result ?? {}).map((values) => values.buffer);
    self.postMessage({ result }, buffers.filter((buffer) => buffer instanceof ArrayBuffer));
  } catch (error) {
    self.postMessage({ error: [reason(error), ...reports].join("; ") });
  }
};

/** WebAssembly throws numbers, too. */
const reason = (error) => (error instanceof Error ? error.message : String(error));

/** Loads the runtime from a folder, for the processor alone. */
async function load({ runtime }) {
  const note = (line) => {
    if (/^ERROR/.test(line)) reports = [...reports.slice(-2), line];
  };
  // Without this the WebAssembly would be looked for beside this file.
  self.Module = { locateFile: (name) => runtime + name, print: note, printErr: note };
  // The runtime asks for the strongest graphics processor before anyone needs one, and
  // complains where there is none: to this one it says nothing.
  const adapter = { limits: {}, features: new Set(), requestDevice: async () => null };
  Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => adapter } });
  litert = await import(`${runtime}core.js`);
  await litert.loadLiteRt(runtime);
}

/**
 * Opens a model, and runs each signature once: the first call prepares it, and what is
 * not as described shows here.
 */
async function open({ data, signatures }) {
  model = await litert.loadAndCompile(data, { accelerator: "wasm" });
  for (const [name, { inputs, outputs }] of Object.entries(signatures)) {
    const signature = model.signatures[name];
    if (!signature) throw new Error(`it has no signature ${name}`);
    compare(name, "inputs", inputs, signature.getInputDetails());
    compare(name, "outputs", outputs, signature.getOutputDetails());
    const [{ shape }] = inputs;
    await run({ name, row: new Int32Array(shape[1]), shape });
  }
  return { files: performance.getEntriesByType("resource").map((entry) => entry.name) };
}

/** Throws if the tensors of a signature are not as described; their order may differ. */
function compare(name, side, described, found) {
  const text = (tensors) => tensors.map((one) => `${one.name} ${one.dtype} [${[...one.shape]}]`).sort().join(", ");
  if (text(described) !== text(found)) {
    throw new Error(`${side} of ${name}: ${text(found)}, expected ${text(described)}`);
  }
}

/** Calls a signature: a row of code points in, typed arrays by name out. */
async function run({ name, row, shape }) {
  reports = [];
  const input = new litert.Tensor(row, shape);
  let outputs = {};
  try {
    outputs = await model.run(name, { text: input });
    const values = {};
    for (const [output, tensor] of Object.entries(outputs)) values[output] = await tensor.data();
    // A call that fails does not throw, but it is reported.
    if (reports.length) throw new Error("the call failed");
    return values;
  } finally {
    for (const tensor of [input, ...Object.values(outputs)]) tensor.delete();
  }
}
