"""Preparation of a training run: checked corpora, tokenizers, shapes of batches."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pocketseq.pipeline.configuration import Config, parse_config
from pocketseq.pipeline.data.batches import Bucket
from pocketseq.pipeline.data.corpora import Corpus, Pair, training_corpora
from pocketseq.pipeline.data.installed import is_installed
from pocketseq.pipeline.data.lengths import (
    choose_buckets,
    learn_length_bound,
    measure_lengths,
)
from pocketseq.pipeline.data.sightings import Sightings
from pocketseq.pipeline.data.unknown import report_unknown
from pocketseq.pipeline.data.words import read_words
from pocketseq.pipeline.errors import UserError, writing
from pocketseq.pipeline.evaluation import main_metric
from pocketseq.pipeline.machine import (
    batch_parts,
    native_precision,
    numeric_conditions,
)
from pocketseq.pipeline.runs import (
    Run,
    parse_shapes,
    parse_tokenizer,
    read_text,
    write_arrays,
    write_atomically,
)
from pocketseq.pipeline.signals import temporary_folder
from pocketseq.pipeline.text.counts import percent
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.training.cluster import Alone, Workers, share
from pocketseq.pipeline.training.distillation import check_teachers
from pocketseq.pipeline.training.vocabulary import VocabularyCounts, decided_by

logger = logging.getLogger(__name__)

_SIDES = ("source", "target")

# Pairs of which is remembered whether they were seen: 24 MB.
_MOST_SEEN = 2**20


class Setup(NamedTuple):
    """The part of a run folder that training starts from.

    ``tokenizers``: source and target; ``buckets``: the shapes of batches; ``pairs``:
    how many the corpus has.
    """

    config: Config
    tokenizers: tuple[Tokenizer, Tokenizer]
    buckets: list[Bucket]
    pairs: int


def start_run(
    run: Run, config: Config, base: Run | None = None, *, workers: int = 1
) -> None:
    """Makes a run folder: configuration, tokenizers, and the shapes of batches.

    Two passes over the corpus, and memory that does not grow with it: one checks it and
    counts what the tokenizers learn, the other measures lengths in tokens. What the
    recipe leaves to the machine or to the texts is decided here, once for the run. The
    folder appears whole or not at all.

    Args:
        run: Its folder does not exist yet, or is empty.
        config: The recipe.
        base: A trained run to start from, with its tokenizers and weights, or None.
        workers: How many processes will train it.

    Raises:
        UserError: No training data is named, or it has broken lines, or the folder
            cannot be written.
    """
    if not config.data.train:
        raise UserError("data.train is empty: expected a corpus (--train FILE)")
    train, dev = training_corpora(config)
    views = {"train": View(), "dev": View()}
    pairs = views["train"].over(train.checked())
    tokenizers, counts = _given_tokenizers(config, base), VocabularyCounts(config)
    exhaust(pairs if tokenizers else counts.over(pairs))
    references = dev.references(views["dev"].over(dev.checked()))
    views["train"].report(views["dev"])
    if tokenizers is None:
        config = counts.decided(config, references)
        tokenizers = counts.tokenizers(config)
    else:
        config = decided_by(config, tokenizers)
    statistics = measure_lengths(train, *tokenizers)
    buckets = choose_buckets(
        statistics,
        batch_tokens=config.training.batch_tokens,
        most=config.training.buckets,
    )
    config = _decided(config, list(references.values()))
    report_unknown(references, tokenizers, config)
    weights = base.load_weights() if base else None
    shapes = {
        "pairs": statistics.pairs,
        "buckets": buckets,
        "length_bound": learn_length_bound(statistics),
        "fingerprints": {name: view.fingerprint() for name, view in views.items()},
        "conditions": numeric_conditions(workers),
    }
    with _new_folder(run.folder) as folder:
        made = Run(folder)
        for side, tokenizer in zip(_SIDES, tokenizers, strict=True):
            write_atomically(made.tokenizer_path(side), tokenizer.to_json().encode())
        write_atomically(made.shapes_path, json.dumps(shapes, indent=1).encode())
        if weights:
            write_arrays(made.initial_path, weights)
        saved = _with_absolute_paths(config)
        write_atomically(made.config_path, saved.to_toml().encode())


def _given_tokenizers(
    config: Config, base: Run | None
) -> tuple[Tokenizer, Tokenizer] | None:
    """Returns the tokenizers of a trained run or of teachers; None: there are none."""
    distillation = config.distillation
    if not (base or distillation.teachers):
        return None
    if distillation.words:
        exhaust(islice(read_words(distillation.words), 1))  # is it there?
    return base.load_tokenizers() if base else check_teachers(distillation.teachers)


def _with_absolute_paths(config: Config) -> Config:
    """Returns the configuration with files that are found from any folder."""

    def absolute(name: str) -> str:
        is_file = name and not is_installed(name)
        return os.path.abspath(name) if is_file else name

    data = config.data
    names = ("train", "train_target", "dev", "dev_target", "test", "test_target")
    paths: dict[str, Any] = {name: absolute(getattr(data, name)) for name in names}
    return dataclasses.replace(config, data=dataclasses.replace(data, **paths))


def _decided(config: Config, references: Sequence[Sequence[str]]) -> Config:
    """Returns the configuration with all that a recipe may leave open decided."""
    training = config.training
    decided = dataclasses.replace(
        training,
        metric=training.metric or main_metric(config.target.tokenizer, references),
        parts=training.parts or batch_parts(),
        precision=(
            native_precision() if training.precision == "auto" else training.precision
        ),
    )
    return dataclasses.replace(config, training=decided)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, which then takes the place of ``folder``.

    One that is there, empty, is filled: a mount point cannot be replaced.
    """
    with contextlib.ExitStack() as stack:
        with writing(folder):
            exists = folder.is_dir()
            near = folder if exists else folder.parent
            near.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(temporary_folder(near, ".run-"))
        made = temporary / "run"
        made.mkdir()
        yield made
        with writing(folder):
            if not exists:
                made.rename(folder)
                return
            # The configuration comes last, because it is what makes a folder a run.
            for path in sorted(made.iterdir(), key=lambda p: p.name == "config.toml"):
                path.rename(folder / path.name)


