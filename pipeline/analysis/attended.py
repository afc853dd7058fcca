"""Attended symbols: which source symbols wrong output was written from."""

import re
from collections import Counter

from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.training_pairs import SourceSymbols

# Rows of attention that are flatter than this point at nothing.
_FLAT = 1.05


def written_from(
    model: Answers, source_symbols: SourceSymbols
) -> dict[str, tuple[int, int]]:
    """Counts output symbols by the source symbol that attention looked at most.

    Args:
        model: The answers of a model, with alignments.
        source_symbols: How sources are split; only characters have places.

    Returns:
        ``{source symbol: (output symbols, wrong ones among them)}``.
    """
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    if source_symbols.kind != "character":
        return {}
    for row, translation in enumerate(model.translations):
        _, symbols = model.symbols[row]
        starts = symbol_starts(translation.text, len(symbols), model.kind)
        alignment = translation.alignment
        if starts is None or alignment is None or not alignment.size:
            continue
        edited = {edit.output_place for edit in model.edits[row] if edit.output}
        for place, start in enumerate(starts):
            weights = alignment[start]
            if len(weights) > 1 and weights.max() < _FLAT * weights.mean():
                continue
            looked_at = translation.source[int(weights.argmax())]
            for symbol in source_symbols.split(looked_at):
                total[symbol] += 1
                wrong[symbol] += place in edited
    return {symbol: (count, wrong[symbol]) for symbol, count in total.items()}


def symbol_starts(text: str, symbols: int, kind: str) -> list[int] | None:
    """Returns where in a text each of its symbols begins; None: not known.

    Args:
        text: An output as the model wrote it.
        symbols: How many it has in normal form, in which places are counted.
        kind: Of the target.
    """
    if kind == "character":
        starts = list(range(len(text)))
    else:
        starts = [word.start() for word in re.finditer(r"\S+", text)]
    return starts if len(starts) == symbols else None
