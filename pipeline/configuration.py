"""Configuration: dataclasses, read from TOML recipes, saved with each run."""

import dataclasses
import math
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from pocketseq.pipeline.errors import UserError

RECIPES = Path(__file__).with_name("recipes")

#: The longest text, in code points. The alignment of longer ones would be gigabytes.
LONGEST_TEXT = 4096

#: The widest beam. Time and memory grow with it, and quality has long stopped to.
WIDEST_BEAM = 256


@dataclass(frozen=True)
class DataConfig:
    """Where the texts come from; a path, a shell pattern, or ``cmudict:PART``."""

    train: str = ""
    train_target: str = ""
    #: Empty: ``dev_share`` of the training lines, by a hash of the source.
    dev: str = ""
    dev_target: str = ""
    #: Reported by an export, never used to choose anything. May be empty.
    test: str = ""
    dev_share: float = 0.05
    #: At most so many source texts of that share are measured on, chosen by the hash.
    dev_texts: int = 5000
    skip_bad_lines: bool = False
    #: The licence of the data, which goes into the files an app ships.
    license: str = "not stated"


@dataclass(frozen=True)
class SideConfig:
    """How one side of the pairs, source or target, becomes tokens."""

    #: ``character``, ``word`` or ``wordpiece``.
    tokenizer: str = "character"
    fold_case: bool = False
    decompose: bool = False
    #: Target only: whether what was decomposed is composed again, so that outputs are
    #: NFC.
    compose: bool = True
    #: What is seen less often in training is unknown: words, or else characters.
    minimum_count: int = 1
    #: wordpiece only: the largest number of pieces. There are fewer if the text does
    #: not give as many, and more if its characters alone are more.
    vocabulary_size: int = 8000
    #: The longest text, in code points: longer pairs are left out of training, longer
    #: input is cut.
    max_code_points: int = 64


@dataclass(frozen=True)
class ModelConfig:
    """The encoder-decoder; see :mod:`pocketseq.layers`."""

    embedding_size: int = 128
    units: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    #: ``cosine``, ``dot`` or ``none``.
    attention: str = "cosine"
    initial_scale: float = 10.0
    learned_scale: bool = True
    input_feeding: bool = False
    tied_output: bool = True
    dropout: float = 0.1


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation. Everything that is counted is counted in updates."""

    seed: int = 1
    updates: int = 6000
    #: The dev metric that chooses the weights to keep, ends training early, and guards
    #: quantization: one that ``evaluate`` prints for the target's tokenizer. Empty: the
    #: one that fits it, and the texts; decided once and kept with the run.
    metric: str = ""
    #: Of matrix products: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the
    #: processor multiplies it natively; decided once and kept with the run.
    precision: str = "auto"
    #: In how many parts a batch is worked through, side by side. 0: one for each core;
    #: decided once and kept with the run, because it decides the order of sums.
    parts: int = 0
    #: Source and target tokens of a batch, padding included.
    batch_tokens: int = 2048
    #: The largest number of fixed shapes that batches come in.
    buckets: int = 8
    #: Examples held for shuffling.
    shuffle_buffer: int = 200_000
    learning_rate: float = 5e-3
    warmup_updates: int = 200
    #: The learning rate falls along a cosine to this share of its peak.
    final_learning_rate_share: float = 0.2
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    #: Weight of the past in the moving average of the weights.
    average_decay: float = 0.999
    evaluate_every: int = 1000
    #: Evaluations without a better dev metric before training ends early.
    patience: int = 8


@dataclass(frozen=True)
class SearchConfig:
    """What evaluation and translation use unless told otherwise."""

    beam_size: int = 1
    #: Scores are divided by (number of tokens) ** this; 1 is the mean.
    length_penalty: float = 1.0


@dataclass(frozen=True)
class Config:
    """A recipe: everything that decides what a training makes."""

    name: str = "custom"
    task: str = "text to text"
    #: The run whose tokenizers and weights this one started from, if any.
    base: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    source: SideConfig = field(default_factory=SideConfig)
    target: SideConfig = field(default_factory=SideConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    @property
    def metric(self) -> str:
        """The main metric, of those in :mod:`pocketseq.pipeline.evaluation`."""
        return self.training.metric or _metrics_of_kind(self.target.tokenizer)[0]

    def to_toml(self):
        """Returns the configuration as TOML text."""
        return tomli_w.dumps(dataclasses.asdict(self))


# The sections of a configuration, by name.
_SECTIONS = [
    name
    for name, kind in typing.get_type_hints(Config).items()
    if dataclasses.is_dataclass(kind)
]


def load_recipe(name):
    """Loads a recipe by its name, or from a path ending in ``.toml``.

    Raises:
        UserError: There is no such recipe, or it is not valid.
    """
    known = {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}
    path = Path(name) if str(name).endswith(".toml") else known.get(name)
    if path is None or not path.is_file():
        raise UserError(
            f"{name}: no such recipe, expected a .toml file or one of: "
            f"{', '.join(known)}"
        )
    # The configuration of a fine-tuned run is a recipe without what it started from.
    return dataclasses.replace(read_config(path), base="")


def read_config(path, *, whole=False):
    """Reads a configuration; keys that the file lacks have their default.

    Args:
        path: A TOML file.
        whole: Whether all sections must be there, as in what :meth:`Config.to_toml`
            has written.

    Raises:
        UserError: Not TOML, an unknown key, or a value of the wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    return parse_config(text, path, whole=whole)


