"""Configuration: dataclasses, read from TOML recipes, saved with each run."""

import dataclasses
import math
import os
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import tomli_w

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text import TokenizerKind

RECIPES = Path(__file__).with_name("recipes")

#: The longest text, in code points: the alignment of a longer one takes gigabytes.
LONGEST_TEXT = 4096

#: The widest beam: a wider one takes more time and memory, and gains no quality.
WIDEST_BEAM = 256


#: The dtype of matrix products in training; ``auto``: bfloat16 if it is native.
Precision = Literal["auto", "float32", "bfloat16"]

#: Whether texts are decomposed; ``auto``: if it pays, which a run decides once, from
#: its training and dev texts; see ``decomposing_pays`` in
#: :mod:`pocketseq.pipeline.text.counts`.
Decompose = bool | Literal["auto"]


@dataclass(frozen=True)
class DataConfig:
    """The corpora: each a path, a shell pattern, or the name of a dictionary.

    Dictionaries install as packages; see :mod:`pocketseq.pipeline.data.installed`.
    """

    train: str = ""
    train_target: str = ""
    #: Empty: ``dev_share`` of the training lines, by a hash of the source.
    dev: str = ""
    dev_target: str = ""
    #: Reported by an export, never used to choose anything. May be empty.
    test: str = ""
    test_target: str = ""
    dev_share: float = 0.05
    #: The largest number of source texts of that share to measure on, chosen by hash.
    dev_texts: int = 5000
    skip_bad_lines: bool = False
    #: The licence of the data, which is copied to the files that an app ships.
    license: str = "not stated"


@dataclass(frozen=True)
class SideConfig:
    """The tokenizer of one side of the pairs, source or target."""

    tokenizer: TokenizerKind = "character"
    fold_case: bool = False
    decompose: Decompose = False
    #: Target only: whether decomposed output is composed to NFC.
    compose: bool = True
    #: Words that occur less often in training are unknown; for ``character`` and
    #: ``wordpiece``, characters that do.
    minimum_count: int = 1
    #: wordpiece only: the largest number of pieces. A small corpus gives fewer; one
    #: with more characters than that gives more.
    vocabulary_size: int = 8000
    #: Whether the vocabulary is learned from the texts of both sides, which then have
    #: the same tokenizer: names that stay as they are get the same pieces.
    joint_vocabulary: bool = False
    #: The longest text, in code points. Training drops longer pairs; longer input is
    #: cut.
    max_code_points: int = 64


@dataclass(frozen=True)
class AttentionConfig:
    """The attention score, one of :data:`ATTENTIONS`, and its options."""

    score: str = "cosine"


@dataclass(frozen=True)
class CosineConfig(AttentionConfig):
    """The options of :class:`pocketseq.layers.CosineAttention`."""

    initial_scale: float = 10.0
    learned_scale: bool = True


@dataclass(frozen=True)
class AdditiveConfig(AttentionConfig):
    """The options of :class:`pocketseq.layers.AdditiveAttention`."""

    width: int = 128


#: The options in ``[model.attention]`` by ``score``; the layers of these names are in
#: :data:`pocketseq.layers.ATTENTIONS`.
ATTENTIONS: dict[str, type[AttentionConfig]] = {
    "cosine": CosineConfig,
    "dot": AttentionConfig,
    "scaled_dot": AttentionConfig,
    "general": AttentionConfig,
    "additive": AdditiveConfig,
    "none": AttentionConfig,
}


