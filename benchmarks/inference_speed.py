"""Measures how fast an exported model translates, and what stands in its way.

One text at a time on one thread: the whole model as an app runs it, its parts (text
handling, encoder, decoder), and two comparisons in the same run: the same network,
decoded greedily by PyTorch's LSTM cells (where PyTorch is installed), and the floor: a
graph of the matrix products alone. Prints one JSON object:

    python benchmarks/inference_speed.py runs/pronunciation --quantize int8
"""

import json
import logging
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from pocketseq.export.checks.benchmark import measure
from pocketseq.export.graph.reading import read
from pocketseq.export.graph.translate import search_sizes, translate_function
from pocketseq.export.graph.writing import write
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import finished
from pocketseq.export.tflite.metadata import attach_metadata
from pocketseq.export.tflite.quantization import RECIPES, quantize_weights
from pocketseq.pipeline.runs import open_run
from pocketseq.pipeline.text.special import END
from pocketseq.pipeline.training.preparation import training_corpora

# Runs of everything, one after the other in turn; the median counts.
_ROUNDS = 5


@click.command()
@click.argument("run")
@click.option("--quantize", default="int8", type=click.Choice(sorted(RECIPES)))
@click.option("--texts", "count", default=300, show_default=True)
def main(run, quantize, count):
    """Measure the model of RUN on texts of its dev set."""
    logging.disable(logging.WARNING)
    tf.get_logger().setLevel("ERROR")
    opened = open_run(run)
    keras = opened.load()
    _, dev = training_corpora(keras.config)
    texts = list(dev.references())[:count]
    lengths = token_counts(keras, texts)
    recipe = RECIPES[quantize]

    tables = keras.model.token_tables(int8=recipe.int8_rows)
    graphs = {
        "whole": translate_function(keras, token_inputs=tables),
        "reading": reading_function(keras),
        "reading and encoder": encoder_function(keras, tables),
        "reading and writing": writing_function(keras),
        "products": products_function(keras, tables, attention=True),
        "products with weights": products_function(keras, tables, attention=False),
    }
    models = {name: converted(graph, recipe) for name, graph in graphs.items()}
    inputs = [code_points(keras, text) for text in texts]
    rounds = [product_rounds(keras, *pair) for pair in lengths]
    runners = {
        name: Runner(model, rounds if "products" in name else inputs)
        for name, model in models.items()
    }
    pytorch = pytorch_decoder(keras, texts)
    if pytorch:
        runners["pytorch"] = pytorch

    seconds = {name: [] for name in runners}
    for _ in range(_ROUNDS):
        for name, runner in runners.items():
            seconds[name].append(runner.seconds())
    milliseconds = {
        name: 1000 * np.median(values, axis=0) for name, values in seconds.items()
    }
    click.echo(json.dumps(report(milliseconds, lengths, models["whole"], keras, texts)))


def report(milliseconds, lengths, model, translator, texts):
    """Returns what is printed: medians in milliseconds, and ratios of means."""
    mean = {name: float(np.mean(values)) for name, values in milliseconds.items()}
    whole = milliseconds["whole"]
    encoder = mean["reading and encoder"] - mean["reading"]
    text = mean["reading and writing"]
    result = {
        "texts": len(texts),
        "source_tokens": float(np.mean([n for n, _ in lengths])),
        "output_tokens": float(np.mean([m for _, m in lengths])),
        "matrix_product_gflops": gflops(),
        "p50_milliseconds": float(np.percentile(whole, 50)),
        "p95_milliseconds": float(np.percentile(whole, 95)),
        "mean_milliseconds": mean["whole"],
        "milliseconds_per_token": float(whole.sum() / sum(m for _, m in lengths)),
        "parts_milliseconds": {
            "text": text,
            "encoder": encoder,
            "decoder": mean["whole"] - encoder - text,
        },
        "floor_milliseconds": mean["products"],
        "times_the_floor": mean["whole"] / mean["products"],
        "weights_only_floor_milliseconds": mean["products with weights"],
        "from_python": from_python(model, translator, texts),
    }
    if "pytorch" in mean:
        result["pytorch_milliseconds"] = mean["pytorch"]
        result["times_faster_than_pytorch"] = mean["pytorch"] / mean["whole"]
    return rounded(result)