class View:
    """A look at the pairs of a corpus, taken while something else reads them.

    A checksum of them all, and what is repeated in them, for which a sample of them is
    kept if they are many.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._sightings = Sightings(_MOST_SEEN)

    def over(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields the pairs unchanged."""
        for pair in pairs:
            self._digest.update(f"{pair.source}\t{pair.target}\n".encode())
            self._sightings.add(pair)
            yield pair

    def fingerprint(self) -> str:
        """Returns the checksum."""
        return self._digest.hexdigest()

    def report(self, dev: "View") -> None:
        """Logs two lines: on the targets of training, and on what dev shares with it.

        Args:
            dev: The view of the dev set.
        """
        seen, about = self._sightings, "about " * self._sightings.is_sample
        repeats = seen.repeats()
        logger.info(
            "train: %s pairs; sources with several targets: %s%s%s",
            f"{seen.pairs:,}", about, f"{repeats.contradictions:,}",
            f", so that one answer per source gets at most "
            f"{percent(100 * repeats.answerable)} of the pairs right"
            if repeats.contradictions else "",
        )  # fmt: skip
        overlap = dev._sightings.overlap_with(seen)
        logger.log(
            logging.WARNING if overlap.pairs else logging.INFO,
            "dev: %s pairs; with a source that training has, too: %s%s%s",
            f"{dev._sightings.pairs:,}", about, f"{overlap.pairs:,}",
            "; they measure memory (check names some)" if overlap.pairs else "",
        )  # fmt: skip


def exhaust(iterable: Iterable[Any]) -> None:
    """Reads an iterable to its end, for what that does on the way."""
    deque(iterable, maxlen=0)


