"""Times models that differ in their attention, one beside the other, as ratios."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pocketseq
from common import ratio
from pocketseq.pipeline.runs import Run

_ROUNDS = 15
_BATCHES = 4
_TEXTS = 100


def update_ratios(runs: Mapping[str, Path]) -> dict[str, float]:
    """Returns how long an update takes, as a share of that of the first run.

    Args:
        runs: ``{name: run folder}``, all of the same pairs.
    """
    from pocketseq.pipeline.machine import prepare_for_training
    from pocketseq.pipeline.training.updater import new_updater
    from training.preparation import tokenizers_and_batches

    prepare_for_training()
    first = Run(next(iter(runs.values())))
    tokenizers, stream = tokenizers_and_batches(first.folder, first.config())
    batches = [batch for _, batch in islice(stream, _BATCHES)]

    def updates_of(folder: Path) -> Callable[[], None]:
        updater = new_updater(Run(folder).config(), tokenizers)

        def run() -> None:
            for number, batch in enumerate(batches):
                float(updater.update(batch, number))

        run()  # compiles
        return run

    return in_turns({name: updates_of(folder) for name, folder in runs.items()})


def device_ratios(files: Mapping[str, Path], texts: Sequence[str]) -> dict[str, float]:
    """Returns how long a text takes, as a share of that of the first file.

    Args:
        files: ``{name: .tflite file}``.
        texts: What to translate, one by one; the first ones are enough.
    """

    def translations_of(file: Path) -> Callable[[], None]:
        translator: Any = pocketseq.load(file)
        some = list(texts[:_TEXTS])

        def run() -> None:
            for text in some:
                translator.translate([text])

        run()  # loads
        return run

    return in_turns({name: translations_of(file) for name, file in files.items()})


def in_turns(functions: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Returns the time of each function as a share of that of the first.

    They are called in turns, so that all meet the same machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(_ROUNDS):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    first = next(iter(seconds.values()))
    return {name: ratio(values, first) for name, values in seconds.items()}
