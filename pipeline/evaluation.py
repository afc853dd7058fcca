"""Evaluation: how many outputs are right, and how far the others are off.

All that the project knows of a metric stands in its :class:`Metric` here: the search
for the best weights, the gate of an export, tables and logs take it from there. A new
metric is an entry of :data:`METRICS`, named for its kinds of target.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from pocketseq.pipeline.errors import writing
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION, Normalization

#: The acceptable texts of each example.
References = Sequence[Sequence[str]]

# The metrics of each kind of target tokenizer, the main one first.
_NAMES_OF_KIND = {
    "word": ("wer", "per"),
    "character": ("cer", "exact", "bleu", "chrf"),
    "wordpiece": ("bleu", "chrf", "cer", "exact"),
}

# BLEU counts runs of four words: where texts are shorter, it is 0 whatever is right.
_WORDS_FOR_BLEU = 4


@dataclass(frozen=True)
class Metric:
    """One way to measure, in percent.

    A metric is two functions: the statistics of each example, and the metric of their
    sum over some examples. So a bootstrap can draw examples anew without measuring them
    anew. Texts are in normal form already; see :func:`in_normal_form`.

    Args:
        name: As results, recipes and logs spell it.
        statistics: ``(references, hypotheses) -> float (examples, n)``.
        of_sums: From the sum of the statistics of some examples, float ``(n,)``, to the
            metric over them.
        beside: The name of the metric that a table shows next to it.
        lower_is_better: Whether it counts errors.
        tie_breaker: The name of a metric that tells equal results apart; "": none.
        signature: From references to what names the exact way of measuring, for a
            metric of which there are several.
    """

    name: str
    statistics: Callable[[References, Sequence[str]], np.ndarray]
    of_sums: Callable[[np.ndarray], float]
    beside: str
    lower_is_better: bool = False
    tie_breaker: str = ""
    signature: Callable[[References], str] | None = None

    def measure(self, references: References, hypotheses: Sequence[str]) -> float:
        """Returns the metric of texts that are in normal form already, in percent."""
        return self.of_sums(self.statistics(references, hypotheses).sum(axis=0))

    def goodness(self, value: float) -> float:
        """Returns a value of this metric with the sign by which more is better."""
        return -value if self.lower_is_better else value

    def rank(self, result: dict[str, Any]) -> tuple[float, float]:
        """Returns what to compare results by: ``(main, tie-breaker)``, more is better.

        Args:
            result: As :func:`evaluate` returns it.
        """
        equal = METRICS[self.tie_breaker] if self.tie_breaker else None
        return (
            self.goodness(result[self.name]),
            equal.goodness(result[equal.name]) if equal else 0.0,
        )

    def is_perfect(self, value: float) -> bool:
        """Whether no value of this metric could be better."""
        # Logarithms and powers take BLEU past 100 by a hair.
        return math.isclose(value, 0 if self.lower_is_better else 100, abs_tol=1e-9)


def metrics_of_kind(kind: str) -> tuple[str, ...]:
    """Returns the names of what is measured for a target, the main metric first.

    Args:
        kind: The target tokenizer.
    """
    return _NAMES_OF_KIND[kind]


def main_metric(kind: str, references: References) -> str:
    """Returns the name of the metric that fits a task.

    WER for ``word`` targets, CER for ``character``, BLEU for ``wordpiece``; where these
    texts are mostly too short for BLEU, chrF.

    Args:
        kind: The target tokenizer.
        references: The acceptable texts of each example.
    """
    lengths = [len(accepted[0].split()) for accepted in references]
    return metric_for(kind, float(np.median(lengths)) if lengths else _WORDS_FOR_BLEU)


def metric_for(kind: str, words: float) -> str:
    """Returns the same, for references with that many words in the middle."""
    name, *_ = metrics_of_kind(kind)
    return "chrf" if name == "bleu" and words < _WORDS_FOR_BLEU else name


def evaluate(
    references: References,
    hypotheses: Sequence[str],
    *,
    kind: str,
    normalization: Normalization = NO_NORMALIZATION,
) -> dict[str, Any]:
    """Measures hypotheses against references.

    Both are compared in the target's normal form, then in NFC: a model that folds case
    cannot be blamed for the capitals of a reference.

    Args:
        references: The acceptable texts of each example.
        hypotheses: One text per example.
        kind: The target tokenizer, which decides what is measured.
        normalization: That of the target.

    Returns:
        A dict with ``examples`` and the metrics of :func:`metrics_of_kind`, in percent;
        ``signature`` says how those were measured that exist in several forms.
    """
    references, hypotheses = in_normal_form(references, hypotheses, normalization)
    measured = [m for name, m in METRICS.items() if name in metrics_of_kind(kind)]
    # Those with a signature come first in METRICS, where a kind has any.
    signatures = [m.signature(references) for m in measured if m.signature]
    values = [(m.name, m.measure(references, hypotheses)) for m in measured]
    signed = len(signatures)
    return {
        "examples": len(references),
        **dict(values[:signed]),
        **({"signature": " ".join(signatures)} if signed else {}),
        **dict(values[signed:]),
    }


def in_normal_form(
    references: References, hypotheses: Sequence[str], normalization: Normalization
) -> tuple[list[list[str]], list[str]]:
    """Returns both in the target's normal form and NFC, as they are compared."""

    def form(text: str) -> str:
        return unicodedata.normalize("NFC", normalization.apply(text))

    return [list(map(form, texts)) for texts in references], list(map(form, hypotheses))


