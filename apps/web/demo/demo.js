/** The page: models to choose from, a text, its answer while one types. */
import { AttentionView, attentionOf } from "./attention.js";
import { examplesOf, ipaOf, languageOf, nameOf, voiceFor } from "./languages.js";
import { droppedFiles, modelOfFiles, modelOfSite } from "./models.js";
import { keepForOffline } from "./offline.js";
import { make, number, part, percent, size } from "./parts.js";
import { latest } from "./pocketseq.js";

/** Milliseconds without a key after which a screen reader says the answer. */
const PAUSE = 700;

const attention = new AttentionView();
const choices = [];
let opened = null;
let answers = [];
let pause = 0;

/* Models. */

function addChoice(choice) {
  choices.push({ ...choice, option: new Option(choice.name, choices.length) });
  part("model").append(choices.at(-1).option);
  return choices.length - 1;
}

/** Opens a model; the one before stays where that does not succeed. */
const open = latest(async (place, signal) => {
  const choice = choices[place];
  part("model").value = place;
  part("waiting")?.replaceChildren(`Loading ${choice.name} …`);
  part("answer").ariaBusy = "true";
  showError(null);
  try {
    const found = await choice.open();
    if (signal.aborted) return found.model.close();
    opened?.model.close();
    opened = { ...found, place };
    showModel();
    await translate();
  } catch (error) {
    if (signal.aborted) return;
    showError(error.message);
    // A file of a visitor's that cannot be opened is no choice.
    if (choice.isForeign && opened?.place !== place) choice.option.remove();
    part("model").value = opened?.place ?? -1;
    part("waiting")?.replaceChildren("No model is open.");
  } finally {
    if (!signal.aborted) part("answer").ariaBusy = "false";
  }
});

function showModel() {
  const language = languageOf(opened.manifest);
  part("label").textContent = language ? `A word in ${nameOf(language)}` : "Text";
  part("text").lang = language ?? "";
  const examples = examplesOf(language);
  part("examples").hidden = !examples.length;
  part("examples").replaceChildren(
    make("span", { className: "quiet", textContent: "Try" }),
    ...examples.map((text) => make("button", { type: "button", lang: language, textContent: text, onclick: () => setText(text) })),
  );
  if (!part("text").value && examples.length) part("text").value = examples[0];
  showFacts();
  showVoice();
  remember();
}

function showFacts() {
  const { model, manifest, entry, checked } = opened;
  const { quality = {}, exceptions = manifest.exceptions } = entry;
  const facts = {
    Task: manifest.task,
    File: `${entry.file}, ${size(entry.bytes)}`,
    Checked: checked,
    Reads: `up to ${model.maxCodePoints} code points`,
    Search: model.hasBeam ? `with a beam of ${manifest.beam_size ?? "several"}` : "greedy",
    Measured: qualityText(quality),
    Table: exceptions && `${exceptions.entries.toLocaleString("en")} texts answered exactly, with score 0`,
    Data: manifest.recipe?.data?.license,
  };
  part("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) =>
      value ? [make("dt", { textContent: name }), make("dd", { textContent: value })] : [],
    ),
  );
}

function qualityText({ examples, ...metrics }) {
  const shown = ["wer", "per", "bleu", "chrf", "cer", "exact"].filter((name) => Number.isFinite(metrics[name]));
  const texts = shown.map((name) => `${name.toUpperCase()} ${number(metrics[name], 1)}`);
  return texts.length ? `${texts.join(", ")} on ${examples} unseen texts` : "";
}

function showError(message) {
  part("error").hidden = !message;
  part("error").textContent = message ?? "";
}

/* The text and its answers. */

function setText(text) {
  part("text").value = text;
  part("text").focus();
  translate();
}

const ask = latest(async (text, signal) => {
  const start = performance.now();
  const { model } = opened;
  const found = model.hasBeam ? await model.best(text, { signal }) : [await model.translate(text, { signal })];
  return { found, milliseconds: performance.now() - start };
});

async function translate() {
  if (!opened) return;
  try {
    const answer = await ask(part("text").value);
    if (!answer) return;
    answers = answer.found;
    showHypotheses();
    showAnswer(0);
    part("time").replaceChildren(make("b", { textContent: number(answer.milliseconds, 1) }), "\u00a0ms");
    sayLater();
    remember();
  } catch (error) {
    showError(error.message);
  }
}

function showAnswer(rank) {
  const answer = answers[rank];
  const { manifest } = opened;
  part("found").classList.toggle("long", answer.text.length > 60);
  const hint = answer.source ? "No answer." : "The answer comes here while you type.";
  part("found").replaceChildren(
    answer.text ? make("bdi", { className: "text", textContent: answer.text }) : make("span", { className: "quiet", textContent: hint }),
  );
  part("figures").hidden = !answer.source;
  part("score").replaceChildren(...scoreText(answer.score));
  const isCut = answer.source.length < part("text").value.normalize("NFC").length;
  part("notice").hidden = !isCut;
  part("notice").textContent = isCut ? `Read as far as \u201c${answer.source}\u201d: the model reads up to ${opened.model.maxCodePoints} code points.` : "";
  showIpa(answer.text);
  attention.show(attentionOf(answer, manifest));
  showVoice();
}

