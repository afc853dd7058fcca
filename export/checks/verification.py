"""Verification: whether a file does what the Keras model does, and how well."""

import time
import unicodedata
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.evaluation import METRICS, in_normal_form
from pocketseq.pipeline.search import best_candidates
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION
from pocketseq.pipeline.text.special import PAD, START
from pocketseq.pipeline.translation import NO_SCORE

# Where the best two candidates are this close, in log-probability, rounding decides.
NEAR_TIE = 1e-4

# The largest differences from Keras that float32 rounding explains.
SCORE_TOLERANCE = 1e-3
ALIGNMENT_TOLERANCE = 1e-2

_RESAMPLES = 2000

# Near ties are rare: where more texts differ, something is wrong.
_MOST_TIES = 100

# Texts scored at once: their scores for all tokens of a large vocabulary take memory.
_ROWS = 32


@dataclass
class Equality:
    """What a comparison with Keras found.

    ``examples``: texts compared; ``near_ties``: those that differ first at a step where
    the best two candidates are closer than :data:`NEAR_TIE`; ``differences``: a line
    for each text that differs otherwise.
    """

    examples: int = 0
    near_ties: int = 0
    differences: list[str] = field(default_factory=list)


def compare(translator, expected, actual):
    """Compares a file's translations with the Keras model's, text by text.

    Args:
        translator: :class:`pocketseq.pipeline.translator.ModelTranslator`.
        expected, actual: For each text, the hypotheses of Keras and of the file, lists
            of :class:`Translation`, best first.

    Returns:
        :class:`Equality`.
    """
    pairs = zip(expected, actual, strict=True)
    different = [
        (wanted, found, difference)
        for wanted, found in pairs
        if (difference := _first_difference(wanted, found))
    ]
    # So many are no ties, and to look at each would take long.
    near_ties = [False] * len(different)
    if len(different) <= _MOST_TIES:
        # Of a text for which there are fewer hypotheses, the beam cannot be told.
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


def _first_difference(wanted, found):
    """Says in what two lists of hypotheses differ first; empty where they are equal."""
    pairs = enumerate(zip(wanted, found, strict=False), start=1)
    for rank, pair in pairs:
        if difference := _difference(*pair):
            return f"hypothesis {rank}: {difference}" if len(wanted) > 1 else difference
    if len(wanted) != len(found):
        return f"Keras finds {len(wanted)} hypotheses, the file {len(found)}"
    return ""


def _difference(wanted, found):
    """Says in what two translations differ; empty where they are equal."""
    # NaN first: it compares unequal to nothing in the wrong direction.
    if not _is_finite(found):
        return "the file's score or alignment is not a finite number"
    if wanted.text != found.text:
        return f"Keras says {wanted.text!r}, the file {found.text!r}"
    if max(wanted.score, found.score) < NO_SCORE:
        return ""  # neither exists
    if not abs(wanted.score - found.score) <= SCORE_TOLERANCE:
        return f"Keras' score is {wanted.score:.5f}, the file's {found.score:.5f}"
    if found.alignment is None:
        return ""
    if not np.allclose(wanted.alignment, found.alignment, atol=ALIGNMENT_TOLERANCE):
        worst = np.abs(wanted.alignment - found.alignment).max()
        return f"the alignments differ by up to {worst:.4f}"
    return ""


def _is_finite(translation):
    """Whether the numbers of a translation are numbers."""
    alignment = 0.0 if translation.alignment is None else translation.alignment
    return bool(np.isfinite(translation.score) and np.isfinite(alignment).all())


def _near_ties(translator, different, beam_size):
    """Whether each of some pairs parts at a step where two candidates were level."""
    if beam_size > 1:
        return [
            _differs_in_text(wanted, found)
            and _beam_is_level(translator, wanted[0].source, beam_size)
            for wanted, found, _ in different
        ]
    ties = []
    for wanted, found, _ in different:
        # Where Keras takes no step, there is none that could be level.
        if not (wanted[0].token_ids and _differs_in_text(wanted, found)):
            ties.append(False)
            continue
        one = wanted[0]
        step = _first_different_step(translator, one, found[0])
        (margins,) = step_margins(translator, [one.source], [one.token_ids])
        # Text does not tell "ab" from the beginning of "abc": the step before, too.
        ties.append(bool(min(margins[max(step - 1, 0) : step + 1]) < NEAR_TIE))
    return ties


def _differs_in_text(wanted, found):
    """Whether two lists of hypotheses differ in text first, with all numbers finite."""
    if not all(map(_is_finite, found)):
        return False
    pairs = zip(wanted, found, strict=False)
    first = next((pair for pair in pairs if _difference(*pair)), None)
    return first is not None and first[0].text != first[1].text


def _beam_is_level(translator, source, beam_size):
    """Whether a beam search came to a step at which two candidates were level."""
    margins = beam_margins(translator, source, beam_size)
    return min(margins, default=np.inf) < NEAR_TIE


