"""The network in PyTorch, as the training and the inference benchmark compare it.

Imports PyTorch: to be imported only where it is installed and used.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils import rnn

from pocketseq.pipeline.configuration import ModelConfig
from pocketseq.pipeline.text.special import END, PAD, START

# Shuts a gate, or opens it, whatever else its sum holds.
_SATURATED = 1e4


class TorchBatch(NamedTuple):
    """A batch of PyTorch tensors, int64.

    ``source_ids`` ``(batch, source_length)``; ``target_ids`` and ``decoder_inputs``
    ``(batch, target_length)``; ``source_length`` and ``target_length`` ``(batch,)``.
    """

    source_ids: torch.Tensor
    source_length: torch.Tensor
    target_ids: torch.Tensor
    target_length: torch.Tensor
    decoder_inputs: torch.Tensor


class Memory(NamedTuple):
    """What the decoder looks back at.

    ``keys`` and ``values`` ``(batch, source_length, units)``; ``scale`` of the cosine,
    ``()``; ``mask`` bool ``(batch, source_length)``, True = real token, None: all are.
    """

    keys: torch.Tensor
    values: torch.Tensor
    scale: torch.Tensor
    mask: torch.Tensor | None


class PyTorchNetwork(torch.nn.Module):
    """A bidirectional LSTM encoder, and an LSTM decoder with cosine attention.

    Called with a :class:`TorchBatch`, it returns the mean loss per real target token.

    Without packing, one more input of the encoder says "padding": its weights, which no
    gradient reaches, shut the input gate and open the forget gate, so that padding
    changes nothing. That lets PyTorch run its oneDNN kernel, which takes no packed
    texts.

    Args:
        model: The sizes; one of those that :func:`common.comparison_problem` passes.
        vocabulary_sizes: Of source and target.
        packed: Whether the encoder reads packed texts, or padded ones.
        stepwise: Whether the decoder is an ``LSTMCell``, which :meth:`greedy` and input
            feeding need, or an ``LSTM`` over the whole target.
        label_smoothing: Of the loss.
    """

    def __init__(
        self,
        model: ModelConfig,
        vocabulary_sizes: tuple[int, int],
        *,
        packed: bool,
        stepwise: bool,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing
        self.packed, self.stepwise = packed, stepwise
        source, target = vocabulary_sizes
        embedding, units = model.embedding_size, model.units
        self.source_embedding = torch.nn.Embedding(source, embedding)
        self.target_embedding = torch.nn.Embedding(target, embedding)
        self.encoder = torch.nn.LSTM(
            embedding if packed else embedding + 1,
            units // 2,
            bidirectional=True,
            batch_first=True,
        )
        if stepwise:
            fed = units if model.input_feeding else 0
            self.decoder = torch.nn.LSTMCell(embedding + fed, units)
        else:
            self.decoder = torch.nn.LSTM(embedding, units, batch_first=True)
        self.readout = torch.nn.Linear(2 * units, embedding)
        self.output_bias = torch.nn.Parameter(torch.zeros(target))
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch: TorchBatch) -> torch.Tensor:
        size = batch.source_ids.shape[1]
        mask = torch.arange(size) < batch.source_length[:, None]
        embedded = self.source_embedding(batch.source_ids)
        read = self.read_packed if self.packed else self.read_padded
        values, state = read(embedded, batch.source_length, mask)
        memory = self.memory(self.drop(values), mask)
        inputs = self.target_embedding(batch.decoder_inputs)
        write = self.write_steps if self.stepwise else self.write_at_once
        context, hidden = write(inputs, state, memory)
        return self.loss(context, hidden, batch.target_ids)

    def read_packed(
        self, embedded: torch.Tensor, length: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns the encoder outputs, and the state (hidden, cell) ``(batch, units)``.

        Args:
            embedded: ``(batch, source_length, embedding_size)``.
            length: ``(batch,)``.
            mask: ``(batch, source_length)``, for the other way of reading.
        """
        sequence = rnn.pack_padded_sequence(
            embedded, length, batch_first=True, enforce_sorted=False
        )
        outputs, state = self.encoder(sequence)
        outputs, _ = rnn.pad_packed_sequence(
            outputs, batch_first=True, total_length=embedded.shape[1]
        )
        return outputs, joined_directions(state)

    def read_padded(
        self, embedded: torch.Tensor, length: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns what :meth:`read_packed` returns."""
        padding = (~mask).to(embedded.dtype)[:, :, None]
        outputs, (_, cell) = self.encoder(torch.cat([embedded, padding], dim=-1))
        rows, half = torch.arange(len(length)), self.model.units // 2
        forward = outputs[rows, length - 1, :half]
        hidden = torch.cat([forward, outputs[:, 0, half:]], dim=-1)
        return outputs, [hidden, torch.cat([*cell], dim=-1)]

    def memory(self, values: torch.Tensor, mask: torch.Tensor | None) -> Memory:
        """Returns what the decoder looks back at, from the encoder outputs."""
        scale = self.log_scale.exp().clamp(max=100.0)
        return Memory(functional.normalize(values, dim=-1), values, scale, mask)

    def write_at_once(
        self, inputs: torch.Tensor, state: Sequence[torch.Tensor], memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the contexts and the decoder outputs of a whole target.

        Both are ``(batch, target_length, units)``; ``inputs`` are
        ``(batch, target_length, embedding_size)``.
        """
        hidden, _ = self.decoder(inputs, tuple(part[None] for part in state))
        return self.attend(hidden, *memory), hidden

    def write_steps(
        self, inputs: torch.Tensor, state: Sequence[torch.Tensor], memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what :meth:`write_at_once` returns, step by step."""
        context, contexts, hidden = torch.zeros_like(state[0]), [], []
        for now in inputs.unbind(1):
            context, state = self.step(now, context, state, *memory)
            contexts.append(context)
            hidden.append(state[0])
        return torch.stack(contexts, dim=1), torch.stack(hidden, dim=1)

    def step(
        self,
        inputs: torch.Tensor,
        context: torch.Tensor,
        state: Sequence[torch.Tensor],
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Returns the next context and state; all are ``(batch, width)``."""
        if self.model.input_feeding:
            inputs = torch.cat([inputs, context], dim=-1)
        state = self.decoder(inputs, tuple(state))
        return self.attend(state[0][:, None], keys, values, scale, mask)[:, 0], state

    def attend(
        self,
        hidden: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Returns the contexts of decoder outputs ``(batch, target_length, units)``."""
        queries = functional.normalize(hidden, dim=-1)
        scores = torch.bmm(queries, keys.transpose(1, 2)) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -math.inf)
        return torch.bmm(torch.softmax(scores, dim=-1), values)

    def logits(self, context: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Returns ``(..., vocabulary)`` from contexts and decoder outputs."""
        readout = torch.tanh(self.readout(torch.cat([context, hidden], dim=-1)))
        return functional.linear(
            self.drop(readout), self.target_embedding.weight, self.output_bias
        )

    def loss(
        self, context: torch.Tensor, hidden: torch.Tensor, target_ids: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mean loss per real target token."""
        return functional.cross_entropy(
            self.logits(context, hidden).flatten(0, 1),
            target_ids.flatten(),
            ignore_index=PAD,
            label_smoothing=self.label_smoothing,
        )

    def drop(self, values: torch.Tensor) -> torch.Tensor:
        """Drops whole features of ``(batch, length, features)`` while training."""
        if not self.training:
            return values
        ones = values.new_ones(values.shape[0], 1, values.shape[2])
        return values * functional.dropout(ones, self.model.dropout)

    def greedy(self, source_ids: torch.Tensor, most: int) -> list[int]:
        """Returns the likeliest token at each step, without the end token.

        Args:
            source_ids: Of one text, int64 ``(source_length,)``.
            most: The largest number of tokens.
        """
        outputs, state = self.encoder(self.source_embedding(source_ids[None]))
        state, memory = joined_directions(state), self.memory(outputs, None)
        context, token, tokens = torch.zeros_like(state[0]), START, []
        for _ in range(most):
            inputs = self.target_embedding.weight[token : token + 1]
            context, state = self.step(inputs, context, state, *memory)
            logits = self.logits(context, state[0])
            logits[0, :END] = -math.inf  # padding and start
            token = int(logits.argmax())
            if token == END:
                break
            tokens.append(token)
        return tokens


def joined_directions(state: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Returns (hidden, cell) ``(batch, units)`` of ``(directions, batch, half)``."""
    return [torch.cat([*part], dim=-1) for part in state]


def compile_parts(network: Any) -> None:
    """Compiles what is not an ``nn.LSTM``, for any number of rows and any lengths."""
    for name in ("step", "attend", "loss"):
        setattr(network, name, torch.compile(getattr(network, name), dynamic=True))


def load_weights(network: PyTorchNetwork, weights: Mapping[str, np.ndarray]) -> None:
    """Copies the weights of our model, by their paths inside of it, into a network."""
    encoder, decoder = network.encoder, network.decoder
    with torch.no_grad():
        for suffix, layer in (("_l0", "forward_0"), ("_l0_reverse", "backward_0")):
            _copy_lstm(encoder, suffix, weights, f"encoder/{layer}")
            if not network.packed:
                # Gates in PyTorch's order: input, forget, candidate, output.
                column = torch.tensor([-_SATURATED, _SATURATED, 0.0, 0.0])
                column = column.repeat_interleave(network.model.units // 2)
                getattr(encoder, f"weight_ih{suffix}")[:, -1] = column
        suffix = "" if network.stepwise else "_l0"
        _copy_lstm(decoder, suffix, weights, "decoder/lstm_0")
        for path, parameter, transposed in (
            ("encoder/embedding/embeddings", network.source_embedding.weight, False),
            ("decoder/embedding/embeddings", network.target_embedding.weight, False),
            ("decoder/readout/kernel", network.readout.weight, True),
            ("decoder/readout/bias", network.readout.bias, False),
            ("decoder/output_bias", network.output_bias, False),
            ("decoder/attention/log_scale", network.log_scale, False),
        ):
            value = weights[path]
            parameter.copy_(torch.tensor(value.T if transposed else value))


def _copy_lstm(
    module: torch.nn.Module, suffix: str, weights: Mapping[str, np.ndarray], layer: str
) -> None:
    """Copies one LSTM layer in one direction into parameters with a suffix."""
    kernel = weights[f"{layer}/kernel"].T
    # There may be one more column, for padding.
    getattr(module, f"weight_ih{suffix}")[:, : kernel.shape[1]] = torch.tensor(kernel)
    recurrent = torch.tensor(weights[f"{layer}/recurrent_kernel"].T)
    getattr(module, f"weight_hh{suffix}").copy_(recurrent)
    bias = torch.tensor(weights[f"{layer}/bias"])
    getattr(module, f"bias_ih{suffix}").copy_(bias)
    # PyTorch has two biases where one does; the second stays 0.
    second = getattr(module, f"bias_hh{suffix}")
    second.zero_()
    second.requires_grad_(False)