def parse_config(text, path, *, whole=False):
    """Makes a configuration of TOML text; see :func:`read_config`.

    Args:
        text: The TOML text.
        path: Where it comes from, for error messages.
        whole: Whether all sections must be there.
    """
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # of numbers that are too long, too
        raise UserError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not valid TOML: nested too deeply") from error
    missing = [name for name in _SECTIONS if name not in values]
    if whole and missing:
        raise UserError(f"{path}: damaged, the section {missing[0]} is missing")
    return validate(_build(Config, values, str(path)))


def override(config, settings):
    """Returns the configuration with ``section.key=value`` settings applied.

    Raises:
        UserError: A setting without "=", an unknown key, or a value of the wrong type.
    """
    values = dataclasses.asdict(config)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected section.key=value")
        if name.strip() == "base":
            raise UserError(f"--set {setting}: expected --from RUN instead")
        *sections, key = name.strip().split(".")
        inner: Any = values
        for section in sections:
            inner = inner.get(section)
            if not isinstance(inner, dict):
                raise UserError(f"--set {setting}: {_expected(values, name)}")
        if key not in inner or isinstance(inner[key], dict):
            raise UserError(f"--set {setting}: {_expected(values, name)}")
        inner[key] = _parse(setting, text.strip())
    return validate(_build(Config, values, "--set"))


def with_files(config, train, train_target, dev, dev_target, skip_bad_lines):
    """Returns the configuration with the corpora that a command names.

    A training corpus of the user's replaces all data of the recipe: its dev and test
    sets, and its licence, belong to something else.

    Raises:
        UserError: A target file without its source file.
    """
    for name, source, target in (
        ("--train", train, train_target),
        ("--dev", dev, dev_target),
    ):
        if target and not source:
            raise UserError(f"{name}-target {target}: expected {name} FILE with it")
    data = config.data
    if train:
        data = DataConfig(
            train=train,
            train_target=train_target or "",
            dev_share=data.dev_share,
            dev_texts=data.dev_texts,
        )
    if dev:
        data = dataclasses.replace(data, dev=dev, dev_target=dev_target or "")
    skip = data.skip_bad_lines or skip_bad_lines
    return dataclasses.replace(
        config, data=dataclasses.replace(data, skip_bad_lines=skip)
    )


def model_of(base, recipe):
    """Returns a recipe with the text sides and the layers of a trained run.

    Its dropout stays: it decides how a model is trained, not what it is.

    Args:
        base: :class:`Config` of the trained run.
        recipe: :class:`Config`.
    """
    model = dataclasses.replace(base.model, dropout=recipe.model.dropout)
    return dataclasses.replace(
        recipe, source=base.source, target=base.target, model=model
    )


def undecided(config):
    """Returns the configuration of a run without what was decided when that began.

    For a new run, whose texts and machine may be others.
    """
    training = dataclasses.replace(config.training, metric="", parts=0)
    return dataclasses.replace(config, training=training)


def fine_tuned(config, base, folder):
    """Returns the configuration of a run that starts from a trained one.

    What made the trained model what it is stays: its text sides and its layers, except
    for ``model.dropout``. The licence of its data holds for what is made from it, too.

    Args:
        config: What the new run is asked to be; see :func:`model_of`.
        base: :class:`Config` of the trained run.
        folder: Its folder.

    Raises:
        UserError: The new run asks for another model; names the first key.
    """
    for section in ("source", "target", "model"):
        kept = dataclasses.asdict(getattr(base, section))
        for key, value in dataclasses.asdict(getattr(config, section)).items():
            if value != kept[key] and (section, key) != ("model", "dropout"):
                raise UserError(
                    f"{section}.{key} = {_shown(value)}: {folder} was trained with "
                    f"{_shown(kept[key])}, expected the same to start from it"
                )
    licenses = list(dict.fromkeys([base.data.license, config.data.license]))
    data = dataclasses.replace(config.data, license="; ".join(licenses))
    return dataclasses.replace(config, base=str(folder), data=data)


