"""Tests of explanations: what models tell of themselves, against NumPy."""

import math

import numpy as np
import pytest
from conftest import backwards
from random_models import add_to_end, random_translator
from test_lstm import numpy_lstm, numpy_step

import pocketseq
from pocketseq.export.places import BOX
from pocketseq.export.runtime import read_manifest
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.explanation import explain_outputs
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END, START
from pocketseq.pipeline.translation import Translation

SCORES = ("cosine", "dot", "scaled_dot", "general", "additive", "none")


def random_model(attention="cosine", *, source="character", target="word", **options):
    return random_translator(
        source,
        target,
        lengths=(24, 90),
        attention=attention,
        length_bound=LengthBound(1.0, 3.0),
        **{"end": -6.0, **options},
    )


@pytest.fixture(scope="module", params=SCORES)
def explained(request):
    """A random model with input feeding, and what it tells of a text."""
    translator = random_model(request.param, input_feeding=True)
    return translator, translator.explain("cab dab")


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def numpy_scores(attention, name, query, keys):
    """Raw scores ``(keys,)`` from the layer's own weights."""
    if name == "cosine":
        return keys @ query / np.linalg.norm(keys, axis=1) / np.linalg.norm(query)
    if name == "dot":
        return keys @ query
    if name == "scaled_dot":
        return keys @ query / np.sqrt(len(query))
    if name == "general":
        return keys @ attention.kernel.numpy() @ query
    hidden = query @ attention.query_kernel.numpy() + keys @ attention.key_kernel
    return np.tanh(hidden) @ attention.vector.numpy()


def numpy_run(translator, source_ids, target_ids):
    """What the layers compute by their weights: a dict of what a step gives."""
    model, name = translator.model, translator.config.model.attention.score
    encoder, decoder = model.encoder, model.decoder
    inputs = encoder.embedding.embeddings.numpy()[source_ids][None]
    read = [
        numpy_lstm(lstm, inputs, [len(source_ids)])
        for lstm in (*encoder.forward, *encoder.backward)
    ]
    keys, hidden, cell = (
        np.concatenate(p, axis=-1)[0] for p in zip(*read, strict=True)
    )
    context, steps = np.zeros_like(hidden), []
    embeddings = decoder.embedding.embeddings.numpy()
    kernel, bias = (part.numpy() for part in decoder.readout.weights)
    for token in [START, *target_ids[:-1]]:
        fed = np.concatenate([embeddings[token], context])
        hidden, cell = numpy_step(decoder.lstm[0], fed, hidden, cell)
        scores = scale = None
        weights = np.full(len(keys), 1 / len(keys))
        if name != "none":
            scores = numpy_scores(decoder.attention, name, hidden, keys)
            scale = float(decoder.attention.scale) if name == "cosine" else 1.0
            weights = softmax(scale * scores)
        context = weights @ keys
        looks_back = decoder.attention.gives_context
        read_out = np.concatenate([context, hidden]) if looks_back else hidden
        logits = np.tanh(read_out @ kernel + bias) @ embeddings.T
        p = softmax(logits + decoder.output_bias.numpy())
        steps.append((weights, scores, hidden, context, p))
    return keys, [list(part) for part in zip(*steps, strict=True)]


def ids_of(translator, explanation):
    pieces = translator.target_tokenizer.pieces
    return [
        pieces.index(step.token) if step.token else END for step in explanation.steps
    ]


def test_every_number_is_what_numpy_computes_from_the_weights(explained):
    translator, found = explained
    source_ids = [translator.source_tokenizer.pieces.index(c) for c in found.text]
    keys, parts = numpy_run(translator, source_ids, ids_of(translator, found))
    weights, scores, outputs, contexts, probabilities = parts
    assert len(found.steps) > 2
    np.testing.assert_allclose(found.weights, weights, atol=1e-4)
    np.testing.assert_allclose(found.encoder_outputs, keys, atol=1e-5)
    np.testing.assert_allclose(found.decoder_outputs, outputs, atol=1e-4)
    np.testing.assert_allclose(found.contexts, contexts, atol=1e-4)
    if found.attention == "none":
        assert found.similarities is None
    else:
        np.testing.assert_allclose(found.similarities, scores, atol=2e-4)
    for step, p in zip(found.steps, probabilities, strict=True):
        expected = np.sort(np.delete(p, [0, START]))[::-1][:5]
        np.testing.assert_allclose(
            [t.probability for t in step.likeliest], expected, atol=1e-4
        )
        assert step.entropy == pytest.approx(-(p * np.log2(p)).sum(), abs=2e-3)


