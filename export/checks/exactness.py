"""Exactness: which words of a dictionary a file gets wrong, under all kernels.

The kernels of a runtime round as they like, and a word that leads by little may come
out otherwise under others. So every word is asked for under XNNPACK and under the
built-in kernels, in every signature that reads it.
"""

from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import NamedTuple

import numpy as np

from pocketseq.export.checks.verification import SCORE_TOLERANCE
from pocketseq.export.contract import SCORE, TEXT, Exceptions
from pocketseq.export.dictionary import (
    Dictionary,
    Word,
    in_dictionary,
    token_ids,
)
from pocketseq.export.exporter import Options, Outcome, TrainedModel
from pocketseq.export.runtime import Translator, text_of
from pocketseq.pipeline.errors import Interrupted
from pocketseq.pipeline.reports.progress import counting
from pocketseq.pipeline.translation import Translation

# Words between two moves of the progress bar.
_BLOCK = 256

# Differing words that a failure shows.
_SHOWN = 5


class _Found(NamedTuple):
    """The best texts of a search, and their scores: as many as there are answers."""

    texts: Sequence[str]
    scores: np.ndarray


#: Whether what was found for a word is right: ``(its number, its answers as far as the
#: search goes, what was found)``.
_IsRight = Callable[[int, Sequence[str], _Found], bool]


def find_wrong_words(
    path: Path, trained: TrainedModel, options: Options
) -> frozenset[int]:
    """Returns the numbers of the words that a file without exceptions gets wrong.

    Right is who answers a word with the first of its answers, and with the others, in
    whatever order, right after it, as far as the beam goes.

    Args:
        path: The file.
        trained: The model, with the dictionary.
        options: Of the export.
    """

    def is_right(_: int, answers: Sequence[str], found: _Found) -> bool:
        return _are_in_front(answers, found.texts)

    return _failing("finding wrong words", path, trained, options, is_right)


def _are_in_front(answers: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether the first answer comes first, and then the others, in any order."""
    return texts[0] == answers[0] and set(texts) == set(answers)


def check_exactness(
    name: str,
    path: Path,
    trained: TrainedModel,
    options: Options,
    exceptions: Exceptions,
    numbers: Set[int],
) -> Outcome:
    """Asks a finished file for all words of the dictionary.

    An exception must be answered exactly, with score 0, and every other word as
    :func:`find_wrong_words` says.

    Args:
        name: Of the file, for people.
        path: The file.
        trained: The model, with the dictionary.
        options: Of the export.
        exceptions: What the file's table holds.
        numbers: Which words those are.

    Returns:
        A note, and a failure where a word is answered otherwise.
    """

    def is_right(number: int, answers: Sequence[str], found: _Found) -> bool:
        if number not in numbers:
            return _are_in_front(answers, found.texts)
        return list(found.texts) == list(answers) and not found.scores.any()

    failing = _failing("checking the dictionary", path, trained, options, is_right)
    dictionary = _dictionary(trained)
    words = dictionary.words
    note = (
        f"{name}: {len(words) - len(failing):,} of {len(words):,} words of "
        f"{dictionary.name} exactly, under XNNPACK and the built-in kernels: "
        f"{exceptions.entries:,} from a table of {exceptions.bytes:,} bytes"
    )
    if not failing:
        return Outcome(notes=(note,))
    shown = ", ".join(repr(words[number].source) for number in sorted(failing)[:_SHOWN])
    failure = (
        f"{name}: {len(failing):,} words of {dictionary.name} are not answered "
        f"exactly, such as {shown}"
    )
    return Outcome(notes=(note,), failures=(failure,))


def check_others(
    name: str,
    trained: TrainedModel,
    numbers: Set[int],
    before: Sequence[Translation],
    after: Sequence[Translation],
) -> Outcome:
    """Fails where a table changes the answer to a text that is not in it.

    Args:
        name: Of the file, for people.
        trained: The model, with the dictionary.
        numbers: Of the words in the table.
        before, after: Translations of the same texts, without the table and with it.
    """
    words = _dictionary(trained).words
    exceptions = {words[number].entry.source_ids for number in numbers}
    tokenizer = trained.keras.source_tokenizer
    ids = token_ids(tokenizer, [translation.source for translation in before])
    changed = [
        f"{one.source!r}"
        for one, other, source_ids in zip(before, after, ids, strict=True)
        if source_ids not in exceptions and not _are_the_same(one, other)
    ]
    if not changed:
        return Outcome()
    failure = (
        f"{name}: {len(changed)} dev texts that are not exceptions are answered "
        f"otherwise with the table, such as {', '.join(changed[:_SHOWN])}"
    )
    return Outcome(failures=(failure,))


def _are_the_same(one: Translation, other: Translation) -> bool:
    near = abs(one.score - other.score) <= SCORE_TOLERANCE
    return one.text == other.text and near


def dictionary_notes(trained: TrainedModel) -> tuple[str, ...]:
    """Returns lines about what the dictionary left out, and which sets it overlaps."""
    dictionary = trained.dictionary
    if dictionary is None:
        return ()
    overlaps = {
        part: in_dictionary(
            dictionary, trained.keras.source_tokenizer, list(references)
        )
        for part, (references, _) in trained.sets.items()
    }
    return dictionary.notes() + tuple(
        f"{count:,} of {len(trained.sets[part].references):,} {part} texts are in "
        f"{dictionary.name}: quality and loss are those of the model without a table"
        for part, count in overlaps.items()
        if count
    )


def _dictionary(trained: TrainedModel) -> Dictionary:
    if trained.dictionary is None:
        raise ValueError("expected a model with a dictionary")
    return trained.dictionary


def _failing(
    title: str,
    path: Path,
    trained: TrainedModel,
    options: Options,
    is_right: _IsRight,
) -> frozenset[int]:
    """Returns the numbers of the words that are not right in every signature."""
    words = _dictionary(trained).words
    stop = Event()
    with counting(title, 2 * len(trained.translators) * len(words)) as advance:

        def under(xnnpack: bool) -> set[int]:
            failing: set[int] = set()
            for length in trained.translators:
                file = Translator(path, length=length, xnnpack=xnnpack)
                for number, word in enumerate(words):
                    if stop.is_set():
                        raise Interrupted
                    if number % _BLOCK == 0:
                        advance(min(_BLOCK, len(words) - number))
                    fits = trained.translators[length].source_tokenizer.fits
                    if fits(word.source) and not all(
                        is_right(number, *_asked(file, word, beam_size))
                        for beam_size in options.beams
                    ):
                        failing.add(number)
            return failing

        # One thread each: the runtime lets go of Python while it works.
        with ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(under, xnnpack) for xnnpack in (True, False)]
            try:
                return frozenset().union(*(task.result() for task in tasks))
            finally:
                stop.set()


def _asked(
    file: Translator, word: Word, beam_size: int | None
) -> tuple[Sequence[str], _Found]:
    """Returns the answers that a search has room for, and what it finds."""
    row = np.zeros((1, file.max_code_points), np.int32)
    row[0, : len(word.source)] = list(map(ord, word.source))
    found = file.run(row, beam=bool(beam_size))
    answers = word.answers[: beam_size or 1]
    texts = [text_of(codes) for codes in found[TEXT][: len(answers)]]
    return answers, _Found(texts, found[SCORE][: len(answers)])
