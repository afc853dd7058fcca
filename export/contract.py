"""The contract between a model and an app: names, tensors, and the manifest.

What stands here is inside files that others keep: signatures, tensors and manifest keys
keep their names. Imports no TensorFlow, because the runtime reads it, too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeVar

from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.text.known import KnownText
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.translation import Knowledge

#: The tensors of a signature: code points in; code points, score and alignment out.
TEXT = "text"
SCORE = "score"
ALIGNMENT = "alignment"
#: In this order, which a runtime without names relies on.
INPUTS = (TEXT,)
OUTPUTS = (TEXT, SCORE, ALIGNMENT)

#: The signature that a call without a name runs, and the one that searches with a beam.
TRANSLATE = "translate"
TRANSLATE_BEAM = "translate_beam"
#: The default signature of a SavedModel, as servers expect it.
SERVING_DEFAULT = "serving_default"

#: The files of a bundle, and those inside a ``.tflite`` file.
MANIFEST = "manifest.json"
GOLDEN = "golden.jsonl"
GOLDEN_BEAM = "golden_beam.jsonl"
README = "README.md"
LICENSES = "LICENSES.md"
MODEL_CARD = "MODEL_CARD.md"
SAVED_MODEL = "saved_model"
SOURCE_VOCABULARY = "source_vocabulary.txt"
TARGET_VOCABULARY = "target_vocabulary.txt"

#: The version of the manifest.
FORMAT = 1

#: The manifest key for the SHA-256 of the model without the files behind it. Only the
#: manifest inside a ``.tflite`` file has it.
CHECKSUM = "flatbuffer_sha256"

DType = Literal["int32", "float32"]

_Value = TypeVar("_Value")


def tflite_name(recipe: str) -> str:
    """Returns the file name of a model that is stored by a quantization recipe."""
    return f"model-{recipe}.tflite"


def version_numbers(version: str) -> list[int]:
    """Returns a version such as ``2.17.0`` as numbers, which compare as versions do."""
    return [int(number) for number in version.split(".")]


class SignatureKey(NamedTuple):
    """One signature: its name, its longest source text, and its search.

    ``length``: in code points. ``beam_size``: None for the greedy search.
    """

    name: str
    length: int
    beam_size: int | None


def signature_keys(
    lengths: Iterable[int], beam_size: int | None = None
) -> list[SignatureKey]:
    """Returns the signatures of a model: one per length and search.

    Args:
        lengths: The lengths of source texts, in code points. The signatures of the
            first go without their length in the name.
        beam_size: The beam of the signatures that search with one; None: there are
            none.
    """
    return [
        SignatureKey(name if not i else f"{name}_{length}", length, beam)
        for i, length in enumerate(lengths)
        for name, beam in (
            [(TRANSLATE, None)] + [(TRANSLATE_BEAM, beam_size)] * bool(beam_size)
        )
    ]


def searches_with_beam(name: str) -> bool:
    """Whether a signature of this name searches with a beam."""
    return name.startswith(TRANSLATE_BEAM)


def beam_name(name: str) -> str:
    """Returns the name of the beam signature of the same length as a greedy one."""
    return name.replace(TRANSLATE, TRANSLATE_BEAM, 1)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature."""

    name: str
    dtype: DType
    shape: list[int]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, in the order of positions."""

    inputs: list[Tensor]
    outputs: list[Tensor]


def translate_signature(
    source_length: int, target_length: int, hypotheses: int = 1
) -> Signature:
    """Returns the tensors of a signature.

    Args:
        source_length, target_length: The longest texts, N and M, in code points.
        hypotheses: The number of translations per text, K.

    Returns:
        Input ``text`` int32 ``(1, N)``; outputs ``text`` int32 ``(K, M)``, ``score``
        float32 ``(K,)`` and ``alignment`` float32 ``(K, M, N)``.
    """
    shape = [hypotheses, target_length, source_length]
    return Signature(
        [Tensor(TEXT, "int32", [1, source_length])],
        [
            Tensor(TEXT, "int32", shape[:2]),
            Tensor(SCORE, "float32", shape[:1]),
            Tensor(ALIGNMENT, "float32", shape),
        ],
    )


@dataclass(frozen=True)
class Side:
    """How one side of the pairs, source or target, is text.

    ``tokenizer``: its kind, as in a recipe. ``max_code_points``: the longest text of
    the default signature.
    """

    tokenizer: str
    normalization: Normalization
    max_code_points: int


@dataclass(frozen=True)
class Exceptions:
    """The texts that a file answers from a table, with score 0.

    ``entries``: how many there are. ``bytes``: what they add to the file.
    """

    entries: int
    bytes: int


@dataclass(frozen=True)
class ModelFile:
    """A ``.tflite`` file beside the manifest.

    ``sha256``: of the whole file, hex digits. ``minimum_runtime``: the oldest TFLite
    version that runs it. ``operators``: their names, sorted. ``quality``: the metrics
    on the dev set, as ``evaluate`` prints them. ``loss``: points of the main metric
    that it is worse than Keras. ``milliseconds``: the median per text. ``exceptions``:
    None where it was exported without.
    """

    file: str
    bytes: int
    sha256: str
    minimum_runtime: str
    operators: list[str] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)
    loss: float = 0.0
    milliseconds: float = 0.0
    exceptions: Exceptions | None = None


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: what a model is, and how to call it.

    Args:
        name, task: Of the recipe.
        source, target: The two sides.
        signatures: By name, the default first.
        models: The files beside it, by quantization recipe; empty inside a file.
        recipe: The configuration that the model was trained with, as a dict.
        beam_size: Of the signatures that search with a beam; None: there are none.
        exceptions: Of the file that this is in; beside several, of the one that an app
            would ship. None: exported without.
        flatbuffer_sha256: See :data:`CHECKSUM`; None: the file has none.
    """

    name: str
    task: str
    source: Side
    target: Side
    signatures: dict[str, Signature]
    models: dict[str, ModelFile]
    recipe: dict[str, Any]
    beam_size: int | None = None
    exceptions: Exceptions | None = None
    flatbuffer_sha256: str | None = None

    @property
    def preferred_beam_size(self) -> int:
        """The beam that the recipe prefers; 1: the greedy search."""
        return self.recipe["search"]["beam_size"]

    @property
    def length_penalty(self) -> float:
        """The power of the number of tokens by which scores are divided."""
        return self.recipe["search"]["length_penalty"]

    @property
    def attention(self) -> str | None:
        """The name of the attention's score; None: the manifest does not tell."""
        model = self.recipe.get("model")
        found = model.get("attention") if isinstance(model, dict) else None
        # In files of version 0.1 it stands by itself.
        score = found.get("score") if isinstance(found, dict) else found
        return score if isinstance(score, str) else None

    @property
    def license(self) -> str:
        """The licence of the training data."""
        return self.recipe["data"]["license"]

    def knowledge(self, files: Mapping[str, bytes] | None = None) -> Knowledge:
        """Returns what the model tells of itself.

        Args:
            files: The files inside a ``.tflite`` file by name, of which the
                vocabularies are read; None: there are none.

        Raises:
            ValueError: A vocabulary is damaged.
        """
        files = files or {}
        source, target = (
            KnownText(side.tokenizer, side.normalization, _pieces(files.get(name)))
            for side, name in (
                (self.source, SOURCE_VOCABULARY), (self.target, TARGET_VOCABULARY),
            )
        )  # fmt: skip
        # Of a file only the name is here, and another file may have it.
        training = Corpus(str(self.recipe["data"].get("train", "")))
        return Knowledge(
            source,
            target,
            self.length_penalty,
            training if training.is_installed else None,
        )

    def to_json(self) -> str:
        """Returns the text of ``manifest.json``."""
        values = asdict(self)
        for model in values["models"].values():
            if model["exceptions"] is None:
                del model["exceptions"]
        sides = ("name", "task", "source", "target")
        optional = ("beam_size", "exceptions", CHECKSUM)
        beam, exceptions, checksum = (
            () if values[key] is None else (key,) for key in optional
        )
        described = (*sides, *beam, "signatures", *exceptions, "models", "recipe")
        keys = (*described, *checksum)
        ordered = {"format": FORMAT} | {key: values[key] for key in keys}
        return json.dumps(ordered, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Reads a manifest; keys that it does not know are passed over.

        Raises:
            ValueError: Not JSON, or without what readers of a manifest rely on.
            RecursionError: JSON that is nested too deeply.
        """
        values = json.loads(text)
        recipe = _value(values, "recipe", dict)
        _value(_value(recipe, "search", dict), "beam_size", int)
        _value(recipe, "data", dict)
        signatures = _value(values, "signatures", dict)
        models = _value(values, "models", dict, {})
        return cls(
            name=_value(values, "name", str),
            task=_value(values, "task", str),
            source=_side(_value(values, "source", dict)),
            target=_side(_value(values, "target", dict)),
            signatures={name: _signature(signatures, name) for name in signatures},
            models={name: _model_file(models, name) for name in models},
            recipe=recipe,
            beam_size=_value(values, "beam_size", int, None),
            exceptions=_exceptions(values),
            # Whatever stands there is compared: only without the key is a file older.
            flatbuffer_sha256=str(values[CHECKSUM]) if CHECKSUM in values else None,
        )


def is_bundle_manifest(text: str) -> bool:
    """Whether a text is the manifest of an export, and not of something else.

    Many things have a ``manifest.json``, such as web apps.
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        return False
    match manifest:
        case {"format": 1, "signatures": {}, "models": {}, "recipe": {}}:
            return True
    return False


def _pieces(vocabulary: bytes | None) -> tuple[str, ...] | None:
    """Reads a vocabulary: a piece per line, of which JSON escapes some characters."""
    if vocabulary is None:
        return None
    lines = vocabulary.decode().split("\n")[:-1]
    return tuple(json.loads(f'"{line}"') for line in lines)


# Tells "there is no default" from the default None.
_NEEDED: Any = object()


def _value(
    values: object, key: str, kind: type[_Value], default: Any = _NEEDED
) -> _Value:
    """Returns a value of a JSON object, which must have the given type.

    Raises:
        ValueError: It has not, or the key is missing and has no default.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{MANIFEST}: expected an object with {key}")
    if key not in values and default is not _NEEDED:
        return default
    if not isinstance(values.get(key), kind):
        raise ValueError(f"{MANIFEST}: expected {key} as {kind.__name__}")
    return values[key]


def _side(values: Mapping[str, Any]) -> Side:
    return Side(
        _value(values, "tokenizer", str),
        Normalization(**_known(Normalization, _value(values, "normalization", dict))),
        _value(values, "max_code_points", int),
    )


def _signature(signatures: Mapping[str, Any], name: str) -> Signature:
    sides = _value(signatures, name, dict)
    return Signature(*map(_tensors, (sides, sides), ("inputs", "outputs")))


def _tensors(sides: Mapping[str, Any], side: str) -> list[Tensor]:
    return [
        Tensor(
            _value(tensor, "name", str),
            _value(tensor, "dtype", str),  # type: ignore[arg-type]
            _value(tensor, "shape", list),
        )
        for tensor in _value(sides, side, list)
    ]


def _model_file(models: Mapping[str, Any], name: str) -> ModelFile:
    values = _value(models, name, dict)
    for key, kind in (
        ("file", str), ("bytes", int), ("sha256", str), ("minimum_runtime", str),
    ):  # fmt: skip
        _value(values, key, kind)
    known = _known(ModelFile, values)
    return ModelFile(**{**known, "exceptions": _exceptions(values)})


def _exceptions(values: Mapping[str, Any]) -> Exceptions | None:
    if "exceptions" not in values:
        return None
    found = _value(values, "exceptions", dict)
    return Exceptions(_value(found, "entries", int), _value(found, "bytes", int))


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those values that a dataclass has a field for."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
