"""Quantization: the weights of a model, stored as a recipe says."""

import contextlib
import io
import logging
from collections.abc import Iterator

from pocketseq.export.recipes import Recipe
from pocketseq.layers.decoder import OUTPUT_PRODUCT, READOUT


def quantize_weights(
    model_bytes: bytes, recipe: Recipe, *, compatible: bool = False
) -> bytes:
    """Quantizes the weights of all matrix products, inside loops too.

    Args:
        model_bytes: A float32 ``.tflite`` model.
        recipe: How to store the weights.
        compatible: Whether an int8 matrix has one scale, as older runtimes need it,
            instead of one per row.

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
        # Runtimes before 2.17 know a scale per row for int4 weights, but not for int8.
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
def _silence() -> Iterator[None]:
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
