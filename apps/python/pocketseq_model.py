"""Translates short text with a model that Pocketseq has exported.

One file to copy into a project, beside the folder of the export; it needs
``ai-edge-litert`` and ``numpy``::

    from pocketseq_model import Model

    model = Model("english-pronunciation")  # the folder of the export
    model("phone")  # 'F OW1 N'

What it does is all that an app has to do: text to code points in NFC, one call of the
runtime, code points to text.
"""

import functools
import hashlib
import json
import re
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

# How many answers a model remembers.
_REMEMBERED = 1024

# The code points with the Unicode property White_Space.
_WHITESPACE = re.compile(
    "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
)

# Halves of UTF-16 pairs that stand alone, and so are no characters.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

# Hypotheses that do not exist have a score below this.
_NO_SCORE = -1e6


class ModelError(Exception):
    """The files cannot be used: missing, damaged, or not of an export."""


@dataclass(frozen=True, eq=False)
class Translation:
    """One answer.

    ``text``: it. ``score``: the mean log-probability of its tokens, at most 0; 0 where
    a dictionary gave the answer. ``alignment``: float32, a row for each code point of
    ``text`` and a column for each of ``source``, what was read of the given text: the
    share of the row's character that came from the column's.
    """

    text: str
    score: float
    source: str
    alignment: np.ndarray


class Model:
    """A model in the folder of an export. May be called from several threads.

    Args:
        folder: Has ``manifest.json`` and the files it names.
        recipe: Which file: ``int8``, ``float32`` and so on; None: int8 if it is there.
        dictionary: ``{text: its answer}``, which come before the model's own.

    Raises:
        ModelError: The folder is not whole, a file is not the one that the manifest
            describes, or the runtime cannot run it.
    """

    def __init__(
        self,
        folder: str | Path,
        recipe: str | None = None,
        *,
        dictionary: Mapping[str, str] | None = None,
    ) -> None:
        entry, signatures = _described(Path(folder), recipe)
        data = _checked_bytes(Path(folder) / entry["file"], entry)
        self._dictionary = {_nfc(text): one for text, one in (dictionary or {}).items()}
        self._lengths = {
            signature["inputs"][0]["shape"][1]: name
            for name, signature in signatures.items()
            if not name.startswith("translate_beam")
        }
        self._beams = {name for name in signatures if name.startswith("translate_beam")}
        self._interpreter = _opened(Path(folder) / entry["file"], data)
        self._runners: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._answers = functools.lru_cache(_REMEMBERED)(self._run)

    @property
    def has_beam(self) -> bool:
        """Whether :meth:`best` gives more than one answer."""
        return bool(self._beams)

    def __call__(self, text: str) -> str:
        """Returns the answer to a text."""
        return self.translate(text).text

    def translate(self, text: str) -> Translation:
        """Returns the answer to a text, of which too much is cut at whitespace."""
        return self._ask(text, beam=False)[0]

    def best(self, text: str) -> list[Translation]:
        """Returns the best answers to a text, best first, by the search with a beam.

        Raises:
            ModelError: The file was exported without a beam.
        """
        if not self._beams:
            raise ModelError("the file has no beam, expected an export with --beam")
        return list(self._ask(text, beam=True))

    def _ask(self, text: str, beam: bool) -> tuple[Translation, ...]:
        whole = _nfc(text)
        if whole in self._dictionary:
            return (_by_heart(whole, self._dictionary[whole]),)
        return self._answers(_cut(whole, max(self._lengths)), beam)

    def _run(self, source: str, beam: bool) -> tuple[Translation, ...]:
        length = min(one for one in self._lengths if one >= len(source))
        row = np.zeros((1, length), np.int32)
        row[0, : len(source)] = [ord(character) for character in source]
        name = self._lengths[length]
        if beam:
            name = name.replace("translate", "translate_beam", 1)
        with self._lock:
            if name not in self._runners:
                self._runners[name] = self._interpreter.get_signature_runner(name)
            outputs = self._runners[name](text=row)
        found = []
        for codes, score, shares in zip(
            outputs["text"], outputs["score"], outputs["alignment"], strict=True
        ):
            if score < _NO_SCORE:
                break
            answer = "".join(map(chr, codes)).split("\0", 1)[0]
            # A copy, which does not keep the padding, and which nobody may change.
            alignment = shares[: len(answer), : len(source)].copy()
            alignment.flags.writeable = False
            found.append(Translation(answer, float(score), source, alignment))
        return tuple(found)


def _described(folder: Path, recipe: str | None) -> tuple[dict, dict]:
    """Returns the manifest's entry of a file, and the signatures."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        models, signatures = manifest["models"], manifest["signatures"]
        names = list(models)
        chosen = recipe or ("int8" if "int8" in names else names[0])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(f"{path}: expected the manifest of an export") from error
    if chosen not in names:
        raise ModelError(f"{path}: no {chosen}, expected one of {', '.join(names)}")
    return models[chosen], signatures


def _checked_bytes(path: Path, entry: Mapping[str, Any]) -> bytes:
    """Returns the content of a file that is the one described.

    Runtimes do not look: a damaged file may crash them, or answer wrongly.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ModelError(
            f"{path}: damaged, or of another export: {len(data):,} bytes, expected "
            f"{entry['bytes']:,} with the SHA-256 in manifest.json"
        )
    return data


def _opened(path: Path, data: bytes) -> Interpreter:
    # By content: a file that is cut off while it is mapped ends the process.
    try:
        return Interpreter(model_content=data, num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: the runtime cannot run it: {error}") from error


def _nfc(text: str) -> str:
    """Returns a text in NFC, up to its first U+0000."""
    whole = unicodedata.normalize("NFC", text.split("\0", 1)[0])
    return _LONE_SURROGATE.sub("\ufffd", whole)


def _cut(text: str, longest: int) -> str:
    """Cuts a text that is too long at the last whitespace that leaves a whole word."""
    if len(text) <= longest:
        return text
    # The whitespace itself need not fit.
    spaces = list(_WHITESPACE.finditer(text[: longest + 1]))
    whole = text[: spaces[-1].start()] if spaces else ""
    return whole or text[:longest]


def _by_heart(source: str, answer: str) -> Translation:
    """Returns an answer from a dictionary, which came evenly from all of the source."""
    even = np.full((len(answer), len(source)), 1 / max(len(source), 1), np.float32)
    return Translation(answer, 0.0, source, even)
