"""The analysis of a file: where one model, or two, go wrong, and what may be why."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.attended import written_from
from pocketseq.pipeline.analysis.confusions import Confusion, confusions
from pocketseq.pipeline.analysis.groups import (
    Group,
    by_frequency,
    by_length,
)
from pocketseq.pipeline.analysis.significance import (
    difference_interval,
    p_value,
    paired_differences,
)
from pocketseq.pipeline.analysis.training_pairs import (
    SourceSymbols,
    TrainingPairs,
    read_training_pairs,
)
from pocketseq.pipeline.evaluation import METRICS, in_normal_form, main_metric


@dataclass(frozen=True)
class Symbol:
    """A symbol, and the examples that have it.

    ``rows``: their numbers in the file.
    """

    text: str
    rows: np.ndarray


@dataclass(frozen=True)
class Change:
    """A confusion as two models have it: how often each."""

    reference: str
    output: str
    counts: tuple[int, int]
    examples: tuple[int, ...]

    @property
    def fewer(self) -> int:
        """By how much the second model has it less often."""
        return self.counts[0] - self.counts[1]


@dataclass(frozen=True)
class Difference:
    """Whether the second model is better than the first, by the main metric.

    ``points``: by how much it is better. ``interval``: of the points, 95 %.
    ``p_value``: how probable such a difference is where there is none.
    """

    points: float
    interval: tuple[float, float]
    p_value: float


class Analysis:
    """What one model, or each of two, answers to the texts of a file.

    Args:
        file: The name of the file, for people.
        models: One or two, on the same texts.
        training: What training pairs say of the texts.
    """

    def __init__(
        self, file: str, models: Sequence[Answers], training: TrainingPairs
    ) -> None:
        self.file = file
        self.models = tuple(models)
        self.training = training
        self.sources = list(self.models[0].sources)
        self.references = [list(one) for one in self.models[0].references]
        self.kind = self.models[0].kind
        self.metric = main_metric(self.kind, self.references)
        self.source_symbols = SourceSymbols.of(m.knowledge.source for m in self.models)

    @property
    def examples(self) -> int:
        """The number of different sources."""
        return len(self.sources)

    # Groups of examples.

    @cached_property
    def _split_sources(self) -> list[list[str]]:
        return list(map(self.source_symbols.split, self.sources))

    @cached_property
    def lengths(self) -> list[int]:
        """The number of symbols of each source."""
        return list(map(len, self._split_sources))

    @cached_property
    def frequencies(self) -> list[int]:
        """How often the rarest symbol of each source was seen."""
        return list(map(self.training.rarest, self._split_sources))

    @cached_property
    def by_length(self) -> list[Group]:
        """The examples by length of the source."""
        return by_length(self.lengths)

    @cached_property
    def by_frequency(self) -> list[Group]:
        """The examples by how often the rarest source symbol was seen."""
        return by_frequency(self.frequencies)

    # Symbols.

    @cached_property
    def symbols(self) -> list[Symbol]:
        """The source symbols, those first from which the first model errs most.

        That is by how many more of the symbols written from it are wrong than of all
        that are written; where attention does not tell, by how many more of the
        examples with it are wrong than of all examples.
        """
        wrong = self.models[0].wrong
        usual = wrong.mean()
        written = self.written[0]
        totals = np.sum(list(written.values()), axis=0) if written else (1, 0)
        usual_written = totals[1] / totals[0]

        def excess(symbol: Symbol) -> tuple[float, float]:
            count, wrong_ones = written.get(symbol.text, (0, 0))
            examples = wrong[symbol.rows].sum() - usual * len(symbol.rows)
            return wrong_ones - usual_written * count, float(examples)

        return sorted(_where(self._split_sources), key=excess, reverse=True)

    @cached_property
    def written(self) -> list[dict[str, tuple[int, int]]]:
        """For each model the output symbols by the source symbol that they come from.

        See :func:`pocketseq.pipeline.analysis.attended.written_from`.
        """
        return [written_from(model, self.source_symbols) for model in self.models]

    def unknown(self, model: Answers) -> list[Symbol]:
        """Returns the source symbols that a model does not know, by frequency."""
        return _where(map(model.knowledge.source.unknown_in, self.sources))

    def unseen(self, model: Answers) -> list[Symbol]:
        """Returns the reference symbols that a model cannot write.

        Of a source with several references only if it can write none of them.
        """
        unknown = model.knowledge.target.unknown_in
        return _where(_in_all(map(unknown, texts)) for texts in self.references)

    # References.

    @cached_property
    def alternatives(self) -> list[tuple[int, list[str]]]:
        """The examples with several different references, and those."""
        normalization = self.models[0].knowledge.target.normalization
        forms, _ = in_normal_form(self.references, [], normalization)
        different = [list(dict.fromkeys(map(_plain, texts))) for texts in forms]
        return [(row, texts) for row, texts in enumerate(different) if len(texts) > 1]

    @cached_property
    def overlap(self) -> list[int]:
        """The examples whose source is among the training pairs."""
        seen = self.training.targets
        return [row for row, source in enumerate(self.sources) if source in seen]

    @cached_property
    def contradictions(self) -> list[tuple[int, list[str]]]:
        """The examples that training has with other targets only, and those."""
        normalization = self.models[0].knowledge.target.normalization
        found = []
        for row in self.overlap:
            learned = self.training.targets[self.sources[row]]
            (taught, right), _ = in_normal_form(
                [learned, self.references[row]], [], normalization
            )
            if set(map(_plain, taught)).isdisjoint(map(_plain, right)):
                found.append((row, list(dict.fromkeys(learned))))
        return found

    # Two models.

    @cached_property
    def difference(self) -> Difference:
        """Whether the second model is better than the first."""
        metric = METRICS[self.metric]
        before, after = (model.statistics[self.metric] for model in self.models)
        was, is_now = (
            metric.goodness(model.result[self.metric]) for model in self.models
        )
        differences = paired_differences(metric, before, after)
        return Difference(
            is_now - was, difference_interval(differences), p_value(differences)
        )

    def rows(self, *wrong: bool) -> list[int]:
        """Returns the examples that the models get wrong or right, in this pattern.

        Args:
            wrong: For each model, whether its output is wrong.
        """
        fits = np.ones(self.examples, bool)
        for model, is_wrong in zip(self.models, wrong, strict=True):
            fits &= model.wrong == is_wrong
        return np.flatnonzero(fits).tolist()

    def confusions(self, model: Answers) -> list[Confusion]:
        """Returns the confusions of a model, the most frequent first."""
        return confusions(model.edits)

    @cached_property
    def changes(self) -> list[Change]:
        """The confusions of both models, the largest difference first."""
        pairs = [
            {(one.reference, one.output): one for one in self.confusions(model)}
            for model in self.models
        ]
        changes = []
        for key in dict.fromkeys([*pairs[0], *pairs[1]]):
            both = [confusion.get(key) for confusion in pairs]
            first, second = (one.count if one else 0 for one in both)
            more = both[0] if first >= second else both[1]
            examples = more.examples if more else ()
            changes.append(Change(*key, (first, second), examples))
        return sorted(changes, key=lambda one: (-abs(one.fewer), -sum(one.counts)))


def analyse(file: str, models: Sequence[Answers]) -> Analysis:
    """Returns the :class:`Analysis` of some models' answers to the texts of a file.

    Reads the training pairs, where a model tells of them.
    """
    knowledge = [model.knowledge for model in models]
    symbols = SourceSymbols.of(one.source for one in knowledge)
    sources = models[0].sources
    return Analysis(file, models, read_training_pairs(knowledge, sources, symbols))


def _where(symbols_of_examples: Iterable[Iterable[str]]) -> list[Symbol]:
    """Returns the different symbols, those of most examples first."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, symbols in enumerate(symbols_of_examples):
        for symbol in dict.fromkeys(symbols):
            rows[symbol].append(row)
    found = [Symbol(text, np.array(of_text)) for text, of_text in rows.items()]
    return sorted(found, key=lambda one: (-len(one.rows), one.text))


def _in_all(symbols: Iterable[list[str]]) -> list[str]:
    """Returns the symbols of all lists; none if one of the lists is empty."""
    lists = list(symbols)
    return [one for each in lists for one in each] if all(lists) else []


def _plain(text: str) -> str:
    """Returns a text with one space where there are several."""
    return " ".join(text.split())
