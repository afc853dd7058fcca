"""Tracing: a search that is looked on at, for an explanation of what a model does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from pocketseq.layers import (
    Attention,
    CosineAttention,
    DecoderState,
    Memory,
    NoAttention,
)
from pocketseq.pipeline.explanation import (
    BeamStep,
    Branch,
    Explanation,
    Step,
    nothing_to_explain,
    one_text,
)
from pocketseq.pipeline.search import (
    IMPOSSIBLE,
    Chosen,
    Hypotheses,
    beam_search,
    best_candidates,
    log_softmax,
)
from pocketseq.pipeline.text.matching import CONTINUATION
from pocketseq.pipeline.text.special import END, PAD, START
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.translation import NO_SCORE, Token, Translation

if TYPE_CHECKING:
    from pocketseq.pipeline.translator import ModelTranslator

# Tokens that a step tells the probabilities of.
_LIKELIEST = 5


class _Round(NamedTuple):
    """One round of a search for one text, with K hypotheses.

    ``logits`` ``(K, vocabulary)``, ``weights`` ``(K, source tokens)`` and ``outputs``
    ``(K, units)`` of the decoder, by the slots before the round; ``parents`` and
    ``tokens`` ``(K,)`` of what was chosen; ``candidates``: (score, log-probability,
    parent, token) of the best 2 K, the best first.
    """

    logits: np.ndarray
    weights: np.ndarray
    outputs: np.ndarray
    parents: np.ndarray
    tokens: np.ndarray
    candidates: list[tuple[float, float, int, int]]


class _Search(NamedTuple):
    """A search that was looked on at.

    ``memory``, ``state``: what the decoder began with. ``rounds``: in order. ``found``:
    what the search returned.
    """

    memory: Memory
    state: DecoderState
    rounds: list[_Round]
    found: Hypotheses


class _Chain(NamedTuple):
    """What led to the output, a row per token: see :class:`_Round`."""

    logits: np.ndarray
    weights: np.ndarray
    outputs: np.ndarray
    tokens: np.ndarray


def trace(
    translator: ModelTranslator, text: str, *, beam_size: int | None = None
) -> Explanation:
    """Translates a text and explains how.

    The search runs as everywhere, but step by step in Python, so that all its numbers
    can be seen; they are those of a compiled search up to rounding.

    Args:
        translator: The model.
        text: Any; a longer one than the model reads is cut, which is logged.
        beam_size: Hypotheses that the search keeps; None: as the recipe says.

    Raises:
        UserError: There is no token in the text.
    """
    source = one_text(text, translator.source_tokenizer.max_code_points)
    ids = translator.source_tokenizer.tokenize(tf.constant([source])).to_tensor(PAD)
    if not ids.shape[1]:
        raise nothing_to_explain(text)
    beam_size = beam_size or translator.config.search.beam_size
    search = _search(translator, ids, beam_size)
    translations = _translations(translator, source, search.found)
    best = translations[0]
    path = _path(search.rounds)
    chain = _chain(search.rounds, path, _length_shown(best))
    attention = translator.model.decoder.attention
    similarities, scale = _similarities(attention, chain.outputs, search.memory)
    source_tokens, unknown = _source_tokens(
        translator.source_tokenizer, source, ids[0].numpy()
    )
    target = translator.target_tokenizer
    return Explanation(
        text=source,
        translation=best.text,
        score=best.score,
        form="run",
        source_tokens=source_tokens,
        target_tokens=_target_tokens(target, best, chain.tokens),
        weights=chain.weights,
        unknown=unknown,
        attention=translator.config.model.attention.score,
        hypotheses=tuple((one.text, one.score) for one in translations),
        similarities=similarities,
        scale=scale,
        encoder_outputs=search.memory.values[0].numpy(),
        decoder_outputs=chain.outputs,
        contexts=_contexts(attention, chain.outputs, search.memory),
        summary=search.state.lstm[-1].hidden[0].numpy(),
        steps=tuple(
            map(_step, chain.logits, chain.tokens, [target] * len(chain.tokens))
        ),
        beam=_beam(search.rounds, target, beam_size) if beam_size > 1 else (),
        path=path if beam_size > 1 else (),
    )


def _search(translator: ModelTranslator, ids: tf.Tensor, beam_size: int) -> _Search:
    """Runs a search for one text.

    Args:
        translator: The model.
        ids: int32 ``(1, source tokens)``.
        beam_size: Hypotheses that the search keeps.
    """
    model = translator.model
    mask = tf.ones_like(ids, tf.bool)
    outputs, states = model.encoder.loop(ids, mask)
    memory = model.decoder.memory(outputs, mask)
    state = model.decoder.initial_state(states)
    steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rounds: list[_Round] = []

    def step(
        token_ids: tf.Tensor, state: DecoderState
    ) -> tuple[tf.Tensor, tf.Tensor, DecoderState]:
        logits, weights, state = model.decoder.step(token_ids, state, memory)
        outputs = state.lstm[-1].hidden
        steps.append((logits.numpy(), weights.numpy(), outputs.numpy()))
        return logits, weights, state

    def choose(totals: tf.Tensor, scores: tf.Tensor) -> Chosen:
        chosen = best_candidates(totals, scores)
        rounds.append(_Round(*steps[-1], *_choice(chosen, totals, scores)))
        return chosen

    options = dict(translator.search_options)
    bound = options.pop("length_bound")
    length = tf.constant([ids.shape[1]])
    found = beam_search(
        step,
        state,
        active=length > 0,
        source_length=ids.shape[1],
        beam_size=beam_size,
        limit=None if bound is None else bound.limit(length),
        choose=choose,
        **options,
    )
    return _Search(memory, state, rounds, found)


def _choice(
    chosen: Chosen, totals: tf.Tensor, scores: tf.Tensor
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float, int, int]]]:
    """Returns parents, tokens and candidates of a :class:`_Round`."""
    beam_size, vocabulary_size = totals.shape[1:]
    flat = tf.reshape(scores, [-1])
    most = min(2 * beam_size, flat.shape[0])
    values, places = (part.numpy() for part in tf.math.top_k(flat, most))
    sums = tf.gather(tf.reshape(totals, [-1]), places).numpy()
    candidates = [
        (float(score), float(total), int(parent), int(token))
        for score, total, (parent, token) in zip(
            values, sums, (divmod(place, vocabulary_size) for place in places),
            strict=True,
        )
    ]  # fmt: skip
    return chosen.parent[0].numpy(), chosen.token[0].numpy(), candidates


def _path(rounds: list[_Round]) -> tuple[int, ...]:
    """Returns the slot of the best hypothesis after each round."""
    slots = [0]
    for one in reversed(rounds[1:]):
        slots.append(int(one.parents[slots[-1]]))
    return tuple(reversed(slots))


def _chain(rounds: list[_Round], path: tuple[int, ...], length: int) -> _Chain:
    """Returns what led to the first tokens of the best hypothesis."""
    # A step is taken before the choice: in the slot of the parent.
    before = [(one, one.parents[slot]) for one, slot in zip(rounds, path, strict=True)]
    tokens = [one.tokens[slot] for one, slot in zip(rounds, path, strict=True)]
    parts = ("logits", "weights", "outputs")
    logits, weights, outputs = (
        np.array([getattr(one, part)[row] for one, row in before[:length]])
        for part in parts
    )
    return _Chain(logits, weights.astype(float), outputs, np.array(tokens[:length]))


def _length_shown(best: Translation) -> int:
    """Returns the number of tokens that are part of the output, the end one included.

    Those that the longest text had no room for are not.
    """
    ids, written = best.token_ids or (), len(best.pieces or ())
    return written + (ids[written : written + 1] == (END,))


def _translations(
    translator: ModelTranslator, source: str, found: Hypotheses
) -> list[Translation]:
    """Returns what a search for one text has found, the best first."""
    ids, lengths, scores, attention = (part[0].numpy() for part in found)
    return [
        translator.written(source, *one)
        for one in zip(ids, lengths, scores, attention, strict=True)
        if not one[2] < NO_SCORE
    ]


def _similarities(
    attention: Attention, outputs: np.ndarray, memory: Memory
) -> tuple[np.ndarray | None, float | None]:
    """Returns cosines and their scale, or scores and None; None, None without any."""
    if isinstance(attention, NoAttention):
        return None, None
    scores = attention.score(tf.constant(outputs[None]), memory.keys)[0].numpy()
    if not isinstance(attention, CosineAttention):
        return scores, None
    scale = float(attention.scale)
    return scores / scale, scale


def _contexts(attention: Attention, outputs: np.ndarray, memory: Memory) -> np.ndarray:
    """Returns the weighted sums of the encoder outputs, ``(target tokens, units)``."""
    contexts, _ = attention.attend(tf.constant(outputs[None]), *memory)
    return contexts[0].numpy()


def _step(logits: np.ndarray, token: int, tokenizer: Tokenizer) -> Step:
    """Returns the :class:`Step` that wrote a token, given ``(vocabulary,)`` logits."""
    log_p = log_softmax(tf.constant(logits, tf.float32)).numpy().astype(float)
    p = np.exp(log_p)
    best = [i for i in np.argsort(-log_p, kind="stable") if i not in (PAD, START)]
    likeliest = (Token(_piece(tokenizer, i), float(p[i])) for i in best[:_LIKELIEST])
    # What is impossible adds nothing: 0 * log 0 is 0.
    entropy = -(p * np.where(p > 0, log_p, 0)).sum() / np.log(2)
    piece = _piece(tokenizer, token)
    return Step(piece, float(p[token]), tuple(likeliest), max(float(entropy), 0.0))


def _beam(
    rounds: list[_Round], tokenizer: Tokenizer, beam_size: int
) -> tuple[BeamStep, ...]:
    """Returns the steps of a search with a beam."""
    steps = []
    for one in rounds:
        branches = [
            Branch(
                parent, None if token == PAD else _piece(tokenizer, token), total, score
            )
            for score, total, parent, token in one.candidates
            if total > IMPOSSIBLE / 2
        ]
        steps.append(BeamStep(tuple(branches[:beam_size]), tuple(branches[beam_size:])))
    return tuple(steps)


def _piece(tokenizer: Tokenizer, token: int) -> str:
    """Returns a target token as it stands in the vocabulary; the end token is ""."""
    return "" if token == END else tokenizer.pieces[token]


def _target_tokens(
    tokenizer: Tokenizer, best: Translation, tokens: np.ndarray
) -> tuple[str, ...]:
    """Returns the tokens of an output; unknown ones as what they copied."""
    written = [*(best.pieces or ()), ""]
    return tuple(
        _marked(tokenizer, token, piece)
        if token in tokenizer.unknown_ids
        else _piece(tokenizer, token)
        for token, piece in zip(tokens.tolist(), written, strict=False)
    )


def _source_tokens(
    tokenizer: Tokenizer, source: str, ids: np.ndarray
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns the tokens of a text, and the places of the unknown ones among them."""
    known = [token not in tokenizer.unknown_ids for token in ids.tolist()]
    tokens = [
        tokenizer.pieces[token]
        if is_known
        else _marked(tokenizer, token, "".join(source[i] for i in span))
        for token, is_known, span in zip(
            ids, known, tokenizer.spans(source), strict=True
        )
    ]
    return tuple(tokens), tuple(i for i, is_known in enumerate(known) if not is_known)


def _marked(tokenizer: Tokenizer, token: int, text: str) -> str:
    """Returns a text in place of an unknown piece, marked if that continues a word."""
    goes_on = tokenizer.kind == "wordpiece" and tokenizer.continues[token]
    return CONTINUATION + text if goes_on else text
