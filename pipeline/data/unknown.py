"""Unknown symbols: how many of the dev texts are not in training, and what helps."""

import logging
from collections import Counter
from collections.abc import Sequence

from pocketseq.pipeline.configuration import Config, SideConfig
from pocketseq.pipeline.text.counts import DECOMPOSED, coverage, in_form, percent
from pocketseq.pipeline.text.special import UNKNOWN, UNKNOWN_PIECE
from pocketseq.pipeline.text.tokenizers import Tokenizer

logger = logging.getLogger(__name__)

# Percent of dev symbols from which unknown ones are more than a few odd characters.
_WORTH_A_WARNING = 1.0


def report_unknown(
    references: dict[str, list[str]],
    tokenizers: tuple[Tokenizer, Tokenizer],
    config: Config,
) -> None:
    """Logs how much of the dev texts is unknown; warns, with advice, if it is much.

    Args:
        references: ``{source: [its targets]}`` of the dev set.
        tokenizers: The source and the target tokenizer.
        config: The recipe.
    """
    targets = [text for accepted in references.values() for text in accepted]
    for side, tokenizer, texts in zip(
        ("source", "target"), tokenizers, (list(references), targets), strict=True
    ):
        unknown, symbols = count_unknown(tokenizer, texts)
        share = 100 * unknown / max(symbols, 1)
        is_much = share >= _WORTH_A_WARNING
        settings: SideConfig = getattr(config, side)
        advice = _advice(side, tokenizer, texts, settings) if is_much else ""
        logger.log(
            logging.WARNING if is_much else logging.INFO,
            "%.1f %% of the dev set's %s %s are not in the training set%s",
            share, side, "symbols" if tokenizer.kind == "word" else "characters",
            f"; what may help: {advice}" if advice else "",
        )  # fmt: skip


def count_unknown(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[int, int]:
    """Returns how many symbols of texts are unknown, and how many there are.

    A symbol stands between spaces for a ``word`` tokenizer, else it is a character.
    """
    if tokenizer.kind == "word":
        ids = tokenizer.tokenize(texts).flat_values.numpy().tolist()
        return ids.count(UNKNOWN), len(ids)
    characters = [c for text in texts for c, _ in tokenizer.characters(text)]
    return characters.count(UNKNOWN_PIECE), len(characters)


def _advice(
    side: str, tokenizer: Tokenizer, texts: Sequence[str], settings: SideConfig
) -> str:
    """Names the settings that would make unknown symbols known."""
    advice = []
    if tokenizer.kind == "word":
        advice.append(f"{side}.tokenizer=character")
    if settings.minimum_count > 1:
        advice.append(f"{side}.minimum_count=1")
    left = "" if settings.decompose else _left_decomposed(tokenizer, texts)
    if left and tokenizer.kind != "word":
        advice.append(f"{side}.decompose=true ({left} would be unknown)")
    return " or ".join(f"--set {setting}" for setting in advice)


def _left_decomposed(tokenizer: Tokenizer, texts: Sequence[str]) -> str:
    """Returns the percentage that decomposing would leave unknown, "" if it is no use.

    Training has the letters of its characters, whatever they stand in.
    """
    forms = Counter(
        c for text in texts for c in tokenizer.normalization.apply(text.split("\0")[0])
    )
    known = Counter(dict.fromkeys(tokenizer.table, 1))
    as_it_is = coverage(known, forms)
    parts = coverage(in_form(known, DECOMPOSED), in_form(forms, DECOMPOSED))
    if parts.unknown_percent > as_it_is.unknown_percent / 2:
        return ""
    return percent(parts.unknown_percent)
