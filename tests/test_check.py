"""Tests of pocketseq.pipeline.check: what is found in a corpus, and what it advises."""

import json
import random
from itertools import product

import pytest

import pocketseq
from pocketseq.pipeline.check import check
from pocketseq.pipeline.configuration import load_recipe, override
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import errors
from pocketseq.pipeline.reports.check_text import findings_text


@pytest.fixture
def corpus(tmp_path):
    def make(pairs):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tsv"
        path.write_text("".join(f"{s}\t{t}\n" for s, t in pairs), encoding="utf-8")
        return Corpus(str(path))

    return make


def codes(found):
    return {advice["code"] for advice in found["advice"]}


def message(found, code):
    (text,) = (a["message"] for a in found["advice"] if a["code"] == code)
    return text


def words(rng, count, letters="abcdefgh"):
    return ["".join(rng.choices(letters, k=rng.randrange(3, 9))) for _ in range(count)]


def spelled(word):
    return " ".join(word.upper())


def pronunciations(count, seed=1):
    return [(word, spelled(word)) for word in words(random.Random(seed), count)]


SMALL_CORPORA = [
    [("a", "X"), ("a", "Y"), ("a", "Y"), ("b", "X"), ("b", "Y"), ("c", "Z")],
    [("a", "X"), ("a", "Y"), ("a", "Z"), ("b", "X"), ("b", "X"), ("c", "Y")],
    [("a", "X"), ("b", "X"), ("c", "X")],
]


@pytest.mark.parametrize("pairs", SMALL_CORPORA)
def test_no_answers_get_more_pairs_right_than_the_upper_bound(corpus, pairs):
    # All models there are: an answer for each source.
    sources, targets = sorted({s for s, _ in pairs}), sorted({t for _, t in pairs})
    answers = product(targets, repeat=len(sources))
    models = [dict(zip(sources, one, strict=True)) for one in answers]
    best = max(sum(model[s] == t for s, t in pairs) for model in models)
    found = check([corpus(pairs)])
    assert found["upper_bound"] == pytest.approx(100 * best / len(pairs), abs=1e-3)


@pytest.mark.parametrize("pairs", SMALL_CORPORA)
@pytest.mark.parametrize("seed", range(5))
def test_no_model_of_the_training_targets_gets_more_of_dev_right(corpus, pairs, seed):
    rng = random.Random(seed)
    dev = [(rng.choice("abcd"), rng.choice("XYZ")) for _ in range(4)]
    accepted: dict[str, list[str]] = {}
    for source, target in dev:
        accepted.setdefault(source, []).append(target)
    # All models that answer as training does, and any other source at will.
    choices = [[t for s, t in pairs if s == source] or "XYZ" for source in accepted]
    best = max(
        sum(not wrong for wrong in errors(list(accepted.values()), answers))
        for answers in product(*choices)
    )
    found = check([corpus(pairs)], corpus(dev))
    expected = 100 * best / len(accepted)
    assert found["upper_bound_dev"] == pytest.approx(expected, abs=1e-3)
    assert ("disagreement" in codes(found)) == (best < len(accepted))


def test_pairs_of_which_training_has_the_source_are_wrong(corpus):
    train, dev, test = [("a", "X"), ("b", "Y")], [("a", "X")], [("a", "X"), ("c", "Z")]
    found = check([corpus(train)], corpus(dev), corpus(test))
    assert found["overlap"] == {"dev": 1, "test": 1}
    assert (found["dev_pairs"], found["test_pairs"]) == (1, 2)
    assert "overlap" in found["wrong"]
    texts = [a["message"] for a in found["advice"] if a["code"] == "overlap"]
    assert [text.partition(":")[0] for text in texts] == [
        "dev pairs with a source that the training file has, too",
        "test pairs with a source that the training file has, too",
        "test pairs with a source that the dev file has, too",
    ]
    assert "1 of 2" in texts[1] and "(a)" in texts[1]


def test_alternatives_are_advice_and_many_contradictions_are_wrong(corpus):
    pairs = pronunciations(100)
    found = check([corpus([*pairs, (pairs[0][0], "B A D")])])
    assert (found["contradictions"], found["duplicates"]) == (1, 0)
    assert "contradictions" in codes(found) and found["wrong"] == []
    assert f"{pairs[0][0]} → {pairs[0][1]} | B A D" in message(found, "contradictions")
    found = check([corpus([*pairs, *((word, "B A D") for word, _ in pairs)])])
    assert found["upper_bound"] == 50 and found["wrong"] == ["contradictions"]


