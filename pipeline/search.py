"""Search: from a step function to the best token sequences.

One function serves greedy and beam search, evaluation, SavedModel and TFLite. It knows
no model, and it is made of operations that convert to TFLite builtins: one loop with
static buffers that ends as soon as every hypothesis has.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from pocketseq.layers.buffers import append, collect, from_end, unknown_zero
from pocketseq.pipeline.text.special import END, PAD, START

# The log-probability of what cannot be. Finite, so that sums and means stay numbers.
IMPOSSIBLE = -1e9

# Added to the scores that rank continuations of sequences that are given: more than any
# sum of log-probabilities that a model comes to.
_GIVEN = 1e6


class Hypotheses(NamedTuple):
    """The best token sequences of each text, best first.

    ``token_ids`` int32 ``(batch, beam_size, max_length)``, the end token included,
    padded at the right; ``length`` int32 ``(batch, beam_size)``, the end token
    included; ``score`` float32 ``(batch, beam_size)``; ``attention_weights`` float32
    ``(batch, beam_size, max_length, source_length)``.
    """

    token_ids: tf.Tensor
    length: tf.Tensor
    score: tf.Tensor
    attention_weights: tf.Tensor


class LengthBound(NamedTuple):
    """How many tokens a target may have, by the number of source tokens.

    A model that has lost its way repeats itself until something stops it. What its
    training pairs never came near is nothing but that.

    ``ratio`` target tokens for each source token, and ``offset`` more.
    """

    ratio: float
    offset: float

    def limit(self, source_length: tf.Tensor) -> tf.Tensor:
        """Returns the largest number of target tokens, int32 like ``source_length``."""
        limit = self.ratio * tf.cast(source_length, tf.float32) + self.offset
        return tf.maximum(tf.cast(limit, tf.int32), 1)


class Guards(NamedTuple):
    """What no hypothesis may do; 0 allows it.

    ``no_repeat_ngram``: contain the same so many tokens twice. ``most_repeats``: repeat
    a token, or up to :data:`LONGEST_LOOP` tokens, more than so many times in a row.

    References: Paulus, Xiong and Socher 2018, "A deep reinforced model for abstractive
    summarization", section 2.5 (no n-gram twice).
    """

    no_repeat_ngram: int = 0
    most_repeats: int = 0


#: How many tokens a loop has at most, to be found by :class:`Guards`.
LONGEST_LOOP = 8


class _Beam(NamedTuple):
    """Where a search stands. ``B`` texts, ``K`` hypotheses, at most ``T`` tokens.

    ``tokens`` and ``slots`` are queues: each step adds its row at the end. ``follows``
    is ``()`` where nothing is given, and in a greedy search, which follows what is.
    """

    last_token: tf.Tensor  # (B, K)
    log_probability: tf.Tensor  # (B, K), summed over tokens
    length: tf.Tensor  # (B, K)
    finished: tf.Tensor  # (B, K) bool
    tokens: tf.Tensor  # (T, B, K)
    slots: tf.Tensor  # (T, B, K): where a hypothesis stood when it wrote a token
    follows: tf.Tensor | tuple[()]  # (B, K, G) bool: which given sequences it is so far


class Chosen(NamedTuple):
    """The best continuations of a step, best first, ``(B, K)`` each.

    ``log_probability`` of the whole sequence so far; ``parent``: the slot of the
    hypothesis that goes on; ``token``: with what.
    """

    log_probability: tf.Tensor
    parent: tf.Tensor
    token: tf.Tensor


class Step(Protocol):
    """One step of a decoder."""

    def __call__(
        self, token_ids: tf.Tensor, state: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Continues each row by one token.

        Args:
            token_ids: int32 ``(rows,)``, the tokens before.
            state: Nested tensors ``(rows, ...)``.

        Returns:
            Logits ``(rows, vocabulary)``, attention weights ``(rows, source_length)``
            and the state after the step, of the structure of ``state``.
        """
        ...


#: Chooses continuations by their summed log-probabilities and their scores.
Choose = Callable[[tf.Tensor, tf.Tensor], Chosen]


