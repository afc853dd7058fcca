/** Languages: which one a model reads, a voice for it, and phones as IPA. */

/** Words to try, where a model's language is known. */
const EXAMPLES = {
  de: ["schmetterling", "straße", "taschenmodell"],
  en: ["pocketseq", "colonel", "record"],
  es: ["llave", "cigüeña", "pingüinos"],
  fr: ["hirondelle", "écureuil", "téléphonerions"],
  it: ["ghiaccio", "chiesa", "telefonino"],
};

/**
 * Returns the language of a model's texts, such as "fr", by the dictionary that it was
 * trained on; undefined where that does not tell.
 */
export function languageOf(manifest) {
  const corpus = String(manifest.recipe?.data?.train ?? "");
  if (/^cmudict/.test(corpus)) return "en";
  return corpus.match(/^gruut(?:-stress)?:([a-z]{2})\b/)?.[1];
}

export const examplesOf = (language) => EXAMPLES[language] ?? [];

/** "fr" is "French". */
export const nameOf = (language) => new Intl.DisplayNames(["en"], { type: "language" }).of(language);

/** Returns the browser's voice for a language, rather one that needs no network. */
export function voiceFor(language) {
  const voices = globalThis.speechSynthesis?.getVoices() ?? [];
  const fitting = voices.filter(({ lang }) => lang.replace("_", "-").toLowerCase().split("-")[0] === language);
  const rank = (voice) => 2 * voice.localService + /^en[-_]us$/i.test(voice.lang);
  return fitting.sort((one, other) => rank(other) - rank(one))[0];
}

/** The vowels of ARPAbet: without stress, and with it where that is another sign. */
const VOWELS = {
  AA: ["ɑ"], AE: ["æ"], AH: ["ə", "ʌ"], AO: ["ɔ"], AW: ["aʊ"], AY: ["aɪ"], EH: ["ɛ"], ER: ["ɚ", "ɝ"],
  EY: ["eɪ"], IH: ["ɪ"], IY: ["i"], OW: ["oʊ"], OY: ["ɔɪ"], UH: ["ʊ"], UW: ["u"],
};

const CONSONANTS = {
  B: "b", CH: "tʃ", D: "d", DH: "ð", F: "f", G: "ɡ", HH: "h", JH: "dʒ", K: "k", L: "l", M: "m", N: "n",
  NG: "ŋ", P: "p", R: "ɹ", S: "s", SH: "ʃ", T: "t", TH: "θ", V: "v", W: "w", Y: "j", Z: "z", ZH: "ʒ",
};

/** What an English syllable may begin with, besides one consonant. */
const ONSETS = new Set(
  ("B L,B R,B Y,D R,D W,D Y,F L,F R,F Y,G L,G R,G W,HH Y,K L,K R,K W,K Y,M Y,P L,P R,P Y,S F,S K,S K R,S K W,S L," +
    "S M,S N,S P,S P L,S P R,S P Y,S T,S T R,S W,SH R,T R,T W,TH R,TH W,V Y").split(","),
);

/**
 * Returns phones of ARPAbet as IPA: "AH0 T EH1 N SH AH0 N" is "əˈtɛnʃən".
 *
 * A stress mark stands before the consonants that its syllable begins with, as many as an
 * English one may; a word of one syllable has none.
 *
 * @returns {string | undefined}  undefined: these are not phones of ARPAbet.
 */
export function ipaOf(phones) {
  const signs = phones.map(signOf);
  if (!phones.length || signs.includes(undefined)) return undefined;
  const vowels = phones.flatMap((phone, place) => (/^[A-Z]+[012]?$/.test(phone) && vowelOf(phone) ? [place] : []));
  const marks = { 1: "ˈ", 2: "ˌ" };
  if (vowels.length > 1) {
    vowels.forEach((place, syllable) => {
      const mark = marks[phones[place].at(-1)];
      if (mark) {
        const start = onset(phones, syllable ? vowels[syllable - 1] + 1 : 0, place, !syllable);
        signs[start] = mark + signs[start];
      }
    });
  }
  return signs.join("");
}

const vowelOf = (phone) => VOWELS[phone.replace(/[012]$/, "")];

function signOf(phone) {
  const vowel = vowelOf(phone);
  if (!vowel) return CONSONANTS[phone];
  return /[12]$/.test(phone) ? vowel.at(-1) : vowel[0];
}

/** Where the syllable of a vowel begins: all consonants of a word's first one are its own. */
function onset(phones, from, vowel, isFirst) {
  if (isFirst) return from;
  let start = vowel;
  for (let place = vowel - 1; place >= from; place -= 1) {
    const cluster = phones.slice(place, vowel).join(" ");
    const fits = place === vowel - 1 ? !["NG", "ZH"].includes(cluster) : ONSETS.has(cluster);
    if (!fits) break;
    start = place;
  }
  return start;
}