def test_what_only_dev_has_is_listed_and_wrong_from_one_percent_on(corpus):
    train = pronunciations(400)
    known = dict(train)
    others = [pair for pair in pronunciations(100, seed=2) if pair[0] not in known]
    dev = [*others, ("zazy", "Z A Z Y")]
    letters = sum(len(word) for word, _ in dev)
    found = check([corpus(train)], corpus(dev))
    assert found["source"]["only_in_dev"] == ["z", "y"]
    assert found["source"]["unknown_in_dev"] == pytest.approx(300 / letters, abs=1e-3)
    assert found["target"]["only_in_dev"] == ["Z", "Y"]
    assert "unknown" in codes(found) and found["wrong"] == []
    assert "unknown" in check([corpus(train)], corpus(dev[-3:]))["wrong"]


def test_case_is_folded_as_by_the_recipe_before_symbols_are_compared(corpus):
    train = pronunciations(50)
    found = check([corpus(train)], corpus([(train[0][0].upper(), train[0][1])]))
    assert found["source"]["unknown_in_dev"] == 0
    assert found["overlap"]["dev"] == 0


def test_sources_that_only_their_case_keeps_apart_are_advice(corpus):
    pairs = [*pronunciations(30), ("polish", "P AA"), ("Polish", "P OW")]
    found = check([corpus(pairs)])
    assert (found["contradictions"], found["upper_bound"]) == (0, 100)
    assert "1 more of them" in message(found, "case")
    assert "upper bound 96.9 % instead of 100.0 %" in message(found, "case")


def test_swapped_columns_are_noticed(corpus):
    pairs = pronunciations(300)
    swapped = [(phones, word) for word, phones in pairs]
    assert "swapped" not in codes(check([corpus(pairs)]))
    assert check([corpus(swapped)])["wrong"] == ["swapped"]
    found = check([corpus(pairs)], corpus(swapped[:50]))
    assert "the columns of the dev file are in another order" in message(
        found, "swapped"
    )


def test_number_words_to_digits_are_not_swapped(corpus):
    names = "one two three four five six seven eight nine".split()
    pairs = [
        (f"{names[a]} hundred {names[b]} {names[c]}", f"{a + 1}{b + 1}{c + 1}")
        for a, b, c in product(range(9), repeat=3)
    ]
    found = check([corpus(pairs)])
    assert found["wrong"] == []
    assert (found["metric"], found["recipe"]) == ("cer", "pronunciation-small")
    assert found["settings"] == ["target.tokenizer=character"]


def test_the_recipe_follows_the_kind_of_the_texts_and_their_number(corpus):
    rng = random.Random(4)
    small, large = check([corpus(pronunciations(500))]), corpus(pronunciations(20_000))
    assert (small["recipe"], small["metric"]) == ("pronunciation-small", "wer")
    assert check([large])["recipe"] == "pronunciation"
    vocabulary = words(rng, 2000)
    sentences = [
        tuple(" ".join(rng.choices(vocabulary, k=9)) for _ in range(2))
        for _ in range(500)
    ]
    found = check([corpus(sentences)])
    assert (found["recipe"], found["metric"]) == ("translation", "bleu")
    names = list(zip(words(rng, 500), words(rng, 500), strict=True))
    found = check([corpus(names)])
    assert (found["recipe"], found["settings"]) == ("transliteration", [])
    assert found["metric"] == load_recipe("transliteration").metric == "exact"


def test_the_settings_make_long_texts_fit(corpus):
    pairs = [(word * 12, phones) for word, phones in pronunciations(300)]
    lengths = sorted(len(word) for word, _ in pairs)
    found = check([corpus(pairs)])
    (setting,) = found["settings"]
    name, _, number = setting.partition("=")
    assert name == "source.max_code_points"
    assert int(number) % 16 == 0
    assert lengths[int(0.995 * 300) - 1] <= int(number) < lengths[-1] + 16


def test_a_few_texts_that_are_too_long_are_left_out(corpus):
    pairs = [*pronunciations(300), ("a" * 65, "A"), ("b", "B " * 64 + "B")]
    found = check([corpus(pairs)])
    assert found["settings"] == []
    assert (found["source"]["longest"], found["target"]["longest"]) == (65, 129)
    texts = [a["message"] for a in found["advice"] if a["code"] == "too_long"]
    assert ["64 code points" in texts[0], "128 code points" in texts[1]] == [True, True]


