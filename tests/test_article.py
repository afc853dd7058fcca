"""Tests of the recipe `article`: the textbook network learns its phrases by heart."""

from pathlib import Path

import pocketseq
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.runs import open_run

PHRASES = Path(__file__).parents[1] / "examples" / "phrases.tsv"


def test_the_textbook_network_learns_20_phrases_by_heart(tmp_path):
    pocketseq.train(
        "article", train=PHRASES, dev=PHRASES, run=tmp_path / "run",
        settings=["training.updates=80", "training.evaluate_every=80"],
    )  # fmt: skip
    trained = open_run(tmp_path / "run").load()
    pairs = list(Corpus(str(PHRASES)))
    assert len(pairs) == 20
    found = pocketseq.load(tmp_path / "run").translate([one.source for one in pairs])
    assert [best.text for (best,) in found] == [pair.target for pair in pairs]

    assert trained.model.decoder.readout is None
    assert not trained.model.encoder.backward
    # Two LSTMs, two embeddings, one dense layer, and the scale.
    source, target = len(trained.source_tokenizer), len(trained.target_tokenizer)
    lstm = 4 * 64 * (64 + 64 + 1)
    dense = target * (2 * 64 + 1)
    expected = 64 * (source + target) + 2 * lstm + dense + 1
    assert trained.model.count_params() == expected