def beam_search(
    step: Step,
    state: Any,
    *,
    active: tf.Tensor,
    source_length: int | tf.Tensor,
    beam_size: int = 1,
    max_length: int,
    limit: tf.Tensor | None = None,
    length_penalty: float = 1.0,
    guards: Guards | None = None,
    choose: Choose | None = None,
    given: tf.Tensor | None = None,
) -> Hypotheses:
    """Finds the token sequences with the best scores; greedy with ``beam_size=1``.

    A sequence's score is the sum of its token log-probabilities, end token included,
    divided by (number of tokens) ** ``length_penalty``. At each step the best
    ``beam_size`` of all finished hypotheses and of all one-token continuations are
    kept; a finished one stays as it is. The search ends when all kept ones are
    finished, or at ``max_length`` tokens, and for each text at its ``limit``.

    A text may have answers that are known beforehand, which are ``given``. They are its
    first hypotheses, with score 0, whatever the model thinks of them; then come others.

    Args:
        step: Of the decoder, for ``batch * beam_size`` rows, those of a text one after
            the other.
        state: The state before the first token: nested tensors ``(batch, ...)``.
        active: bool ``(batch,)``; False gives an empty sequence with score 0.
        source_length: Width of the attention weights, a number.
        beam_size: How many hypotheses to keep for a text.
        max_length: The largest number of tokens, end token included: the size of the
            buffers.
        limit: int32 ``(batch,)``, the same for each text by itself; None: none.
        length_penalty: 0 ranks by the sum, 1 by the mean.
        guards: What no hypothesis may do; those that are given may. None: anything.
        choose: In place of :func:`best_candidates`, for who wants to look on.
        given: int32 ``(batch, G, max_length)``, with G at most ``beam_size``: different
            sequences, the best first, each with its end token; PAD where there is none,
            behind the others. They may be longer than ``limit``. None: no text has any.

    Returns:
        :class:`Hypotheses`. A hypothesis that does not exist, because there are fewer
        than ``beam_size``, has a score below -1e6.
    """
    choose = choose or best_candidates
    if beam_size > 1:
        state = tf.nest.map_structure(lambda x: tf.repeat(x, beam_size, axis=0), state)
    shape = [active.shape[0] or tf.shape(active)[0], beam_size]
    beam = _start(active, shape, max_length, given)
    if given is not None:
        limit = _limit_with(given, limit)
        given_by_time = tf.transpose(given, [2, 0, 1])  # (T, B, G)
    # The limit of a single text ends the loop, which costs its steps nothing.
    last = max_length
    if limit is not None and active.shape[0] == 1:
        last, limit = tf.minimum(limit[0], max_length), None

    def unfinished(time: tf.Tensor, found: tuple[_Beam, Any]) -> tf.Tensor:
        waiting = tf.reduce_any(tf.logical_not(found[0].finished))
        return tf.logical_and(time < last, waiting)

    def one_step(
        time: tf.Tensor, found: tuple[_Beam, Any]
    ) -> tuple[tuple[_Beam, Any], list[tf.Tensor]]:
        beam, state = found
        logits, attention, state = step(tf.reshape(beam.last_token, [-1]), state)
        totals = _candidates(beam, logits)
        wanted, preference = None, None
        if given is not None:
            wanted = tf.gather(given_by_time, time)  # (B, G)
            preference = _preference(beam, wanted, totals.shape[-1])
        if guards is not None and any(guards):
            banned = _banned(beam, guards, totals.shape[-1])
            if preference is not None:
                banned = tf.logical_and(banned, preference <= 0)
            totals = tf.where(banned, IMPOSSIBLE, totals)
        scores = totals
        if beam_size > 1:  # greedy search compares texts of one length only
            lengths = beam.length + tf.cast(tf.logical_not(beam.finished), tf.int32)
            scores = _score(totals, lengths[:, :, None], length_penalty)
        if preference is not None:
            scores += preference
        chosen = choose(totals, scores)
        state = _reorder(state, chosen.parent)
        beam = _extend(beam, chosen, wanted)
        if limit is not None:
            reached = (time + 1 >= limit)[:, None]
            beam = beam._replace(finished=tf.logical_or(beam.finished, reached))
        # By slot: unlike the tokens, what is so large is never reordered.
        return (beam, state), [tf.reshape(attention, [*shape, source_length])]

    time, (beam, _), (attention,) = collect(
        one_step,
        (beam, state),
        [[*shape, source_length]],
        length=max_length,
        zero=unknown_zero(tf.reduce_sum(tf.cast(active, tf.int32))),
        unfinished=unfinished,
    )
    score = _score(beam.log_probability, beam.length, length_penalty)
    if given is not None:
        score = tf.where(_is_given(beam, given), 0.0, score)
    return Hypotheses(
        token_ids=tf.transpose(from_end(beam.tokens, time), [1, 2, 0]),
        length=beam.length,
        score=score,
        attention_weights=_attention_by_hypothesis(beam, time, attention),
    )