def test_weights_and_contexts_follow_from_what_else_is_told(explained):
    _, found = explained
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-5)
    if found.similarities is not None:
        scores = found.similarities * (found.scale or 1)
        np.testing.assert_allclose(found.weights, softmax(scores), atol=1e-4)
    contexts = found.weights @ found.encoder_outputs
    np.testing.assert_allclose(found.contexts, contexts, atol=1e-5)


def test_only_a_cosine_has_a_scale_and_lies_between_minus_1_and_1(explained):
    translator, found = explained
    if found.attention != "cosine":
        assert found.scale is None
        return
    assert found.scale == pytest.approx(float(translator.model.decoder.attention.scale))
    assert np.abs(found.similarities).max() <= 1 + 1e-5


def test_the_score_is_that_of_the_probabilities(explained):
    translator, found = explained
    logs = [math.log(step.probability) for step in found.steps]
    assert found.score == pytest.approx(sum(logs) / len(logs), abs=1e-4)
    ((best,),) = translator.translate([found.text])
    assert (found.text, found.translation) == (best.source, best.text)
    assert found.score == pytest.approx(best.score, abs=1e-4)


def test_the_summary_is_the_output_of_the_decoder_before_its_first_step(explained):
    translator, found = explained
    source_ids = [translator.source_tokenizer.pieces.index(c) for c in found.text]
    encoder = translator.model.encoder
    inputs = encoder.embedding.embeddings.numpy()[source_ids][None]
    final = [
        numpy_lstm(lstm, inputs, [len(source_ids)])[1][0]
        for lstm in (*encoder.forward, *encoder.backward)
    ]
    np.testing.assert_allclose(found.summary, np.concatenate(final), atol=1e-5)


# Tokens.


def test_tokens_stand_as_in_the_vocabulary_and_unknown_ones_as_in_the_text():
    translator = random_model(source="wordpiece", target="wordpiece")
    found = translator.explain("aab ab! a!b")
    assert found.source_tokens == ("aab", "ab", "##!", "a", "##!", "##b")
    assert found.unknown == (2, 4)
    assert found.weights.shape == (len(found.target_tokens), 6)


def test_normal_forms_are_the_tokens_that_the_model_reads():
    translator = random_model(normalization=Normalization(fold_case=True))
    assert translator.explain("CAB Q").source_tokens == ("c", "a", "b", " ", "Q")
    assert translator.explain("CAB Q").unknown == (4,)


def test_an_unknown_target_token_stands_as_what_it_copied():
    translator = random_model(target="character")
    translator.model.decoder.output_bias.assign(
        [1e3 * (piece == "\ufffd") for piece in translator.target_tokenizer.pieces]
    )
    found = translator.explain("cab")
    assert {step.token for step in found.steps} == {"\ufffd"}
    looked_at = [found.text[i] for i in found.weights.argmax(axis=1)]
    assert list(found.target_tokens) == looked_at == list(found.translation)


def test_the_end_has_no_text_and_is_not_there_where_the_length_ends_it():
    translator = random_model(end=1e4)
    assert translator.explain("cab").target_tokens == ("",)
    add_to_end(translator, -2e4)
    found = translator.explain("cab")
    assert "" not in found.target_tokens
    assert " ".join(found.target_tokens) == found.translation
    assert len(found.steps) == len(found.weights) == len(found.target_tokens)


def test_what_is_too_long_is_cut_as_translate_cuts_it(caplog):
    with caplog.at_level("WARNING"):
        found = random_model().explain("cab" * 20)
    assert found.text == "cab" * 8
    assert "cut 1 of 1 texts to 24 code points" in caplog.text


@pytest.mark.parametrize("text", ["", "\0abc"])
def test_nothing_to_read_is_a_mistake(text):
    with pytest.raises(UserError, match="nothing to explain"):
        random_model().explain(text)


def test_a_text_without_tokens_is_a_mistake():
    with pytest.raises(UserError, match="nothing to explain, expected a text"):
        random_model(source="word").explain("  \t")


def test_unknown_characters_alone_are_explained():
    found = random_model().explain("日本")
    assert found.source_tokens == ("日", "本") and found.unknown == (0, 1)


# The beam.


def hypotheses_of(steps):
    """The tokens of each slot after the last step, by following parents."""
    beginnings = [()]
    for step in steps:
        beginnings = [
            (*beginnings[one.parent], *([] if one.token is None else [one.token]))
            for one in step.kept
        ]
    return beginnings


@pytest.fixture(scope="module")
def beam():
    translator = random_model(end=1.0)
    bias = translator.model.decoder.output_bias
    known = [piece != "\ufffd" for piece in translator.target_tokenizer.pieces]
    bias.assign(np.where(known, bias.numpy(), -1e3))  # so that nothing is copied
    return translator, translator.explain("cab dab", beam_size=3)


