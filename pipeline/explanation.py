"""Explanations: how a model came to its output, step by step.

The same for every form of model, as far as each can tell; nothing here imports
TensorFlow. :mod:`pocketseq.pipeline.tracing` makes those of a run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.translation import Token, Translation, prepare

#: A run tells everything, a ``.tflite`` file its alignment, a SavedModel only its text.
Form: TypeAlias = Literal["run", "file", "saved_model"]


class Step(NamedTuple):
    """One step of a decoder: how likely which tokens were next.

    ``token``: the one that was written, as it stands in the vocabulary; "" is the end.
    ``probability``: of it. ``likeliest``: five tokens with their probabilities, the
    likeliest first. ``entropy``: of the whole distribution, in bits.
    """

    token: str
    probability: float
    likeliest: tuple[Token, ...]
    entropy: float


class Branch(NamedTuple):
    """A hypothesis of a beam after one of its steps.

    ``parent``: the slot of the hypothesis that it continues. ``token``: with what, ""
    is the end; None: it had ended before, and stays. ``log_probability``: of all its
    tokens. ``score``: what it is ranked by.
    """

    parent: int
    token: str | None
    log_probability: float
    score: float


class BeamStep(NamedTuple):
    """One step of a beam: the hypotheses that it keeps, by slot, best first.

    ``dropped``: the best of those that it does not keep.
    """

    kept: tuple[Branch, ...]
    dropped: tuple[Branch, ...]


@dataclass(frozen=True)
class Explanation:
    """How a model came to its output.

    ``text``: what was read: NFC, without what was cut. ``translation``, ``score``: as
    of a :class:`Translation`. ``form``: of the model.

    ``source_tokens``, ``target_tokens``: of a run its tokens, as they stand in the
    vocabulary; an unknown one as it stands in the text; the end token is "". Of other
    forms code points. ``unknown``: the places of unknown tokens in ``source_tokens``.
    ``weights``: float ``(target tokens, source tokens)``, rows that sum to 1; None
    where the model does not tell.

    ``attention``: the name of the score; None: not known. ``hypotheses``: what a search
    with a beam has found, (text, score) each, the best first. ``is_exception``: whether
    a dictionary inside the file gave the answer, and not the model. ``model``: a name
    to show. ``other``: the explanation of another model, to compare with.

    The rest is None or empty but for a run. ``similarities``: float ``(target tokens,
    source tokens)``: of a cosine attention the cosines, of others their scores; None
    without attention. ``scale``: what the cosines are multiplied by before the softmax;
    None for other scores, which go into the softmax as they are. ``encoder_outputs``
    float ``(source tokens, units)``, as the decoder sees them; ``decoder_outputs`` and
    ``contexts`` float ``(target tokens, units)``; ``summary`` float ``(units,)``: the
    output of the decoder before its first step, made of the encoder's final state.
    ``steps``: a :class:`Step` for each target token. ``beam``: a :class:`BeamStep` for
    each step of a search with a beam; ``path``: the slots of the best hypothesis in it.
    """

    text: str
    translation: str
    score: float
    form: Form
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    weights: np.ndarray | None
    unknown: tuple[int, ...] = ()
    attention: str | None = None
    hypotheses: tuple[tuple[str, float], ...] = ()
    is_exception: bool = False
    model: str = ""
    other: Explanation | None = None
    similarities: np.ndarray | None = None
    scale: float | None = None
    encoder_outputs: np.ndarray | None = None
    decoder_outputs: np.ndarray | None = None
    contexts: np.ndarray | None = None
    summary: np.ndarray | None = None
    steps: tuple[Step, ...] = ()
    beam: tuple[BeamStep, ...] = ()
    path: tuple[int, ...] = ()

    def named(self, model: str) -> Explanation:
        """Returns the same explanation with the name of its model."""
        return dataclasses.replace(self, model=model)

    def compared_with(self, other: Explanation) -> Explanation:
        """Returns the same explanation with another to compare with."""
        return dataclasses.replace(self, other=other)

    def html(self) -> str:
        """Returns the page that shows it, HTML that loads nothing."""
        from pocketseq.pipeline.reports.explanation_page import explanation_page

        return explanation_page(self)

    def save(self, path: str | Path) -> None:
        """Writes the page, or a still picture of the attention.

        Args:
            path: A file, which ends in ``.html``, ``.png`` or ``.svg``. Only an earlier
                page or picture is replaced.

        Raises:
            UserError: The ending is another, something else stands there, it cannot be
                written, or a picture was asked for that there is not.
        """
        from pocketseq.pipeline.reports.explanation_page import write_explanation

        write_explanation(path, self)


def one_text(text: str, max_code_points: int) -> str:
    """Returns the text to explain as a model reads it.

    Args:
        text: Any; a longer one is cut, which is logged.
        max_code_points: The longest that the model reads.

    Raises:
        UserError: There is nothing in it.
    """
    (prepared,) = prepare([text], max_code_points)
    if not prepared:
        raise nothing_to_explain(text)
    return prepared


def nothing_to_explain(text: str) -> UserError:
    """Returns the error of a text in which there is nothing to read."""
    return UserError(f"{text!r}: nothing to explain, expected a text with a token")


def explain_outputs(
    translations: Sequence[Translation],
    *,
    form: Form,
    attention: str | None = None,
    has_exceptions: bool = False,
) -> Explanation:
    """Returns what the outputs of a model tell by themselves.

    Args:
        translations: Of one text, the best first.
        form: Of the model.
        attention: The name of its attention's score; None: not known.
        has_exceptions: Whether it has a dictionary of exceptions, whose answers have
            the score 0.
    """
    best = translations[0]
    return Explanation(
        text=best.source,
        translation=best.text,
        score=best.score,
        form=form,
        source_tokens=tuple(best.source),
        target_tokens=tuple(best.text),
        weights=None if best.alignment is None else np.asarray(best.alignment, float),
        attention=attention,
        hypotheses=tuple((one.text, one.score) for one in translations),
        is_exception=has_exceptions and best.score == 0 and bool(best.text),
    )
