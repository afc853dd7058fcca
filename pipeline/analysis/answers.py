"""Answers: the outputs of one model for the texts of a file, measured."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pocketseq.pipeline.analysis.confidence import Confidence, measure_confidence
from pocketseq.pipeline.analysis.confusions import Edit, closest, edits
from pocketseq.pipeline.analysis.significance import confidence_interval
from pocketseq.pipeline.evaluation import (
    METRICS,
    errors,
    evaluate,
    in_normal_form,
    metrics_of_kind,
)
from pocketseq.pipeline.text.known import symbols_of
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.translation import NO_SCORE, Knowledge, Translation


class Answers:
    """The outputs of one model for the texts of a file, measured.

    What is measured is computed when it is asked for.

    Args:
        name: Of the model, for people.
        knowledge: What the model tells of itself.
        sources: The texts.
        references: The acceptable texts of each.
        translations: The model's best of each.
        kind: The kind of target tokenizer that decides what is measured; None: the
            model's own.
    """

    def __init__(
        self,
        name: str,
        knowledge: Knowledge,
        sources: Sequence[str],
        references: Sequence[Sequence[str]],
        translations: Sequence[Translation],
        *,
        kind: str | None = None,
    ) -> None:
        self.name = name
        self.knowledge = knowledge
        self.sources = sources
        self.references = references
        self.translations = translations
        self.kind = kind or knowledge.target.kind
        self.texts = [translation.text for translation in translations]

    @cached_property
    def result(self) -> dict[str, Any]:
        """What :func:`pocketseq.pipeline.evaluation.evaluate` says of the outputs."""
        return evaluate(
            self.references, self.texts, kind=self.kind, normalization=self._target
        )

    @cached_property
    def wrong(self) -> np.ndarray:
        """Whether each output equals none of its references, bool ``(examples,)``."""
        found = errors(
            self.references, self.texts, kind=self.kind, normalization=self._target
        )
        return np.array(found, bool)

    @cached_property
    def statistics(self) -> dict[str, np.ndarray]:
        """The statistics ``(examples, n)`` of each metric of the kind, by name."""
        compared = in_normal_form(self.references, self.texts, self._target)
        return {
            name: METRICS[name].statistics(*compared)
            for name in metrics_of_kind(self.kind)
        }

    def measure(self, metric: str, rows: np.ndarray) -> float:
        """Returns a metric over some of the examples, by their numbers."""
        return METRICS[metric].of_sums(self.statistics[metric][rows].sum(axis=0))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each metric of the kind."""
        return {
            name: confidence_interval(METRICS[name], statistics)
            for name, statistics in self.statistics.items()
        }

    @cached_property
    def symbols(self) -> list[tuple[list[str], list[str]]]:
        """For each example the symbols of its closest reference and of its output.

        Both in normal form, in which they are compared.
        """
        references, outputs = in_normal_form(self.references, self.texts, self._target)
        found = []
        for accepted, text in zip(references, outputs, strict=True):
            output = symbols_of(text, self.kind)
            nearest = closest([symbols_of(one, self.kind) for one in accepted], output)
            found.append((nearest, output))
        return found

    @cached_property
    def edits(self) -> list[list[Edit]]:
        """The edits from the closest reference to the output of each example."""
        return [edits(*pair) for pair in self.symbols]

    @cached_property
    def scores(self) -> np.ndarray:
        """The score of each output; one that is not a number counts as the lowest."""
        scores = [translation.score for translation in self.translations]
        return np.nan_to_num(scores, nan=NO_SCORE, neginf=NO_SCORE, posinf=0.0)

    @cached_property
    def confidence(self) -> Confidence:
        """How far the scores tell wrong outputs from right ones."""
        found = map(self.knowledge.log_probability, self.translations)
        known = [p for p in found if p is not None]
        complete = len(known) == len(self.translations)
        return measure_confidence(
            self.scores.tolist(),
            np.nan_to_num(known, nan=NO_SCORE).tolist() if complete else None,
            self.wrong.tolist(),
        )

    @property
    def _target(self) -> Normalization:
        return self.knowledge.target.normalization
