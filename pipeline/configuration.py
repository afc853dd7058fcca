"""Configuration: dataclasses, read from TOML recipes, saved with each run."""

import dataclasses
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import METRICS_OF_KIND

RECIPES = Path(__file__).with_name("recipes")


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
    def metric(self):
        """The main metric, of those in :mod:`pocketseq.pipeline.evaluation`."""
        return self.training.metric or METRICS_OF_KIND[self.target.tokenizer][0]

    def to_toml(self):
        """Returns the configuration as TOML text."""
        return tomli_w.dumps(dataclasses.asdict(self))


def load_recipe(name):
    """Loads a recipe by its name, or from a path ending in ``.toml``.

    Raises:
        UserError: There is no such recipe, or it is not valid.
    """
    path = Path(name) if str(name).endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise UserError(
            f"{name}: no such recipe, expected a .toml file or one of: {known}"
        )
    return read_config(path)


def read_config(path):
    """Reads a configuration; keys that the file lacks have their default.

    Raises:
        UserError: Not TOML, an unknown key, or a value of the wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    return parse_config(text, path)


def parse_config(text, path):
    """Makes a configuration of TOML text; see :func:`read_config`.

    Args:
        text: The TOML text.
        path: Where it comes from, for error messages.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
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
        *sections, key = name.strip().split(".")
        inner: Any = values
        for section in sections:
            inner = inner.get(section)
            if not isinstance(inner, dict):
                raise UserError(f"--set {setting}: {_expected(values, name)}")
        if key not in inner or isinstance(inner[key], dict):
            raise UserError(f"--set {setting}: {_expected(values, name)}")
        inner[key] = _parse(text.strip())
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


def fine_tuned(config, base, folder):
    """Returns the configuration of a run that starts from a trained one.

    What made the trained model what it is stays: its text sides and its layers. The
    licence of its data holds for what is made from it, too.

    Args:
        config: What the new run is asked to be.
        base: :class:`Config` of the trained run.
        folder: Its folder.

    Raises:
        UserError: The new run asks for another model.
    """
    kept = {"source": base.source, "target": base.target}
    kept["model"] = dataclasses.replace(base.model, dropout=config.model.dropout)
    licenses = list(dict.fromkeys([base.data.license, config.data.license]))
    data = dataclasses.replace(config.data, license="; ".join(licenses))
    return dataclasses.replace(config, base=str(folder), data=data, **kept)


def validate(config):
    """Returns the configuration if its values are possible.

    Raises:
        UserError: Names the first key whose value is not, and what was expected.
    """
    share = "a number from 0 up to, not including, 1"
    checks = [
        *(
            (f"{side}.tokenizer", getattr(config, side).tokenizer,
             "character, word or wordpiece",
             getattr(config, side).tokenizer in ("character", "word", "wordpiece"))
            for side in ("source", "target")
        ),
        ("model.attention", config.model.attention, "cosine, dot or none",
         config.model.attention in ("cosine", "dot", "none")),
        ("model.dropout", config.model.dropout, share, 0 <= config.model.dropout < 1),
        ("model.units", config.model.units, "an even number for two directions",
         not config.model.bidirectional or config.model.units % 2 == 0),
        ("model.initial_scale", config.model.initial_scale, "above 0, at most 100",
         0 < config.model.initial_scale <= 100),
        ("training.precision", config.training.precision, "auto, float32 or bfloat16",
         config.training.precision in ("auto", "float32", "bfloat16")),
        _metric_check(config),
        ("data.dev_share", config.data.dev_share, share, 0 < config.data.dev_share < 1),
        *(
            (f"training.{key}", getattr(config.training, key), share,
             0 <= getattr(config.training, key) < 1)
            for key in ("label_smoothing", "average_decay")
        ),
    ]  # fmt: skip
    for section in dataclasses.fields(config):
        for key, value in _numbers(getattr(config, section.name)):
            zero = key in _MAY_BE_ZERO
            expected = "a number from 0 up" if zero else "a number above 0"
            holds = value >= 0 if zero else value > 0
            checks.append((f"{section.name}.{key}", value, expected, holds))
    for name, value, expected, holds in checks:
        if not holds:
            raise UserError(f"{name} = {value!r}: expected {expected}")
    return config


def _metric_check(config):
    known = METRICS_OF_KIND.get(config.target.tokenizer, ())
    expected = f"one of {', '.join(known)}, for {config.target.tokenizer} targets"
    metric = config.training.metric
    return "training.metric", metric, expected, not metric or metric in known


# Numbers that may be 0, and no less.
_MAY_BE_ZERO = {
    "dropout", "label_smoothing", "average_decay", "final_learning_rate_share",
    "length_penalty", "parts", "seed", "warmup_updates",
}  # fmt: skip


def _numbers(section):
    """Yields the (key, value) of the numbers in a section."""
    if not dataclasses.is_dataclass(section) or isinstance(section, type):
        return
    for key, value in dataclasses.asdict(section).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number:
            yield key, value


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
            raise UserError(f"{where}: {name}: expected a section, found {value!r}")
        return _build(kind, value, where, f"{name}.")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false"}
        expected = names.get(kind, "text")
        raise UserError(f"{where}: {name}: expected {expected}, found {value!r}")
    return value


def _parse(text):
    """Reads a value as TOML does, or as text where it is not TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


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
