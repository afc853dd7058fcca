"""Verification: whether a file answers as the Keras model does, and how well."""

import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.analysis.significance import paired_differences
from pocketseq.pipeline.evaluation import METRICS, in_normal_form
from pocketseq.pipeline.search import Chosen, best_candidates
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION, Normalization
from pocketseq.pipeline.text.special import PAD, START
from pocketseq.pipeline.translation import NO_SCORE, TextTranslator, Translation
from pocketseq.pipeline.translator import ModelTranslator

# The translations of a text, best first.
_Best = Sequence[Translation]

#: Where the best two candidates are this close, in log-probability, rounding decides.
NEAR_TIE = 1e-4

# The largest differences from Keras that float32 rounding explains.
SCORE_TOLERANCE = 1e-3
ALIGNMENT_TOLERANCE = 1e-2

# The share of resamples in which a real loss shows.
_SURE = 0.95

# Near ties are rare: where more texts differ, something is wrong.
_MOST_TIES = 100

# Texts scored at once: scores for all tokens of a large vocabulary take much memory.
_ROWS = 32


@dataclass
class Equality:
    """The result of a comparison with Keras.

    ``examples``: texts compared; ``near_ties``: those that differ first at a step where
    the best two candidates are closer than :data:`NEAR_TIE`; ``differences``: a line
    for each text that differs otherwise.
    """

    examples: int = 0
    near_ties: int = 0
    differences: list[str] = field(default_factory=list)


def compare(
    translator: ModelTranslator, expected: Sequence[_Best], actual: Sequence[_Best]
) -> Equality:
    """Compares a file's translations with the Keras model's, text by text.

    Args:
        translator: The Keras model.
        expected, actual: For each text, the hypotheses of Keras and of the file, best
            first.

    Returns:
        :class:`Equality`.
    """
    pairs = zip(expected, actual, strict=True)
    different = [
        (wanted, found, difference)
        for wanted, found in pairs
        if (difference := _first_difference(wanted, found))
    ]
    # So many are not ties, and to look at each would take long.
    near_ties = [False] * len(different)
    if len(different) <= _MOST_TIES:
        # A text with fewer hypotheses does not show how wide the beam was.
        beam_size = max(map(len, expected), default=1)
        near_ties = _near_ties(translator, different, beam_size)
    return Equality(
        examples=len(expected),
        near_ties=sum(near_ties),
        differences=[
            f"{wanted[0].source!r}: {difference}"
            for (wanted, _, difference), tie in zip(different, near_ties, strict=True)
            if not tie
        ],
    )


def _first_difference(wanted: _Best, found: _Best) -> str:
    """Describes the first difference of two lists of hypotheses; empty: none."""
    pairs = enumerate(zip(wanted, found, strict=False), start=1)
    for rank, pair in pairs:
        if difference := _difference(*pair):
            return f"hypothesis {rank}: {difference}" if len(wanted) > 1 else difference
    if len(wanted) != len(found):
        return f"Keras finds {len(wanted)} hypotheses, the file {len(found)}"
    return ""


def _difference(wanted: Translation, found: Translation) -> str:
    """Describes the difference of two translations; empty: none."""
    # NaN first: every comparison with it is false.
    if not _is_finite(found):
        return "the file's score or alignment is not a finite number"
    if wanted.text != found.text:
        return f"Keras says {wanted.text!r}, the file {found.text!r}"
    if max(wanted.score, found.score) < NO_SCORE:
        return ""  # neither exists
    if not abs(wanted.score - found.score) <= SCORE_TOLERANCE:
        return f"Keras' score is {wanted.score:.5f}, the file's {found.score:.5f}"
    if found.alignment is None or wanted.alignment is None:
        return ""
    if not np.allclose(wanted.alignment, found.alignment, atol=ALIGNMENT_TOLERANCE):
        worst = np.abs(wanted.alignment - found.alignment).max()
        return f"the alignments differ by up to {worst:.4f}"
    return ""


