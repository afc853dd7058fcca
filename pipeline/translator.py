"""Translation by the Keras model: texts in, texts out, in batches."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.machine import batch_parts
from pocketseq.pipeline.special import END, PAD
from pocketseq.pipeline.translation import NO_SCORE, Translation, prepare

# Rows of a batch. More brings no speed on a CPU and costs memory.
_ROWS = 256


class ModelTranslator:
    """Translates with an :class:`EncoderDecoder` and its tokenizers.

    Args:
        model: The trained model.
        source_tokenizer, target_tokenizer: The tokenizers it was trained with.
        config: :class:`pocketseq.pipeline.configuration.Config`.
    """

    #: Whether translations come with an alignment.
    gives_alignment = True

    def __init__(self, model, source_tokenizer, target_tokenizer, config):
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.config = config
        self.target_kind = target_tokenizer.kind
        self._searches = {}

    def resized(self, code_points):
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
        )

    @property
    def max_target_tokens(self):
        """The largest number of target tokens, end token included."""
        return self.target_tokenizer.most_tokens + 1

    def translate(self, texts, *, beam_size=None, n_best=1):
        """Translates some texts.

        Args:
            texts: Strings; longer ones are cut, which is logged.
            beam_size: Hypotheses that the search keeps; None: as the recipe says, but
                at least ``n_best``.
            n_best: How many translations of each text to return.

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
        results = [None] * len(texts)
        batches = list(_batches(lengths))
        for width in {width for width, _ in batches}:
            self._compiled(width, beam_size)  # here, and not in two threads at once

        def translate_batch(batch):
            width, rows = batch
            source_ids = tf.gather(ids, rows).to_tensor(PAD, shape=[None, width])
            found = self.search(source_ids, tf.constant(lengths[rows]), beam_size)
            for row, *one in zip(rows, *(part.numpy() for part in found), strict=True):
                hypotheses = list(zip(*one, strict=True))[:n_best]
                results[row] = [
                    self._finish(texts[row], ids, length, score, attention)
                    for ids, length, score, attention in hypotheses
                    if not score < NO_SCORE
                ]

        # Where an operation keeps to one core, batches share out the others.
        with ThreadPoolExecutor(batch_parts()) as pool:
            list(pool.map(translate_batch, batches))
        return results

    def search(self, source_ids, source_length, beam_size=1):
        """Runs the model's search, compiled once for each source length."""
        return self._compiled(source_ids.shape[1], beam_size)(source_ids, source_length)

    def _compiled(self, width, beam_size):
        key = (width, beam_size)
        if key not in self._searches:
            self._searches[key] = tf.function(
                lambda ids, length: self.model.search(
                    ids,
                    length,
                    beam_size=beam_size,
                    max_length=self.max_target_tokens,
                    length_penalty=self.config.search.length_penalty,
                ),
                input_signature=[
                    tf.TensorSpec([None, width], tf.int32),
                    tf.TensorSpec([None], tf.int32),
                ],
                autograph=False,
            ).get_concrete_function()
        return self._searches[key]

    def token_alignment(self, translation):
        """Returns an alignment by tokens, for a picture.

        Args:
            translation: One that this translator has made.

        Returns:
            The texts of the source tokens, of the target tokens, and the attention
            ``(target tokens, source tokens)``.
        """
        source = translation.source
        spans = [span for span in self.source_tokenizer.spans(source) if len(span)]
        columns = [translation.alignment[:, list(span)].sum(axis=1) for span in spans]
        labels, rows, place = [], [], 0
        for token_id in translation.token_ids:
            if token_id == END or place >= len(translation.text):
                break
            unknown = token_id in self.target_tokenizer.unknown_ids
            label = self.target_tokenizer.piece_texts[token_id]
            if place and not self.target_tokenizer.continues[token_id]:
                place += len(self.target_tokenizer.separator)
            length = 1 if unknown else len(label)
            labels.append(translation.text[place : place + length])
            rows.append(place)
            place += length
        weights = np.stack(columns, axis=1) if columns else np.zeros((place, 0))
        sources = ["".join(source[i] for i in span) for span in spans]
        return sources, labels, np.clip(weights[rows], 0, 1)

    def _finish(self, source, ids, length, score, attention):
        """Makes a :class:`Translation` of one hypothesis."""
        token_ids = tuple(map(int, ids[:length]))
        ids = [i for i in token_ids if i != END]
        rows = _over_code_points(
            attention[: len(ids)], self.source_tokenizer.spans(source), len(source)
        )
        pointed = [source[row.argmax()] if source else "" for row in rows]
        text, alignment = "", np.zeros((0, len(source)), np.float32)
        tokenizer = self.target_tokenizer
        for token_id, row, character in zip(ids, rows, pointed, strict=True):
            unknown = token_id in tokenizer.unknown_ids
            piece = character if unknown else tokenizer.piece_texts[token_id]
            if text and not tokenizer.continues[token_id]:
                piece = tokenizer.separator + piece
            if len(text) + len(piece) > tokenizer.max_code_points:
                break
            text += piece
            alignment = np.concatenate([alignment, np.tile(row, (len(piece), 1))])
        return Translation(source, text, float(score), alignment, token_ids)


def _over_code_points(attention, spans, code_points):
    """Spreads attention over tokens evenly over the code points of each token.

    Args:
        attention: ``(target tokens, source_length)``.
        spans: For each source token, its code points.
        code_points: Their number in the source text.
    """
    rows = np.zeros((len(attention), code_points), np.float32)
    for token, span in enumerate(spans):
        for index in span:
            rows[:, index] += attention[:, token] / len(span)
    return rows


def _batches(lengths):
    """Yields (padded length, row numbers): rows of like length, in few widths."""
    order = np.argsort(lengths, kind="stable")
    widths = np.maximum(8, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int))
    for width in np.unique(widths):
        rows = order[widths[order] == width]
        for start in range(0, len(rows), _ROWS):
            yield int(width), rows[start : start + _ROWS]