def test_syllables_are_to_be_decomposed_and_the_recipe_does_it(corpus):
    rng = random.Random(1)

    def pairs(count):
        texts = [
            "".join(chr(0xAC00 + rng.randrange(11_172)) for _ in range(3))
            for _ in range(count)
        ]
        return [(text, "A B") for text in texts]

    found = check([corpus(pairs(600))], corpus(pairs(60)))
    numbers = found["source"]
    assert numbers["unknown_in_dev"] > 50
    assert numbers["decomposed"]["unknown_in_dev"] < 1
    assert numbers["longest"] == numbers["median"] == 3
    assert numbers["decomposed"]["longest"] == 9
    assert 6 < numbers["decomposed"]["median"] <= 9
    # Lead consonants, vowels, and final consonants.
    assert numbers["decomposed"]["alphabet"] == 19 + 21 + 27
    assert "instead of" in message(found, "decompose")
    recipe = override(load_recipe(found["recipe"]), found["settings"])
    assert recipe.source.decompose in (True, "auto")


def test_damaged_text_is_wrong_and_spaces_at_the_ends_are_advice(corpus):
    pairs = [*pronunciations(50), ("a\ufffdb", "A B"), ("ab ", "A B")]
    found = check([corpus(pairs)])
    assert found["wrong"] == ["damaged"]
    assert message(found, "damaged").endswith(": 1")
    assert message(found, "spaces").startswith("source texts of the training file")


def test_examples_are_printable_and_short(corpus):
    pairs = [*pronunciations(50), *(("\u001b[31m" + "a" * 200, t) for t in "AB")]
    text = message(check([corpus(pairs)]), "contradictions")
    assert "\u001b" not in text and "a" * 101 not in text


@pytest.mark.parametrize("repeats", [0, 7])
def test_exact_repeats_are_counted(corpus, repeats):
    pairs = pronunciations(100)
    found = check([corpus([*pairs, *pairs[:repeats]])])
    assert found["duplicates"] == repeats
    assert ("duplicates" in codes(found)) == bool(repeats)


def test_the_command_names_the_files_and_the_settings(corpus):
    train = corpus([(f"{a} {a}", a) for a in words(random.Random(1), 300)])
    dev = corpus([("a", "b")])
    command = check([train], dev)["command"].split()
    assert command[:4] == ["python", "cli.py", "train", "pronunciation-small"]
    assert command[4:8] == ["--train", train.source, "--dev", dev.source]
    assert command[8:] == ["--set", "target.tokenizer=character"]
    assert check([train, train])["command"] is None


def test_the_face_takes_one_file_or_several_and_parallel_ones(corpus, tmp_path):
    one = corpus(pronunciations(20))
    assert pocketseq.check(one.source)["pairs"] == 20
    assert pocketseq.check([one.source, one.source])["duplicates"] == 20
    with pytest.raises(UserError, match="no files, expected one corpus or more"):
        pocketseq.check([])
    for name, column in (("x", 0), ("y", 1)):
        texts = [pair[column] for pair in pronunciations(20)]
        (tmp_path / name).write_text("\n".join(texts) + "\n")
    found = pocketseq.check(
        tmp_path / "x", target=tmp_path / "y", dev=tmp_path / "x",
        dev_target=tmp_path / "y",
    )  # fmt: skip
    assert (found["pairs"], found["overlap"]["dev"]) == (20, 20)


def test_the_table_fits_80_columns_and_begins_with_what_is_wrong(corpus):
    pairs = [*pronunciations(100), ("abc", "A"), ("abc", "B")]
    dev = [("abc", "C"), ("xyz", "X Y Z")]
    found = check([corpus(pairs)], corpus(dev), corpus([("q", "Q")]))
    lines = findings_text(found).splitlines()
    # Paths in the command may be longer.
    assert max(len(line) for line in lines if not line.startswith("    --")) <= 80
    start = [line for line in lines if line.startswith(("WRONG", "contra", "few"))]
    assert [line.startswith("WRONG") for line in start] == sorted(
        (line.startswith("WRONG") for line in start), reverse=True
    )
    assert any(line.startswith("pairs ") and line.split()[1:] == ["102", "2", "1"]
               for line in lines)  # fmt: skip


def test_the_findings_are_json_with_the_promised_keys(corpus):
    found = json.loads(json.dumps(check([corpus(pronunciations(30))])))
    promised = {
        "pairs", "source", "target", "duplicates", "overlap", "contradictions",
        "upper_bound", "metric", "recipe", "advice",
    }  # fmt: skip
    assert promised <= set(found)
    assert found["overlap"] == {"dev": None, "test": None}
    assert found["source"]["unknown_in_dev"] is None
    assert all(set(advice) == {"code", "message"} for advice in found["advice"])