def errors(
    references: References,
    hypotheses: Sequence[str],
    *,
    kind: str | None = None,
    normalization: Normalization = NO_NORMALIZATION,
) -> list[bool]:
    """Returns per example whether the hypothesis equals none of its references.

    Args:
        references, hypotheses, normalization: As in :func:`evaluate`.
        kind: The target tokenizer: between symbols of ``word`` any spacing will do.
    """
    references, hypotheses = in_normal_form(references, hypotheses, normalization)
    exact = _whole_symbols if kind == "word" else _whole_texts
    return [bool(wrong) for wrong, _ in exact(references, hypotheses)]


def write_errors(
    path: str | Path,
    sources: Sequence[str],
    references: References,
    hypotheses: Sequence[str],
    *,
    kind: str | None = None,
    normalization: Normalization = NO_NORMALIZATION,
) -> None:
    """Writes a line per wrong output: source, output and references, tab-separated.

    Args:
        path: The file to write.
        sources: The source text of each example.
        references, hypotheses, kind, normalization: As in :func:`errors`.

    Raises:
        UserError: The file cannot be written.
    """
    wrong = errors(references, hypotheses, kind=kind, normalization=normalization)
    with writing(path), open(path, "w", encoding="utf-8") as file:
        for source, accepted, hypothesis, is_wrong in zip(
            sources, references, hypotheses, wrong, strict=True
        ):
            if is_wrong:
                file.write("\t".join([source, hypothesis, *accepted]) + "\n")


def _whole_texts(references: References, hypotheses: Sequence[str]) -> np.ndarray:
    """Returns the statistics ``(wrong, 1)`` of each example."""
    wrong = [
        hypothesis not in accepted
        for accepted, hypothesis in zip(references, hypotheses, strict=True)
    ]
    return np.array([wrong, np.ones(len(wrong))], np.float64).T


def _whole_symbols(references: References, hypotheses: Sequence[str]) -> np.ndarray:
    """Returns the same, where only the symbols between spaces count."""

    def plain(text: str) -> str:
        return " ".join(text.split())

    return _whole_texts(
        [list(map(plain, texts)) for texts in references], list(map(plain, hypotheses))
    )


def _edits(
    split: Callable[[str], Sequence[str]],
) -> Callable[[References, Sequence[str]], np.ndarray]:
    """Returns a function to the statistics ``(edits, symbols)`` of each example.

    Against the closest reference.

    Args:
        split: From a text to its symbols.
    """

    def statistics(references: References, hypotheses: Sequence[str]) -> np.ndarray:
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


def _rate(sums: np.ndarray) -> float:
    part, whole = map(float, sums)
    return 100.0 * part / whole if whole else 0.0


def _complement_of_rate(sums: np.ndarray) -> float:
    return 100.0 - _rate(sums)


def _of_sacrebleu(name: str, class_name: str, *, beside: str) -> Metric:
    """Returns the :class:`Metric` that one of sacreBLEU's classes computes."""

    def make() -> Any:
        # Imported when needed, because it takes a while and word targets do without.
        from sacrebleu import metrics

        return getattr(metrics, class_name)()

    def statistics(references: References, hypotheses: Sequence[str]) -> np.ndarray:
        # The first, second, ... reference of all examples; None where there is none.
        streams = [
            [texts[i] if i < len(texts) else None for texts in references]
            for i in range(max(map(len, references)))
        ]
        return np.array(make()._extract_corpus_statistics(hypotheses, streams))

    def of_sums(sums: np.ndarray) -> float:
        return float(make()._compute_score_from_stats(list(sums)).score)

    def signature(references: References) -> str:
        scorer, counts = make(), set(map(len, references))
        scorer.num_refs = counts.pop() if len(counts) == 1 else -1  # -1: it varies
        return str(scorer.get_signature())

    return Metric(name, statistics, of_sums, beside, signature=signature)


_ALL = (
    Metric("wer", _whole_symbols, _rate, beside="per", lower_is_better=True),
    Metric("per", _edits(str.split), _rate, beside="wer", lower_is_better=True),
    _of_sacrebleu("bleu", "BLEU", beside="chrf"),
    _of_sacrebleu("chrf", "CHRF", beside="bleu"),
    Metric(
        "cer", _edits(list), _rate, beside="exact", lower_is_better=True,
        tie_breaker="exact",
    ),
    Metric("exact", _whole_texts, _complement_of_rate, beside="cer"),
)  # fmt: skip

#: The metrics by name, in the order in which results and logs show them.
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
