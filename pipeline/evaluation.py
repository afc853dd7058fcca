"""Evaluation: how many outputs are right, and how far the others are off.

A metric is two functions: the statistics of each example, and the metric of their sum
over some examples. So a bootstrap can draw examples anew without measuring them anew.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from pocketseq.pipeline.configuration import METRICS_OF_KIND
from pocketseq.pipeline.errors import writing
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION

#: Metrics of which less is better.
ERROR_RATES = frozenset(["wer", "per", "cer"])

# BLEU counts runs of four words: where texts are shorter, it is 0 whatever is right.
_WORDS_FOR_BLEU = 4


@dataclass(frozen=True)
class Metric:
    """One way to measure, in percent.

    ``statistics``: ``(references, hypotheses) -> float (examples, n)``, with a list of
    acceptable texts for each example; ``of_sums``: ``float (n,) -> float``, from the
    sum of the statistics of some examples to the metric over them.
    """

    statistics: Callable
    of_sums: Callable


def main_metric(kind, references):
    """Returns the name of the metric that fits a task.

    WER for ``word`` targets, CER for ``character``, BLEU for ``wordpiece``; where these
    texts are mostly too short for BLEU, chrF.

    Args:
        kind: The target tokenizer.
        references: A list with the acceptable texts of each example.
    """
    name = METRICS_OF_KIND[kind][0]
    lengths = [len(accepted[0].split()) for accepted in references]
    if name == "bleu" and lengths and np.median(lengths) < _WORDS_FOR_BLEU:
        return "chrf"
    return name


def rank(result, metric):
    """Returns what to compare results by: ``(main, tie-breaker)``, more is better.

    Args:
        result: As :func:`evaluate` returns it.
        metric: The name of the main metric. Equal CER is told apart by exact matches.
    """
    tie_breaker = result["exact"] if metric == "cer" else 0.0
    return main_rank(result[metric], metric), tie_breaker


def main_rank(value, metric):
    """Returns a metric's value so that more is better."""
    return -value if metric in ERROR_RATES else value


def is_perfect(value, metric):
    """Whether no value of a metric could be better."""
    return value == (0.0 if metric in ERROR_RATES else 100.0)


def evaluate(references, hypotheses, *, kind, normalization=NO_NORMALIZATION):
    """Measures hypotheses against references.

    Both are compared in the target's normal form, then in NFC: a model that folds case
    cannot be blamed for the capitals of a reference.

    Args:
        references: A list with the acceptable texts of each example.
        hypotheses: One text for each example.
        kind: The target tokenizer, which decides what is measured.
        normalization: The target's
            :class:`pocketseq.pipeline.text.normalization.Normalization`.

    Returns:
        A dict with ``examples`` and, for ``word``, ``wer`` and ``per``; otherwise
        ``bleu``, ``chrf``, ``signature``, ``cer`` and ``exact``. All in percent.
    """
    references, hypotheses = in_normal_form(references, hypotheses, normalization)
    result = {"examples": len(references)}
    if kind == "word":
        return result | {
            name: measure(name, references, hypotheses) for name in ("wer", "per")
        }
    bleu, chrf, streams = _bleu(), _chrf(), _streams(references)
    return result | {
        "bleu": bleu.corpus_score(hypotheses, streams).score,
        "chrf": chrf.corpus_score(hypotheses, streams).score,
        "signature": f"{bleu.get_signature()} {chrf.get_signature()}",
        "cer": measure("cer", references, hypotheses),
        "exact": measure("exact", references, hypotheses),
    }


def measure(name, references, hypotheses):
    """Returns one metric of texts that are in normal form already."""
    metric = METRICS[name]
    return metric.of_sums(metric.statistics(references, hypotheses).sum(axis=0))


def in_normal_form(references, hypotheses, normalization):
    """Returns both in the target's normal form and NFC, as they are compared."""

    def form(text):
        return unicodedata.normalize("NFC", normalization.apply(text))

    return [list(map(form, texts)) for texts in references], list(map(form, hypotheses))


def errors(references, hypotheses, *, kind=None, normalization=NO_NORMALIZATION):
    """Returns for each example whether the hypothesis equals none of its references.

    Args:
        references, hypotheses, normalization: As in :func:`evaluate`.
        kind: The target tokenizer: between symbols of ``word`` any spacing will do.
    """
    references, hypotheses = in_normal_form(references, hypotheses, normalization)
    exact = _whole_symbols if kind == "word" else _whole_texts
    return [bool(wrong) for wrong, _ in exact(references, hypotheses)]


def write_errors(path, sources, references, hypotheses, **options):
    """Writes a line for each wrong output: source, output, references, by tabs.

    Args:
        path: The file to write.
        sources: The source text of each example.
        references, hypotheses, options: As in :func:`errors`.

    Raises:
        UserError: The file cannot be written.
    """
    wrong = errors(references, hypotheses, **options)
    with writing(path), open(path, "w", encoding="utf-8") as file:
        for source, accepted, hypothesis, is_wrong in zip(
            sources, references, hypotheses, wrong, strict=True
        ):
            if is_wrong:
                file.write("\t".join([source, hypothesis, *accepted]) + "\n")


def _whole_texts(references, hypotheses):
    """Statistics ``(wrong, 1)`` of each example."""
    wrong = [
        hypothesis not in accepted
        for accepted, hypothesis in zip(references, hypotheses, strict=True)
    ]
    return np.array([wrong, np.ones(len(wrong))], np.float64).T


def _whole_symbols(references, hypotheses):
    """The same, where only the symbols between spaces count."""

    def plain(text):
        return " ".join(text.split())

    return _whole_texts(
        [list(map(plain, texts)) for texts in references], list(map(plain, hypotheses))
    )


def _edits(split):
    """Returns statistics ``(edits, symbols)`` against the closest reference."""

    def statistics(references, hypotheses):
        return np.array(
            [
                min(
                    (
                        Levenshtein.distance(split(reference), split(hypothesis)),
                        len(split(reference)),
                    )
                    for reference in accepted
                )
                for accepted, hypothesis in zip(references, hypotheses, strict=True)
            ],
            np.float64,
        ).reshape(-1, 2)

    return statistics


def _rate(sums):
    part, whole = map(float, sums)
    return 100.0 * part / whole if whole else 0.0


def _of_sacrebleu(make):
    """Returns the :class:`Metric` that one of sacreBLEU's classes computes."""

    def statistics(references, hypotheses):
        streams = _streams(references)
        return np.array(make()._extract_corpus_statistics(hypotheses, streams))

    def of_sums(sums):
        return make()._compute_score_from_stats(list(sums)).score

    return Metric(statistics, of_sums)


def _streams(references):
    """Returns the first, second, ... reference of all examples; None is none."""
    return [
        [texts[i] if i < len(texts) else None for texts in references]
        for i in range(max(map(len, references)))
    ]


# Imported when needed, because it takes a while and word targets do not need it.
def _bleu():
    from sacrebleu.metrics import BLEU

    return BLEU()


def _chrf():
    from sacrebleu.metrics import CHRF

    return CHRF()


#: The metrics by name.
METRICS = {
    "wer": Metric(_whole_symbols, _rate),
    "per": Metric(_edits(str.split), _rate),
    "cer": Metric(_edits(list), _rate),
    "exact": Metric(_whole_texts, lambda sums: 100.0 - _rate(sums)),
    "bleu": _of_sacrebleu(_bleu),
    "chrf": _of_sacrebleu(_chrf),
}