def _is_finite(translation: Translation) -> bool:
    """Whether the score and the alignment of a translation are finite."""
    alignment = 0.0 if translation.alignment is None else translation.alignment
    return bool(np.isfinite(translation.score) and np.isfinite(alignment).all())


def _near_ties(
    translator: ModelTranslator,
    different: Sequence[tuple[_Best, _Best, str]],
    beam_size: int,
) -> list[bool]:
    """Whether each of some pairs differs first where two candidates were level."""
    if beam_size > 1:
        return [
            _differs_in_text(wanted, found)
            and _beam_is_level(translator, wanted[0].source, beam_size)
            for wanted, found, _ in different
        ]
    ties = []
    for wanted, found, _ in different:
        # Where Keras takes no step, there is none that could be level.
        one = wanted[0]
        if not (one.token_ids and _differs_in_text(wanted, found)):
            ties.append(False)
            continue
        step = _first_different_step(translator, one, found[0])
        (margins,) = step_margins(translator, [one.source], [one.token_ids])
        # Text does not tell "ab" from the start of "abc": look at the step before, too.
        ties.append(bool(min(margins[max(step - 1, 0) : step + 1]) < NEAR_TIE))
    return ties


def _differs_in_text(wanted: _Best, found: _Best) -> bool:
    """Whether two lists of hypotheses differ in text first, with all numbers finite."""
    if not all(map(_is_finite, found)):
        return False
    pairs = zip(wanted, found, strict=False)
    first = next((pair for pair in pairs if _difference(*pair)), None)
    return first is not None and first[0].text != first[1].text


def _beam_is_level(translator: ModelTranslator, source: str, beam_size: int) -> bool:
    """Whether a beam search came to a step at which two candidates were level."""
    margins = beam_margins(translator, source, beam_size)
    return min(margins, default=np.inf) < NEAR_TIE


def beam_margins(
    translator: ModelTranslator, source: str, beam_size: int
) -> list[float]:
    """Returns the margin of the closest decision of a beam search at each step.

    A step decides which candidates stay, and in which order: its margin is the smallest
    difference in score between neighbours among the best ``beam_size + 1``.

    Args:
        translator: The Keras model.
        source: A text.
        beam_size: The beam.
    """
    return _margins_of_beams(translator, [source], beam_size)[:, 0].tolist()


def smallest_beam_margins(
    translator: ModelTranslator, sources: Sequence[str], beam_size: int
) -> list[float]:
    """Returns the smallest of the :func:`beam_margins` of each of some texts."""
    smallest: list[float] = []
    for first in range(0, len(sources), _ROWS):
        rows = sources[first : first + _ROWS]
        margins = _margins_of_beams(translator, rows, beam_size)
        smallest += margins.min(axis=0, initial=np.inf).tolist()
    return smallest


def _margins_of_beams(
    translator: ModelTranslator, sources: Sequence[str], beam_size: int
) -> np.ndarray:
    """Returns the margins of each step and text, ``(steps, texts)``.

    After a text's beam has ended, its last margin stays until all have ended.
    """
    margins: list[np.ndarray] = []

    def look_on(totals: tf.Tensor, scores: tf.Tensor) -> Chosen:
        flat = tf.reshape(scores, [len(sources), -1])
        best = tf.math.top_k(flat, beam_size + 1).values.numpy()
        gaps = np.where(best[:, :-1] > NO_SCORE, best[:, :-1] - best[:, 1:], np.inf)
        margins.append(gaps.min(axis=1))
        return best_candidates(totals, scores)

    ids = translator.source_tokenizer.tokenize(tf.constant(sources))
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    # At least one column, for a batch of empty texts.
    width = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
    translator.model.search(
        ids.to_tensor(PAD, shape=[None, width]),
        lengths,
        beam_size=beam_size,
        choose=look_on,
        **translator.search_options,
    )
    return np.reshape(margins, [-1, len(sources)])