def _start(
    active: tf.Tensor,
    shape: list[int | tf.Tensor],
    max_length: int,
    given: tf.Tensor | None,
) -> _Beam:
    """One hypothesis per text; the other slots are impossible until they are taken."""
    batch_size, beam_size = shape
    first = tf.one_hot(tf.zeros([batch_size], tf.int32), beam_size)
    follows: tf.Tensor | tuple[()] = ()
    if given is not None and beam_size > 1:
        there = tf.not_equal(given[:, None, :, 0], PAD)
        follows = tf.logical_and(first[:, :, None] > 0, there)
    inactive = tf.repeat(tf.logical_not(active)[:, None], beam_size, axis=1)
    return _Beam(
        last_token=tf.fill(shape, START),
        log_probability=(first - 1.0) * -IMPOSSIBLE,
        length=tf.zeros(shape, tf.int32),
        finished=inactive,
        tokens=tf.fill([max_length, *shape], PAD),
        slots=tf.zeros([max_length, *shape], tf.int32),
        follows=follows,
    )


def _limit_with(given: tf.Tensor, limit: tf.Tensor | None) -> tf.Tensor | None:
    """Returns the limits ``(B,)``, raised where a given sequence is longer."""
    if limit is None:
        return None
    lengths = tf.reduce_sum(tf.cast(tf.not_equal(given, PAD), tf.int32), axis=2)
    return tf.maximum(limit, tf.reduce_max(lengths, axis=1))


