"""Tests of the recipe `article`: the textbook network learns its phrases by heart."""

from pathlib import Path

import pocketseq
from pocketseq.pipeline.data.corpora import Corpus

PHRASES = Path(__file__).parents[1] / "examples" / "phrases.tsv"


def test_the_textbook_network_learns_20_phrases_by_heart(tmp_path):
    pocketseq.train(
        "article", train=PHRASES, dev=PHRASES, run=tmp_path / "run",
        settings=["training.updates=80", "training.evaluate_every=80"],
    )  # fmt: skip
    translator = pocketseq.load(tmp_path / "run")
    pairs = list(Corpus(str(PHRASES)))
    assert len(pairs) == 20
    found = translator.translate([pair.source for pair in pairs])
    assert [best.text for (best,) in found] == [pair.target for pair in pairs]

    decoder = translator.model.decoder
    assert decoder.readout is None
    assert not translator.model.encoder.backward
    # Two LSTMs, two embeddings, one dense layer, and the scale.
    source, target = map(
        len, (translator.source_tokenizer, translator.target_tokenizer)
    )
    lstm = 4 * 64 * (64 + 64 + 1)
    dense = target * (2 * 64 + 1)
    expected = 64 * (source + target) + 2 * lstm + dense + 1
    assert translator.model.count_params() == expected
