"""Heat maps of confusions: which symbols stand where which were expected."""

from collections import Counter
from dataclasses import dataclass

from pocketseq.pipeline.analysis.analysis import Analysis
from pocketseq.pipeline.reports.page import shade

# Symbols of a heat map, so that it fits on a screen.
_HEAT_SYMBOLS = 14


@dataclass(frozen=True)
class Cell:
    """One cell: how often a confusion is, and how dark that is shown, 0 to 9."""

    count: int
    shade: int


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps over the same symbols: ``maps[model][row][column]``."""

    symbols: list[str]
    maps: list[list[list[Cell]]]


def heat_maps(analysis: Analysis) -> HeatMaps:
    """Returns a map for each model, of the symbols most often confused by any."""
    counts = [
        Counter({(one.reference, one.output): one.count for one in model_confusions})
        for model_confusions in map(analysis.confusions, analysis.models)
    ]
    together = sum(counts, Counter[tuple[str, str]]())
    symbols = heat_symbols(together)
    most = max((of[a, b] for of in counts for a in symbols for b in symbols), default=0)
    return HeatMaps(
        symbols,
        [
            [[Cell(of[a, b], shade(of[a, b], most)) for b in symbols] for a in symbols]
            for of in counts
        ],
    )


def heat_symbols(counts: Counter[tuple[str, str]]) -> list[str]:
    """Returns the symbols most often confused, those next to each other that are.

    Args:
        counts: ``{(reference, output): how often}``; "" is nothing, and comes last.
    """
    of_symbol: Counter[str] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    for (reference, output), count in counts.items():
        of_symbol.update({reference: count, output: count})
        both.update({(reference, output): count, (output, reference): count})
    waiting = [one for one, _ in of_symbol.most_common() if one][:_HEAT_SYMBOLS]
    ordered: list[str] = []
    while waiting:
        last = ordered[-1] if ordered else ""
        # Of equal ones the first, which is the most frequent.
        nearest = max(waiting, key=lambda one: both[last, one] if ordered else 0)
        waiting.remove(nearest)
        ordered.append(nearest)
    return [*ordered, ""] if ordered else []
