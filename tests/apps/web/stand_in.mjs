// Stands in for LiteRT.js: the answer is the text, and as long as the output where the
// text is "full". It tells whether all tensors were given back.
const alive = new Set();

export class Tensor {
  constructor(values, shape) {
    Object.assign(this, {values, shape});
    alive.add(this);
  }
  async data() { return this.values; }
  delete() { alive.delete(this); }
}

export async function loadLiteRt(path) {
  if (path !== '/wasm/') throw new Error(path);
}

export async function loadAndCompile(path, {accelerator}) {
  if (path !== '/model-int8.tflite' || accelerator !== 'wasm') throw new Error(path);
  return {
    async run({text}) {
      const length = Number(process.env.OUTPUT_LENGTH);
      const answer = new Int32Array(length);
      const row = text.values;
      if (!(row instanceof Int32Array) || row.length !== text.shape[1]) throw new Error('row');
      answer.set(row);
      if (String.fromCodePoint(...row.slice(0, 4)) === 'full') answer.fill('x'.codePointAt(0));
      if (alive.size !== 1) throw new Error('tensors are left over');
      return {
        text: new Tensor(answer, [1, length]), score: new Tensor(new Float32Array(1), [1]),
      };
    },
  };
}