@dataclass(frozen=True)
class ModelConfig:
    """The encoder-decoder; see :mod:`pocketseq.layers`."""

    embedding_size: int = 128
    units: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    #: The longest n-gram of source tokens with an embedding of its own; 1: none.
    longest_ngram: int = 1
    #: The largest number of embeddings for the n-grams of a length.
    ngram_rows: int = 4096
    #: The width of an n-gram's embedding; ``embedding_size``, if that is less.
    ngram_size: int = 64
    #: The bits of a component of it, in training as in a file: 32, 8 or 4.
    ngram_bits: int = 32
    input_feeding: bool = False
    tied_output: bool = True
    #: A hidden layer between attention and output; without one, nothing can be tied.
    readout: bool = True
    #: The decoder's first input is the end token, in place of a start token of its own.
    start_with_end: bool = False
    dropout: float = 0.1
    attention: AttentionConfig = field(default_factory=CosineConfig)


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation; schedules count updates."""

    seed: int = 1
    updates: int = 6000
    #: The dev metric that selects the weights to keep, stops training early, and limits
    #: the loss by quantization: one that ``evaluate`` prints for the target tokenizer.
    #: Empty: chosen by the target tokenizer and the texts when the run begins.
    metric: str = ""
    #: ``auto`` is decided once and kept with the run.
    precision: Precision = "auto"
    #: The number of parts of a batch that are computed in parallel. 0: one per core;
    #: decided once and kept with the run, because it determines the order of sums.
    parts: int = 0
    #: Source and target tokens per batch, padding included.
    batch_tokens: int = 2048
    #: The largest number of fixed batch shapes.
    buckets: int = 8
    #: The number of examples held in memory for shuffling.
    shuffle_buffer: int = 200_000
    learning_rate: float = 5e-3
    warmup_updates: int = 200
    #: The learning rate falls along a cosine to this share of its peak.
    final_learning_rate_share: float = 0.2
    label_smoothing: float = 0.05
    #: The largest norm of the gradient per target token; larger ones are scaled to it.
    clip_norm: float = 1.0
    #: The decay of the exponential moving average of the weights, per update.
    average_decay: float = 0.999
    #: Updates from one evaluation on the dev set to the next.
    evaluate_every: int = 1000
    #: Evaluations without a better dev metric before training stops early.
    patience: int = 8


@dataclass(frozen=True)
class DistillationConfig:
    """How a student learns from trained runs; without teachers, none of it counts."""

    #: Their folders. The student has the tokens of the first, and all share them.
    teachers: tuple[str, ...] = ()
    #: Source texts without targets, which the teachers translate: a file of lines, or
    #: ``wordfreq:LANGUAGE``. Empty: the training pairs only.
    words: str = ""
    #: The largest number of those texts, the first ones.
    most_words: int = 200_000
    #: The weight of the teachers' probabilities in the loss; the rest is for the target
    #: itself.
    share: float = 0.9
    #: How many of the likeliest tokens are kept of each distribution.
    choices: int = 8


@dataclass(frozen=True)
class SearchConfig:
    """The default settings of the search."""

    beam_size: int = 1
    #: Scores are divided by (number of tokens) ** this; 1 is the mean.
    length_penalty: float = 1.0
    #: No so many tokens may stand twice in an output; 0: they may.
    no_repeat_ngram: int = 0
    #: The same few tokens may stand in a row so many times; 0: any number.
    most_repeats: int = 0


@dataclass(frozen=True)
class Config:
    """A recipe: all that determines the result of a training run."""

    name: str = "custom"
    task: str = "text to text"
    #: The folder of the run that this one is fine-tuned from; empty: none.
    base: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    source: SideConfig = field(default_factory=SideConfig)
    target: SideConfig = field(default_factory=SideConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    @property
    def metric(self) -> str:
        """The main metric, of those in :mod:`pocketseq.pipeline.evaluation`."""
        return self.training.metric or _metrics_of_kind(self.target.tokenizer)[0]

    def to_toml(self) -> str:
        """Returns the configuration as TOML text."""
        return tomli_w.dumps(dataclasses.asdict(self))


# The sections of a configuration, by name.
_SECTIONS = [
    name
    for name, kind in typing.get_type_hints(Config).items()
    if dataclasses.is_dataclass(kind)
]


# Those that the runs of every version have.
_OLDEST_SECTIONS = [name for name in _SECTIONS if name != "distillation"]


def load_recipe(name: str | Path) -> Config:
    """Loads a recipe by its name, or from a path that ends in ``.toml``.

    Raises:
        UserError: There is no such recipe, or it is not valid.
    """
    known = {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}
    path = Path(name) if str(name).endswith(".toml") else known.get(str(name))
    if path is None or not path.is_file():
        raise UserError(
            f"{name}: no such recipe, expected a .toml file or one of: "
            f"{', '.join(known)}"
        )
    # The configuration of a fine-tuned run, as a recipe, starts from no other run.
    return dataclasses.replace(read_config(path), base="")


def read_config(path: str | os.PathLike[str], *, whole: bool = False) -> Config:
    """Reads a configuration; keys that the file lacks get their default.

    Args:
        path: A TOML file.
        whole: Whether the sections must be there that :meth:`Config.to_toml` has always
            written.

    Raises:
        UserError: The file is not TOML, or has an unknown key or an impossible value.
        OSError: The file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    return parse_config(text, path, whole=whole)


