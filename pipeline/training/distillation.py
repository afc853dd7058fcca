"""Distillation: a student learns from the probabilities of several teachers.

The teachers go over the training pairs, and over words without targets, which they
translate first. What they say about each target token is kept on disk, in parts of the
run folder, so that a run that was stopped goes on where it was, and memory does not
grow with the number of words.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.data.batches import (
    MOST_LABELLED,
    LabelledPair,
    packed_labels,
    with_end,
)
from pocketseq.pipeline.data.corpora import Corpus, Pair, blocks
from pocketseq.pipeline.data.words import KnownSources, new_words, read_words
from pocketseq.pipeline.errors import Interrupted, UserError
from pocketseq.pipeline.model import EncoderDecoder, Ensemble
from pocketseq.pipeline.runs import Run, open_run, read_arrays, write_arrays
from pocketseq.pipeline.text.special import END, PAD, START
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.translator import ModelTranslator, batches_of_like_length

logger = logging.getLogger(__name__)

# Pairs of a part, and seconds between two lines about how far it is.
_PART = 4096
_REPORT_SECONDS = 20


class Teachers:
    """Trained runs that share their tokens, as one model: their mean.

    Args:
        folders: Of the runs.

    Raises:
        UserError: A run cannot be read, or has other tokens than the first one.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        check_teachers(folders)
        found = [open_run(folder).load() for folder in folders]
        first = found[0]
        self._ensemble = Ensemble([one.model for one in found])
        self.translator = ModelTranslator(
            # Which is all of a model that a translator needs: its search.
            cast(EncoderDecoder, self._ensemble),
            first.source_tokenizer,
            first.target_tokenizer,
            first.config,
            first.length_bound,
        )
        self._score = tf.function(
            self._ensemble,
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None, None], tf.int32),
            ],
            autograph=False,
        )

    def translate(self, words: Sequence[str]) -> list[Pair]:
        """Returns the words with their targets; those without any are left out."""
        found = self.translator.translate(words, beam_size=1)
        return [
            Pair(best.source, best.text)
            for best in (one[0] for one in found if one)
            if best.text and best.token_ids and best.token_ids[-1] == END
        ]

    def label(self, pairs: Sequence[Pair], choices: int) -> list[LabelledPair]:
        """Returns the pairs with the likeliest tokens at each place of their targets.

        Args:
            pairs: Of which each side is within its tokenizer's length.
            choices: How many tokens to keep, at most as many as there are.
        """
        sources, targets = zip(*pairs, strict=True)
        source_ids = self.translator.source_tokenizer.tokenize(tf.constant(sources))
        target_ids = with_end(
            self.translator.target_tokenizer.tokenize(tf.constant(targets))
        )
        labelled: list[LabelledPair | None] = [None] * len(pairs)
        lengths = target_ids.row_lengths().numpy()
        for _, rows in batches_of_like_length(lengths):
            wanted = tf.gather(target_ids, rows).to_tensor(PAD)
            given = tf.pad(wanted[:, :-1], [[0, 0], [1, 0]], constant_values=START)
            some = tf.gather(source_ids, rows)
            logs, _ = self._score(
                some.to_tensor(PAD), tf.cast(some.row_lengths(), tf.int32), given
            )
            best = tf.math.top_k(tf.exp(logs), choices)
            for row, ids, probabilities in zip(
                rows, best.indices.numpy(), best.values.numpy(), strict=True
            ):
                length = lengths[row]
                labelled[row] = LabelledPair(
                    pairs[row].source,
                    pairs[row].target,
                    packed_labels(ids[:length], probabilities[:length]),
                )
        return [one for one in labelled if one is not None]


def check_teachers(folders: Sequence[str]) -> tuple[Tokenizer, Tokenizer]:
    """Returns the source and the target tokenizer that some trained runs share.

    Args:
        folders: Of the runs.

    Raises:
        UserError: A run cannot be read, is not trained, or has other tokens than the
            first one.
    """
    runs = [open_run(folder) for folder in folders]
    expected = runs[0].load_tokenizers()
    for run in runs:
        run.load_weights()
        for side, found, wanted in zip(
            ("source", "target"), run.load_tokenizers(), expected, strict=True
        ):
            if found.to_json() != wanted.to_json():
                raise UserError(
                    f"{run.folder}: has other {side} tokens than {folders[0]}, "
                    f"expected teachers that were trained on the same data"
                )
    if len(expected[1]) > MOST_LABELLED:
        raise UserError(
            f"{folders[0]}: has {len(expected[1])} target tokens, expected at most "
            f"{MOST_LABELLED}"
        )
    return expected