def check_unchanged(run: Run) -> None:
    """Reads the corpora of a run that is to be resumed, and logs what has changed.

    A run goes on as if it had never stopped only with the same pairs, and on a machine
    that computes the same sums. Of other pairs, those that fit none of its batch shapes
    are left out.

    Raises:
        UserError: A corpus is missing, empty or broken, or no pair of it can be used.
    """
    setup, shapes = load_setup(run), run.shapes()
    known = shapes.get("fingerprints", {})
    corpora = zip(("train", "dev"), training_corpora(setup.config), strict=True)
    for name, corpus in corpora:
        view = View()
        exhaust(view.over(corpus.checked()))
        if known.get(name, view.fingerprint()) == view.fingerprint():
            continue
        logger.warning(
            "%s: the %s corpus has changed since the run began; it goes on with what "
            "is there now, not as if it had never stopped",
            corpus.source, name,
        )  # fmt: skip
        if name == "train":
            _count_usable(corpus, setup)


def _count_usable(corpus: Corpus, setup: Setup) -> None:
    """Logs how many pairs no bucket holds.

    Raises:
        UserError: No bucket holds any of them.
    """
    counts = measure_lengths(corpus, *setup.tokenizers).counts
    usable = sum(
        number
        for lengths, number in np.ndenumerate(counts)
        if number and any(bucket.holds(*lengths) for bucket in setup.buckets)
    )
    left_out = int(counts.sum() - usable)
    if not usable:
        raise UserError(
            f"{corpus.source}: no pair fits the batches of this run, whose longest "
            f"texts have {setup.buckets[-1].source_length} source and "
            f"{setup.buckets[-1].target_length} target tokens; expected the corpus it "
            f"began with, or another --run"
        )
    if left_out:
        logger.warning(
            "%s: left out %d pairs that fit no batch of this run",
            corpus.source, left_out,
        )  # fmt: skip


def check_conditions(run: Run, workers: int) -> None:
    """Logs what is not as it was on the machine where a run began.

    Args:
        run: A run folder that has been started.
        workers: How many processes train now.
    """
    began = run.shapes().get("conditions", {})
    now = numeric_conditions(workers)
    changed = [
        f"{name} {began[name]!r}, now {now[name]!r}"
        for name in now
        if name in began and began[name] != now[name]
    ]
    if changed:
        logger.warning(
            "%s: began under other conditions (%s): it goes on, but its weights may "
            "differ in their last bits from those of a run that never stopped",
            run.folder, "; ".join(changed),
        )  # fmt: skip


def load_setup(run: Run, cluster: Workers | None = None) -> Setup:
    """Returns the :class:`Setup` of a run, on workers that have no run folder, too.

    Args:
        run: Of several workers only the chief needs its folder.
        cluster: The workers that call this; None: this machine alone.

    Raises:
        UserError: A file is missing or cannot be understood.
    """
    paths = {
        "config": run.config_path,
        "shapes": run.shapes_path,
        **{side: run.tokenizer_path(side) for side in _SIDES},
    }

    def read() -> dict[str, np.ndarray]:
        return {name: np.array(read_text(path)) for name, path in paths.items()}

    texts = {name: str(text) for name, text in share(cluster or Alone(), read).items()}
    buckets, pairs = _parse_shapes(texts["shapes"], run.shapes_path)
    config = parse_config(texts["config"], run.config_path, whole=True)
    source, target = (parse_tokenizer(texts[side], paths[side]) for side in _SIDES)
    return Setup(config, (source, target), buckets, pairs)


def _parse_shapes(text: str, path: Path) -> tuple[list[Bucket], int]:
    """Returns the buckets and the number of pairs that a run has saved."""
    match parse_shapes(text, path):
        case {"pairs": int(pairs), "buckets": [_, *_] as buckets} if all(
            map(_is_bucket, buckets)
        ):
            return [Bucket(*bucket) for bucket in buckets], pairs
    raise UserError(f"{path}: damaged, expected the shapes of batches")


def _is_bucket(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(Bucket._fields)
        and all(type(number) is int and number > 0 for number in value)
    )
