"""The SavedModel: strings in, strings out, where nothing of ours is installed."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from manifests import made_up_manifest
from random_models import TEXTS, random_translator

from pocketseq.export.contract import (
    SCORE,
    SERVING_DEFAULT,
    TEXT,
    TRANSLATE_BEAM,
    Side,
)
from pocketseq.export.saved_model import SavedModelTranslator, save_saved_model
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION, Normalization

BEAM = 3
CASES = {
    "wordpiece-wordpiece": dict(
        lengths=(24, 32), normalization=Normalization(True, True), end=1, seed=2,
        input_feeding=True,
    ),
    # Words are looked up in a table, which a SavedModel must carry.
    "word-character": dict(
        lengths=(24, 32), end=1, seed=3, attention="none", penalty=0.6,
        length_bound=LengthBound(1.5, 2.0),
    ),
    "character-character": dict(
        lengths=(24, 32), end=1, seed=5, targets=["각하 가나", "ệ ộ ở q̣̇ ේ ෝ á̖ e"],
        target_normalization=Normalization(decompose=True),
    ),
}  # fmt: skip

# What a server may get: not UTF-8, half a character, a lone surrogate, no NFC, U+0000,
# too long, and nothing.
BYTES = {
    b"ab\xff\xfec": "ab\ufffd\ufffdc",
    b"ab \xed\x95": "ab \ufffd",
    "Stra\u00dfe nai\u0308ve".encode(): "Straße naïve",
    "e\u0301a\u0301".encode(): "éá",
    b"ab\0cd": "ab",
    b"\0": "",
    b"cab dab " * 20: "cab dab " * 3,
    "\U0010ffff \U0001f600 q".encode(): "\U0010ffff \U0001f600 q",
    b"": "",
}

# All that a server runs; each folder is a line.
CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
for line in sys.stdin:
    folder, *texts = json.loads(line)
    texts = tf.constant([text.encode("latin-1") for text in texts])
    found = {}
    for name, signature in tf.saved_model.load(folder).signatures.items():
        outputs = signature(text=texts)
        found[name] = {
            "text": [[t.decode() for t in row] for row in
                     outputs["text"].numpy().reshape(len(texts), -1)],
            "score": outputs["score"].numpy().tolist(),
        }
    print(json.dumps(found))
assert not any(name.startswith("pocketseq") for name in sys.modules)
"""


def save(translator, folder, beam_size):
    n = translator.source_tokenizer.max_code_points
    m = translator.target_tokenizer.max_code_points
    manifest = made_up_manifest(
        [(n, m)], beam_size=beam_size,
        target=Side(translator.target_kind, NO_NORMALIZATION, m),
    )  # fmt: skip
    save_saved_model(translator, folder, beam_size=beam_size, manifest=manifest)
    return folder


@pytest.fixture(scope="module")
def translators():
    return {
        name: random_translator(*name.split("-"), **options)
        for name, options in CASES.items()
    }


@pytest.fixture(scope="module")
def folders(translators, tmp_path_factory):
    top = tmp_path_factory.mktemp("saved")
    return {
        name: save(translator, top / name, BEAM)
        for name, translator in translators.items()
    }


@pytest.fixture(scope="module", params=CASES)
def translator(request, translators):
    return translators[request.param]


@pytest.fixture(scope="module")
def loaded(request, translator, translators, folders):
    (name,) = (name for name, one in translators.items() if one is translator)
    return SavedModelTranslator(folders[name])


@pytest.fixture(scope="module")
def greedy_only(translators, tmp_path_factory):
    folder = tmp_path_factory.mktemp("greedy") / "saved"
    return SavedModelTranslator(save(translators["word-character"], folder, None))


@pytest.mark.parametrize("beam", [1, BEAM])
def test_texts_and_scores_equal_keras(translator, loaded, beam):
    options = {"beam_size": beam, "n_best": beam}
    expected = translator.translate(TEXTS, **options)
    found = loaded.translate(TEXTS, **options)
    assert len({best[0].text for best in expected}) >= 6
    for wanted, got in zip(expected, found, strict=True):
        assert len(got) == beam or not wanted[0].token_ids
        for one, other in zip(wanted, got, strict=True):
            assert other.source == one.source
            assert other.text == one.text, ascii(one.source)
            assert other.score == pytest.approx(one.score, abs=1e-3)
            assert other.alignment is None


