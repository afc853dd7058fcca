"""Quantization recipes: how the weights of an exported model are stored.

Data only, and no TensorFlow: the command line takes the names from here. A new recipe
is an entry of :data:`RECIPES`; :mod:`pocketseq.export.tflite.quantization` follows it.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One way of storing weights.

    ``bits``: per weight of a matrix product; those after the attention have 8 at least.
    ``algorithm``: the name by which ai-edge-quantizer knows how to choose the scales.
    ``score_tolerance``: the largest difference from Keras' scores in golden lines.
    ``description``: a sentence for the bundle's README.
    """

    bits: int
    algorithm: str
    score_tolerance: float
    description: str

    @property
    def row_bits(self) -> dict[str, int]:
        """The bits per component of the rows that tokens and n-grams look up.

        Below 32, each row has a scale and is dequantized after the gather. Rows of
        target tokens have 8 bits at least: a tied output shares them. A model may have
        n-grams of fewer bits than a recipe, which then stay.
        """
        if self.bits == 32:
            return {"source": 32, "target": 32, "ngrams": 32}
        bits = min(self.bits, 8)
        return {"source": bits, "target": 8, "ngrams": bits}


#: By name, the most exact first.
RECIPES = {
    "float32": Recipe(
        32, "", 1e-3, "Weights as trained: the reference, equal to Keras."
    ),
    "float16": Recipe(
        16,
        "FLOAT_CASTING",
        0.05,
        "float16 weights, float32 arithmetic: half the size, no faster on a CPU.",
    ),
    "int8": Recipe(
        8,
        "MIN_MAX_UNIFORM_QUANT",
        0.05,
        "int8 weights, float32 activations: a quarter of the size, fastest on a CPU.",
    ),
    # OCTAV clips: with 15 levels, one outlier would cost all others their precision.
    "int4": Recipe(
        4, "OCTAV", 0.05, "int4 weights, float32 activations: the smallest file."
    ),
}

#: The recipe that must equal Keras, and that the others are measured against.
REFERENCE = "float32"

#: The recipe that an app ships unless somebody decides otherwise.
DEFAULT = "int8"


def shipped_recipe(names: Iterable[str]) -> str | None:
    """Returns the recipe of the file that an app would ship; None: there is no file.

    Args:
        names: The recipes of the files there are, in the order of the manifest.
    """
    there = list(names)
    return DEFAULT if DEFAULT in there else next(iter(there), None)