def test_the_tree_leads_to_what_the_search_found(beam):
    translator, found = beam
    expected = translator.translate(["cab dab"], beam_size=3, n_best=3)[0]
    assert [text for text, _ in found.hypotheses] == [one.text for one in expected]
    for (_, score), one in zip(found.hypotheses, expected, strict=True):
        assert score == pytest.approx(one.score, abs=1e-4)
    beginnings = hypotheses_of(found.beam)
    written = [" ".join(filter(None, tokens)) for tokens in beginnings]
    assert written == [one.text for one in expected] and len(set(written)) == 3
    assert beginnings[0] == found.target_tokens and len(found.target_tokens) > 2


def test_the_path_leads_from_slot_to_slot_to_the_best(beam):
    _, found = beam
    assert found.path[-1] == 0
    for before, slot, step in zip(
        found.path, found.path[1:], found.beam[1:], strict=False
    ):
        assert step.kept[slot].parent == before


def test_a_beam_keeps_what_scores_best_and_names_what_it_drops(beam):
    _, found = beam
    for step in found.beam:
        scores = [branch.score for branch in (*step.kept, *step.dropped)]
        assert scores == sorted(scores, reverse=True)
        assert len(step.kept) == 3 and 0 < len(step.dropped) <= 3


def test_log_probabilities_of_a_branch_add_up(beam):
    _, found = beam
    logs = [math.log(step.probability) for step in found.steps]
    for time, (step, slot) in enumerate(zip(found.beam, found.path, strict=True), 1):
        total = sum(logs[: min(time, len(logs))])
        assert step.kept[slot].log_probability == pytest.approx(total, abs=1e-3)


def test_a_greedy_search_has_no_tree():
    found = random_model().explain("cab")
    assert found.beam == found.path == ()
    assert len(found.hypotheses) == 1


# Other forms of models.


@pytest.fixture(scope="module")
def exported(full_bundle):
    return full_bundle


def test_a_file_tells_where_each_code_point_came_from(trained_run, exported):
    found = pocketseq.explain(exported / "model-float32.tflite", "bead")
    ((best,),) = pocketseq.load(trained_run.folder).translate(["bead"])
    assert found.weights is not None and best.alignment is not None
    assert found.form == "file" and found.attention == "cosine"
    assert found.source_tokens == tuple("bead")
    assert found.target_tokens == tuple(backwards("bead"))
    np.testing.assert_allclose(found.weights, best.alignment, atol=1e-3)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-3)
    assert found.similarities is None and found.steps == ()


def test_a_file_with_a_beam_tells_what_it_found(exported):
    found = pocketseq.explain(exported / "model-float32.tflite", "bead", beam_size=3)
    assert len(found.hypotheses) == 3 and found.beam == ()
    with pytest.raises(UserError, match="expected --beam"):
        pocketseq.explain(exported / "model-float32.tflite", "bead", beam_size=4)


def test_a_saved_model_tells_its_text_and_score(exported, tmp_path):
    found = pocketseq.explain(exported / "saved_model", "bead")
    assert found.translation == backwards("bead") and found.weights is None
    with pytest.raises(UserError, match="does not tell what it looked at"):
        found.save(tmp_path / "picture.png")
    with pytest.raises(UserError, match="nothing to explain"):
        pocketseq.explain(exported / "saved_model", "")


def test_two_models_are_explained_side_by_side(trained_run, exported):
    file = exported / "model-float32.tflite"
    found = pocketseq.explain(trained_run.folder, "bead", compare=file)
    assert found.model == str(trained_run.folder)
    assert found.other is not None
    assert (found.other.model, found.other.form) == (str(file), "file")
    assert found.translation == found.other.translation == backwards("bead")


@pytest.mark.parametrize(
    ("score", "has_exceptions", "expected"),
    [(0.0, True, True), (0.0, False, False), (-0.1, True, False)],
)
def test_an_answer_from_the_dictionary_is_known_by_its_score(
    score, has_exceptions, expected
):
    one = Translation("ab", "A B", score, np.full((3, 2), 0.5))
    found = explain_outputs([one], form="file", has_exceptions=has_exceptions)
    assert found.is_exception is expected


def test_an_exception_of_the_model_in_the_box_is_known_as_one():
    manifest = read_manifest(BOX / "english-pronunciation" / "model-int8.tflite")
    assert manifest.exceptions is not None and manifest.exceptions.entries > 0
    answers = [
        pocketseq.explain("english-pronunciation", word)
        for word in ("colonel", "phone", "pocketseq")
    ]
    assert [one.is_exception for one in answers] == [one.score == 0 for one in answers]
    assert answers[0].is_exception and not answers[2].is_exception