def test_hypotheses_that_do_not_exist_are_left_out(loaded):
    ((best,),) = loaded.translate([""], n_best=BEAM)
    assert (best.text, best.score) == ("", 0)


def test_one_string_is_not_a_list_of_texts(loaded):
    with pytest.raises(TypeError, match="expected a list of strings, not one string"):
        loaded.translate("ab")


def test_a_text_is_translated_alike_alone_and_among_longer_ones(loaded):
    together = loaded.translate(["ab", "a" * 24, "", "cab dab Straße"])
    for text, (expected,) in zip(["ab", "a" * 24, ""], together, strict=False):
        ((alone,),) = loaded.translate([text])
        assert alone.text == expected.text
        assert alone.score == pytest.approx(expected.score, abs=1e-4)


def test_more_texts_than_a_block_are_translated_in_order(translator, loaded):
    texts = ["ab", "cab dab", "", "각하 ab"] * 75
    expected = [best.text for (best,) in translator.translate(texts[:4])]
    found = [best.text for (best,) in loaded.translate(texts)]
    assert found == expected * 75


def test_no_texts_give_no_translations(loaded):
    assert loaded.translate([]) == []
    empty = tf.constant([], tf.string)
    for name, shape in ((SERVING_DEFAULT, (0,)), (TRANSLATE_BEAM, (0, BEAM))):
        outputs = loaded._loaded.signatures[name](text=empty)
        assert outputs[TEXT].shape == outputs[SCORE].shape == shape


def test_a_batch_of_empty_texts_stays_empty_and_scores_0(loaded):
    for (best,) in loaded.translate(["", "\0", ""]):
        assert (best.text, best.score) == ("", 0)


def test_it_answers_where_only_tensorflow_and_its_text_operations_are_imported(
    translators, folders, tmp_path
):
    texts = [text.decode("latin-1") for text in BYTES]
    # Both that split texts: wordpieces by an operation of another library.
    names = ["wordpiece-wordpiece", "word-character"]
    lines = [json.dumps([str(folders[name]), *texts]) for name in names]
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input="\n".join(lines), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = map(json.loads, done.stdout.splitlines())
    for name, found in zip(names, answers, strict=True):
        translator = translators[name]
        assert set(found) == {SERVING_DEFAULT, TRANSLATE_BEAM}
        for signature, beam in ((SERVING_DEFAULT, 1), (TRANSLATE_BEAM, BEAM)):
            expected = translator.translate(
                list(BYTES.values()), beam_size=beam, n_best=beam
            )
            scores = np.reshape(found[signature]["score"], [len(BYTES), beam])
            for row, wanted in enumerate(expected):
                assert found[signature]["text"][row][: len(wanted)] == [
                    one.text for one in wanted
                ]
                np.testing.assert_allclose(
                    scores[row, : len(wanted)], [one.score for one in wanted], atol=1e-3
                )
                assert (scores[row, len(wanted) :] < -1e6).all()


@pytest.mark.parametrize(
    "options", [{"beam_size": 2}, {"n_best": 4}, {"beam_size": 1, "n_best": 2}]
)
def test_a_beam_that_it_does_not_hold_is_refused(loaded, options):
    with pytest.raises(UserError, match=f"holds a beam of {BEAM}: expected --beam"):
        loaded.translate(["ab"], **options)


@pytest.mark.parametrize("options", [{"beam_size": 3}, {"n_best": 2}])
def test_a_beam_is_refused_where_there_is_the_greedy_search_only(greedy_only, options):
    assert set(greedy_only._loaded.signatures) == {SERVING_DEFAULT}
    with pytest.raises(UserError, match="holds the greedy search only: expected"):
        greedy_only.translate(["ab"], **options)


def test_the_n_best_are_the_first_of_the_beam(translator, loaded):
    (expected,) = translator.translate(["cab dab"], beam_size=BEAM, n_best=2)
    (found,) = loaded.translate(["cab dab"], n_best=2)
    assert [one.text for one in found] == [one.text for one in expected]


def test_a_saved_model_of_other_origin_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match="other: no .*manifest.json in it, expected"):
        SavedModelTranslator(tmp_path / "other")


def test_a_damaged_manifest_is_one_line(folders, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(folders["word-character"], folder)
    (folder / "assets.extra" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json: damaged, expected"):
        SavedModelTranslator(folder)
