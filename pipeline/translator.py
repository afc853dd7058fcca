"""Translation by the Keras model: texts in, texts out, in batches."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.data.corpora import training_corpora
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.explanation import Explanation
from pocketseq.pipeline.machine import batch_parts
from pocketseq.pipeline.model import EncoderDecoder
from pocketseq.pipeline.search import Guards, Hypotheses, LengthBound, log_softmax
from pocketseq.pipeline.text.composition import Composition, composition_of
from pocketseq.pipeline.text.known import KnownText
from pocketseq.pipeline.text.special import END, PAD, START
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.text.writing import write
from pocketseq.pipeline.translation import (
    NO_SCORE,
    Knowledge,
    Token,
    Translation,
    prepare,
)

# Rows of a batch. More brings no speed on a CPU and costs memory.
_ROWS = 256

# Of a batch of outputs that are given: logits of a large vocabulary take much memory.
_FORCED_ROWS = 32


class ModelTranslator:
    """Translates with an :class:`EncoderDecoder` and its tokenizers.

    Args:
        model: The trained model.
        source_tokenizer, target_tokenizer: The tokenizers it was trained with.
        config: :class:`pocketseq.pipeline.configuration.Config`.
        length_bound: :class:`pocketseq.pipeline.search.LengthBound`; None: any length.
    """

    #: Whether translations come with an alignment.
    gives_alignment = True

    def __init__(
        self,
        model: EncoderDecoder,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        config: Config,
        length_bound: LengthBound | None = None,
    ) -> None:
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.config = config
        self.length_bound = length_bound
        self.target_kind = target_tokenizer.kind
        self.target_normalization = target_tokenizer.normalization
        self._searches: dict[tuple[int, int], Callable[..., Hypotheses]] = {}

    def resized(self, code_points: int) -> "ModelTranslator":
        """Returns the same translator for source texts of another length.

        The target length grows in proportion; it never shrinks, because some short
        texts become long ones.

        Args:
            code_points: The longest source text.
        """
        source, target = self.source_tokenizer, self.target_tokenizer
        if code_points == source.max_code_points:
            return self
        share = code_points / source.max_code_points
        return ModelTranslator(
            self.model,
            source.resized(code_points),
            target.resized(round(max(share, 1.0) * target.max_code_points)),
            self.config,
            self.length_bound,
        )

    @property
    def max_target_tokens(self) -> int:
        """The largest number of target tokens, end token included."""
        return self.target_tokenizer.most_tokens + 1

    @property
    def search_options(self) -> dict[str, Any]:
        """The arguments that every search for this model's translations has."""
        return {
            "max_length": self.max_target_tokens,
            "length_bound": self.length_bound,
            "length_penalty": self.config.search.length_penalty,
            "guards": Guards(
                self.config.search.no_repeat_ngram, self.config.search.most_repeats
            ),
        }

    @property
    def knowledge(self) -> Knowledge:
        """The model's two sides, and the corpus that it was trained on."""
        source, target = (
            KnownText(side.kind, side.normalization, side.pieces)
            for side in (self.source_tokenizer, self.target_tokenizer)
        )
        training, _ = training_corpora(self.config)
        penalty = self.config.search.length_penalty
        return Knowledge(source, target, penalty, training)

    @cached_property
    def composition(self) -> Composition | None:
        """The :class:`Composition` of what the target tokens write; None: none."""
        tokenizer = self.target_tokenizer
        if not (tokenizer.normalization.decompose and self.config.target.compose):
            return None
        return composition_of("".join(tokenizer.piece_texts))

    def translate(
        self,
        texts: Sequence[str],
        *,
        beam_size: int | None = None,
        n_best: int = 1,
        before_batch: Callable[[], object] | None = None,
    ) -> list[list[Translation]]:
        """Translates some texts.

        Args:
            texts: Strings; longer ones are cut, which is logged.
            beam_size: Hypotheses that the search keeps; None: as the recipe says, but
                at least ``n_best``.
            n_best: How many translations of each text to return.
            before_batch: Called before each batch of texts; what it raises ends the
                translation.

        Returns:
            For each text a list of ``n_best`` :class:`Translation`, best first; of
            fewer where there are no more, as of an empty text.

        Raises:
            UserError: The beam does not hold ``n_best``.
            TypeError: ``texts`` is one string.
        """
        beam_size = beam_size or max(self.config.search.beam_size, n_best)
        if n_best > beam_size:
            raise UserError(
                f"the {n_best} best of a beam of {beam_size}: expected --beam and "
                f"--n-best to fit"
            )
        texts = prepare(texts, self.source_tokenizer.max_code_points)
        ids = self.source_tokenizer.tokenize(tf.constant(texts, tf.string))
        lengths = ids.row_lengths().numpy().astype(np.int32)
        results: list[list[Translation]] = [[] for _ in texts]
        batches = list(batches_of_like_length(lengths))
        for width in {width for width, _ in batches}:
            self._compiled(width, beam_size)  # here, and not in two threads at once

        def translate_batch(batch: tuple[int, np.ndarray]) -> None:
            if before_batch:
                before_batch()
            width, rows = batch
            source_ids = tf.gather(ids, rows).to_tensor(PAD, shape=[None, width])
            found = self.search(source_ids, tf.constant(lengths[rows]), beam_size)
            for row, *one in zip(rows, *(part.numpy() for part in found), strict=True):
                hypotheses = list(zip(*one, strict=True))[:n_best]
                results[row] = [
                    self.written(texts[row], ids, length, score, attention)
                    for ids, length, score, attention in hypotheses
                    if not score < NO_SCORE
                ]

        # Where an operation keeps to one core, batches share out the others.
        with ThreadPoolExecutor(batch_parts()) as pool:
            list(pool.map(translate_batch, batches))
        return results

    def search(
        self, source_ids: tf.Tensor, source_length: tf.Tensor, beam_size: int = 1
    ) -> Hypotheses:
        """Runs the model's search, compiled once for each source length."""
        return self._compiled(source_ids.shape[1], beam_size)(source_ids, source_length)

    def _compiled(self, width: int, beam_size: int) -> Callable[..., Hypotheses]:
        key = (width, beam_size)
        if key not in self._searches:
            self._searches[key] = tf.function(
                lambda ids, length: self.model.search(
                    ids, length, beam_size=beam_size, **self.search_options
                ),
                input_signature=[
                    tf.TensorSpec([None, width], tf.int32),
                    tf.TensorSpec([None], tf.int32),
                ],
                autograph=False,
            ).get_concrete_function()
        return self._searches[key]

    def forced_logits(
        self, sources: Sequence[str], token_ids: Sequence[Sequence[int]]
    ) -> tf.Tensor:
        """Returns the logits at each step of outputs that are given.

        Args:
            sources: Texts, as translations have them.
            token_ids: For each, the target tokens, end token included.

        Returns:
            float32 ``(texts, steps, vocabulary)``; of no meaning after the last token.
        """
        source_ids = self.source_tokenizer.tokenize(tf.constant(sources))
        rows = tf.ragged.constant(token_ids, tf.int32, ragged_rank=1)
        target_ids = rows.to_tensor(PAD)
        start = tf.fill([len(sources), 1], START)
        logits, _ = self.model(
            source_ids.to_tensor(PAD),
            tf.cast(source_ids.row_lengths(), tf.int32),
            tf.concat([start, target_ids[:, :-1]], axis=1),
        )
        return logits

    def tokens(self, translations: Sequence[Translation]) -> list[list[Token]]:
        """Returns the tokens of some translations, with their probabilities.

        The model reads each output once more. The logarithms of the probabilities add
        up to the score, times (number of tokens) ** length penalty.

        Args:
            translations: Some that this translator has made.

        Returns:
            A list for each, the end token last, if there is one; without the tokens
            that the longest text had no room for.

        Raises:
            ValueError: A translation has no tokens.
        """
        found: list[list[Token]] = [[] for _ in translations]
        rows = [row for row, one in enumerate(translations) if _ids_of(one)]
        for first in range(0, len(rows), _FORCED_ROWS):
            block = rows[first : first + _FORCED_ROWS]
            ids = [_ids_of(translations[row]) for row in block]
            logits = self.forced_logits([translations[i].source for i in block], ids)
            log_p = log_softmax(tf.cast(logits, tf.float32)).numpy()
            for row, one, steps in zip(block, ids, log_p, strict=True):
                found[row] = _tokens(translations[row], one, steps)
        return found

    def explain(self, text: str, *, beam_size: int | None = None) -> Explanation:
        """Translates a text and explains how; see :class:`TextTranslator`."""
        from pocketseq.pipeline.tracing import trace

        return trace(self, text, beam_size=beam_size)

    def token_alignment(
        self, translation: Translation
    ) -> tuple[list[str], list[str], np.ndarray]:
        """Returns an alignment by tokens, for a picture.

        Args:
            translation: One that this translator has made.

        Returns:
            The texts of the source tokens, of the target tokens, and the attention
            ``(target tokens, source tokens)``. Target tokens that were composed to one
            code point share its row.

        Raises:
            ValueError: The translation has no alignment or no tokens.
        """
        alignment, pieces = translation.alignment, translation.pieces
        places = translation.places
        if alignment is None or pieces is None or places is None:
            raise ValueError("expected a translation with tokens and an alignment")
        source = translation.source
        spans = [span for span in self.source_tokenizer.spans(source) if len(span)]
        columns = [alignment[:, list(span)].sum(axis=1) for span in spans]
        empty = np.zeros((len(translation.text), 0))
        weights = np.stack(columns, axis=1) if columns else empty
        sources = ["".join(source[i] for i in span) for span in spans]
        weights = np.clip(weights[list(places)], 0, 1)
        return sources, list(pieces), weights

    def written(
        self,
        source: str,
        ids: np.ndarray,
        length: int,
        score: float,
        attention: np.ndarray,
    ) -> Translation:
        """Makes a :class:`Translation` of one hypothesis.

        Args:
            source: The text, as :func:`prepare` returns it.
            ids: int32 ``(at least length,)``: the target tokens.
            length: How many there are, the end token included.
            score: Of the hypothesis.
            attention: Float ``(at least length, at least the source tokens)``.
        """
        token_ids = tuple(map(int, ids[:length]))
        written_ids = [i for i in token_ids if i != END]
        spans = self.source_tokenizer.spans(source)
        written = write(
            written_ids, attention[: len(written_ids)], source, spans,
            self.target_tokenizer, self.composition,
        )  # fmt: skip
        return Translation(
            source, written.text, float(score), written.alignment, token_ids,
            written.pieces, written.places,
        )  # fmt: skip


def _ids_of(translation: Translation) -> tuple[int, ...]:
    """Returns the token ids of a translation.

    Raises:
        ValueError: It has none.
    """
    if translation.token_ids is None:
        raise ValueError("expected a translation with tokens")
    return translation.token_ids


def _tokens(
    translation: Translation, ids: Sequence[int], log_p: np.ndarray
) -> list[Token]:
    """Returns the tokens of an output, given the log-probabilities ``(steps, ids)``."""
    probabilities = np.exp(log_p[np.arange(len(ids)), list(ids)]).tolist()
    pieces = list(translation.pieces or ())
    tokens = list(map(Token, pieces, probabilities))
    if ids[-1] == END:
        tokens.append(Token("", probabilities[-1]))
    return tokens


def batches_of_like_length(lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (padded length, row numbers): rows of like length, in few widths."""
    order = np.argsort(lengths, kind="stable")
    widths = np.maximum(8, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int))
    for width in np.unique(widths):
        rows = order[widths[order] == width]
        for start in range(0, len(rows), _ROWS):
            yield int(width), rows[start : start + _ROWS]
