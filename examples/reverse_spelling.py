"""Trains a tiny model to spell words backwards, and looks at its attention.

Run it as it is, ``python examples/reverse_spelling.py``, in less than a minute on a
CPU; or cell by cell in an editor that knows ``# %%``.
"""

# %% [markdown]
# # Spelling backwards
#
# The source is a word, the target is the same word from its end: `stone` becomes
# `enots`. To write each letter the decoder must look at one place of the source, so the
# attention that it learns is easy to read: a diagonal from one corner to the other.

# %%
import os
import random
import tempfile
from pathlib import Path
from string import ascii_lowercase

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pocketseq

folder = Path(tempfile.mkdtemp(prefix="pocketseq-"))
generator = random.Random(1)


def made_up_word():
    """Returns three to eight letters, such as ``qzeb``."""
    return "".join(generator.choices(ascii_lowercase, k=generator.randint(3, 8)))


words = sorted({made_up_word() for _ in range(4000)})
generator.shuffle(words)
lines = [f"{word}\t{word[::-1]}\n" for word in words]
(folder / "dev.tsv").write_text("".join(lines[:200]), encoding="utf-8")
(folder / "train.tsv").write_text("".join(lines[200:]), encoding="utf-8")
print(f"{len(lines) - 200} words to learn from, 200 others to measure on; the first:")
print("".join(lines[:3]))

# %% [markdown]
# ## Training
#
# A recipe and a few settings. The first call imports TensorFlow, which takes a moment.

# %%
summary = pocketseq.train(
    "pronunciation-small",
    train=folder / "train.tsv",
    dev=folder / "dev.tsv",
    run=folder / "run",
    settings=[
        "target.tokenizer=character",
        "source.max_code_points=16",
        "target.max_code_points=16",
        "model.embedding_size=32",
        "model.units=64",
        "model.dropout=0.0",
        "model.input_feeding=false",
        "training.updates=300",
        "training.evaluate_every=100",
        "training.batch_tokens=1024",
        "training.buckets=1",
        "training.learning_rate=5e-3",
        "training.warmup_updates=50",
        "training.average_decay=0.98",
        "training.label_smoothing=0.0",
    ],
)
print(f"After {summary.update} updates, {summary.seconds:.0f} seconds:")
print(f"{summary.best:.1f} of 100 letters are wrong in words it has not seen.")

# %% [markdown]
# ## What the model looked at
#
# Every translation has an alignment: one row per letter that was written, one column
# per letter that was read. Each row sums to 1.

# %%
translator = pocketseq.load(folder / "run")
word = "pocket"
translation = translator.translate([word])[0][0]


def show(rows, labels, columns):
    """Prints a matrix of weights in percent."""
    print("      " + "".join(f"{column:>5}" for column in columns))
    for label, row in zip(labels, rows, strict=True):
        print(f"{label:>5} " + "".join(f"{100 * weight:5.0f}" for weight in row))


print(f"{word} -> {translation.text}, in percent of attention:")
show(translation.alignment, translation.text, word)

# %% [markdown]
# ## How each step looks back
#
# A plain encoder-decoder hands one vector to the decoder, and long words get lost in
# it. Here each decoder step compares its own output with **every** encoder output:
#
# 1. the cosine between the decoder's output and each encoder output, from -1 to 1;
# 2. times a scale that was learned, because a softmax of bare cosines is almost flat;
# 3. a softmax makes percentages of them;
# 4. the encoder outputs, weighed by these, are summed to the step's context, which
#    helps to choose the next letter.
#
# The loop below takes the decoder's steps one by one, and works out 1 to 3 by hand.

# %%
import numpy as np
import tensorflow as tf

from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.text.special import START

opened = Run(folder / "run").load()  # the same translator, with its Keras layers
encoder, decoder = opened.model.encoder, opened.model.decoder
source_ids = opened.source_tokenizer.tokenize(tf.constant([word])).to_tensor()
encoder_outputs, encoder_states = encoder(source_ids)
memory = decoder.memory(encoder_outputs)
state = decoder.initial_state(encoder_states)
scale = float(np.asarray(decoder.attention.scale))
print(f"{len(word)} encoder outputs of {encoder_outputs.shape[-1]} numbers each")
print(f"the scale: 10 before training, {scale:.1f} after\n")


def unit(vectors):
    """Returns vectors of length 1 in the same directions."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


pieces = opened.target_tokenizer.piece_texts
token = tf.constant([START])
for step in range(len(word)):
    logits, weights, state = decoder.step(token, state, memory)
    hidden = state.lstm[-1].hidden.numpy()[0]  # the decoder's output at this step
    cosines = unit(memory.values.numpy()[0]) @ unit(hidden)
    by_hand = np.exp(scale * cosines) / np.exp(scale * cosines).sum()
    np.testing.assert_allclose(by_hand, weights.numpy()[0], atol=1e-4)
    token = tf.argmax(logits, axis=-1, output_type=tf.int32)
    print(f"step {step + 1} writes {pieces[int(token[0])]!r}")
    show([cosines, by_hand], ["cos %", "attn"], word)

# %% [markdown]
# ## The file for the phone
#
# `export` checks the file on the dev words before it writes it. The file answers
# without TensorFlow, in any app with the stock LiteRT runtime.

# %%
report = pocketseq.export(folder / "run", recipes=["int8"], saved_model=False)
if not report.passed:
    raise SystemExit("\n".join(report.failures))
path = report.folder / "model-int8.tflite"
print(f"\n{path.stat().st_size / 1000:.0f} kB in {path}")
phone = pocketseq.load(path)
for text in ("pocket", "stone", "learner"):
    best = phone.translate([text])[0][0]
    print(f"{text} -> {best.text}  (score {best.score:.3f})")
