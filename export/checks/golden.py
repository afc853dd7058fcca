"""Golden lines: texts with the one correct answer, for the tests of every platform."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from unicodedata import normalize

import numpy as np

from pocketseq.export.checks.verification import smallest_beam_margins, step_margins
from pocketseq.export.contract import SCORE, TEXT
from pocketseq.export.runtime import Translator, text_of
from pocketseq.pipeline.text.special import UNKNOWN_PIECE
from pocketseq.pipeline.translation import NO_SCORE, Translation
from pocketseq.pipeline.translator import ModelTranslator

#: A function that opens a file, and the largest difference from Keras' scores in it.
GoldenFile = tuple[Callable[[], Translator], float]

#: Enough for a platform's tests; fewer cannot be told from a broken model.
LEAST = 100
_WANTED = 200
_WANTED_OF_BEAMS = 100

# Every step must have chosen by this much, in log-probability, so that kernels that
# round differently agree.
_MARGIN = 0.1

# A beam's decisions lie closer, and between scores, which are means over tokens.
_BEAM_MARGIN = 0.01

# Line ends to some programs, though not to JSON.
_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}

# Texts looked at together, and how many are made to catch one mistake.
_BLOCK = 150
_MADE = 20

# Lines of exceptions.
_EXCEPTIONS = 20

_HOSTILE = (
    "", " ", "\t", "\n", "  a", "a  ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\ufffd",
    "\u0301", "e\u0301", "\u00e9", "\u1e9e", "\ufb03", "\u0130", "\u01c5", "\u1f82",
    "\uac01", "\u1100\u1161\u11a8", "\u202eabc", "\u05e9\u05dc\u05d5\u05dd", "\u0645",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0010ffff", "\ue000",
    "##", "##a", "<pad>", "<start>", "<end>", "\x01", "\x7f", "\u0080", "a\x00b",
    "\x00",
)  # fmt: skip


def candidates(
    sources: Sequence[str], *, max_code_points: int, seed: int = 0
) -> Iterator[str]:
    """Yields texts to choose golden lines from: made-up ones first, then given ones.

    Args:
        sources: Real texts, such as those of the dev set.
        max_code_points: The longest text of the model; longer ones, which it cuts, are
            among the candidates, without whitespace: an app may cut there or not.
        seed: Makes the generated ones the same each time.
    """
    generator = random.Random(seed)
    letters = sorted({character for source in sources for character in source})
    solid = [letter for letter in letters if not letter.isspace()]
    yield from _decomposed(sources)
    yield from _beyond_the_plane(sources, max_code_points)
    yield from _HOSTILE
    for source in sources[:20]:
        yield source.upper()
        yield source + generator.choice(_HOSTILE)
    for length in (1, 2, 3, max_code_points - 1, max_code_points, max_code_points + 9):
        for _ in range(4):
            some = solid if length > max_code_points else letters
            yield "".join(generator.choices(some, k=length))
        yield "".join(chr(generator.randrange(1, 0xD800)) for _ in range(length))
    yield from (text for text in sources if len(text) <= max_code_points)


def _decomposed(sources: Sequence[str]) -> Iterator[str]:
    """Yields texts in NFD, such as a keyboard or a file name may give them."""
    forms = (normalize("NFD", source) for source in sources)
    pairs = zip(forms, sources, strict=True)
    yield from islice((form for form, source in pairs if form != source), _MADE)
    accented = (source + "\u0301" for source in sources)
    yield from islice((t for t in accented if t != normalize("NFC", t)), _MADE)


def _beyond_the_plane(sources: Sequence[str], max_code_points: int) -> Iterator[str]:
    """Yields texts above U+FFFF, where a character counts as two UTF-16 units.

    Counted so, they give two unknown characters instead of one, or a cut word.
    """
    yield from islice((text for text in sources if max(text) > "\uffff"), _MADE)
    for source in sources[: _MADE // 4]:
        yield "\U0001f600" + source
        yield source[:1] + "\U0001f600" + source[1:]
        yield source + "\U00020000"
        yield "\U0001d41a" * (max_code_points - len(source)) + source


@dataclass(eq=False)
class _Line:
    """A text as an app is given it, and the translations by Keras, best first.

    ``mistaken``: the code points from an app that forgets NFC, or counts UTF-16 units;
    None where those are correct. ``is_known``: whether the model knows all characters
    in which the two differ.
    """

    text: str
    translations: list[Translation]
    mistaken: list[int] | None
    is_known: bool

    @property
    def is_composed(self) -> bool:
        """Whether the text is in NFC."""
        return self.text == normalize("NFC", self.text)

    def json(self, beam_size: int | None) -> str:
        """Returns the line as it is written."""
        texts = [one.text for one in self.translations]
        scores = [round(one.score, 6) for one in self.translations]
        found: dict[str, Any] = {"translations": texts, "scores": scores}
        if not beam_size:
            found = {"translation": texts[0], "score": scores[0], "search": "greedy"}
        line = {"text": self.text, **found}
        return json.dumps(line, ensure_ascii=False).translate(_LINE_BREAKS)


def golden_lines(
    translator: ModelTranslator,
    files: Sequence[GoldenFile],
    sources: Sequence[str],
    *,
    beam_size: int | None = None,
    is_longest: bool = True,
) -> list[str]:
    """Chooses texts on which all files agree, and by a clear margin.

    The text of a line is as an app receives it. Some are in NFD and some above U+FFFF:
    where the model can tell, an app that passes them on as they are, or as UTF-16
    units, gets another answer.

    Args:
        translator: The Keras model.
        files: One for each file and set of kernels that must agree. One is open at a
            time.
        sources: Real texts in NFC, such as those of the dev set.
        beam_size: The beam of the lines; None: they are of the greedy search.
        is_longest: Whether files hold no length above the translator's, so that a text
            above it is cut; else there is no such line, because an app may call the
            signature that holds all of it.

    Returns:
        Lines of JSON: ``text``, ``translation``, ``score``, and ``search``, which is
        ``greedy``; with a beam ``text``, ``translations``, ``scores``, best first, as
        many as there are.
    """
    limit = translator.source_tokenizer.max_code_points
    texts = [
        text
        for text in dict.fromkeys(candidates(sources, max_code_points=limit))
        if is_longest or len(normalize("NFC", text)) <= limit
    ]
    wanted = _WANTED_OF_BEAMS if beam_size else _WANTED
    chosen: list[tuple[_Line, bool]] = []
    for start in range(0, len(texts), _BLOCK):
        lines = _sure_lines(translator, texts[start : start + _BLOCK], beam_size)
        chosen += _agreed(lines, files, beam_size)
        if len(chosen) >= wanted:
            break
    return [line.json(beam_size) for line in _kept(chosen)[:wanted]]


def exception_lines(
    exceptions: Sequence[tuple[str, str]], files: Sequence[GoldenFile]
) -> list[str]:
    """Chooses some texts that all files answer from a table, whatever Keras says.

    Args:
        exceptions: ``(text, answer)`` of each, in NFC.
        files: As of :func:`golden_lines`.

    Returns:
        Lines as of the greedy search. Their score is 0.
    """
    step = max(len(exceptions) // _EXCEPTIONS, 1)
    lines = [
        _Line(text, [Translation(text, answer, 0.0, None)], None, True)
        for text, answer in exceptions[::step][:_EXCEPTIONS]
    ]
    return [line.json(None) for line, _ in _agreed(lines, files, None)]


def _sure_lines(
    translator: ModelTranslator, texts: Sequence[str], beam_size: int | None
) -> list[_Line]:
    """Returns lines of those texts that the Keras model is sure about."""
    tokenizer = translator.source_tokenizer
    limit = tokenizer.max_code_points
    # The caller cuts: the translator would log it.
    passed = [normalize("NFC", text.split("\0")[0])[:limit] for text in texts]
    beam = beam_size or 1
    found = translator.translate(passed, beam_size=beam, n_best=beam)
    is_sure = _beams_are_sure if beam_size else _are_sure
    return [
        _Line(text, translations, _mistaken(text, limit), _is_known(tokenizer, text))
        for text, translations, sure in zip(
            texts, found, is_sure(translator, found), strict=True
        )
        if sure
    ]


def _mistaken(text: str, limit: int) -> list[int] | None:
    """Returns the input from an app that forgets NFC, or counts UTF-16 units."""
    text = text.split("\0")[0]
    composed = normalize("NFC", text)
    if text != composed:
        return list(map(ord, text))[:limit]
    if max(text, default="") > "\uffff":
        return np.frombuffer(text.encode("utf-16-le"), "<u2")[:limit].tolist()
    return None


def _is_known(tokenizer: Any, text: str) -> bool:
    """Whether a model knows the characters that NFC makes in a text."""
    made = set(normalize("NFC", text)) - set(text)
    forms = (tokenizer.table.get(character, UNKNOWN_PIECE) for character in made)
    return UNKNOWN_PIECE not in forms


def _agreed(
    lines: Sequence[_Line], files: Sequence[GoldenFile], beam_size: int | None
) -> list[tuple[_Line, bool]]:
    """Returns (line, whether it shows the mistake) where all files say the same."""
    shown: dict[_Line, set[bool | None]] = {line: set() for line in lines}
    for open_file, tolerance in files:
        file = open_file()
        for line in list(shown):
            (found,) = file.translate(
                [line.translations[0].source],
                beam_size=beam_size or 1,
                n_best=beam_size or 1,
            )
            answer = [one.text for one in found], [one.score for one in found]
            if _agrees(line, *answer, tolerance / 2):
                shown[line].add(_shows_mistake(file, line, tolerance / 2, beam_size))
            else:
                del shown[line]
    return [
        (line, answers == {True})
        for line, answers in shown.items()
        if answers in ({True}, {False})
    ]


def _agrees(
    line: _Line, texts: list[str], scores: Iterable[float], tolerance: float
) -> bool:
    wanted = line.translations
    return texts == [one.text for one in wanted] and np.allclose(
        np.array(scores), [one.score for one in wanted], rtol=0, atol=tolerance
    )


def _shows_mistake(
    file: Translator, line: _Line, tolerance: float, beam_size: int | None
) -> bool | None:
    """Whether an app that makes the mistake gets other texts.

    None where the texts are the same and the scores are not: that shows too little, and
    is not the correct answer either.
    """
    if line.mistaken is None:
        return False
    row = np.zeros((1, file.max_code_points), np.int32)
    row[0, : len(line.mistaken)] = line.mistaken
    found = file.run(row, beam=bool(beam_size))
    there = ~(found[SCORE] < NO_SCORE)
    texts = list(map(text_of, found[TEXT][there]))
    if texts != [one.text for one in line.translations]:
        return True
    return False if _agrees(line, texts, found[SCORE][there], tolerance) else None


def _kept(chosen: Sequence[tuple[_Line, bool]]) -> list[_Line]:
    """Returns the useful lines of some (line, whether it shows a mistake).

    First those that show a mistake; those that could but do not only where none does.
    How an app encodes characters that the model does not know is not a mistake.
    """
    plain = [line for line, _ in chosen if line.mistaken is None]
    made = []
    for composed in (False, True):
        able = [
            (line, shows)
            for line, shows in chosen
            if line.mistaken is not None and line.is_composed == composed
        ]
        showing = [line for line, shows in able if shows and line.is_known]
        made += showing or [line for line, shows in able if not shows]
    return made + plain


def _are_sure(
    translator: ModelTranslator, found: Sequence[Sequence[Translation]]
) -> list[bool]:
    """Whether each best translation led at every step by the margin.

    A copied character depends on the attention, which has no margin: it is never sure.
    """
    best = [translations[0] for translations in found]
    chosen = [t for t in best if t.token_ids]
    margins = step_margins(
        translator, [t.source for t in chosen], [t.token_ids or () for t in chosen]
    )
    sure = {
        t.source: _copies_nothing(translator, [t]) and bool(margin.min() >= _MARGIN)
        for t, margin in zip(chosen, margins, strict=True)
    }
    # No token is chosen for a text without tokens: that is sure.
    return [sure.get(t.source, True) for t in best]


def _beams_are_sure(
    translator: ModelTranslator, found: Sequence[Sequence[Translation]]
) -> list[bool]:
    """Whether the beam of each text made all its decisions by the margin."""
    sources = [translations[0].source for translations in found]
    beam_size = max(map(len, found))
    margins = smallest_beam_margins(translator, sources, beam_size)
    return [
        margin >= _BEAM_MARGIN and _copies_nothing(translator, translations)
        for margin, translations in zip(margins, found, strict=True)
    ]


def _copies_nothing(
    translator: ModelTranslator, translations: Sequence[Translation]
) -> bool:
    """Whether no token stands for a character that is copied from the source."""
    unknown_ids = translator.target_tokenizer.unknown_ids
    return all(unknown_ids.isdisjoint(one.token_ids or ()) for one in translations)
