"""Measures how fast an exported model translates, and what stands in its way.

One text at a time on one thread: the whole model as an app runs it, its parts (text
handling, encoder, decoder), and two comparisons in the same run: the same network,
decoded greedily by PyTorch's LSTM cells (where PyTorch is installed), and the floor: a
graph of the matrix products alone. Prints one JSON object:

    python benchmarks/inference_speed.py runs/pronunciation --quantize int8
"""

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from common import comparison_problem, print_report, ratio, say, text_input

# Runs of everything, one after the other in turn; the median counts.
_ROUNDS = 5

#: Seconds of each text in each round, by what was measured.
Seconds = Mapping[str, Sequence[Sequence[float]]]


@click.command()
@click.argument("run")
@click.option("--quantize", default="int8", show_default=True)
@click.option("--texts", "count", default=300, show_default=True)
def main(run: str, quantize: str, count: int) -> None:
    """Measure the model of RUN on texts of its dev set."""
    from inference.graphs import all_graphs, product_rounds
    from inference.models import (
        Runner,
        converted,
        from_python,
        matrix_product_gflops,
        token_counts,
    )
    from pocketseq.export.recipes import RECIPES
    from pocketseq.pipeline.data.corpora import training_corpora
    from pocketseq.pipeline.runs import open_run

    if quantize not in RECIPES:
        expected = ", ".join(sorted(RECIPES))
        raise click.UsageError(f"--quantize {quantize}: expected one of {expected}")
    logging.disable(logging.WARNING)
    opened = open_run(run)
    keras = opened.load()
    _, dev = training_corpora(keras.config)
    texts = list(dev.references())[:count]
    lengths = token_counts(keras, texts)

    recipe = RECIPES[quantize]
    tables = keras.model.token_tables(**recipe.row_bits)
    models = {
        name: converted(graph, recipe)
        for name, graph in all_graphs(keras, tables).items()
    }
    size = keras.source_tokenizer.max_code_points
    inputs = [text_input(text, size) for text in texts]
    rounds = [product_rounds(keras, n, m) for n, m in lengths]
    runners: dict[str, Any] = {
        name: Runner(model, rounds if "products" in name else inputs)
        for name, model in models.items()
    }
    if importlib.util.find_spec("torch"):
        if problem := comparison_problem(keras.config.model):
            say(f"PyTorch is left out: {problem}")
        else:
            from inference.pytorch import PyTorchDecoder

            runners["pytorch"] = PyTorchDecoder(keras, texts)

    seconds: dict[str, list[list[float]]] = {name: [] for name in runners}
    for _ in range(_ROUNDS):
        for name, runner in runners.items():
            seconds[name].append(runner.seconds())
    print_report(
        {
            **speed_report(seconds, lengths),
            "matrix_product_gflops": matrix_product_gflops(),
            "from_python": from_python(models["whole"], keras, texts),
        }
    )


def speed_report(
    seconds: Seconds, lengths: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Returns milliseconds per text, the median of the rounds, and ratios.

    Args:
        seconds: Of all graphs, and of ``"pytorch"`` if it was measured.
        lengths: (source tokens, output tokens with the end token) of each text.
    """
    milliseconds = {
        name: 1000 * np.median(rounds, axis=0) for name, rounds in seconds.items()
    }
    mean = {name: float(np.mean(values)) for name, values in milliseconds.items()}
    in_rounds = {name: np.sum(rounds, axis=1) for name, rounds in seconds.items()}
    whole = milliseconds["whole"]
    encoder = mean["reading and encoder"] - mean["reading"]
    text = mean["reading and writing"]
    report = {
        "texts": len(lengths),
        "source_tokens": float(np.mean([n for n, _ in lengths])),
        "output_tokens": float(np.mean([m for _, m in lengths])),
        "p50_milliseconds": float(np.percentile(whole, 50)),
        "p95_milliseconds": float(np.percentile(whole, 95)),
        "mean_milliseconds": mean["whole"],
        "milliseconds_per_token": float(whole.sum() / sum(m for _, m in lengths)),
        "parts_milliseconds": {
            "text": text,
            "encoder": encoder,
            "decoder": mean["whole"] - encoder - text,
        },
        "floor_milliseconds": mean["products"],
        "times_the_floor": ratio(in_rounds["whole"], in_rounds["products"]),
        "weights_only_floor_milliseconds": mean["products with weights"],
    }
    if "pytorch" in mean:
        report["pytorch_milliseconds"] = mean["pytorch"]
        report["times_faster_than_pytorch"] = ratio(
            in_rounds["pytorch"], in_rounds["whole"]
        )
    return report


if __name__ == "__main__":
    main()