def rounded(value):
    """Rounds all numbers of a report to four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def token_counts(translator, texts):
    """Returns (source tokens, output tokens with the end token) of each text."""
    ids = translator.source_tokenizer.tokenize(tf.constant(texts))
    found = [best.token_ids for (best,) in translator.translate(texts, beam_size=1)]
    outputs = list(map(len, found))
    return list(zip(ids.row_lengths().numpy().tolist(), outputs, strict=True))


def converted(graph, recipe):
    """Returns a graph as a model in the form that apps get."""
    model = quantize_weights(convert({"translate": graph}), recipe)
    return finished(model, ["text", "score", "alignment"])


def code_points(translator, text):
    """Returns a text as a model takes it."""
    row = np.zeros((1, translator.source_tokenizer.max_code_points), np.int32)
    text = text[: row.shape[1]]
    row[0, : len(text)] = [ord(character) for character in text]
    return row


class Runner:
    """A model on one thread with its inputs."""

    def __init__(self, model, inputs):
        self.inputs = inputs
        self.interpreter = Interpreter(model_content=model, num_threads=1)
        self.interpreter.allocate_tensors()
        self.place = self.interpreter.get_input_details()[0]["index"]
        self.seconds()

    def seconds(self):
        """Returns the time of each input."""
        times = []
        for row in self.inputs:
            self.interpreter.set_tensor(self.place, row)
            started = time.perf_counter()
            self.interpreter.invoke()
            times.append(time.perf_counter() - started)
        return times


# The parts, each a graph of its own that does what the whole model does.


def text_function(function, translator):
    """Makes a graph of a function of the text (N,)."""
    shape = [1, translator.source_tokenizer.max_code_points]
    signature = [tf.TensorSpec(shape, tf.int32, name="text")]
    return tf.function(
        lambda text: {"text": function(text[0])},
        input_signature=signature,
        autograph=False,
    )


def reading_function(translator):
    """From code points to source tokens."""

    def reading(text):
        source = read(text, translator.source_tokenizer)
        size, _ = search_sizes(translator)
        return source.ids[:, : size.source] + source.length

    return text_function(reading, translator)


def encoder_function(translator, tables):
    """From code points to what the decoder looks back at."""

    def encoding(text):
        source = read(text, translator.source_tokenizer)
        size, _ = search_sizes(translator)
        model = translator.model
        mask = tf.sequence_mask(source.length, size.source)
        outputs, states = model.encoder.loop(
            source.ids[:, : size.source], mask, tables.source
        )
        memory = model.decoder.memory(outputs, mask)
        parts = [*memory, *model.decoder.initial_state(states).lstm[0]]
        return tf.add_n([tf.reduce_sum(part) for part in parts])

    return text_function(encoding, translator)


def writing_function(translator):
    """From code points to source tokens, and from tokens to code points and alignment.

    As many tokens are written as there are code points.
    """
    size, _ = search_sizes(translator)

    def writing(text):
        tokens = tf.minimum(text, len(translator.target_tokenizer) - 1)
        tokens = tf.concat([tokens, tf.fill([size.target], END)], axis=0)[: size.target]
        length = tf.reduce_sum(tf.cast(text > 0, tf.int32))
        attention = tf.fill(
            [size.target, size.source], 1.0 / tf.cast(length + 1, tf.float32)
        )
        source = read(text, translator.source_tokenizer)
        written, alignment = write(
            tokens,
            length,
            attention,
            source.spread(size.source),
            text,
            translator.target_tokenizer,
        )
        return tf.cast(written, tf.float32) + tf.reduce_sum(alignment)

    return text_function(writing, translator)


# The floor.


def product_rounds(translator, source_tokens, output_tokens):
    """Returns the input of the floor graph: how often each loop runs."""
    row = np.zeros((1, translator.source_tokenizer.max_code_points), np.int32)
    row[0, :2] = source_tokens, output_tokens
    return row


def products_function(translator, tables, *, attention):
    """Only the matrix products, of the same shapes, as often as the search runs them.

    Products that an export replaces by a table are left out. Those of the attention, of
    a vector with all encoder outputs, may be left out, too: they have no weights.
    """
    model, config = translator.model, translator.config.model
    size, _ = search_sizes(translator)
    encoder, decoder = model.encoder, model.decoder

    def vector(seed, width):
        return tf.fill([1, width], tf.cast(seed, tf.float32) * 1e-3)

    def encode(seed, rounds):
        outputs = vector(seed, config.units)
        for index in range(encoder.layers):
            layers = [encoder.forward[index], *encoder.backward[index : index + 1]]

            def body(step, total, layers=layers, index=index, inputs=outputs):
                for number, layer in enumerate(layers):
                    hidden = total[:, : layer.units]
                    new = tf.matmul(hidden, layer.recurrent_kernel)
                    folded = index == 0 and tables.source[number].projected
                    if not folded:
                        row = inputs[:, : layer.kernel.shape[0]]
                        new += tf.matmul(row, layer.kernel)
                    total = tf.concat(
                        [new[:, : layer.units], total[:, layer.units :]], axis=1
                    )
                return step + 1, total

            _, outputs = tf.while_loop(
                lambda step, _: step < rounds, body, [tf.constant(0), outputs]
            )
        return outputs

    def decode(state, rounds):
        values = tf.fill([1, size.source, config.units], state[0, 0])

        def body(step, hidden, logits):
            for index, layer in enumerate(decoder.lstm):
                gates = tf.matmul(hidden, layer.recurrent_kernel)
                if index or not tables.target.projected:
                    row = tf.concat([hidden, hidden], axis=1)[
                        :, : layer.kernel.shape[0]
                    ]
                    gates += tf.matmul(row, layer.kernel)
                elif config.input_feeding:
                    kernel = layer.kernel[config.embedding_size :]
                    gates += tf.matmul(hidden, kernel)
                hidden = gates[:, : config.units]
            context = hidden
            if attention:
                scores = tf.matmul(hidden[:, None], values, transpose_b=True)
                context = tf.matmul(scores, values)[:, 0]
            read = tf.concat([context, hidden], axis=1)
            read = tf.matmul(
                read[:, : decoder.readout.kernel.shape[0]], decoder.readout.kernel
            )
            return step + 1, hidden, tf.matmul(read, tf.transpose(output_kernel))

        output_kernel = (
            decoder.embedding.embeddings
            if decoder.tied_output
            else decoder.output_kernel
        )
        logits = tf.fill([1, decoder.vocabulary_size], state[0, 0])
        return tf.while_loop(
            lambda step, *_: step < rounds, body, [tf.constant(0), state, logits]
        )[2]

    return text_function(
        lambda text: decode(encode(text[0], text[0]), text[1]), translator
    )


# The comparisons.


def pytorch_decoder(translator, texts):
    """The same network in PyTorch, or None where it is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    config = translator.config.model
    if config.encoder_layers > 1 or config.decoder_layers > 1 or config.input_feeding:
        return None  # one layer without input feeding is what is compared
    torch.set_num_threads(1)
    return PyTorchDecoder(torch, translator, texts)


