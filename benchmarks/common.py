"""Shared by the benchmarks: the printed report, ratios, timing, the networks compared.

Imports neither TensorFlow nor PyTorch, so that ``--help`` answers at once.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
import numpy as np

from pocketseq.pipeline.configuration import CosineConfig, ModelConfig

Input = TypeVar("Input")

# Wide enough for the products to keep all cores busy.
PRODUCT_SIZE = 2048
_PRODUCT_BURSTS = 5

#: The networks that the comparisons are written for: values of :class:`ModelConfig`.
_COMPARABLE = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "bidirectional": True,
    "longest_ngram": 1,
    "attention": CosineConfig(),
    "tied_output": True,
    "readout": True,
    "start_with_end": False,
}


def print_report(report: dict[str, Any]) -> None:
    """Prints a report to standard output as one JSON object, its numbers rounded."""
    click.echo(json.dumps(rounded(report)))


def say(line: str) -> None:
    """Prints a line about the progress to standard error."""
    click.echo(line, err=True)


def rounded(value: Any) -> Any:
    """Rounds all numbers of a report to four significant digits; NaN becomes None."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else float(f"{value:.4g}")


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Returns the median of the ratios, round by round.

    A ratio of medians would compare different rounds, and the machine's own speed
    changes between rounds.

    Args:
        numerators, denominators: One value per round, measured in the same rounds.

    Raises:
        ValueError: Not as many of one as of the other.
    """
    pairs = zip(numerators, denominators, strict=True)
    return float(np.median([one / other for one, other in pairs]))


def seconds_of_each(
    function: Callable[[Input], object], inputs: Iterable[Input]
) -> list[float]:
    """Returns how many seconds a function takes for each input."""
    times = []
    for one in inputs:
        started = time.perf_counter()
        function(one)
        times.append(time.perf_counter() - started)
    return times


def product_gflops(multiply: Callable[[], object]) -> float:
    """Returns GFLOP/s of a product of square matrices, the best of some short bursts.

    Args:
        multiply: Multiplies two matrices ``(PRODUCT_SIZE, PRODUCT_SIZE)``, once, and
            returns when that is done.
    """
    bursts = seconds_of_each(lambda _: multiply(), range(_PRODUCT_BURSTS))
    return 2 * PRODUCT_SIZE**3 / min(bursts) / 1e9


def text_input(text: str, size: int) -> np.ndarray:
    """Returns a text as an exported model reads it.

    Returns:
        int32 ``(size,)``: code points, cut or followed by zeros.
    """
    row = np.zeros(size, np.int32)
    text = text[:size]
    row[: len(text)] = [ord(character) for character in text]
    return row


def comparison_problem(model: ModelConfig) -> str:
    """Returns why the other implementations cannot build a network; empty: they can."""
    for key, value in _COMPARABLE.items():
        if (found := getattr(model, key)) != value:
            return (
                f"model.{key} = {found!r}: the comparisons are built for {value!r} only"
            )
    return ""


def weights_by_path(model: Any) -> dict[str, np.ndarray]:
    """Returns the weights of a Keras model by their path inside of it."""
    return {
        variable.path.partition("/")[2]: np.array(variable)
        for variable in model.weights
    }