def parse_config(
    text: str, path: str | os.PathLike[str], *, whole: bool = False
) -> Config:
    """Parses the TOML text of a configuration; see :func:`read_config`.

    Args:
        text: The TOML text.
        path: The file of the text, for error messages.
        whole: Whether the sections of a run must be there; see :func:`read_config`.

    Raises:
        UserError: The text is not TOML, or has an unknown key or an impossible value.
    """
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # also for numbers with too many digits
        raise UserError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not valid TOML: nested too deeply") from error
    missing = [name for name in _OLDEST_SECTIONS if name not in values]
    if whole and missing:
        raise UserError(f"{path}: damaged, the section {missing[0]} is missing")
    return validate(_build(Config, values, str(path)))


def override(config: Config, settings: Iterable[str]) -> Config:
    """Returns the configuration with ``section.key=value`` settings applied in turn.

    Raises:
        UserError: A setting lacks "=", or has an unknown key or an impossible value.
    """
    values = dataclasses.asdict(config)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected section.key=value")
        if name.strip() == "base":
            raise UserError(f"--set {setting}: expected --from RUN instead")
        *sections, key = name.strip().split(".")
        sections, key = _renamed(sections, key)
        inner: Any = values
        for section in sections:
            inner = inner.get(section)
            if not isinstance(inner, dict):
                raise UserError(f"--set {setting}: {_expected(values, name)}")
        value = _parse(setting, text.strip())
        if [*sections, key] == ["model", "attention", "score"]:
            sections, key = ["model"], "attention"
            inner = values["model"]
        if [*sections, key] == ["model", "attention"]:
            # Another score has other options, so those of the old one go.
            if value != inner[key]["score"]:
                inner[key] = {"score": value}
                if isinstance(value, str) and value in ATTENTIONS:
                    inner[key] = dataclasses.asdict(ATTENTIONS[value](score=value))
            continue
        if key not in inner or isinstance(inner[key], dict):
            raise UserError(f"--set {setting}: {_expected(values, name)}")
        inner[key] = value
    return validate(_build(Config, values, "--set"))


def _renamed(sections: list[str], key: str) -> tuple[list[str], str]:
    """Returns the sections and the key that a key of version 0.1 has now."""
    if sections == ["model"] and key in _ONCE_OF_THE_MODEL:
        return ["model", "attention"], key
    return sections, key


def with_files(
    config: Config,
    train: str | None,
    train_target: str | None,
    dev: str | None,
    dev_target: str | None,
    skip_bad_lines: bool,
) -> Config:
    """Returns the configuration with the corpora that a command names.

    A training corpus replaces all data of the recipe, whose dev set, test set and
    licence belong to another corpus. A dictionary that installs brings its own test
    set.

    Args:
        config: The recipe.
        train: The training corpus; None: that of the recipe.
        train_target: The target side of ``train``, if in a file of its own.
        dev: The dev corpus; None: that of the recipe.
        dev_target: The target side of ``dev``, if in a file of its own.
        skip_bad_lines: Whether to skip lines that are not pairs, as the recipe may do.

    Raises:
        UserError: There is a target file without its source file.
    """
    for name, source, target in (
        ("--train", train, train_target),
        ("--dev", dev, dev_target),
    ):
        if target and not source:
            raise UserError(f"{name}-target {target}: expected {name} FILE with it")
    data = config.data
    if train:
        # Here, because ``--help`` reads this module.
        from pocketseq.pipeline.data.installed import held_out_part

        data = DataConfig(
            train=train,
            train_target=train_target or "",
            test=held_out_part(train),
            dev_share=data.dev_share,
            dev_texts=data.dev_texts,
        )
    if dev:
        data = dataclasses.replace(data, dev=dev, dev_target=dev_target or "")
    skip = data.skip_bad_lines or skip_bad_lines
    return dataclasses.replace(
        config, data=dataclasses.replace(data, skip_bad_lines=skip)
    )


def with_license(config: Config) -> Config:
    """Returns the configuration with the licence of its data.

    A dictionary that installs has one; any other corpus is as the recipe states.
    """
    from pocketseq.pipeline.data.installed import license_of

    data = config.data
    if data.license != DataConfig.license:
        return config
    known = license_of(data.train) or data.license
    return dataclasses.replace(config, data=dataclasses.replace(data, license=known))


