"""Tests of pocketseq.pipeline.training.vocabulary: what a run learns and decides."""

import random

import pytest

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.data.corpora import Pair
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.tokenizers import TOKENIZERS
from pocketseq.pipeline.training.vocabulary import VocabularyCounts, decided_by


def syllables(rng, count):
    return ["".join(chr(0xAC00 + rng.randrange(11_172)) for _ in range(3))
            for _ in range(count)]  # fmt: skip


def counted(config, pairs):
    counts = VocabularyCounts(config)
    assert list(counts.over(pairs)) == pairs
    return counts


def decided(settings, sources, dev, targets=("X",)):
    config = override(Config(), settings)
    pairs = [
        Pair(source, targets[n % len(targets)]) for n, source in enumerate(sources)
    ]
    return counted(config, pairs).decided(config, dict.fromkeys(dev, ["X"]))


def test_syllables_are_decomposed_and_accents_are_not():
    rng = random.Random(1)
    korean = decided(["source.decompose=auto"], syllables(rng, 500), syllables(rng, 50))
    assert korean.source.decompose is True and korean.target.decompose is False
    french = decided(["source.decompose=auto"], ["été", "père", "tête"] * 50, ["été"])
    assert french.source.decompose is False


def test_a_side_that_is_not_left_open_stays():
    rng = random.Random(1)
    texts = syllables(rng, 200)
    for value in (True, False):
        setting = [f"source.decompose={str(value).lower()}"]
        assert decided(setting, texts, texts).source.decompose is value


def test_the_target_decides_for_itself():
    rng = random.Random(1)
    auto = ["source.decompose=auto", "target.decompose=auto"]
    found = decided(auto, ["ab"] * 300, ["ab"], targets=syllables(rng, 300))
    assert (found.source.decompose, found.target.decompose) == (False, True)
    words = [*auto, "target.tokenizer=word"]
    found = decided(words, ["ab"] * 300, ["ab"], targets=syllables(rng, 300))
    assert found.target.decompose is False


def test_dev_texts_that_training_lacks_decide_too():
    rng = random.Random(1)
    known = syllables(rng, 5)
    auto = ["source.decompose=auto"]
    assert decided(auto, known * 40, known).source.decompose is False
    letters = [chr(n) for n in range(0xAC00, 0xAC00 + 11_172, 29)]
    dev = ["".join(rng.choices(letters, k=3)) for _ in range(50)]
    # All syllables of a few vowels and finals, often, and dev has others of them.
    assert decided(auto, [*letters[::2]] * 12, dev).source.decompose is True


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("fold_case", ["true", "false"])
@pytest.mark.parametrize("decompose", ["true", "false", "auto"])
def test_tokenizers_are_those_that_learn_from_the_texts_themselves(
    kind, fold_case, decompose
):
    rng = random.Random(2)
    texts = [" ".join(rng.choices(["Été", "각", "낙각", "Straße", "ab", "がギ"], k=5))
             for _ in range(80)]  # fmt: skip
    pairs = [Pair(text, text.upper()) for text in texts]
    settings = [
        f"{side}.{key}={value}"
        for side in ("source", "target")
        for key, value in (
            ("tokenizer", kind), ("fold_case", fold_case), ("decompose", decompose),
            ("minimum_count", 2), ("vocabulary_size", 60), ("max_code_points", 99),
        )
    ]  # fmt: skip
    config = override(Config(), settings)
    counts = counted(config, pairs)
    config = counts.decided(config, {text: [text] for text in texts})
    for side, read, found in zip(
        (config.source, config.target), zip(*pairs, strict=True),
        counts.tokenizers(config), strict=True,
    ):  # fmt: skip
        expected = TOKENIZERS[kind].learn(
            read,
            Normalization(side.fold_case, side.decompose),
            max_code_points=99,
            minimum_count=2,
            vocabulary_size=60,
        )
        assert found.to_json() == expected.to_json()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_joint_vocabulary_is_learned_from_the_texts_of_both_sides(kind):
    pairs = [Pair("ein Haus ein", "a house a"), Pair("Berlin", "Berlin")] * 3
    same = [f"{side}.tokenizer={kind}" for side in ("source", "target")]
    joint = [f"{side}.joint_vocabulary=true" for side in ("source", "target")]
    config = override(Config(), [*same, *joint])
    expected = TOKENIZERS[kind].learn([text for pair in pairs for text in pair])
    for found in counted(config, pairs).tokenizers(config):
        assert found.to_json() == expected.to_json()
    # Each side decides for itself.
    config = override(Config(), [*same, joint[1]])
    source, target = counted(config, pairs).tokenizers(config)
    assert "h" not in "".join(source.pieces[4:])
    assert target.to_json() == expected.to_json()


def test_given_tokenizers_decide_as_they_are():
    open_on_both = ["source.decompose=auto", "target.decompose=auto"]
    config = override(Config(), open_on_both)
    given = (
        TOKENIZERS["character"].learn(["a"], Normalization(decompose=True)),
        TOKENIZERS["character"].learn(["a"]),
    )
    found = decided_by(config, given)
    assert (found.source.decompose, found.target.decompose) == (True, False)


def test_what_is_left_open_cannot_be_learned():
    config = override(Config(), ["source.decompose=auto"])
    with pytest.raises(ValueError, match="decompose must be decided, received 'auto'"):
        counted(config, [Pair("a", "X")]).tokenizers(config)
