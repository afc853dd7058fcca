/**
 * Translates short text with a model that Pocketseq has exported.
 *
 * Files to copy into a site: this one, worker.js beside it, the folder of an export, and
 * LiteRT.js as litert.mjs writes it, in the folder litert beside this file:
 *
 *     import { Model } from "./pocketseq.js";
 *
 *     const model = await Model.open("english-pronunciation/");
 *     (await model.translate("phone")).text; // "F OW1 N"
 *
 * What it does is all that an app has to do: text to code points in NFC, one call of the
 * runtime, code points to text. The runtime is in a worker, so the page never waits.
 */

/** How many texts a model remembers the answers of, and how many shares of alignments. */
const REMEMBERED = 4096;
const REMEMBERED_SHARES = 4_000_000;

/** The code points with the Unicode property White_Space. */
const WHITESPACE = /^[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$/;

/** Hypotheses that do not exist have a score below this. */
const NO_SCORE = -1e6;

/** Milliseconds after which a call counts as lost; the slowest model needs a hundredth. */
const TIMEOUT = 20_000;

/** No text of a model is longer, in code points, and no beam wider. */
const MOST = 65_536;

/** The files cannot be used: missing, damaged, or not of an export. */
export class ModelError extends Error {
  name = "ModelError";
}

/** A model of an export, opened in a worker of its own. */
export class Model {
  #worker;
  #signatures;
  #lengths;
  #dictionary;
  #answers = new Answers();

  /**
   * Opens a model in the folder of an export.
   *
   * @param folder  The URL of the folder; it has manifest.json and the files it names.
   * @param options  See Model.of; and recipe: which file, by default int8 if it is there.
   * @throws {ModelError} The folder is not whole, or a file is not the one that the
   *   manifest describes.
   */
  static async open(folder, options = {}) {
    const base = new URL(String(folder).replace(/\/?$/, "/"), here());
    const description = fetched(new URL("manifest.json", base), "text").then((text) => describe(text, options.recipe));
    const data = description.then(({ file }) => fetched(new URL(encodeURIComponent(file), base), "arrayBuffer"));
    return Model.of(description, data, options);
  }

  /**
   * Opens a model from the bytes of its file.
   *
   * @param description  Of the file, as `describe` returns it; or a promise of it.
   * @param data  An ArrayBuffer or Uint8Array, which stays as it is; or a promise of it.
   * @param options.dictionary  {text: its answer}, which come before the model's own.
   * @param options.runtime  The URL of the folder with LiteRT.js; default: litert, beside
   *   this file.
   * @param options.worker  The URL of worker.js; default: beside this file.
   * @throws {ModelError} The bytes are not those described, or the runtime refuses them.
   */
  static async of(description, data, { dictionary = {}, runtime, worker: url } = {}) {
    const litert = new URL(String(runtime ?? new URL("litert/", import.meta.url)).replace(/\/?$/, "/"), here());
    const worker = new ModelWorker(url);
    try {
      // The runtime is loaded while the bytes are on their way.
      const loaded = worker.ask({ task: "load", runtime: litert.href });
      const [described, bytes] = await Promise.all([description, checkedBytes(description, data), loaded]);
      const { signatures, file } = described;
      const { files } = await worker.ask({ task: "open", data: bytes, signatures }).catch((error) => {
        throw new ModelError(`${file}: cannot be opened: ${error.message}`, { cause: error });
      });
      return new Model(worker, signatures, dictionary, files);
    } catch (error) {
      worker.end(error);
      throw error;
    }
  }

  /** Not for apps, which open a model by Model.open or Model.of. */
  constructor(worker, signatures, dictionary, files) {
    this.#worker = worker;
    this.#signatures = signatures;
    this.#dictionary = new Map(Object.entries(dictionary).map(([text, answer]) => [nfc(text), answer]));
    // By length, the shortest first.
    this.#lengths = Object.keys(signatures)
      .filter((name) => !name.startsWith("translate_beam"))
      .map((name) => [signatures[name].inputs[0].shape[1], name])
      .sort(([one], [other]) => one - other);
    /** Whether `best` gives more than one answer. */
    this.hasBeam = Object.keys(signatures).some((name) => name.startsWith("translate_beam"));
    /** The longest text that the model reads, in code points. */
    this.maxCodePoints = this.#lengths.at(-1)[0];
    /** The URLs of what the worker has loaded, which a page without a network needs. */
    this.files = Object.freeze(files);
  }

  /**
   * Returns the answer to a text, of which too much is cut at whitespace.
   *
   * @param options.signal  An AbortSignal: a text whose turn has not come is not translated.
   * @returns {Promise<Translation>}
   */
  async translate(text, { signal } = {}) {
    return (await this.#ask(text, false, signal))[0];
  }

  /**
   * Returns the best answers to a text, best first, by the search with a beam.
   *
   * @throws {ModelError} The file was exported without a beam.
   * @returns {Promise<Translation[]>}
   */
  async best(text, { signal } = {}) {
    if (!this.hasBeam) throw new ModelError("the file has no beam, expected an export with --beam");
    return [...(await this.#ask(text, true, signal))];
  }

  /** Ends the worker; calls that wait are refused. */
  close() {
    this.#worker.end(new ModelError("the model is closed"));
  }

  async #ask(text, beam, signal) {
    signal?.throwIfAborted();
    const whole = nfc(text);
    if (this.#dictionary.has(whole)) return [byHeart(whole, [...whole].length, this.#dictionary.get(whole))];
    const points = cut([...whole], this.maxCodePoints);
    const source = points.join("");
    const key = `${beam ? "best" : "translate"} ${source}`;
    const remembered = this.#answers.get(key);
    if (remembered) return remembered;
    const [length, greedy] = this.#lengths.find(([one]) => one >= points.length);
    const name = beam ? greedy.replace("translate", "translate_beam") : greedy;
    // The whole input: a runtime may keep the end of an earlier text.
    const row = new Int32Array(length);
    row.set(points.map((point) => point.codePointAt(0)));
    const outputs = await this.#worker.ask({ task: "run", name, row, shape: [1, length] }, signal);
    const answers = answersOf(outputs, this.#signatures[name], source, points.length);
    this.#answers.set(key, answers);
    return answers;
  }
}

/**
 * Returns a function for texts that change while they are typed: of its calls only the
 * latest one counts, and the others give undefined.
 *
 * @param ask  Such as (text, signal) => model.translate(text, { signal }).
 */
export function latest(ask) {
  let current = new AbortController();
  return async (...given) => {
    current.abort();
    const { signal } = (current = new AbortController());
    try {
      const answer = await ask(...given, signal);
      return signal.aborted ? undefined : answer;
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
  };
}

/**
 * Returns what a manifest tells of a file: its name, size, SHA-256 and signatures.
 *
 * @param manifest  The text of manifest.json, or what JSON.parse makes of it.
 * @param recipe  Which file; left out: int8 if it is there.
 * @throws {ModelError} It is not the manifest of an export.
 */
export function describe(manifest, recipe) {
  const { models, signatures } = parsed(manifest);
  const names = Object.keys(isObject(models) ? models : {}).sort();
  const name = recipe ?? (names.includes("int8") ? "int8" : names[0]);
  const entry = names.includes(name) ? models[name] : undefined;
  if (!isFileName(entry?.file) || !Number.isInteger(entry.bytes) || !/^[0-9a-f]{64}$/.test(entry.sha256)) {
    throw notAnExport(recipe === undefined ? "no file" : `no file ${recipe}`);
  }
  return { file: entry.file, bytes: entry.bytes, sha256: entry.sha256, signatures: checkedSignatures(signatures) };
}

/** Returns the signatures of a manifest, if they are those of a text model. */
export function checkedSignatures(signatures) {
  if (!isObject(signatures) || !isObject(signatures.translate)) throw notAnExport("no signature translate");
  for (const [name, { inputs, outputs } = {}] of Object.entries(signatures)) {
    const [input, ...more] = Array.isArray(inputs) ? inputs : [];
    const [text, score, alignment] = ["text", "score", "alignment"].map(
      (tensor) => Array.isArray(outputs) && outputs.find((one) => one?.name === tensor),
    );
    const isText =
      input?.name === "text" && !more.length && isTensor(input, "int32", 2) && input.shape[0] === 1 &&
      isTensor(text, "int32", 2) && isTensor(score, "float32", 1) && isTensor(alignment, "float32", 3) &&
      String([...text.shape, input.shape[1]]) === String(alignment.shape) && text.shape[0] === score.shape[0];
    if (!isText) throw notAnExport(`signature ${name} is not text to text`);
  }
  return signatures;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

const isTensor = (tensor, dtype, rank) =>
  tensor?.dtype === dtype && Array.isArray(tensor.shape) && tensor.shape.length === rank &&
  tensor.shape.every((size) => Number.isInteger(size) && size >= 1 && size <= MOST);

/** Whether a name leads out of no folder. */
const isFileName = (name) => typeof name === "string" && /^[^/\\]+$/.test(name) && !/^\.\.?$/.test(name);

const notAnExport = (problem) => new ModelError(`manifest.json: ${problem}, expected the manifest of an export`);

function parsed(manifest) {
  let values = manifest;
  if (typeof manifest === "string") {
    try {
      values = JSON.parse(manifest);
    } catch (error) {
      throw notAnExport(`not JSON (${error.message})`);
    }
  }
  if (!isObject(values)) throw notAnExport("not an object");
  return values;
}

/**
 * Returns a copy of bytes that are those described.
 *
 * Runtimes do not look: a damaged file may crash them, or answer wrongly.
 */
async function checkedBytes(description, data) {
  const [{ file, bytes, sha256 }, whole] = await Promise.all([description, data]);
  const copy = new Uint8Array(whole).slice();
  if (copy.length !== bytes) {
    throw new ModelError(`${file}: damaged, or of another export: ${copy.length} bytes, expected ${bytes}`);
  }
  if (!globalThis.crypto?.subtle) {
    throw new ModelError(
      `${file}: cannot be checked, because browsers compute SHA-256 only in a secure context: expected https, or localhost`,
    );
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", copy));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) {
    throw new ModelError(`${file}: damaged, or of another export: expected the SHA-256 in its manifest`);
  }
  return copy;
}

/** Where relative URLs start. */
const here = () => globalThis.document?.baseURI ?? globalThis.location.href;

/** Fetches a file as "text" or "arrayBuffer". */
async function fetched(url, kind) {
  try {
    const response = await fetch(url);
    if (response.ok) return await response[kind]();
    throw new Error(`status ${response.status}`);
  } catch (error) {
    throw new ModelError(`${url.href}: cannot be read: ${error.message}`, { cause: error });
  }
}

/** A worker that answers one request after the other. */
class ModelWorker {
  #worker;
  #waiting = [];
  #current = null;
  #timer = 0;
  #ended = null;

  constructor(url) {
    // In one expression, as bundlers look for it.
    this.#worker = url ? new Worker(url) : new Worker(new URL("./worker.js", import.meta.url));
    this.#worker.onmessage = ({ data }) => this.#answered(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.end(new ModelError(`the worker failed: ${event.message ?? "it cannot be loaded"}`));
    };
  }

  /** Sends a message in its turn, and returns what the worker answers to it. */
  ask(message, signal) {
    return new Promise((resolve, reject) => {
      if (this.#ended) throw this.#ended;
      const request = { message, resolve, reject };
      signal?.addEventListener("abort", () => this.#abort(request, signal.reason), { once: true });
      this.#waiting.push(request);
      this.#next();
    });
  }

  /** Ends the worker, and everything that waits for it. */
  end(error) {
    this.#ended ??= error;
    clearTimeout(this.#timer);
    this.#worker.terminate();
    const open = [this.#current, ...this.#waiting];
    [this.#current, this.#waiting] = [null, []];
    for (const request of open) request?.reject(this.#ended);
  }

  /** What the worker works on already cannot be stopped, but nobody waits for it. */
  #abort(request, reason) {
    this.#waiting = this.#waiting.filter((one) => one !== request);
    request.reject(reason);
  }

  #next() {
    if (this.#current || !this.#waiting.length) return;
    this.#current = this.#waiting.shift();
    this.#worker.postMessage(this.#current.message);
    // Loading takes as long as the network does; a call has no such excuse.
    if (this.#current.message.task === "run") {
      this.#timer = setTimeout(() => this.end(new ModelError(`no answer within ${TIMEOUT / 1000} seconds`)), TIMEOUT);
    }
  }

  #answered({ result, error }) {
    clearTimeout(this.#timer);
    // After a call that failed, nobody knows the state of the runtime.
    if (error !== undefined) return this.end(new ModelError(error));
    this.#current.resolve(result);
    this.#current = null;
    this.#next();
  }
}

/** Answers by their texts, of which the oldest are forgotten. */
class Answers {
  #answers = new Map();
  #shares = 0;

  get(key) {
    const found = this.#answers.get(key);
    if (found) {
      this.#answers.delete(key);
      this.#answers.set(key, found);
    }
    return found;
  }

  set(key, answers) {
    this.#forget(key);
    this.#answers.set(key, answers);
    this.#shares += sharesOf(answers);
    while (this.#answers.size > REMEMBERED || this.#shares > REMEMBERED_SHARES) {
      this.#forget(this.#answers.keys().next().value);
    }
  }

  #forget(key) {
    if (this.#answers.has(key)) this.#shares -= sharesOf(this.#answers.get(key));
    this.#answers.delete(key);
  }
}

const sharesOf = (answers) =>
  answers.reduce((sum, { alignment }) => sum + alignment.length * (alignment[0]?.length ?? 0), 0);

/** Returns a text in NFC, up to its first U+0000; half a surrogate pair is no character. */
function nfc(text) {
  const [whole] = String(text).split("\0", 1);
  return whole.normalize("NFC").replace(/\p{Surrogate}/gu, "\ufffd");
}

/** Cuts code points that are too many at the last whitespace that leaves a whole word. */
function cut(points, longest) {
  if (points.length <= longest) return points;
  const isSpace = (place) => WHITESPACE.test(points[place]);
  // The whitespace itself need not fit.
  let end = longest;
  while (end >= 0 && !isSpace(end)) end -= 1;
  while (end > 0 && isSpace(end - 1)) end -= 1;
  const whole = points.slice(0, Math.max(end, 0));
  return whole.every((point) => WHITESPACE.test(point)) ? points.slice(0, longest) : whole;
}

/** Returns the answer of a dictionary, which comes from everywhere alike. */
function byHeart(source, length, text) {
  const row = new Float32Array(length).fill(1 / Math.max(length, 1));
  return Object.freeze({ text, score: 0, source, alignment: Array.from(text, () => row.slice()) });
}

/** Returns the translations in a call's outputs, best first. */
function answersOf({ text, score, alignment }, { outputs }, source, length) {
  const [count, longest, width] = outputs.find((one) => one.name === "alignment").shape;
  const sizes = [count * longest, count, count * longest * width];
  if (String([text?.length, score?.length, alignment?.length]) !== String(sizes)) {
    throw new ModelError("the runtime gave outputs of another shape");
  }
  const answers = [];
  // Hypotheses that do not exist are the last ones.
  for (let rank = 0; rank < count && !(score[rank] < NO_SCORE); rank += 1) {
    const codes = text.subarray(rank * longest, (rank + 1) * longest);
    const end = codes.indexOf(0);
    const answer = codes.subarray(0, end < 0 ? longest : end);
    const rows = Array.from(answer, (_, row) => {
      const start = (rank * longest + row) * width;
      return alignment.slice(start, start + length);
    });
    const isWhole =
      Number.isFinite(score[rank]) && answer.every(isCharacter) && rows.every((row) => row.every(Number.isFinite));
    if (!isWhole) throw new ModelError("the runtime gave outputs that are not text");
    answers.push(Object.freeze({ text: String.fromCodePoint(...answer), score: score[rank], source, alignment: rows }));
  }
  if (!answers.length) throw new ModelError("the runtime gave no answer");
  return answers;
}

const isCharacter = (code) => code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