def _first_different_step(
    translator: ModelTranslator, wanted: Translation, found: Translation
) -> int:
    """Returns the index of the first token by which two texts differ.

    Args:
        translator: The Keras model.
        wanted: One of its translations.
        found: The translation of a file, with another text.
    """
    pieces, token_ids = wanted.pieces or (), wanted.token_ids or ()
    tokenizer, written = translator.target_tokenizer, ""
    apart = _apart if translator.composition else str
    for step, piece in enumerate(pieces):
        if written and not tokenizer.continues[token_ids[step]]:
            written += tokenizer.separator
        written += piece
        if not apart(found.text).startswith(apart(written)):
            return step
    return min(len(pieces), len(token_ids) - 1)


def _apart(text: str) -> str:
    """Returns a text as tokens wrote it, before it was composed."""
    return unicodedata.normalize("NFD", text)


def step_margins(
    translator: ModelTranslator,
    sources: Sequence[str],
    token_ids: Sequence[Sequence[int]],
) -> list[np.ndarray]:
    """Returns by how much the best candidate led the second at each step of outputs.

    Args:
        translator: The Keras model.
        sources: Texts.
        token_ids: For each, the tokens the search chose, end token included.

    Returns:
        For each text an array of differences in log-probability, one per token.
    """
    # Tokens that a search never chooses are not candidates.
    vocabulary_size = len(translator.target_tokenizer)
    possible = [i for i in range(vocabulary_size) if i not in (PAD, START)]
    margins: list[np.ndarray] = []
    for first in range(0, len(sources), _ROWS):
        rows = slice(first, first + _ROWS)
        logits = translator.forced_logits(sources[rows], token_ids[rows])
        best = tf.math.top_k(tf.gather(logits, possible, axis=-1), 2).values
        margins += [
            row[: len(ids)]
            for row, ids in zip(
                (best[..., 0] - best[..., 1]).numpy(), token_ids[rows], strict=True
            )
        ]
    return margins


def translate_timed(
    translator: TextTranslator, texts: Sequence[str]
) -> tuple[list[Translation], float]:
    """Translates texts one by one.

    Returns:
        The translations, and the median time in milliseconds per text.
    """
    translations, seconds = [], []
    for text in texts:
        started = time.perf_counter()
        translations.append(translator.translate([text], beam_size=1)[0][0])
        seconds.append(time.perf_counter() - started)
    return translations, 1000 * float(np.median(seconds))


@dataclass(frozen=True)
class Loss:
    """The cost of quantization.

    ``points``: of the main metric, by which the file is worse; negative where it is
    better. ``is_real``: whether it is worse in 95 % of the resamples of a bootstrap.
    """

    points: float
    is_real: bool


def quality_loss(
    references: Sequence[Sequence[str]],
    expected: Sequence[str],
    actual: Sequence[str],
    *,
    metric: str,
    normalization: Normalization = NO_NORMALIZATION,
) -> Loss:
    """Measures how much worse a file's texts are than the Keras model's.

    A paired bootstrap over the examples decides whether a loss is real: it is if the
    file is worse in 95 % of the resamples
    (:mod:`pocketseq.pipeline.analysis.significance`).

    Args:
        references: A list with the acceptable texts of each example.
        expected, actual: The texts of Keras and of the file.
        metric: A name in :data:`pocketseq.pipeline.evaluation.METRICS`.
        normalization: Of the target, in whose normal form texts are compared.

    Returns:
        :class:`Loss`.
    """
    measured = METRICS[metric]
    before, after = (
        measured.statistics(*in_normal_form(references, texts, normalization))
        for texts in (expected, actual)
    )
    was, is_now = (
        measured.goodness(measured.of_sums(part.sum(axis=0)))
        for part in (before, after)
    )
    if was <= is_now:
        return Loss(was - is_now, False)
    worse = paired_differences(measured, before, after) < 0
    return Loss(was - is_now, bool(np.mean(worse) >= _SURE))