def model_of(base: Config, recipe: Config) -> Config:
    """Returns a recipe with the tokenizers and the layers of a trained run.

    Dropout stays as in the recipe: it belongs to the training, not to the model.

    Args:
        base: The configuration of the trained run.
        recipe: The recipe to change.
    """
    model = dataclasses.replace(base.model, dropout=recipe.model.dropout)
    return dataclasses.replace(
        recipe, source=base.source, target=base.target, model=model
    )


def student_of(
    teachers: Sequence[tuple[str | os.PathLike[str], Config]],
    recipe: Config,
    words: str | None,
) -> Config:
    """Returns a recipe for a student: the tokens and the data are the teachers'.

    Args:
        teachers: The folder and the configuration of each; the data are those of the
            first one.
        recipe: The rest: the model, its training, and ``distillation``.
        words: Texts for the teachers to translate; None: those of the recipe.
    """
    first = teachers[0][1]
    licenses = dict.fromkeys(config.data.license for _, config in teachers)
    return dataclasses.replace(
        recipe,
        task=first.task,
        data=dataclasses.replace(first.data, license="; ".join(licenses)),
        source=first.source,
        target=first.target,
        distillation=dataclasses.replace(
            recipe.distillation,
            teachers=tuple(os.path.abspath(folder) for folder, _ in teachers),
            words=recipe.distillation.words if words is None else words,
        ),
    )


def undecided(config: Config) -> Config:
    """Returns the configuration of a run without the metric and the number of parts.

    They were decided when the run began; a new run may have other texts, on another
    machine.
    """
    training = dataclasses.replace(config.training, metric="", parts=0)
    return dataclasses.replace(config, training=training)


def fine_tuned(config: Config, base: Config, folder: str | Path) -> Config:
    """Returns the configuration of a run that starts from a trained one.

    The sections ``source``, ``target`` and ``model`` must be those of the trained run,
    except for ``model.dropout``. The licence of its data applies to the new model, too.

    Args:
        config: The requested configuration; see :func:`model_of`.
        base: The configuration of the trained run.
        folder: The folder of the trained run.

    Raises:
        UserError: Another model is requested; names the first key that differs.
    """
    for section in ("source", "target", "model"):
        kept = dict(_leaves(dataclasses.asdict(getattr(base, section))))
        for name, value in _leaves(dataclasses.asdict(getattr(config, section))):
            if value != kept.get(name) and (section, name) != ("model", "dropout"):
                raise UserError(
                    f"{section}.{name} = {_shown(value)}: {folder} was trained with "
                    f"{_shown(kept.get(name))}, expected the same to start from it"
                )
    licenses = list(dict.fromkeys([base.data.license, config.data.license]))
    data = dataclasses.replace(config.data, license="; ".join(licenses))
    return dataclasses.replace(config, base=str(folder), data=data)


class _Range(NamedTuple):
    """The numbers from ``low`` to ``high``; an open end is not one of them."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Returns whether a number is finite and in the range."""
        return (
            self.low <= value <= self.high
            and math.isfinite(value)
            and not (self.open_low and value == self.low)
            and not (self.open_high and value == self.high)
        )

    def __str__(self) -> str:
        low = f"above {self.low}" if self.open_low else f"from {self.low}"
        high = f"below {self.high}" if self.open_high else f"up to {self.high}"
        return f"a number {low} {high}"


_SHARE = _Range(0, 1, open_high=True)
_COUNT = _Range(1, 2**31 - 1)
_POSITIVE = _Range(0, 1e9, open_low=True)