class _Range(NamedTuple):
    """From ``low`` to ``high``; ``open_low`` and ``open_high`` leave the end out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value):
        """Whether a number is inside; what is not finite never is."""
        return (
            self.low <= value <= self.high
            and math.isfinite(value)
            and not (self.open_low and value == self.low)
            and not (self.open_high and value == self.high)
        )

    def __str__(self):
        low = f"above {self.low}" if self.open_low else f"from {self.low}"
        high = f"below {self.high}" if self.open_high else f"up to {self.high}"
        return f"a number {low} {high}"


_SHARE = _Range(0, 1, open_high=True)
_COUNT = _Range(1, 2**31 - 1)
_POSITIVE = _Range(0, 1e9, open_low=True)

# Of all numbers. One that is not here is a count, or else above 0.
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
    "model.initial_scale": _Range(0, 100, open_low=True),
    "model.dropout": _SHARE,
    "training.parts": _Range(0, 1024),
    "training.seed": _Range(0, 2**31 - 1),
    "training.learning_rate": _Range(0, 1000, open_low=True),
    "training.warmup_updates": _Range(0, 2**31 - 1),
    "training.final_learning_rate_share": _Range(0, 1),
    "training.label_smoothing": _SHARE,
    "training.average_decay": _SHARE,
    "search.beam_size": _Range(1, WIDEST_BEAM),
    "search.length_penalty": _Range(0, 100),
}

_CHOICES = {
    "source.tokenizer": ("character", "word", "wordpiece"),
    "target.tokenizer": ("character", "word", "wordpiece"),
    "model.attention": ("cosine", "dot", "none"),
    "training.precision": ("auto", "float32", "bfloat16"),
}


def validate(config):
    """Returns the configuration if its values are possible.

    Raises:
        UserError: Names the first key whose value is not, and what was expected.
    """
    for section in _SECTIONS:
        for key, value in dataclasses.asdict(getattr(config, section)).items():
            expected = _expected_of(f"{section}.{key}", value)
            if expected:
                raise UserError(
                    f"{section}.{key} = {_shown(value)}: expected {expected}"
                )
    if config.model.bidirectional and config.model.units % 2:
        raise UserError(
            f"model.units = {config.model.units}: expected an even number for two "
            f"directions"
        )
    _check_metric(config)
    return config


def _metrics_of_kind(kind: str) -> tuple[str, ...]:
    # Here, because it imports NumPy, and ``--help`` reads this module.
    from pocketseq.pipeline.evaluation import metrics_of_kind

    return metrics_of_kind(kind)


def _check_metric(config: Config) -> None:
    kind, metric = config.target.tokenizer, config.training.metric
    if metric and metric not in (names := _metrics_of_kind(kind)):
        raise UserError(
            f"training.metric = {_shown(metric)}: expected one of "
            f"{', '.join(names)}, for {kind} targets"
        )


def _expected_of(name, value):
    """Returns what a key should hold if it does not, else nothing."""
    if name in _CHOICES and value not in _CHOICES[name]:
        *others, last = _CHOICES[name]
        return f"{', '.join(others)} or {last}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        default = _COUNT if isinstance(value, int) else _POSITIVE
        numbers = _RANGES.get(name, default)
        return "" if numbers.holds(value) else str(numbers)
    return ""


def _build(kind, values, where, prefix=""):
    """Makes a configuration dataclass of plain values."""
    types = typing.get_type_hints(kind)
    for key in values:
        if key not in types:
            raise UserError(
                f"{where}: unknown key {prefix}{key}, expected one of: "
                f"{', '.join(prefix + name for name in types)}"
            )
    return kind(
        **{
            key: _convert(types[key], value, where, f"{prefix}{key}")
            for key, value in values.items()
        }
    )


def _convert(kind, value, where, name):
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            found = _shown(value)
            raise UserError(f"{where}: {name}: expected a section, found {found}")
        return _build(kind, value, where, f"{name}.")
    if kind is float and type(value) is int:
        # What is too large for a float is too large for any range.
        return float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false"}
        expected, found = names.get(kind, "text"), _shown(value)
        raise UserError(f"{where}: {name}: expected {expected}, found {found}")
    return value


def _shown(value):
    """Returns a value as an error names it: short, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a very long number, a very deep list
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _parse(setting, text):
    """Reads a value as TOML does, or as text where it is not TOML."""
    try:
        values = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    except RecursionError as error:
        shown = _shown(setting)
        raise UserError(f"--set {shown}: the value is nested too deeply") from error
    return values["value"] if len(values) == 1 else text  # else it has several lines


def _expected(values, name):
    """Lists the keys that a setting could have meant."""
    section = name.split(".")[0]
    keys = values[section] if isinstance(values.get(section), dict) else None
    if keys is None:
        known = [
            f"{key}.*" if isinstance(value, dict) else key
            for key, value in values.items()
        ]
    else:
        known = [f"{section}.{key}" for key in keys]
    return f"unknown key {name.strip()}, expected one of: {', '.join(known)}"
