/**
 * The models that the page can open: those of the site, and what a visitor drops or chooses.
 *
 * Each is `{name, open}`; `open()` returns `{model, manifest, entry, checked}`: the manifest's
 * entry of the file, and how it was made sure that the file is whole.
 */
import { readContainer } from "./container.js";
import { describe, Model, ModelError } from "./pocketseq.js";

const MANIFEST = "manifest.json";

/** Larger files are no models of this kind, and are not read. */
const MOST_BYTES = 500_000_000;

/** Returns a model of the site: a bundle's folder, or one file. */
export const modelOfSite = ({ name, folder, file, recipe }) => ({
  name,
  open: () => {
    if (file) return openFile(fetched(file, "arrayBuffer").then((data) => new Uint8Array(data)), name);
    const manifest = fetched(folder + MANIFEST, "text");
    const read = (shipped) => fetched(folder + encodeURIComponent(shipped), "arrayBuffer");
    return openBundle(manifest, recipe, read);
  },
});

async function fetched(url, kind) {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`status ${response.status}`);
    return await response[kind]();
  } catch (error) {
    throw new ModelError(`${url}: cannot be read: ${error.message}`);
  }
}

/**
 * Returns the model among files of a visitor's: that of a manifest.json, else the only
 * `.tflite` file.
 *
 * @param files  `{path, file}` each, the file a File.
 * @throws {ModelError} There is none, or more than one.
 */
export function modelOfFiles(files) {
  const depth = ({ path }) => path.split("/").length;
  const [manifest] = files.filter(({ file }) => file.name === MANIFEST).sort((one, other) => depth(one) - depth(other));
  if (manifest) {
    const folder = manifest.path.slice(0, -MANIFEST.length);
    return { name: folder.split("/").at(-2) || "your bundle", open: () => openFolder(manifest.file, folder, files) };
  }
  const alone = files.filter(({ file }) => file.name.endsWith(".tflite"));
  if (alone.length > 1) throw new ModelError(`${alone.length} .tflite files, expected one, or ${MANIFEST} with them`);
  const [{ file } = {}] = alone.length ? alone : files;
  if (!file) throw new ModelError("no files, expected a .tflite file, or the folder of an export");
  return { name: file.name, open: () => openFile(bytesOf(file), file.name) };
}

async function openFolder(manifestFile, folder, files) {
  const manifest = new TextDecoder().decode(await bytesOf(manifestFile));
  const shipped = describe(manifest).file;
  const { models } = JSON.parse(manifest);
  const find = (name) => files.find(({ path }) => path === folder + name)?.file;
  // The file that an app would ship; else another one, if that is what was chosen.
  const recipe = find(shipped) ? undefined : Object.keys(models).find((one) => find(models[one]?.file));
  return openBundle(manifest, recipe, (name) => {
    if (!find(name)) throw new ModelError(`${name}: it is not among the files, expected it beside ${MANIFEST}`);
    return bytesOf(find(name));
  });
}

async function bytesOf(file) {
  try {
    if (file.size > MOST_BYTES) throw new Error(`${file.size} bytes, expected at most ${MOST_BYTES}`);
    return new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    throw new ModelError(`${file.name}: cannot be read: ${error.message}`);
  }
}

/* The runtime is loaded while the files are read: they are promises here. */

async function openBundle(manifest, recipe, read) {
  const description = Promise.resolve(manifest).then((text) => describe(text, recipe));
  const model = await Model.of(description, description.then(({ file }) => read(file)));
  const values = JSON.parse(await manifest);
  const { file } = await description;
  const entry = Object.values(values.models).find((one) => one?.file === file);
  return { model, manifest: values, entry, checked: `its SHA-256 is the one in ${MANIFEST}` };
}

async function openFile(bytes, name) {
  const container = Promise.resolve(bytes).then((whole) => readContainer(whole, name));
  const model = await Model.of(container.then(({ description }) => description), container.then(({ data }) => data));
  const { manifest, isChecked } = await container;
  const checked = isChecked ? "against its own checksum, which is inside the file" : "no: an early export, without a checksum";
  return { model, manifest, entry: { file: name, bytes: (await bytes).length }, checked };
}

/** Returns the files of a drop as `{path, file}`, those inside folders too. */
export async function droppedFiles(transfer) {
  // All of it at once: after the first wait the list is empty.
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.());
  if (entries.every((entry) => entry)) return (await Promise.all(entries.map(filesIn))).flat();
  return [...transfer.files].map((file) => ({ path: file.name, file }));
}

async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path: entry.fullPath.slice(1), file }];
  }
  const reader = entry.createReader();
  const found = [];
  // A call gives a part of them; the last one gives none.
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    found.push(...part);
  }
  return (await Promise.all(found.map(filesIn))).flat();
}