# The ranges of numbers by key. Of the keys that are not here, integers are counts, and
# floats are above 0.
_RANGES = {
    "data.dev_share": _Range(0, 1, open_low=True, open_high=True),
    **{
        f"{side}.{key}": numbers
        for side in ("source", "target")
        for key, numbers in (
            ("minimum_count", _COUNT),
            ("vocabulary_size", _Range(1, 10**6)),
            ("max_code_points", _Range(1, LONGEST_TEXT)),
        )
    },
    "model.embedding_size": _Range(1, 2**14),
    "model.units": _Range(1, 2**14),
    "model.encoder_layers": _Range(1, 64),
    "model.decoder_layers": _Range(1, 64),
    "model.longest_ngram": _Range(1, 8),
    "model.ngram_rows": _Range(1, 46337),
    "model.ngram_size": _Range(1, 2**14),
    "model.attention.width": _Range(1, 2**14),
    "model.attention.initial_scale": _Range(0, 100, open_low=True),
    "model.dropout": _SHARE,
    "training.parts": _Range(0, 1024),
    "training.seed": _Range(0, 2**31 - 1),
    "training.learning_rate": _Range(0, 1000, open_low=True),
    "training.warmup_updates": _Range(0, 2**31 - 1),
    "training.final_learning_rate_share": _Range(0, 1),
    "training.label_smoothing": _SHARE,
    "training.average_decay": _SHARE,
    "distillation.share": _Range(0, 1),
    "distillation.choices": _Range(1, 256),
    "search.beam_size": _Range(1, WIDEST_BEAM),
    "search.length_penalty": _Range(0, 100),
    "search.no_repeat_ngram": _Range(0, LONGEST_TEXT),
    "search.most_repeats": _Range(0, LONGEST_TEXT),
}

_CHOICES: dict[str, tuple[str, ...] | tuple[int, ...]] = {
    "source.tokenizer": typing.get_args(TokenizerKind),
    "target.tokenizer": typing.get_args(TokenizerKind),
    "model.ngram_bits": (4, 8, 32),
    "model.attention.score": tuple(ATTENTIONS),
    "training.precision": typing.get_args(Precision),
}


def validate(config: Config) -> Config:
    """Returns the configuration if all its values are possible.

    Raises:
        UserError: A value is not; names its key and what was expected.
    """
    for section in _SECTIONS:
        for name, value in _leaves(dataclasses.asdict(getattr(config, section))):
            expected = _expected_of(f"{section}.{name}", value)
            if expected:
                raise UserError(
                    f"{section}.{name} = {_shown(value)}: expected {expected}"
                )
    if config.model.bidirectional and config.model.units % 2:
        raise UserError(
            f"model.units = {config.model.units}: expected an even number for two "
            f"directions"
        )
    if config.model.tied_output and not config.model.readout:
        raise UserError(
            "model.tied_output = true: expected false where model.readout is false"
        )
    _check_joint_vocabulary(config)
    _check_metric(config)
    return config


def _leaves(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields (key, value); keys of inner sections are ``section.key``."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", one) for name, one in _leaves(value))
        else:
            yield key, value


def _metrics_of_kind(kind: str) -> tuple[str, ...]:
    # Here, because it imports NumPy, and ``--help`` reads this module.
    from pocketseq.pipeline.evaluation import metrics_of_kind

    return metrics_of_kind(kind)


def _check_joint_vocabulary(config: Config) -> None:
    """Raises if a vocabulary of both sides is asked for, and they differ in kind."""
    sides = {"source": config.source, "target": config.target}
    kinds = {side.tokenizer for side in sides.values()}
    for name, side in sides.items():
        if side.joint_vocabulary and len(kinds) > 1:
            raise UserError(
                f"{name}.joint_vocabulary = true: expected the same tokenizer on both "
                f"sides, found {config.source.tokenizer} and {config.target.tokenizer}"
            )


def _check_metric(config: Config) -> None:
    """Raises if the metric does not fit the target tokenizer."""
    kind, metric = config.target.tokenizer, config.training.metric
    if metric and metric not in (names := _metrics_of_kind(kind)):
        raise UserError(
            f"training.metric = {_shown(metric)}: expected one of "
            f"{', '.join(names)}, for {kind} targets"
        )


def _expected_of(name: str, value: object) -> str:
    """Returns which values a key may have; empty if the value is one of them."""
    if name in _CHOICES and value not in _CHOICES[name]:
        *others, last = map(str, _CHOICES[name])
        return f"{', '.join(others)} or {last}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        default = _COUNT if isinstance(value, int) else _POSITIVE
        numbers = _RANGES.get(name, default)
        return "" if numbers.holds(value) else str(numbers)
    return ""


_Section = TypeVar("_Section")


