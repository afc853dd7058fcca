"""The gate: an exported form equals Keras, or loses no more than is allowed."""

from collections.abc import Sequence

from pocketseq.export.checks.verification import Loss, compare, quality_loss
from pocketseq.export.exporter import Outcome, TrainedModel, best
from pocketseq.pipeline.translation import TextTranslator, Translation

# How many differing texts a failure shows.
_SHOWN = 5


def check_equality(
    name: str,
    trained: TrainedModel,
    file: TextTranslator,
    *,
    length: int,
    beam_size: int | None,
) -> Outcome:
    """Compares an exported form with Keras on the dev texts.

    Args:
        name: Of the form, for people.
        trained: The Keras model.
        file: The exported form.
        length: Which of the Keras model's lengths it has, in code points.
        beam_size: The beam to search with; None: the greedy search.

    Returns:
        A note, and a failure where a text differs by more than a near tie.
    """
    keras, texts = trained.translators[length], list(trained.sets["dev"].references)
    beam = beam_size or 1
    expected = trained.dev_translations(length, beam_size)
    actual = file.translate(texts, beam_size=beam, n_best=beam)
    equality = compare(keras, expected, actual)
    search = f"with a beam of {beam_size}" if beam_size else "greedily"
    # The gain of a beam, for people who wonder whether to use one.
    gain = _quality_note(trained, expected) if beam_size else ""
    note = (
        f"{name} against Keras on {equality.examples} dev texts of up to {length} "
        f"code points, {search}: {len(equality.differences)} differences, "
        f"{equality.near_ties} near ties{gain}"
    )
    if not equality.differences:
        return Outcome(notes=(note,))
    shown = "".join(f"\n  {line}" for line in equality.differences[:_SHOWN])
    failure = (
        f"{name}: {len(equality.differences)} of {equality.examples} dev texts differ "
        f"from Keras:{shown}"
    )
    return Outcome(notes=(note,), failures=(failure,))


def _quality_note(
    trained: TrainedModel, translations: Sequence[Sequence[Translation]]
) -> str:
    metric = trained.config.metric
    quality = trained.quality("dev", best(translations))[metric]
    return f"; dev {metric} {quality:.2f}"


def dev_loss(trained: TrainedModel, actual: Sequence[Translation]) -> Loss:
    """Measures how much worse translations of the dev set are than Keras'.

    Returns:
        :class:`Loss`, in points of the main metric.
    """
    references, expected = trained.sets["dev"]
    return quality_loss(
        list(references.values()),
        [translation.text for translation in expected],
        [translation.text for translation in actual],
        metric=trained.config.metric,
        normalization=trained.keras.target_normalization,
    )


def check_loss(
    name: str, trained: TrainedModel, loss: Loss, *, max_loss: float
) -> Outcome:
    """Fails where a quantized file loses too much, and not by chance.

    Args:
        name: Of the file, for people.
        trained: The Keras model.
        loss: As :func:`dev_loss` measures it.
        max_loss: How many points of the main metric it may lose.
    """
    if loss.points <= max_loss or not loss.is_real:
        return Outcome()
    failure = (
        f"{name}: loses {loss.points:.2f} points of {trained.config.metric} on the dev "
        f"set, which is not chance: expected at most {max_loss}"
    )
    return Outcome(failures=(failure,))
