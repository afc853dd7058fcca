"""What a training needs first: a checked corpus, tokenizers, the shapes of batches."""

import dataclasses
import json
import logging
from collections import Counter
from typing import NamedTuple

import numpy as np

from pocketseq.pipeline.batches import (
    Bucket,
    choose_buckets,
    measure_lengths,
)
from pocketseq.pipeline.cluster import share
from pocketseq.pipeline.configuration import Config, parse_config
from pocketseq.pipeline.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.machine import fastest_precision
from pocketseq.pipeline.normalization import Normalization
from pocketseq.pipeline.runs import (
    parse_tokenizer,
    read_text,
    write_arrays,
    write_atomically,
)
from pocketseq.pipeline.tokenizers import TOKENIZERS

logger = logging.getLogger(__name__)

_SIDES = ("source", "target")


class Setup(NamedTuple):
    """What a run folder says about a training.

    ``config`` :class:`Config`; ``tokenizers``: source and target; ``buckets``: a list
    of :class:`Bucket`; ``pairs``: how many the corpus has.
    """

    config: Config
    tokenizers: tuple
    buckets: list[Bucket]
    pairs: int


def training_corpora(config, shard=(0, 1)):
    """Returns the training and the dev :class:`Corpus` of a configuration.

    Args:
        config: :class:`Config`.
        shard: Which part of the training corpus; see :class:`Corpus`.
    """
    data = config.data
    train = {
        "source": data.train,
        "target": data.train_target or None,
        "skip_bad_lines": data.skip_bad_lines,
    }
    if data.dev:
        dev = Corpus(data.dev, data.dev_target or None, data.skip_bad_lines)
        return Corpus(**train, shard=shard), dev
    return (
        Corpus(**train, part=("train", data.dev_share), shard=shard),
        Corpus(**train, part=("dev", data.dev_share), limit=data.dev_texts),
    )


def start_run(run, config, base=None):
    """Makes a run folder: configuration, tokenizers, and the shapes of batches.

    Two passes over the corpus, and memory that does not grow with it: one checks it and
    counts what the tokenizers learn, the other measures lengths in tokens.

    Args:
        run: :class:`pocketseq.pipeline.runs.Run`, whose folder does not exist yet.
        config: :class:`Config`.
        base: A trained run to start from, with its tokenizers and weights, or None.

    Raises:
        UserError: No training data is named, or it has broken lines.
    """
    if not config.data.train:
        raise UserError("data.train is empty: expected a corpus (--train FILE)")
    if config.training.precision == "auto":
        config = dataclasses.replace(
            config,
            training=dataclasses.replace(
                config.training, precision=fastest_precision()
            ),
        )
    train, dev = training_corpora(config)
    if base is None:
        tokenizers = _learn_tokenizers(train, config)
    else:
        tokenizers = base.load_tokenizers()
        train.check()
    dev.check()
    statistics = measure_lengths(train, *tokenizers)
    buckets = choose_buckets(
        statistics,
        batch_tokens=config.training.batch_tokens,
        most=config.training.buckets,
    )
    weights = base.load_weights() if base else None
    run.folder.mkdir(parents=True, exist_ok=True)
    for side, tokenizer in zip(_SIDES, tokenizers, strict=True):
        write_atomically(run.tokenizer_path(side), tokenizer.to_json().encode())
    shapes = {"pairs": statistics.pairs, "buckets": buckets}
    write_atomically(run.shapes_path, json.dumps(shapes).encode())
    if weights:
        write_arrays(run.initial_path, weights)
    # Last, because the configuration is what makes a folder a run.
    write_atomically(run.config_path, config.to_toml().encode())


def _learn_tokenizers(train, config):
    """Returns the source and the target tokenizer, learned in one pass."""
    sides = [getattr(config, side) for side in _SIDES]
    kinds = [TOKENIZERS[side.tokenizer] for side in sides]
    normalizations = [Normalization(side.fold_case, side.decompose) for side in sides]
    counts: list[Counter[str]] = [Counter(), Counter()]
    for pair in train.checked():
        for kind, text, normalization, counted in zip(
            kinds, pair, normalizations, counts, strict=True
        ):
            kind.count(text, normalization, counted)
    return tuple(
        kind.from_counts(
            counted,
            normalization,
            max_code_points=side.max_code_points,
            minimum_count=side.minimum_count,
            vocabulary_size=side.vocabulary_size,
        )
        for kind, counted, normalization, side in zip(
            kinds, counts, normalizations, sides, strict=True
        )
    )


def load_setup(run, cluster):
    """Returns the :class:`Setup` of a run, on workers that have no run folder, too.

    Args:
        run: :class:`pocketseq.pipeline.runs.Run`.
        cluster: See :mod:`pocketseq.pipeline.cluster`.

    Raises:
        UserError: A file is missing or cannot be understood.
    """
    paths = {
        "config": run.config_path,
        "shapes": run.shapes_path,
        **{side: run.tokenizer_path(side) for side in _SIDES},
    }

    def read():
        return {name: np.array(read_text(path)) for name, path in paths.items()}

    texts = {name: str(text) for name, text in share(cluster, read).items()}
    buckets, pairs = _parse_shapes(texts["shapes"], run.shapes_path)
    return Setup(
        parse_config(texts["config"], run.config_path, whole=True),
        tuple(parse_tokenizer(texts[side], paths[side]) for side in _SIDES),
        buckets,
        pairs,
    )


def _parse_shapes(text, path):
    """Returns the buckets and the number of pairs that a run has saved."""
    try:
        saved = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {error}") from error
    match saved:
        case {"pairs": int(pairs), "buckets": [_, *_] as buckets} if all(
            map(_is_bucket, buckets)
        ):
            return [Bucket(*bucket) for bucket in buckets], pairs
    raise UserError(f"{path}: damaged, expected the shapes of batches")


def _is_bucket(value):
    return (
        isinstance(value, list)
        and len(value) == len(Bucket._fields)
        and all(type(number) is int and number > 0 for number in value)
    )