class PyTorchDecoder:
    """Greedy decoding as one writes it in PyTorch: an LSTM, then an LSTM cell a step.

    Starts from token ids, so that text handling is not counted.
    """

    def __init__(self, torch, translator, texts):
        self.torch, self.translator = torch, translator
        model = translator.model
        encoder, decoder = model.encoder, model.decoder
        config = translator.config.model
        directions = 1 + config.bidirectional

        def tensor(value):
            return torch.tensor(np.asarray(value))

        self.source = tensor(encoder.embedding.embeddings)
        self.target = tensor(decoder.embedding.embeddings)
        self.encoder = torch.nn.LSTM(
            config.embedding_size,
            config.units // directions,
            bidirectional=config.bidirectional,
        )
        with torch.no_grad():
            for suffix, layer in zip(
                ("", "_reverse"),
                [encoder.forward[0], *encoder.backward[:1]],
                strict=False,
            ):
                self._load(self.encoder, f"l0{suffix}", layer, tensor)
            self.cell = torch.nn.LSTMCell(config.embedding_size, config.units)
            self._load(self.cell, "", decoder.lstm[0], tensor)
        self.scale = float(decoder.attention.scale)
        self.readout = [tensor(decoder.readout.kernel), tensor(decoder.readout.bias)]
        kernel = self.target if decoder.tied_output else tensor(decoder.output_kernel)
        self.output = [kernel.T.contiguous(), tensor(decoder.output_bias)]
        ids = translator.source_tokenizer.tokenize(tf.constant(texts)).to_list()
        self.ids = [torch.tensor(row) for row in ids]
        self.seconds()
        self._check(texts)

    def _load(self, module, suffix, layer, tensor):
        end = f"_{suffix}" if suffix else ""
        values = {
            "weight_ih": tensor(layer.kernel).T,
            "weight_hh": tensor(layer.recurrent_kernel).T,
            "bias_ih": tensor(layer.bias),
            "bias_hh": tensor(layer.bias) * 0,
        }
        for name, value in values.items():
            getattr(module, name + end).copy_(value)

    def _check(self, texts):
        """Both must write the same tokens, else nothing is compared."""
        found = [best for (best,) in self.translator.translate(texts, beam_size=1)]
        equal = sum(
            self.decode(ids) == [i for i in best.token_ids if i != END]
            for ids, best in zip(self.ids, found, strict=True)
        )
        if equal < 0.98 * len(texts):
            raise SystemExit(
                f"PyTorch writes the same for {equal} of {len(texts)} only"
            )

    def decode(self, ids):
        """Returns the tokens of a text, without the end token."""
        torch = self.torch
        outputs, (hidden, cell) = self.encoder(self.source[ids])
        state = hidden.reshape(1, -1), cell.reshape(1, -1)
        keys = torch.nn.functional.normalize(outputs, dim=-1)
        token, tokens = 1, []
        for _ in range(self.translator.max_target_tokens):
            state = self.cell(self.target[token : token + 1], state)
            query = torch.nn.functional.normalize(state[0], dim=-1)
            weights = torch.softmax(self.scale * (query @ keys.T), dim=-1)
            context = weights @ outputs
            read = torch.cat([context, state[0]], dim=-1)
            read = torch.tanh(torch.addmm(self.readout[1], read, self.readout[0]))
            logits = torch.addmm(self.output[1], read, self.output[0])
            logits[0, :2] = -1e9
            token = int(logits.argmax())
            if token == END:
                break
            tokens.append(token)
        return tokens

    def seconds(self):
        """Returns the time of each text."""
        times = []
        with self.torch.inference_mode():
            for ids in self.ids:
                started = time.perf_counter()
                self.decode(ids)
                times.append(time.perf_counter() - started)
        return times


