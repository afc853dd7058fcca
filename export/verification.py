"""Verification: whether a file does what the Keras model does, and how well."""

import time
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.evaluation import errors, evaluate
from pocketseq.pipeline.special import END, PAD, START

# Where the best two candidates are this close, in log-probability, rounding decides.
NEAR_TIE = 1e-4

# The largest differences from Keras that float32 rounding explains.
SCORE_TOLERANCE = 1e-3
ALIGNMENT_TOLERANCE = 1e-2

_RESAMPLES = 2000


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
        expected, actual: For each text, the :class:`Translation` of Keras and of the
            file.

    Returns:
        :class:`Equality`.
    """
    pairs = zip(expected, actual, strict=True)
    different = [
        (wanted, found, difference)
        for wanted, found in pairs
        if (difference := _difference(wanted, found))
    ]
    near_ties = _near_ties(translator, different)
    return Equality(
        examples=len(expected),
        near_ties=sum(near_ties),
        differences=[
            f"{wanted.source!r}: {difference}"
            for (wanted, _, difference), tie in zip(different, near_ties, strict=True)
            if not tie
        ],
    )


def _difference(wanted, found):
    """Says in what two translations differ; empty where they are equal."""
    # NaN first: it compares unequal to nothing in the wrong direction.
    if not (np.isfinite(found.score) and np.isfinite(found.alignment).all()):
        return "the file's score or alignment is not a finite number"
    if wanted.text != found.text:
        return f"Keras says {wanted.text!r}, the file {found.text!r}"
    if not abs(wanted.score - found.score) <= SCORE_TOLERANCE:
        return f"Keras' score is {wanted.score:.5f}, the file's {found.score:.5f}"
    if not np.allclose(wanted.alignment, found.alignment, atol=ALIGNMENT_TOLERANCE):
        worst = np.abs(wanted.alignment - found.alignment).max()
        return f"the alignments differ by up to {worst:.4f}"
    return ""


def _near_ties(translator, different):
    """Whether each of some pairs parts at a step where two candidates were level."""
    steps = [_first_different_step(translator, *pair[:2]) for pair in different]
    ties = [False] * len(different)
    rows = [row for row, step in enumerate(steps) if step is not None]
    if rows:
        wanted = [different[row][0] for row in rows]
        token_ids = _token_ids(translator, [one.text for one in wanted])
        margins = step_margins(translator, [one.source for one in wanted], token_ids)
        for row, margin in zip(rows, margins, strict=True):
            ties[row] = bool(margin[steps[row]] < NEAR_TIE)
    return ties


def _first_different_step(translator, wanted, found):
    """Returns the token at which two texts part; None where that cannot be said."""
    if wanted.text == found.text or not np.isfinite(found.score):
        return None
    tokens = _token_ids(translator, [wanted.text, found.text])
    pairs = zip(*tokens, strict=False)
    return next((step for step, (a, b) in enumerate(pairs) if a != b), None)


def _token_ids(translator, texts):
    ragged = translator.target_tokenizer.tokenize(tf.constant(texts, tf.string))
    return [[*ids, END] for ids in ragged.to_list()]


def step_margins(translator, sources, token_ids):
    """Returns how far the best candidate led the second at each step of some outputs.

    Args:
        translator: :class:`ModelTranslator`.
        sources: Texts.
        token_ids: For each, the tokens the search chose, end token included.

    Returns:
        For each text an array of differences in log-probability, one a token.
    """
    source_ids = translator.source_tokenizer.tokenize(tf.constant(sources))
    target_ids = tf.ragged.constant(token_ids, tf.int32).to_tensor(PAD)
    start = tf.fill([len(sources), 1], START)
    logits, _ = translator.model(
        source_ids.to_tensor(PAD),
        tf.cast(source_ids.row_lengths(), tf.int32),
        tf.concat([start, target_ids[:, :-1]], axis=1),
    )
    # What a search never chooses is no candidate.
    candidates = tf.gather(
        tf.nn.log_softmax(logits),
        [i for i in range(logits.shape[-1]) if i not in (PAD, START)],
        axis=-1,
    )
    best = tf.math.top_k(candidates, 2).values
    margins = (best[..., 0] - best[..., 1]).numpy()
    return [row[: len(ids)] for row, ids in zip(margins, token_ids, strict=True)]


def translate_timed(translator, texts):
    """Translates texts one by one.

    Returns:
        The translations, and the median time of one in milliseconds.
    """
    translations, seconds = [], []
    for text in texts:
        started = time.perf_counter()
        translations.append(translator.translate([text])[0][0])
        seconds.append(time.perf_counter() - started)
    return translations, 1000 * float(np.median(seconds))


@dataclass(frozen=True)
class Loss:
    """What quantization cost: points of the main metric, and whether that is chance."""

    points: float
    is_real: bool


def quality_loss(references, expected, actual, *, kind, metric):
    """Measures how much worse a file's texts are than the Keras model's.

    A paired bootstrap over the examples decides whether a loss is real: it is if the
    file is worse in 95 % of the resamples.

    Args:
        references: A list with the acceptable texts of each example.
        expected, actual: The texts of Keras and of the file.
        kind: The target tokenizer.
        metric: ``wer`` or ``bleu``.

    Returns:
        :class:`Loss`.

    References: Koehn 2004, "Statistical significance tests for machine translation
    evaluation".
    """
    sign = 1 if metric == "wer" else -1
    before = evaluate(references, expected, kind=kind)[metric]
    after = evaluate(references, actual, kind=kind)[metric]
    worse = _worse_errors if metric == "wer" else _worse_bleu
    points = sign * (after - before)
    return Loss(points, points > 0 and worse(references, expected, actual) >= 0.95)


def _worse_errors(references, expected, actual):
    """The share of resamples in which ``actual`` has more wrong texts."""
    difference = np.subtract(
        errors(references, actual), errors(references, expected), dtype=np.int64
    )
    random = np.random.default_rng(0)
    rows = (
        random.choice(difference, len(difference)).sum() > 0 for _ in range(_RESAMPLES)
    )
    return np.mean(list(rows))


def _worse_bleu(references, expected, actual):
    """The share of resamples in which ``actual`` has a lower BLEU."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU()
    first = [[accepted[0] for accepted in references]]
    random = np.random.default_rng(0)
    statistics = [
        np.array(bleu._extract_corpus_statistics(texts, first))
        for texts in (expected, actual)
    ]
    worse = 0
    for _ in range(_RESAMPLES):
        rows = random.integers(0, len(expected), len(expected))
        before, after = (
            bleu._compute_score_from_stats(list(part[rows].sum(axis=0))).score
            for part in statistics
        )
        worse += after < before
    return worse / _RESAMPLES
