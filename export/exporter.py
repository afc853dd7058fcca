"""The values that every exporter takes and returns.

An exporter is a function ``(trained, options, folder) -> Outcome``: it writes one form
of the model into a folder and checks it against Keras. :mod:`pocketseq.export.bundle`
lists the exporters.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from pocketseq.export.apps import PLATFORMS
from pocketseq.export.contract import (
    Manifest,
    ModelFile,
    Side,
    SignatureKey,
    signature_keys,
    translate_signature,
)
from pocketseq.export.dictionary import Dictionary, read_dictionary
from pocketseq.export.recipes import DEFAULT, shipped_recipe
from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.data.corpora import Corpus, training_corpora
from pocketseq.pipeline.errors import UserError, writing
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.translation import Translation
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

#: Stands for the training corpus in place of a file; no file has this name.
TRAINING_CORPUS = ""


@dataclass(frozen=True)
class Options:
    """The choices of an export.

    ``recipes``: names in :data:`pocketseq.export.recipes.RECIPES`, one ``.tflite`` file
    each; ``saved_model``: whether to write a SavedModel; ``beam_size``: for the
    signatures that search with a beam, None: there are none; ``lengths``: of source
    texts in code points, the default first, ``()``: as the recipe says; ``compatible``:
    whether the files must run on runtimes back to 2.14; ``max_loss``: how many points
    of the main metric quantization may cost; ``exceptions``: the dictionary that
    ``.tflite`` files answer exactly: a file, :data:`TRAINING_CORPUS`, or None;
    ``apps``: the platforms whose wrappers go with them, of
    :data:`pocketseq.export.apps.PLATFORMS`.
    """

    recipes: tuple[str, ...] = (DEFAULT,)
    saved_model: bool = False
    beam_size: int | None = None
    lengths: tuple[int, ...] = ()
    compatible: bool = False
    max_loss: float = 0.5
    exceptions: str | None = None
    apps: tuple[str, ...] = tuple(PLATFORMS)

    @property
    def beams(self) -> tuple[int | None, ...]:
        """The beam sizes of each length: None stands for the greedy search."""
        return (None, self.beam_size) if self.beam_size else (None,)


class MeasuredSet(NamedTuple):
    """Texts that models are measured on.

    ``references``: ``{source: acceptable targets}``. ``expected``: the greedy
    translation of each by Keras.
    """

    references: dict[str, list[str]]
    expected: list[Translation]


@dataclass(frozen=True)
class TrainedModel:
    """The trained model, and the answers that every exported form is compared with.

    ``translators``: the Keras model for source texts of each length in code points, the
    default first. ``training_corpus``: what it was trained on. ``sets``: ``dev``, and
    ``test`` where the recipe names one. ``dictionary``: what ``.tflite`` files must
    answer exactly, None: nothing.
    """

    run: Run
    config: Config
    translators: dict[int, ModelTranslator]
    training_corpus: Corpus
    sets: dict[str, MeasuredSet]
    dictionary: Dictionary | None = None

    @cached_property
    def training_pairs(self) -> int:
        """How many pairs the training corpus has."""
        return sum(1 for _ in self.training_corpus)

    @property
    def keras(self) -> ModelTranslator:
        """The Keras model for texts of the default length."""
        return next(iter(self.translators.values()))

    @property
    def default_length(self) -> int:
        """The longest source text of the default signature, in code points."""
        return next(iter(self.translators))

    def signature_keys(self, options: Options) -> list[SignatureKey]:
        """Returns the signatures to export."""
        return signature_keys(self.translators, options.beam_size)

    def dev_translations(
        self, length: int, beam_size: int | None
    ) -> Sequence[Sequence[Translation]]:
        """Returns the Keras model's translations of each dev text, best first.

        Args:
            length: Which of its lengths to use, in code points.
            beam_size: The beam to search with; None: the greedy search.
        """
        sources, greedy = self.sets["dev"]
        if beam_size is None and length == self.default_length:
            return [[translation] for translation in greedy]
        beam = beam_size or 1
        return self.translators[length].translate(
            list(sources), beam_size=beam, n_best=beam
        )

    def quality(self, name: str, translations: Sequence[Translation]) -> dict[str, Any]:
        """Returns the metrics of translations of a set, as ``evaluate`` prints them."""
        return evaluate(
            list(self.sets[name].references.values()),
            [translation.text for translation in translations],
            kind=self.keras.target_kind,
            normalization=self.keras.target_normalization,
        )


def load_trained(run: Run, options: Options) -> TrainedModel:
    """Loads the best model of a run, and lets it translate the dev and test sets.

    Args:
        run: A run that has been evaluated at least once.
        options: What will be exported of it.

    Raises:
        UserError: The run or a corpus cannot be read, or the dictionary not be used.
    """
    keras = run.load()
    config = keras.config
    lengths = options.lengths or (config.source.max_code_points,)
    translators = {length: keras.resized(length) for length in lengths}
    training_corpus, dev = training_corpora(config)
    # Before the long work: it may hold a mistake.
    dictionary = _dictionary(options, training_corpus, translators)
    references = {"dev": dev.references()}
    if config.data.test:
        references["test"] = Corpus(
            config.data.test, config.data.test_target or None
        ).references()
    default = translators[lengths[0]]
    sets = {
        name: MeasuredSet(texts, best(default.translate(list(texts), beam_size=1)))
        for name, texts in references.items()
    }
    return TrainedModel(run, config, translators, training_corpus, sets, dictionary)


def _dictionary(
    options: Options,
    training_corpus: Corpus,
    translators: Mapping[int, ModelTranslator],
) -> Dictionary | None:
    """Reads the dictionary that an export asks for."""
    if options.exceptions is None:
        return None
    is_file = options.exceptions != TRAINING_CORPUS
    named = Corpus(options.exceptions, can_skip=False)
    corpus = named if is_file else training_corpus
    dictionary = read_dictionary(
        corpus, translators, most_answers=options.beam_size or 1
    )
    logger.info("%s: %s words", dictionary.name, f"{len(dictionary.words):,}")
    return dictionary


def best(translations: Sequence[Sequence[Translation]]) -> list[Translation]:
    """Returns the best translation of each text."""
    return [first for first, *_ in translations]


def manifest_of(
    trained: TrainedModel,
    options: Options,
    models: Mapping[str, ModelFile] | None = None,
) -> Manifest:
    """Describes a trained model as it is exported.

    Args:
        trained: The model.
        options: What to export.
        models: The files beside the manifest, by quantization recipe.
    """
    models = dict(models or {})
    shipped = shipped_recipe(models)
    return Manifest(
        name=trained.config.name,
        task=trained.config.task,
        source=_side(trained.keras.source_tokenizer),
        target=_side(trained.keras.target_tokenizer),
        signatures={
            key.name: translate_signature(
                key.length,
                trained.translators[key.length].target_tokenizer.max_code_points,
                key.beam_size or 1,
            )
            for key in trained.signature_keys(options)
        },
        models=models,
        recipe=asdict(without_folders(trained.config)),
        beam_size=options.beam_size,
        exceptions=models[shipped].exceptions if shipped else None,
    )


def _side(tokenizer: Any) -> Side:
    return Side(tokenizer.kind, tokenizer.normalization, tokenizer.max_code_points)


def without_folders(config: Config) -> Config:
    """Returns the configuration to publish: files and runs by their names alone.

    Folders are private, and of no use elsewhere.
    """
    data = config.data
    names = ("train", "train_target", "dev", "dev_target", "test", "test_target")
    files: dict[str, Any] = {name: Path(getattr(data, name)).name for name in names}
    distillation = replace(
        config.distillation,
        teachers=tuple(Path(one).name for one in config.distillation.teachers),
        words=Path(config.distillation.words).name,
    )
    return replace(
        config,
        base=Path(config.base).name,
        data=replace(data, **files),
        distillation=distillation,
    )


@dataclass
class FileReport:
    """One row of the table: how large, how good and how fast a model is.

    ``dev`` and ``test``: metrics, as ``evaluate`` prints them. ``loss``: points of the
    main metric on the dev set that it is worse than Keras. ``milliseconds``: the median
    per text.
    """

    name: str
    bytes: int | None = None
    dev: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    loss: float | None = None
    milliseconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """The results of an exporter or a check; the sum of two holds both.

    ``models``: entries of the manifest, by quantization recipe; ``rows``: of the table;
    ``notes`` and ``failures``: lines for people. Nothing is shipped after a failure.
    ``exceptions``: by quantization recipe, which words of the dictionary the file has
    in its table, by their numbers.
    """

    models: dict[str, ModelFile] = field(default_factory=dict)
    rows: tuple[FileReport, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    exceptions: dict[str, Set[int]] = field(default_factory=dict)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.models | other.models,
            self.rows + other.rows,
            self.notes + other.notes,
            self.failures + other.failures,
            self.exceptions | other.exceptions,
        )

    @property
    def passed(self) -> bool:
        """Whether no check has failed."""
        return not self.failures


@contextmanager
def tensorflow_writing(path: Path) -> Iterator[None]:
    """Does as :func:`pocketseq.pipeline.errors.writing`, for what TensorFlow writes.

    Raises:
        UserError: The system refused.
    """
    try:
        with writing(path):
            yield
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be written: {error.message}") from error
