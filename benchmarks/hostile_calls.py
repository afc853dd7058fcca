"""Calls an exported model a million times with whatever fits into an int32.

Every answer must have the promised shape, hold characters only, and be finite; memory
must not grow. Prints one JSON object:

    python benchmarks/hostile_calls.py model-int8.tflite
"""

import resource
import time
from collections.abc import Iterator, Mapping

import click
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from rich.progress import track

from common import print_report
from pocketseq.export.contract import OUTPUTS, TEXT, TRANSLATE

#: The shape and the dtype of an output.
Spec = tuple[tuple[int, ...], type]

# Values at which something changes: the ends of ranges, surrogates, what ends a text.
_EDGES = [
    0, 1, -1, 0x20, 0x7F, 0x80, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF,
    0x10FFFF, 0x110000, 2**31 - 1, -(2**31),
]  # fmt: skip


@click.command()
@click.argument("file")
@click.option("--calls", default=1_000_000, show_default=True)
@click.option("--signature", default=TRANSLATE, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(file: str, calls: int, signature: str, seed: int) -> None:
    """Call FILE with random code points."""
    interpreter = Interpreter(file, num_threads=1)
    run = interpreter.get_signature_runner(signature)
    length = run.get_input_details()[TEXT]["shape"][1]
    specs = {
        name: (tuple(detail["shape"]), detail["dtype"])
        for name, detail in run.get_output_details().items()
    }
    generator = np.random.default_rng(seed)
    problems: dict[str, int] = {}
    before = 0
    started = time.perf_counter()
    for number in track(range(calls), description="calling"):
        outputs = run(**{TEXT: hostile_text(generator, length)})
        for problem in problems_of(outputs, specs):
            problems[problem] = problems.get(problem, 0) + 1
        if number == calls // 100:
            before = peak_kilobytes()
    growth = peak_kilobytes() - before
    print_report(
        {
            "calls": calls,
            "seconds": time.perf_counter() - started,
            "problems": problems,
            "peak_growth_kilobytes": growth,
        }
    )
    if problems:
        raise SystemExit(1)


def hostile_text(generator: np.random.Generator, length: int) -> np.ndarray:
    """Returns int32 ``(1, length)``: one of several kinds of nonsense."""
    kind = generator.integers(5)
    if kind == 0:
        row = generator.integers(-(2**31), 2**31, length)
    elif kind == 1:
        row = generator.integers(0, 0x110000, length)
    elif kind == 2:
        row = generator.integers(1, 0x250, length)
    elif kind == 3:
        row = generator.integers(0x61, 0x7B, length)
    else:
        row = generator.choice(_EDGES, length)
    if generator.random() < 0.7:
        row[generator.integers(length) :] = 0
    return row.astype(np.int32)[None]


def problems_of(
    outputs: Mapping[str, np.ndarray], specs: Mapping[str, Spec]
) -> Iterator[str]:
    """Yields what is wrong with an answer: ``text``, ``score`` and ``alignment``."""
    for name, (shape, dtype) in specs.items():
        if outputs[name].shape != shape or outputs[name].dtype != dtype:
            yield f"{name}: shape or type"
    text, score, alignment = (outputs[name] for name in OUTPUTS)
    if text.min() < 0 or text.max() > 0x10FFFF:
        yield "text: out of range"
    if ((text >= 0xD800) & (text <= 0xDFFF)).any():
        yield "text: a surrogate"
    real = np.cumsum(text == 0, axis=1) == 0
    if text[~real].any():
        yield "text: something after its end"
    if not np.isfinite(score).all() or (score > 0).any():
        yield "score: not a log-probability"
    if (np.diff(score) > 0).any():
        yield "score: not sorted"
    sums = alignment.sum(axis=2)
    if not np.allclose(sums, real, atol=1e-3):
        yield "alignment: rows do not sum to 1, or to 0 after the text"


def peak_kilobytes() -> int:
    """Returns the peak of this process' memory, on Linux in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
