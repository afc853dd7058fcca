/**
 * Reads a `.tflite` file that an export has written: a model, and files behind it as a ZIP,
 * among them a manifest with the SHA-256 of the model.
 */
import { checkedSignatures, ModelError } from "./pocketseq.js";

/** A `.tflite` file has this at its byte 4. */
const IDENTIFIER = "TFL3";

const MANIFEST = "manifest.json";

const END_OF_DIRECTORY = 0x06054b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 0xffff;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_ENTRY = 0x04034b50;
const [STORED, DEFLATED] = [0, 8];

/** What stands behind a model is small; more would be a trap. */
const MOST_BYTES = 64_000_000;

/**
 * Returns what a file by itself tells: its manifest, and its model and description as
 * Model.of takes them.
 *
 * @param bytes  A Uint8Array.
 * @param name  The name of the file.
 * @returns {Promise<{manifest, description, data: Uint8Array, isChecked: boolean}>}
 *   isChecked is false for files of early exports, which hold no checksum.
 * @throws {ModelError} No export has written it, or it is damaged.
 */
export async function readContainer(bytes, name) {
  if (text(bytes.subarray(4, 8)) !== IDENTIFIER) throw new ModelError(`${name}: not a .tflite file, expected one that an export has written`);
  const { files, start } = await readFiles(bytes).catch((error) => {
    throw damaged(name, error.message);
  });
  if (!files.has(MANIFEST)) throw damaged(name, `there is no ${MANIFEST}`);
  let manifest;
  try {
    manifest = JSON.parse(text(files.get(MANIFEST)));
  } catch (error) {
    throw damaged(name, `${MANIFEST} is not JSON`);
  }
  const data = bytes.subarray(0, start);
  const stated = manifest?.flatbuffer_sha256;
  const sha256 = stated === undefined ? await sha256Of(data) : String(stated);
  const signatures = checkedSignatures(manifest?.signatures);
  return { manifest, description: { file: name, bytes: start, sha256, signatures }, data, isChecked: stated !== undefined };
}

const damaged = (name, problem) =>
  new ModelError(`${name}: no manifest in it that can be read (${problem}), expected a whole .tflite file that an export has written`);

const text = (bytes) => new TextDecoder().decode(bytes);

async function sha256Of(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Returns the files of the ZIP by name, and where the first of them starts. */
async function readFiles(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = endOfDirectory(view);
  const [count, size, offset] = [view.getUint16(end + 10, true), view.getUint32(end + 12, true), view.getUint32(end + 16, true)];
  // Offsets count from where the ZIP starts, which is behind a model.
  const before = end - size - offset;
  if (before < 0) throw new Error("the ZIP is cut off");
  const files = new Map();
  let [at, start] = [before + offset, bytes.length];
  for (let place = 0; place < count; place += 1) {
    const entry = directoryEntry(view, at);
    files.set(text(bytes.subarray(at + 46, at + 46 + entry.nameLength)), await contentOf(bytes, view, before, entry));
    start = Math.min(start, before + entry.offset);
    at = entry.next;
  }
  return { files, start };
}

function endOfDirectory(view) {
  const last = view.byteLength - END_BYTES;
  for (let at = last; at >= Math.max(0, last - LONGEST_COMMENT); at -= 1) {
    if (view.getUint32(at, true) === END_OF_DIRECTORY) return at;
  }
  throw new Error("there is no ZIP at its end");
}

function directoryEntry(view, at) {
  if (view.getUint32(at, true) !== DIRECTORY_ENTRY) throw new Error("the directory of the ZIP is damaged");
  const short = (place) => view.getUint16(at + place, true);
  const long = (place) => view.getUint32(at + place, true);
  const nameLength = short(28);
  return {
    isEncrypted: Boolean(short(8) & 1), method: short(10), crc: long(16),
    compressed: long(20), size: long(24), offset: long(42), nameLength,
    next: at + 46 + nameLength + short(30) + short(32),
  };
}

async function contentOf(bytes, view, before, { isEncrypted, method, crc, compressed, size, offset }) {
  const at = before + offset;
  if (view.getUint32(at, true) !== LOCAL_ENTRY) throw new Error("an entry of the ZIP is damaged");
  if (isEncrypted || ![STORED, DEFLATED].includes(method)) throw new Error(`compression method ${method} of the ZIP`);
  const start = at + 30 + view.getUint16(at + 26, true) + view.getUint16(at + 28, true);
  const packed = bytes.subarray(start, start + compressed);
  if (size > MOST_BYTES) throw new Error("an entry of the ZIP is too large");
  const content = method === STORED ? packed : await inflated(packed, size);
  if (packed.length !== compressed || content.length !== size || crc32(content) !== crc) {
    throw new Error("the checksum of an entry of the ZIP is wrong");
  }
  return content;
}

/** Inflates at most some bytes, whatever was packed. */
async function inflated(packed, size) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const content = new Uint8Array(size);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > size) {
      await reader.cancel();
      throw new Error("an entry of the ZIP is larger than it says");
    }
    content.set(value, filled);
    filled += value.length;
  }
  return content.subarray(0, filled);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
