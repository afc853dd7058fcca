"""Quantization recipes: how the weights of an exported model are stored."""

import contextlib
import io
import logging
from dataclasses import dataclass

from pocketseq.layers.decoder import OUTPUT_PRODUCT, READOUT


@dataclass(frozen=True)
class Recipe:
    """One way of storing weights.

    ``bits``: of a weight in a matrix product. ``algorithm``: how ai-edge-quantizer
    chooses the scales. ``score_tolerance``: how far scores may be from Keras' in golden
    lines. ``description``: a sentence for the bundle's README. Where there are fewer
    than 32 bits, the rows that tokens look up are int8 with one scale each, dequantized
    after the gather, and the products after the attention have 8 bits at least.
    """

    bits: int
    algorithm: str
    score_tolerance: float
    description: str

    @property
    def int8_rows(self):
        return self.bits < 32


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


def quantize_weights(model_bytes, recipe, *, compatible=False):
    """Quantizes the weights of all matrix products, inside loops too.

    Args:
        model_bytes: A float32 ``.tflite`` model.
        recipe: :class:`Recipe`.
        compatible: Whether an int8 matrix has one scale, as older runtimes need it,
            instead of one a row.

    Returns:
        The bytes of the quantized model.

    References: Sakr et al. 2022, "Optimal clipping and magnitude-aware differentiation
    for improved quantization-aware training" (OCTAV).
    """
    if recipe.bits == 32:
        return model_bytes
    # Imported here because it takes seconds and not every export needs it.
    from ai_edge_quantizer import qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    manager = recipe_manager.RecipeManager()
    options = {
        "regex": ".*",
        "operation_name": qtyping.TFLOperationName.FULLY_CONNECTED,
        "num_bits": recipe.bits,
        "algorithm_key": AlgorithmName[recipe.algorithm],
    }
    if recipe.bits == 16:
        manager.add_weight_only_config(**options)
    else:
        granularity = qtyping.QuantGranularity
        # Runtimes before 2.17 know one scale a row of int4 weights, not of int8.
        int8 = granularity.TENSORWISE if compatible else granularity.CHANNELWISE
        options["granularity"] = int8 if recipe.bits == 8 else granularity.CHANNELWISE
        manager.add_dynamic_config(**options)
        # The last two products stay int8: they cost int4 most of its quality, and the
        # very last shares its rows with a tied embedding, which is int8.
        last = f"{READOUT}|{OUTPUT_PRODUCT}"
        options |= {"regex": last, "num_bits": 8, "granularity": int8}
        options["algorithm_key"] = AlgorithmName.MIN_MAX_UNIFORM_QUANT
        manager.add_dynamic_config(**options)
    with _silence():
        result = quantizer.Quantizer(
            bytearray(model_bytes), manager.get_quantization_recipe()
        ).quantize()
    return bytes(result.quantized_model)


@contextlib.contextmanager
def _silence():
    """Keeps the library's reports off the output, which belongs to the command."""
    level, disabled = logging.root.level, logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            yield
        finally:
            logging.disable(disabled)
            logging.root.setLevel(level)