def from_python(model, translator, texts):
    """Measures the model as the Python runtime runs it, file, text and all."""
    source, target = translator.source_tokenizer, translator.target_tokenizer
    n, m = source.max_code_points, target.max_code_points
    shapes = {"text": ("int32", [1, m]), "score": ("float32", [1])}
    shapes["alignment"] = ("float32", [1, m, n])
    manifest = {
        "name": "benchmark",
        "task": "benchmark",
        "source": {"max_code_points": n},
        "target": {"tokenizer": "word"},
        "signatures": {
            "translate": {
                "inputs": [{"name": "text", "dtype": "int32", "shape": [1, n]}],
                "outputs": [
                    {"name": name, "dtype": dtype, "shape": shape}
                    for name, (dtype, shape) in shapes.items()
                ],
            }
        },
        "recipe": {"search": {"beam_size": 1}, "data": {"license": "none"}},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(attach_metadata(model, manifest, {}))
        measured = measure(path, texts)
    kept = ("bytes", "load_milliseconds", "p50_milliseconds", "p95_milliseconds")
    return {name: measured[name] for name in kept}


def gflops():
    """Returns how fast TensorFlow multiplies float32 matrices here, all cores."""
    matrix = tf.random.stateless_uniform([2048, 2048], [1, 2])
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best / 1e9


if __name__ == "__main__":
    main()
