"""The recipe that fits a surveyed corpus, with settings, and what it will take."""

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pocketseq.pipeline.configuration import (
    LONGEST_TEXT,
    Config,
    SideConfig,
    load_recipe,
    override,
)
from pocketseq.pipeline.data.survey import Survey, Surveys, TextCounts, quantile
from pocketseq.pipeline.estimate import (
    BASIS,
    Tokens,
    Vocabularies,
    count_weights,
    file_bytes,
    minutes,
)
from pocketseq.pipeline.evaluation import metric_for
from pocketseq.pipeline.text.counts import decomposing_pays, in_form
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import SPECIAL_PIECES

Side = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")

# Pairs from which the recipe for many pairs fits.
_MANY_PAIRS = 20_000

# The median number of words from which texts are sentences.
_WORDS_OF_A_SENTENCE = 4

# Percent of pairs from which too many are too long for a recipe, the share of them that
# a longer length must hold, and the steps of lengths.
_TOO_LONG_PERCENT = 1.0
_SHARE_TO_HOLD = 0.995
_LENGTH_STEP = 16


@dataclass(frozen=True)
class Fit:
    """A recipe that fits a corpus.

    Args:
        config: The recipe, with the settings.
        settings: Changes to the recipe, ``section.key=value`` each.
        metric: The main metric.
        decomposes: Whether the recipe decomposes the source, and the target.
    """

    config: Config
    settings: tuple[str, ...]
    metric: str
    decomposes: Mapping[Side, bool]

    def symbols(self, side: Side, survey: Survey) -> Counter[str]:
        """Returns the counts of a side's symbols, in the recipe's normal form."""
        return symbols_of(self.config, side, survey, decompose=self.decomposes[side])

    def too_long(self, side: Side, survey: Survey) -> int:
        """Returns how many texts of a side the recipe leaves out."""
        limit = _settings(self.config, side).max_code_points
        return _above(_lengths(survey, side, self.decomposes[side]), limit)

    def command(self, surveys: Surveys) -> str | None:
        """Returns the command that trains it; None: there are several files."""
        if len(surveys.train.corpora) != 1:
            return None
        words = ["python", "cli.py", "train", self.config.name]
        for name, survey in (("train", surveys.train), ("dev", surveys.dev)):
            for corpus in survey.corpora if survey else ():
                words += [f"--{name}", corpus.source]
                words += [f"--{name}-target", corpus.target] if corpus.target else []
        words += ["--skip-bad-lines"] * surveys.train.corpora[0].skip_bad_lines
        for setting in self.settings:
            words += ["--set", setting]
        return shlex.join(words)

    def estimate(self, train: Survey) -> dict[str, Any]:
        """Returns weights, bytes of the int8 file, minutes, and what they rest on."""
        sizes = Vocabularies(*(self._vocabulary_size(side, train) for side in SIDES))
        tokens = Tokens(*(self._tokens(side, train) for side in SIDES))
        model = self.config.model
        pieces = sum(
            size
            for side, size in zip(SIDES, sizes, strict=True)
            if _settings(self.config, side).tokenizer == "wordpiece"
        )
        return {
            "weights": count_weights(model, sizes),
            "int8_bytes": file_bytes(model, sizes, pieces=pieces),
            "minutes": round(minutes(self.config, sizes, tokens, train.pairs), 1),
            "minutes_on": BASIS,
        }

    def _vocabulary_size(self, side: Side, train: Survey) -> int:
        settings, known = _settings(self.config, side), len(self.symbols(side, train))
        if settings.tokenizer == "wordpiece":
            # Every character twice; no more longer pieces than words.
            pieces = 2 * known + len(_texts(train, side).words)
            return min(settings.vocabulary_size, pieces)
        return known + len(SPECIAL_PIECES)

    def _tokens(self, side: Side, train: Survey) -> float:
        """Returns the mean number of tokens in a text, with the end token."""
        if _settings(self.config, side).tokenizer == "character":
            return self.symbols(side, train).total() / train.pairs + 1
        return _texts(train, side).words.total() / train.pairs + 1