def _build(
    kind: type[_Section], values: Mapping[str, Any], where: str, prefix: str = ""
) -> _Section:
    """Makes a configuration dataclass from plain values.

    Args:
        kind: The dataclass.
        values: ``{name of a field: value}``, as TOML has them.
        where: The source of the values, for error messages.
        prefix: ``section.`` before keys in error messages.

    Raises:
        UserError: There is an unknown key, or a value of the wrong type.
    """
    if kind is ModelConfig:
        values = _with_attention_apart(values)
    made: type[Any] = kind
    if issubclass(kind, AttentionConfig):
        made = _kind_of_attention(values, where, prefix)
    types = typing.get_type_hints(made)
    for key in values:
        if key not in types:
            raise UserError(
                f"{where}: unknown key {prefix}{key}, expected one of: "
                f"{', '.join(prefix + name for name in types)}"
            )
    return made(
        **{
            key: _convert(types[key], value, where, f"{prefix}{key}")
            for key, value in values.items()
        }
    )


# The options of the cosine score that version 0.1 had in the section of the model.
_ONCE_OF_THE_MODEL = ("initial_scale", "learned_scale")


def _with_attention_apart(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the values of the model with a section for ``attention``.

    In version 0.1, ``attention`` was the name of the score, and the options of the
    cosine were keys of the model, whatever the score.
    """
    attention = values.get("attention", {})
    if isinstance(attention, str):
        attention = {"score": attention}
    if not isinstance(attention, dict):
        return values
    rest = {k: v for k, v in values.items() if k not in _ONCE_OF_THE_MODEL}
    moved = {k: values[k] for k in _ONCE_OF_THE_MODEL if k in values}
    if attention.get("score", "cosine") == "cosine":
        attention = {**moved, **attention}
    return {**rest, "attention": attention}


def _kind_of_attention(
    values: Mapping[str, Any], where: str, prefix: str
) -> type[AttentionConfig]:
    """Returns the options of the score that the values name."""
    score = values.get("score", AttentionConfig.score)
    if not isinstance(score, str):
        raise UserError(f"{where}: {prefix}score: expected text, found {_shown(score)}")
    if score not in ATTENTIONS:
        raise UserError(
            f"{prefix}score = {_shown(score)}: expected "
            f"{_expected_of(f'{prefix}score', score)}"
        )
    return ATTENTIONS[score]


def _convert(kind: Any, value: Any, where: str, name: str) -> Any:
    """Returns a TOML value as a field of a configuration holds it.

    Args:
        kind: The type of the field.
        value: The value, of whatever type.
        where: The source of the value, for error messages.
        name: ``section.key``, for error messages.

    Raises:
        UserError: The value is of another type.
    """
    if kind == Decompose:
        if value != "auto" and type(value) is not bool:
            raise UserError(
                f'{where}: {name}: expected true, false or "auto", found '
                f"{_shown(value)}"
            )
        return value
    if typing.get_origin(kind) is Literal:
        kind = str  # validate() checks which
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            found = _shown(value)
            raise UserError(f"{where}: {name}: expected a section, found {found}")
        return _build(kind, value, where, f"{name}.")
    if typing.get_origin(kind) is tuple:
        if not (isinstance(value, list | tuple) and all(type(x) is str for x in value)):
            found = _shown(value)
            raise UserError(f"{where}: {name}: expected a list of texts, found {found}")
        return tuple(value)
    if kind is float and type(value) is int:
        # An integer too large for a float is too large for any range.
        return float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false"}
        expected, found = names.get(kind, "text"), _shown(value)
        raise UserError(f"{where}: {name}: expected {expected}, found {found}")
    return value


def _shown(value: object) -> str:
    """Returns a short text of a value, for error messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a very long number, a very deep list
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _parse(setting: str, text: str) -> Any:
    """Returns the value of a setting: parsed if it is TOML, otherwise as text."""
    try:
        values = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    except RecursionError as error:
        shown = _shown(setting)
        raise UserError(f"--set {shown}: the value is nested too deeply") from error
    return values["value"] if len(values) == 1 else text  # several: more than one line


def _expected(values: dict[str, Any], name: str) -> str:
    """Returns an error message that lists the keys that a setting could mean."""
    prefix = ""
    for section in name.strip().split(".")[:-1]:
        if not isinstance(values.get(section), dict):
            break
        values, prefix = values[section], f"{prefix}{section}."
    else:
        # The setting names a section as if it were a key.
        last = name.strip().split(".")[-1]
        if isinstance(values.get(last), dict):
            values, prefix = values[last], f"{prefix}{last}."
    known = [
        f"{prefix}{key}.*" if isinstance(value, dict) else f"{prefix}{key}"
        for key, value in values.items()
    ]
    return f"unknown key {name.strip()}, expected one of: {', '.join(known)}"