class LabelledCorpus:
    """The pairs that :func:`write_labels` has written, read part by part.

    Args:
        folder: Of the parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[LabelledPair]:
        for path in sorted(self.folder.glob("part-*.npz")):
            yield from _read_part(path)


def write_labels(
    run: Run, config: Config, train: Corpus, is_asked: Callable[[], bool]
) -> LabelledCorpus:
    """Lets the teachers label the training pairs and the words, where they have not.

    Args:
        run: Whose folder keeps the labels.
        config: Of the run.
        train: The training pairs.
        is_asked: Whether somebody asks for an end.

    Raises:
        Interrupted: Then; the parts that are finished stay.
        UserError: A teacher, the words or the folder cannot be used.
    """
    folder = run.labels_path
    corpus = LabelledCorpus(folder)
    complete = folder / "complete"
    if complete.is_file():
        return corpus
    teachers = Teachers(config.distillation.teachers)
    source, target = run.load_tokenizers()
    choices = _choices(config, target)

    def fitting(pairs: Iterable[Pair]) -> Iterator[Pair]:
        return (p for p in pairs if source.fits(p.source) and target.fits(p.target))

    words = _new_words(config, train, source)
    parts = chain(
        ((list(block), None) for block in blocks(fitting(train.checked()), _PART)),
        ((None, list(block)) for block in blocks(words, _PART)),
    )
    reported, count = time.monotonic(), 0
    for number, (pairs, untranslated) in enumerate(parts):
        if is_asked():
            raise Interrupted
        path = folder / f"part-{number:06d}.npz"
        count += len(pairs or untranslated or ())
        if not path.is_file():
            pairs = pairs or list(fitting(teachers.translate(untranslated or ())))
            _write_part(path, teachers.label(pairs, choices) if pairs else [])
        if time.monotonic() - reported > _REPORT_SECONDS:
            logger.info("teachers: %d texts labelled", count)
            reported = time.monotonic()
    logger.info("teachers: %d texts labelled, in %s", count, folder)
    complete.touch()
    return corpus


def choices_of(config: Config, target: Tokenizer) -> int:
    """Returns how many labels a target token has; 0: the run has no teachers."""
    return _choices(config, target) if config.distillation.teachers else 0


def _choices(config: Config, target: Tokenizer) -> int:
    return min(config.distillation.choices, len(target))


def _new_words(config: Config, train: Corpus, source: Tokenizer) -> Iterator[str]:
    """Yields the words to translate: no source of the train, dev or test set."""
    if not config.distillation.words:
        return iter(())
    data = config.data
    held_out = [
        Corpus(name, target or None, data.skip_bad_lines)
        for name, target in ((data.dev, data.dev_target), (data.test, data.test_target))
        if name
    ]
    # Without a dev file the dev pairs are a part of the training file.
    whole = Corpus(data.train, data.train_target or None, data.skip_bad_lines)
    known = KnownSources(chain(whole, *held_out), source)
    words = read_words(config.distillation.words)
    return new_words(words, known, source, config.distillation.most_words)


def _write_part(path: Path, pairs: Sequence[LabelledPair]) -> None:
    texts = "".join(f"{pair.source}\t{pair.target}\n" for pair in pairs)
    write_arrays(
        path,
        {
            "texts": np.frombuffer(texts.encode(), np.uint8),
            "labels": np.frombuffer(b"".join(p.labels for p in pairs), np.uint8),
            "sizes": np.array([len(pair.labels) for pair in pairs], np.int64),
        },
    )


def _read_part(path: Path) -> Iterator[LabelledPair]:
    arrays = read_arrays(path)
    labels = arrays["labels"].tobytes()
    ends = np.cumsum(arrays["sizes"])
    lines = arrays["texts"].tobytes().decode().split("\n")
    for line, size, end in zip(lines, arrays["sizes"], ends, strict=False):
        source, target = line.split("\t")
        yield LabelledPair(source, target, labels[end - size : end])