def _preference(beam: _Beam, wanted: tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """Returns what continues a given sequence as numbers to rank by, else 0.

    Args:
        beam: Where the search stands.
        wanted: int32 ``(B, G)``: the next token of each given sequence. PAD, where it
            has ended or there is none, stays impossible for what has not ended.
        vocabulary_size: The number of tokens.

    Returns:
        float32, as ``(B, K, vocabulary)``.
    """
    if isinstance(beam.follows, tuple):  # greedy: of the one hypothesis
        return tf.one_hot(wanted, vocabulary_size, on_value=_GIVEN)
    # The first is the best. Where sequences begin alike, their sum is no less.
    ranks = np.arange(wanted.shape[1], 0, -1, dtype=np.float32)
    weights = tf.cast(beam.follows, tf.float32) * (_GIVEN * ranks)
    return tf.matmul(weights, tf.one_hot(wanted, vocabulary_size))


def _is_given(beam: _Beam, given: tf.Tensor) -> tf.Tensor:
    """Whether each hypothesis ``(B, K)`` is a given sequence."""
    if isinstance(beam.follows, tuple):
        return tf.not_equal(given[:, :, 0], PAD)
    return tf.reduce_any(beam.follows, axis=2)


def _is_single(values: tf.Tensor) -> bool:
    """Whether there is one hypothesis about one text: it ends with the loop."""
    return list(values.shape[:2]) == [1, 1]


def _candidates(beam: _Beam, logits: tf.Tensor) -> tf.Tensor:
    """Returns the summed log-probability of each continuation, ``(B, K, vocabulary)``.

    A finished hypothesis has one continuation, itself (PAD, at no cost); an unfinished
    one never continues with PAD or START.
    """
    vocabulary_size = logits.shape[-1]
    shape = tf.concat([tf.shape(beam.finished), [vocabulary_size]], axis=0)
    step = tf.reshape(log_softmax(tf.cast(logits, tf.float32)), shape)
    ids = np.arange(vocabulary_size)
    never = np.where((ids == PAD) | (ids == START), IMPOSSIBLE, 0.0)
    step += tf.constant(never, tf.float32)
    if _is_single(beam.finished):
        return beam.log_probability[:, :, None] + step
    itself = tf.constant(np.where(ids == PAD, 0.0, IMPOSSIBLE), tf.float32)
    step = tf.where(beam.finished[:, :, None], itself, step)
    return tf.maximum(beam.log_probability[:, :, None] + step, IMPOSSIBLE)


def _banned(beam: _Beam, guards: Guards, vocabulary_size: int) -> tf.Tensor:
    """Returns which continuations the guards forbid, bool ``(B, K, vocabulary)``."""
    tokens = beam.tokens
    found = []
    if guards.no_repeat_ngram:
        found.append(_ends_of_ngrams(tokens, guards.no_repeat_ngram))
    if guards.most_repeats:
        found += _ends_of_loops(tokens, guards.most_repeats)
    ids = tf.concat(found, axis=0)[..., None]  # (any, B, K, 1)
    banned = tf.reduce_any(tf.equal(ids, np.arange(vocabulary_size)), axis=0)
    # The end can always come, and PAD follows what is finished.
    never = np.arange(vocabulary_size)
    return tf.logical_and(banned, (never != PAD) & (never != END))


def _ends_of_ngrams(tokens: tf.Tensor, n: int) -> tf.Tensor:
    """Returns what followed the last ``n - 1`` tokens before, int32 ``(any, B, K)``.

    Args:
        tokens: ``(T, B, K)``, the newest last; PAD where there is none.
        n: How many tokens may not occur twice.
    """
    length = tokens.shape[0]
    if n > length:
        return tf.zeros_like(tokens[:1])
    ends = tokens[n - 1 :]
    same = tf.ones_like(ends, tf.bool)
    for place in range(n - 1):
        now = tokens[length - n + 1 + place]
        same = tf.logical_and(
            same, tf.equal(tokens[place : length - n + 1 + place], now)
        )
    return tf.where(same, ends, PAD)


def _ends_of_loops(tokens: tf.Tensor, most: int) -> list[tf.Tensor]:
    """Returns what would repeat the last tokens once too often, int32 ``(1, B, K)``.

    Args:
        tokens: ``(T, B, K)``, the newest last; PAD where there is none.
        most: How often the same may stand in a row.
    """
    length = tokens.shape[0]
    found = []
    for period in range(1, LONGEST_LOOP + 1):
        # With the next token there would be most + 1 times the period.
        last = period * (most + 1) - 1
        if last > length:
            break
        tail = tokens[length - last :]
        breaks = tf.not_equal(tail[period:], tail[:-period])
        repeats = tf.logical_not(tf.reduce_any(breaks, axis=0, keepdims=True))
        found.append(tf.where(repeats, tail[last - period : last - period + 1], PAD))
    return found or [tf.zeros_like(tokens[:1])]


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """``logits - log(sum(exp(logits)))`` over the last axis, by way of the softmax.

    The largest logit and its probability give the sum away: softmax is much faster on
    devices than a logarithm of each probability.
    """
    likeliest = tf.reduce_max(logits, axis=-1, keepdims=True)
    probability = tf.reduce_max(tf.nn.softmax(logits), axis=-1, keepdims=True)
    return logits - (likeliest - tf.math.log(probability))


def best_candidates(totals: tf.Tensor, scores: tf.Tensor) -> Chosen:
    """Returns the K best of all continuations as :class:`Chosen`.

    Args:
        totals, scores: float ``(B, K, vocabulary)``: summed log-probabilities, and the
            scores to rank them by. Where scores are equal, the first slot and the
            smallest token win.
    """
    beam_size, vocabulary_size = totals.shape[1], totals.shape[2]
    _, best = tf.math.top_k(
        tf.reshape(scores, [-1, beam_size * vocabulary_size]), beam_size
    )
    flat = tf.reshape(totals, [-1, beam_size * vocabulary_size])
    if beam_size == 1:
        return Chosen(_pick(flat, best), tf.zeros_like(best), best)
    return Chosen(_pick(flat, best), best // vocabulary_size, best % vocabulary_size)


def _score(
    log_probability: tf.Tensor, length: tf.Tensor, length_penalty: float
) -> tf.Tensor:
    tokens = tf.cast(tf.maximum(length, 1), tf.float32)
    return log_probability / tokens**length_penalty


def _pick(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns ``values[b, index[b, k]]``."""
    if values.shape[0] == 1:
        return tf.gather(values[0], index)
    rows, columns = tf.shape(values)[0], values.shape[1]
    flat = index + columns * tf.range(rows)[:, None]
    return tf.gather(tf.reshape(values, [-1]), flat)


def _reorder(state: Any, parent: tf.Tensor) -> Any:
    """Lets each hypothesis continue from its parent's state."""
    beam_size = parent.shape[1]
    if beam_size == 1:
        return state
    rows = parent + beam_size * tf.range(tf.shape(parent)[0])[:, None]
    rows = tf.reshape(rows, [-1])
    return tf.nest.map_structure(lambda x: tf.gather(x, rows), state)


def _extend(beam: _Beam, chosen: Chosen, wanted: tf.Tensor | None) -> _Beam:
    """Returns the beam after the chosen tokens.

    Args:
        beam: The beam before.
        chosen: The tokens.
        wanted: int32 ``(B, G)``: those of the given sequences; None: there are none.
    """
    if _is_single(beam.finished):
        return beam._replace(
            last_token=chosen.token,
            log_probability=chosen.log_probability,
            length=beam.length + 1,
            finished=tf.equal(chosen.token, END),
            tokens=append(beam.tokens, chosen.token[None]),
        )
    # Where there are fewer hypotheses than slots, the other slots stay empty.
    absent = chosen.log_probability <= IMPOSSIBLE / 2
    token = tf.where(absent, PAD, chosen.token)
    was_finished = tf.logical_or(_follow(beam.finished, chosen.parent), absent)
    length = _follow(beam.length, chosen.parent) + tf.cast(~was_finished, tf.int32)
    follows = beam.follows
    if wanted is not None and not isinstance(follows, tuple):
        follows = tf.gather(follows, chosen.parent, axis=1, batch_dims=1)
        same = tf.equal(token[:, :, None], wanted[:, None])
        follows = tf.logical_and(follows, same)
    return _Beam(
        last_token=token,
        log_probability=chosen.log_probability,
        length=tf.where(absent, 0, length),
        finished=tf.logical_or(was_finished, tf.equal(token, END)),
        tokens=append(_follow(beam.tokens, chosen.parent), token[None]),
        slots=append(_follow(beam.slots, chosen.parent), chosen.parent[None]),
        follows=follows,
    )


def _follow(values: tf.Tensor, parent: tf.Tensor) -> tf.Tensor:
    """Takes ``values`` ``(..., B, K)`` of the parents."""
    if parent.shape[1] == 1:
        return values
    leading = tf.shape(values)[:-2]
    index = tf.broadcast_to(parent, tf.concat([leading, tf.shape(parent)], axis=0))
    return tf.gather(values, index, axis=-1, batch_dims=values.shape.rank - 1)


def _attention_by_hypothesis(
    beam: _Beam, time: tf.Tensor, attention: tf.Tensor
) -> tf.Tensor:
    """Gathers each hypothesis' attention from the slots it passed through.

    Rows after the last token are 0.
    """
    if beam.tokens.shape[2] > 1:
        slots = from_end(beam.slots, time)
        attention = tf.gather(attention, slots, axis=2, batch_dims=2)
    attention = tf.transpose(attention, [1, 2, 0, 3])  # (B, K, T, S)
    if _is_single(beam.finished):
        return attention
    times = tf.range(beam.tokens.shape[0])
    real = tf.cast(times < beam.length[:, :, None], tf.float32)
    return attention * real[..., None]