def symbols_of(
    config: Config, side: Side, survey: Survey, *, decompose: bool
) -> Counter[str]:
    """Returns the counts of words for a ``word`` side, else of characters.

    Args:
        config: The recipe, whose folding of case is applied.
        side: Which side.
        survey: Where it was counted.
        decompose: Whether characters are decomposed.
    """
    settings = _settings(config, side)
    normalization = Normalization(settings.fold_case, decompose)
    if settings.tokenizer == "word":
        words = _texts(survey, side).words
        return in_form(words, normalization, lambda word: [word])
    return in_form(_texts(survey, side).characters, normalization)


def fitting(surveys: Surveys) -> Fit:
    """Returns the recipe that fits.

    ``translation`` for sentences on both sides, ``transliteration`` for single words on
    both; else ``pronunciation`` for many pairs and ``pronunciation-small`` for fewer.
    The target tokenizer is ``word`` for symbols such as phones, ``wordpiece`` for
    sentences, else ``character``.
    """
    train = surveys.train
    symbols = train.target.are_symbols
    sentences = not symbols and all(
        _texts(train, side).usual_words >= _WORDS_OF_A_SENTENCE for side in SIDES
    )
    if sentences:
        name, kind = "translation", "wordpiece"
    elif not symbols and all(_texts(train, side).usual_words == 1 for side in SIDES):
        name, kind = "transliteration", "character"
    else:
        many = train.pairs >= _MANY_PAIRS
        name = "pronunciation" if many else "pronunciation-small"
        kind = "word" if symbols else "character"
    recipe = load_recipe(name)
    settings = []
    if recipe.target.tokenizer != kind:
        settings.append(f"target.tokenizer={kind}")
    config = override(recipe, settings)
    decomposes = {side: _decomposes(config, side, surveys) for side in SIDES}
    for side in SIDES:
        if decomposes[side] and _settings(config, side).decompose is False:
            settings.append(f"{side}.decompose=true")
        settings += _longer(config, side, train, decomposes[side])
    measured = surveys.dev or train
    return Fit(
        override(recipe, settings),
        tuple(settings),
        recipe.training.metric or metric_for(kind, measured.target.usual_words),
        decomposes,
    )


def _decomposes(config: Config, side: Side, surveys: Surveys) -> bool:
    """Returns whether the recipe decomposes a side, or should."""
    settings = _settings(config, side)
    if settings.decompose is True or settings.tokenizer == "word":
        return settings.decompose is True
    known = symbols_of(config, side, surveys.train, decompose=False)
    dev: Counter[str] = Counter()
    if surveys.dev:
        dev = symbols_of(config, side, surveys.dev, decompose=False)
    return decomposing_pays(known, dev)


def _longer(config: Config, side: Side, train: Survey, decompose: bool) -> list[str]:
    """Returns the setting that makes a recipe long enough for most texts, if needed."""
    lengths = _lengths(train, side, decompose)
    limit = _settings(config, side).max_code_points
    if 100 * _above(lengths, limit) < _TOO_LONG_PERCENT * train.pairs:
        return []
    needed = quantile(lengths, _SHARE_TO_HOLD)
    rounded = min(-(-needed // _LENGTH_STEP) * _LENGTH_STEP, LONGEST_TEXT)
    return [f"{side}.max_code_points={rounded}"]


def _settings(config: Config, side: Side) -> SideConfig:
    return config.source if side == "source" else config.target


def _texts(survey: Survey, side: Side) -> TextCounts:
    return survey.source if side == "source" else survey.target


def _lengths(survey: Survey, side: Side, decompose: bool) -> Counter[int]:
    texts = _texts(survey, side)
    return texts.decomposed_lengths if decompose else texts.lengths


def _above(lengths: Mapping[int, int], limit: int) -> int:
    return sum(count for length, count in lengths.items() if length > limit)
