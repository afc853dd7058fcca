"""Models to measure, on one thread: converted graphs, and the file that apps get."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from common import PRODUCT_SIZE, product_gflops, seconds_of_each
from inference.graphs import Graph
from pocketseq.export.checks.benchmark import measure
from pocketseq.export.contract import (
    TRANSLATE,
    Manifest,
    Side,
    translate_signature,
)
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import finished
from pocketseq.export.tflite.metadata import attach_metadata
from pocketseq.export.tflite.quantization import Recipe, quantize_weights
from pocketseq.pipeline.translator import ModelTranslator


def converted(graph: Graph, recipe: Recipe) -> bytes:
    """Returns a graph as a model in the form that apps get."""
    model = quantize_weights(convert({"translate": graph}), recipe)
    return finished(model, ["text", "score", "alignment"])


class Runner:
    """A model on one thread with its inputs.

    Args:
        model: A ``.tflite`` model with one input.
        inputs: What to call it with, int32 ``(code points,)`` each.
    """

    def __init__(self, model: bytes, inputs: Sequence[np.ndarray]) -> None:
        self.inputs = inputs
        self.interpreter = Interpreter(model_content=model, num_threads=1)
        self.interpreter.allocate_tensors()
        self.place = self.interpreter.get_input_details()[0]["index"]
        self.seconds()

    def seconds(self) -> list[float]:
        """Returns the seconds that each input takes."""
        return seconds_of_each(self._run, self.inputs)

    def _run(self, row: np.ndarray) -> None:
        self.interpreter.set_tensor(self.place, row[None])
        self.interpreter.invoke()


def token_counts(
    translator: ModelTranslator, texts: Sequence[str]
) -> list[tuple[int, int]]:
    """Returns (source tokens, output tokens with the end token) of each text."""
    ids = translator.source_tokenizer.tokenize(tf.constant(texts))
    found = translator.translate(texts, beam_size=1)
    outputs = [len(best.token_ids or ()) for (best,) in found]
    return list(zip(ids.row_lengths().numpy().tolist(), outputs, strict=True))


def from_python(
    model: bytes, translator: ModelTranslator, texts: Sequence[str]
) -> dict[str, Any]:
    """Measures a model as the Python runtime runs it, file, text and all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(attach_metadata(model, manifest(translator), {}))
        measured = measure(path, texts)
    kept = ("bytes", "load_milliseconds", "p50_milliseconds", "p95_milliseconds")
    return {name: measured[name] for name in kept}


def manifest(translator: ModelTranslator) -> Manifest:
    """Returns as much of a manifest as the Python runtime needs."""
    source, target = translator.source_tokenizer, translator.target_tokenizer
    n, m = source.max_code_points, target.max_code_points
    return Manifest(
        name="benchmark",
        task="benchmark",
        source=Side(source.kind, source.normalization, n),
        target=Side(target.kind, target.normalization, m),
        signatures={TRANSLATE: translate_signature(n, m)},
        models={},
        recipe={"search": {"beam_size": 1}, "data": {"license": "none"}},
    )


def matrix_product_gflops() -> float:
    """Returns how fast TensorFlow multiplies float32 matrices here, all cores."""
    matrix = tf.random.stateless_uniform([PRODUCT_SIZE, PRODUCT_SIZE], [1, 2])
    return product_gflops(lambda: tf.matmul(matrix, matrix).numpy())