def beam_margins(translator, source, beam_size):
    """Returns how close the closest decision of a beam search was at each step.

    Decided is which candidates stay, and in which order: the margin is the smallest
    difference in score between neighbours among the best ``beam_size + 1``.

    Args:
        translator: :class:`ModelTranslator`.
        source: A text.
        beam_size: The beam.
    """
    return _margins_of_beams(translator, [source], beam_size)[:, 0].tolist()


def smallest_beam_margins(translator, sources, beam_size):
    """Returns the smallest of the :func:`beam_margins` of each of some texts."""
    smallest = []
    for first in range(0, len(sources), _ROWS):
        rows = sources[first : first + _ROWS]
        margins = _margins_of_beams(translator, rows, beam_size)
        smallest += margins.min(axis=0, initial=np.inf).tolist()
    return smallest


def _margins_of_beams(translator, sources, beam_size):
    """Returns the margins of each step and text, ``(steps, texts)``.

    When a text's beam has ended, its last margin stays until those of all have.
    """
    margins = []

    def look_on(totals, scores):
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


def _first_different_step(translator, wanted, found):
    """Returns the token at which two different texts part."""
    tokenizer, written = translator.target_tokenizer, ""
    apart = _apart if translator.composition else str
    for step, piece in enumerate(wanted.pieces):
        if written and not tokenizer.continues[wanted.token_ids[step]]:
            written += tokenizer.separator
        written += piece
        if not apart(found.text).startswith(apart(written)):
            return step
    return min(len(wanted.pieces), len(wanted.token_ids) - 1)


def _apart(text):
    """Returns a text as tokens wrote it: several may be one composed character."""
    return unicodedata.normalize("NFD", text)


def step_margins(translator, sources, token_ids):
    """Returns how far the best candidate led the second at each step of some outputs.

    Args:
        translator: :class:`ModelTranslator`.
        sources: Texts.
        token_ids: For each, the tokens the search chose, end token included.

    Returns:
        For each text an array of differences in log-probability, one a token.
    """
    # What a search never chooses is no candidate.
    vocabulary_size = len(translator.target_tokenizer)
    possible = [i for i in range(vocabulary_size) if i not in (PAD, START)]
    margins = []
    for first in range(0, len(sources), _ROWS):
        rows = slice(first, first + _ROWS)
        logits = _forced(translator, sources[rows], token_ids[rows])
        best = tf.math.top_k(tf.gather(logits, possible, axis=-1), 2).values
        margins += [
            row[: len(ids)]
            for row, ids in zip(
                (best[..., 0] - best[..., 1]).numpy(), token_ids[rows], strict=True
            )
        ]
    return margins


def _forced(translator, sources, token_ids):
    """Returns the logits of each step, had the search chosen these tokens."""
    source_ids = translator.source_tokenizer.tokenize(tf.constant(sources))
    target_ids = tf.ragged.constant(token_ids, tf.int32, ragged_rank=1).to_tensor(PAD)
    start = tf.fill([len(sources), 1], START)
    logits, _ = translator.model(
        source_ids.to_tensor(PAD),
        tf.cast(source_ids.row_lengths(), tf.int32),
        tf.concat([start, target_ids[:, :-1]], axis=1),
    )
    return logits


def translate_timed(translator, texts):
    """Translates texts one by one.

    Returns:
        The translations, and the median time of one in milliseconds.
    """
    translations, seconds = [], []
    for text in texts:
        started = time.perf_counter()
        translations.append(translator.translate([text], beam_size=1)[0][0])
        seconds.append(time.perf_counter() - started)
    return translations, 1000 * float(np.median(seconds))


@dataclass(frozen=True)
class Loss:
    """What quantization cost: points of the main metric, and whether that is chance."""

    points: float
    is_real: bool


def quality_loss(
    references, expected, actual, *, metric, normalization=NO_NORMALIZATION
):
    """Measures how much worse a file's texts are than the Keras model's.

    A paired bootstrap over the examples decides whether a loss is real: it is if the
    file is worse in 95 % of the resamples.

    Args:
        references: A list with the acceptable texts of each example.
        expected, actual: The texts of Keras and of the file.
        metric: A name in :data:`pocketseq.pipeline.evaluation.METRICS`.
        normalization: Of the target, in whose normal form texts are compared.

    Returns:
        :class:`Loss`.

    References: Koehn 2004, "Statistical significance tests for machine translation
    evaluation".
    """
    measured = METRICS[metric]
    before, after = (
        measured.statistics(*in_normal_form(references, texts, normalization))
        for texts in (expected, actual)
    )

    def lost(rows):
        was, is_now = (
            measured.goodness(measured.of_sums(part[rows].sum(axis=0)))
            for part in (before, after)
        )
        return was - is_now

    points = lost(slice(None))
    if points <= 0:
        return Loss(points, False)
    random = np.random.default_rng(0)
    worse = [
        lost(random.integers(0, len(before), len(before))) > 0
        for _ in range(_RESAMPLES)
    ]
    return Loss(points, bool(np.mean(worse) >= 0.95))
