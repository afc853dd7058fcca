"""Compares reading wordpieces in TFLite with tensorflow-text, line by line.

Learns a vocabulary from text files, exports the graph that reads text, and counts the
lines, real and hostile, whose tokens differ. Prints one JSON object:

    python benchmarks/text_parity.py FILE...
"""

import gzip
import random
import statistics
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from common import print_report, seconds_of_each, text_input
from pocketseq.pipeline.text.normalization import WHITE_SPACE

if TYPE_CHECKING:  # TensorFlow takes seconds to import, and --help needs none
    import tensorflow as tf

    from pocketseq.pipeline.text.tokenizers import WordPieceTokenizer

CODE_POINTS = 256
HOSTILE_LINES = 10_000
_ROUNDS = 5


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--vocabulary-size", default=8000, show_default=True)
def main(files: tuple[Path, ...], vocabulary_size: int) -> None:
    """Compare reading in TFLite with tensorflow-text on the lines of FILES."""
    from pocketseq.pipeline.text.tokenizers import WordPieceTokenizer

    lines = [line for file in files for line in read_lines(file)]
    started = time.perf_counter()
    tokenizer = WordPieceTokenizer.learn(
        lines, max_code_points=CODE_POINTS, vocabulary_size=vocabulary_size
    )
    learned = time.perf_counter() - started
    model = reading_model(tokenizer)
    hostile = list(hostile_lines(lines))
    texts = [line[:CODE_POINTS] for line in lines]
    joined = " ".join(lines)
    whole = [joined[i : i + CODE_POINTS] for i in range(0, len(joined), CODE_POINTS)]
    print_report(
        {
            "lines": len(lines),
            "hostile_lines": len(hostile),
            "differences": differences(model, tokenizer, texts + hostile),
            "pieces": len(tokenizer),
            "learning_seconds": learned,
            "milliseconds": {
                "lines": milliseconds(model, texts[:2000]),
                "full": milliseconds(model, whole[: min(2000, len(whole) - 1)]),
            },
            "table_bytes": table_bytes(model),
        }
    )


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a text file, which may be compressed by gzip, in NFC."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield unicodedata.normalize("NFC", line.rstrip("\n"))


def hostile_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yields what no corpus holds: anything at all, mixed with what one does hold."""
    generator = random.Random(1)
    learned = sorted({character for line in lines for character in line})
    words = sorted({word for line in lines[:20_000] for word in line.split()})
    spaces = sorted(WHITE_SPACE)

    def part() -> str:
        kind = generator.random()
        if kind < 0.3:
            return generator.choice(words)
        if kind < 0.5:
            return generator.choice(learned)
        if kind < 0.65:
            return generator.choice(spaces)
        if kind < 0.75:
            return generator.choice(["##", "#", "\u0301", "\u200d", "\ufffd", "\uffff"])
        limit = generator.choice([0x80, 0x600, 0x3000, 0x10000, 0x110000])
        code_point = generator.randrange(1, limit)
        return "x" if 0xD800 <= code_point < 0xE000 else chr(code_point)

    for _ in range(HOSTILE_LINES):
        parts = generator.choice([0, 1, 3, 30, 150])
        yield "".join(part() for _ in range(parts))[:CODE_POINTS]


def reading_model(tokenizer: "WordPieceTokenizer") -> bytes:
    """Returns a model that reads a text and does nothing else."""
    import tensorflow as tf

    from pocketseq.export.graph.reading import read
    from pocketseq.export.tflite.conversion import convert

    @tf.function(input_signature=[tf.TensorSpec([CODE_POINTS], tf.int32, name="text")])
    def reading(text: tf.Tensor) -> "dict[str, tf.Tensor]":
        source = read(text, tokenizer)
        outputs = source._asdict()
        del outputs["same"]
        return outputs

    return convert({"read": reading})


def differences(
    model: bytes, tokenizer: "WordPieceTokenizer", texts: Sequence[str]
) -> int:
    """Returns how many texts the model reads otherwise than tensorflow-text."""
    graph = Interpreter(model_content=model).get_signature_runner("read")
    count = 0
    for start in range(0, len(texts), 1000):
        part = texts[start : start + 1000]
        for text, wanted in zip(part, tokenizer.tokenize(part).to_list(), strict=True):
            found = graph(text=text_input(text, CODE_POINTS))
            count += found["ids"][0, : found["length"][0]].tolist() != wanted
    return count


def milliseconds(model: bytes, texts: Sequence[str]) -> dict[str, float]:
    """Returns the median and the minimum per text, on one thread."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]

    def read(row: np.ndarray) -> None:
        interpreter.set_tensor(place, row)
        interpreter.invoke()

    rows = [text_input(text, CODE_POINTS) for text in texts]
    times = [1000 * seconds for seconds in seconds_of_each(read, rows * _ROUNDS)]
    return {"median": statistics.median(times), "min": min(times)}


def table_bytes(model: bytes) -> int:
    """Returns the size of all constants of a model, in bytes."""
    from ai_edge_litert.tools import flatbuffer_utils

    buffers = flatbuffer_utils.read_model_from_bytearray(bytearray(model)).buffers
    return sum(len(buffer.data) for buffer in buffers if buffer.data is not None)


if __name__ == "__main__":
    main()