function scoreText(score) {
  const value = make("b", { textContent: number(score, 3) });
  const hasTable = opened.entry.exceptions ?? opened.manifest.exceptions;
  if (score === 0 && hasTable) return [value, " exact, from the table in the file"];
  return [value, ` (${percent(Math.exp(score))} per symbol)`];
}

/** Shows phones of ARPAbet as IPA, and phones that are IPA as one word. */
function showIpa(text) {
  const { manifest } = opened;
  const isPhones = manifest.target?.tokenizer === "word" && /phon/.test(manifest.task ?? "");
  const phones = text.split(" ").filter(Boolean);
  const ipa = isPhones && phones.length ? (ipaOf(phones) ?? phones.join("")) : "";
  part("ipa").hidden = !ipa;
  part("ipa").replaceChildren(make("bdi", { className: "text", textContent: `/${ipa}/` }), " in IPA");
}

function showHypotheses() {
  part("best").hidden = !opened.model.hasBeam || !answers[0].source;
  const rows = answers.map(({ text, score }, rank) => {
    const input = make("input", { type: "radio", name: "hypothesis", value: rank, checked: !rank, onchange: () => showAnswer(rank) });
    const bar = make("i");
    bar.style.setProperty("--size", Math.exp(Math.min(score, 0)));
    return make(
      "label", { className: "hypothesis" }, input,
      make("bdi", { className: "answer-text text", textContent: text || "(nothing)" }),
      make("span", { className: "number", textContent: number(score, 3) }),
      make("span", { className: "meter", ariaHidden: "true" }, bar),
    );
  });
  const legend = part("hypotheses").querySelector("legend");
  part("hypotheses").replaceChildren(legend, ...rows);
}

function sayLater() {
  clearTimeout(pause);
  pause = setTimeout(() => {
    const [{ source, text, score }] = answers;
    part("live").textContent = source ? `${source}: ${text || "no answer"}. Score ${number(score, 2)}.` : "";
  }, PAUSE);
}

/* Speech. */

function showVoice() {
  const language = opened && languageOf(opened.manifest);
  const word = part("text").value.trim();
  part("speech").hidden = !language || !word || !globalThis.speechSynthesis;
  if (part("speech").hidden) return;
  const voice = voiceFor(language);
  part("speak").hidden = !voice;
  part("speak").textContent = `Hear \u201c${word}\u201d`;
  part("voice").textContent = voice
    ? `This browser\u2019s voice ${voice.name} reads the word by its own rules${voice.localService ? "" : ", on a server of its maker"}; it does not follow the answer above.`
    : `This browser has no voice for ${nameOf(language)}.`;
}

function speak() {
  const voice = voiceFor(languageOf(opened.manifest));
  if (!voice) return;
  const utterance = new SpeechSynthesisUtterance(part("text").value);
  Object.assign(utterance, { voice, lang: voice.lang, rate: 0.9 });
  speechSynthesis.cancel();
  speechSynthesis.speak(utterance);
}

/* The address: a model and a text can be sent as a link. */

let addressPause = 0;

function remember() {
  clearTimeout(addressPause);
  // Browsers refuse more than some changes in a while.
  addressPause = setTimeout(() => {
    const values = new URLSearchParams({ model: choices[opened.place].name, text: part("text").value });
    history.replaceState(null, "", `#${values}`);
  }, 400);
}

/* Files of a visitor's. */

function openFiles(files) {
  try {
    open(addChoice({ ...modelOfFiles(files), isForeign: true }));
  } catch (error) {
    showError(error.message);
  }
}

function listenForFiles() {
  for (const name of ["files", "folder"]) {
    part(name).addEventListener("change", (event) => {
      const chosen = [...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
      event.target.value = "";
      if (chosen.length) openFiles(chosen);
    });
  }
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (isShown) => (part("drop").hidden = !isShown);
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || show(false));
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(false);
    try {
      openFiles(await droppedFiles(event.dataTransfer));
    } catch (error) {
      showError(`the files cannot be read: ${error.message}`);
    }
  });
}

/* The start. */

async function start() {
  part("text").addEventListener("input", () => {
    showVoice();
    translate();
  });
  part("model").addEventListener("change", (event) => open(Number(event.target.value)));
  part("speak").addEventListener("click", speak);
  globalThis.speechSynthesis?.addEventListener?.("voiceschanged", showVoice);
  listenForFiles();
  const wanted = new URLSearchParams(location.hash.slice(1));
  part("text").value = wanted.get("text") ?? "";
  const response = await fetch("site.json");
  const site = await response.json();
  part("version").textContent = site.version;
  for (const one of site.models) addChoice(modelOfSite(one));
  const first = choices.findIndex(({ name }) => name === wanted.get("model"));
  await open(Math.max(first, 0));
  part("offline").textContent = await keepForOffline(site, opened?.model.files ?? []);
}

start().catch((error) => showError(`the page cannot start: ${error.message}`));
