"""Tests of students and their teachers: labels, loss, and a whole run."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import backwards

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.data.batches import (
    Batch,
    Bucket,
    LabelledPair,
    Labels,
    packed_labels,
    training_batches,
)
from pocketseq.pipeline.data.corpora import Pair
from pocketseq.pipeline.data.words import KnownSources, new_words, read_words
from pocketseq.pipeline.errors import Interrupted, UserError
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.model import Ensemble
from pocketseq.pipeline.reports.journal import Journal
from pocketseq.pipeline.runs import Run, compose_student
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END, START
from pocketseq.pipeline.text.tokenizers import CharacterTokenizer, WordTokenizer
from pocketseq.pipeline.training.distillation import (
    LabelledCorpus,
    Teachers,
    write_labels,
)
from pocketseq.pipeline.training.loop import train
from pocketseq.pipeline.training.optimization import (
    distillation_loss,
    labelled_loss,
    smoothed_loss,
)
from pocketseq.pipeline.training.preparation import start_run, training_corpora

SOURCE, TARGET = CharacterTokenizer.learn(["abc"]), WordTokenizer.learn(["A B C"])


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def compose_config():
    return override(Config(), ["target.tokenizer=word", "training.shuffle_buffer=8"])


def folding():
    return Normalization(fold_case=True)


def a_batch(rows):
    return Batch(
        tf.tile([[4, 5, 6]], [rows, 1]),
        tf.fill([rows], 3),
        tf.tile([[4, 5, END]], [rows, 1]),
        tf.fill([rows], 3),
    )


def source_of(translator, text):
    ids = translator.source_tokenizer.tokenize(tf.constant([text])).to_tensor()
    return ids, tf.constant([ids.shape[1]])


def labelled(run):
    return LabelledCorpus(run.labels_path)


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """Pictures of the attention have their own tests, and take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "pictures", 0)
        yield


@pytest.fixture(scope="module")
def teachers(trained_run, tmp_path_factory):
    """Two runs that know the task: the shared one, and one of another seed."""
    other = Run(tmp_path_factory.mktemp("teachers") / "other")
    start_run(other, override(trained_run.config(), ["training.seed=2"]))
    train(other)
    return [trained_run, other]


@pytest.fixture(scope="module")
def student(teachers, tmp_path_factory):
    """A smaller model that has learned from both, with two words of its own."""
    folder = tmp_path_factory.mktemp("student")
    (folder / "words.txt").write_text("abcabc\nfedfed\nxyz\n")
    config = compose_student(
        [run.folder for run in teachers], None, str(folder / "words.txt"),
        ["model.units=40", "training.updates=150"],
    )  # fmt: skip
    run = Run(folder / "run")
    start_run(run, config)
    train(run)
    return run


@pytest.fixture
def few_letters_run(tmp_path):
    """A run that knows other letters; it has never been trained, but its files are."""
    path = tmp_path / "few.tsv"
    path.write_text("ab\tB A\nba\tA B\n" * 30)
    run = Run(tmp_path / "few")
    settings = [
        f"data.train={path}", f"data.dev={path}", "target.tokenizer=word",
        "model.embedding_size=4", "model.units=4", "training.updates=1",
    ]  # fmt: skip
    start_run(run, override(Config(), settings))
    train(run, minutes=1e-9)
    return run


def random_labels(generator, rows, length, choices, vocabulary):
    ids = np.stack(
        [
            [generator.permutation(vocabulary)[:choices] for _ in range(length)]
            for _ in range(rows)
        ]
    )
    probabilities = generator.dirichlet(np.ones(choices), (rows, length))
    return ids.astype(np.int32), probabilities.astype(np.float32)


def test_labels_come_through_the_pipeline_with_their_pairs():
    generator = np.random.default_rng(1)
    pairs, expected = [], {}
    for source, target in (("a", "A B"), ("ab", "B"), ("cb", "C A B"), ("ca", "A")):
        length = len(target.split()) + 1
        (ids,), (probabilities,) = random_labels(generator, 1, length, 3, 7)
        pairs.append(LabelledPair(source, target, packed_labels(ids, probabilities)))
        expected[tuple(TARGET.pieces.index(t) for t in target.split())] = (
            ids,
            probabilities,
        )
    config = override(compose_config(), ["training.batch_tokens=24"])
    batches = training_batches(
        pairs, SOURCE, TARGET, [Bucket(2, 2, 2), Bucket(2, 4, 2)], config,
        epoch=0, choices=3,
    )  # fmt: skip
    seen = 0
    for _, batch in batches.take(3):
        assert batch.labels.ids.shape == (*batch.target_ids.shape, 3)
        for row, length in enumerate(batch.target_length.numpy()):
            if not length:
                assert not batch.labels.probabilities[row].numpy().any()
                continue
            key = tuple(batch.target_ids[row, : length - 1].numpy())
            ids, probabilities = expected[key]
            np.testing.assert_array_equal(batch.labels.ids[row, :length], ids)
            np.testing.assert_allclose(
                batch.labels.probabilities[row, :length], probabilities, atol=3e-5
            )
            assert not batch.labels.probabilities[row, length:].numpy().any()
            seen += 1
    assert seen >= 4


def test_a_batch_is_cut_with_its_labels():
    generator = np.random.default_rng(2)
    labels = Labels(*map(tf.constant, random_labels(generator, 5, 3, 2, 7)))
    batch = a_batch(rows=5)._replace(labels=labels)
    parts = batch.parts(2)
    assert [part.labels.ids.shape[0] for part in parts] == [2, 3]
    joined = np.concatenate([part.labels.probabilities for part in parts])
    np.testing.assert_array_equal(joined, labels.probabilities)


def test_the_loss_of_labels_is_their_cross_entropy_and_has_its_gradient():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(2, 3, 6)).astype(np.float32)
    ids, probabilities = random_labels(generator, 2, 3, 4, 6)
    lengths = np.array([3, 1])
    dense = np.zeros_like(logits)
    for row, place, choice in np.ndindex(ids.shape):
        if place < lengths[row]:
            dense[row, place, ids[row, place, choice]] += probabilities[
                row, place, choice
            ]
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = labelled_loss(
            variable, Labels(tf.constant(ids), tf.constant(probabilities)),
            tf.constant(lengths),
        )  # fmt: skip
    expected = -(dense * np.log(softmax(logits))).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    gradient = softmax(logits) * dense.sum(-1, keepdims=True) - dense
    np.testing.assert_allclose(tape.gradient(loss, variable), gradient, atol=1e-5)


def test_a_student_s_loss_weighs_teachers_and_targets():
    generator = np.random.default_rng(4)
    logits = tf.constant(generator.normal(size=(2, 3, 7)).astype(np.float32))
    labels = Labels(*map(tf.constant, random_labels(generator, 2, 3, 2, 7)))
    batch = a_batch(rows=2)._replace(labels=labels)
    settings = override(compose_config(), ["training.label_smoothing=0.1"]).training
    found = distillation_loss(settings, 0.25)(logits, batch)
    of_labels = labelled_loss(logits, labels, batch.target_length)
    of_targets = smoothed_loss(logits, batch.target_ids, batch.target_length, 0.1)
    np.testing.assert_allclose(found, 0.25 * of_labels + 0.75 * of_targets, rtol=1e-6)


def test_an_ensemble_gives_the_mean_of_the_probabilities(teachers):
    models = [run.load().model for run in teachers]
    source, length = tf.constant([[4, 5, 6]]), tf.constant([3])
    target = tf.constant([[START, 6, 5]])
    logs, weights = Ensemble(models)(source, length, target)
    each = [model(source, length, target) for model in models]
    mean = np.mean([softmax(logits.numpy()) for logits, _ in each], axis=0)
    np.testing.assert_allclose(np.exp(logs), mean, atol=1e-6)
    of_each = np.mean([one.numpy() for _, one in each], axis=0)
    np.testing.assert_allclose(weights, of_each, atol=1e-6)


def test_an_ensemble_of_one_searches_as_the_model_itself(teachers):
    model = teachers[0].load().model
    source, length = tf.constant([[4, 5, 6], [7, 5, 0]]), tf.constant([3, 2])
    for beam in (1, 3):
        alone, together = (
            one.search(source, length, max_length=9, beam_size=beam)
            for one in (model, Ensemble([model]))
        )
        np.testing.assert_array_equal(alone.token_ids, together.token_ids)
        np.testing.assert_allclose(alone.score, together.score, atol=1e-5)
        np.testing.assert_allclose(
            alone.attention_weights, together.attention_weights, atol=1e-5
        )


def test_the_labels_are_the_likeliest_tokens_of_the_teachers_at_each_place(teachers):
    group = Teachers([str(run.folder) for run in teachers])
    pairs = [Pair("bead", "D3 A0 E4 B1"), Pair("fa", "A0 F5")]
    tokenizer = teachers[0].load_tokenizers()[1]
    models = [run.load() for run in teachers]
    for pair, labelled in zip(pairs, group.label(pairs, 4), strict=True):
        assert labelled[:2] == pair
        numbers = np.frombuffer(labelled.labels, "<u2").reshape(-1, 4, 2)
        wanted = tokenizer.tokenize(tf.constant([pair.target])).numpy()[0]
        assert len(numbers) == len(wanted) + 1
        given = tf.constant([[START, *wanted]])
        probabilities = np.mean(
            [
                softmax(one.model(*source_of(one, pair.source), given)[0].numpy())[0]
                for one in models
            ],
            axis=0,
        )
        for place, row in enumerate(numbers):
            best = np.sort(probabilities[place])[::-1][:4]
            np.testing.assert_allclose(row[:, 1] / 65535, best, atol=2e-5)
            np.testing.assert_allclose(probabilities[place][row[:, 0]], best, atol=2e-5)


def test_words_are_translated_by_all_teachers_together(teachers):
    group = Teachers([str(run.folder) for run in teachers])
    found = group.translate(["cab", "fed", ""])
    assert [pair.source for pair in found] == ["cab", "fed"]
    assert found == [Pair("cab", backwards("cab")), Pair("fed", backwards("fed"))]


def test_teachers_with_other_tokens_are_refused(teachers, few_letters_run):
    folders = [str(teachers[0].folder), str(few_letters_run.folder)]
    with pytest.raises(UserError, match="has other source tokens than"):
        Teachers(folders)


def test_words_come_from_the_first_column_of_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one\n\n two \nthree\tTH R IY\n", encoding="utf-8")
    assert list(read_words(str(path))) == ["one", "two", "three"]
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(UserError, match=r"words.txt:2: not UTF-8"):
        list(read_words(str(path)))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_words(str(tmp_path / "none.txt")))


def test_words_that_a_set_holds_or_with_unknown_characters_are_left_out():
    tokenizer = CharacterTokenizer.learn(["abc"], normalization=folding())
    known = KnownSources([Pair("ab", "X"), Pair("CAB", "Y")], tokenizer)
    words = ["ab", "AB", "ba", "cab", "x", "bx", "c", "cc"]
    assert list(new_words(words, known, tokenizer, 9)) == ["ba", "c", "cc"]
    assert list(new_words(words, known, tokenizer, 2)) == ["ba", "c"]


def test_a_student_learns_what_its_teachers_know(teachers, student, tmp_path):
    translator = student.load()
    dev = training_corpora(student.config())[1].references()
    found = [best.text for best, *_ in translator.translate(list(dev))]
    right = evaluate(list(dev.values()), found, kind="word")["wer"]
    assert right < 20
    assert student.config().distillation.teachers == tuple(
        str(run.folder) for run in teachers
    )


def test_a_student_saw_no_word_of_the_dev_set_and_all_others(student):
    sources = [pair.source for pair in labelled(student)]
    train, dev = training_corpora(student.config())
    assert sources[:600] == [pair.source for pair in train]
    assert sources[600:] == ["abcabc", "fedfed"]
    assert not set(sources) & {pair.source for pair in dev}


def test_labels_that_are_there_are_not_made_again(student, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(student.folder, folder)
    copy = Run(folder)
    (copy.labels_path / "complete").unlink()
    (copy.labels_path / "part-000001.npz").unlink()
    labelled_texts: list[str] = []
    label = Teachers.label

    def noted(self, pairs, choices):
        labelled_texts.extend(pair.source for pair in pairs)
        return label(self, pairs, choices)

    monkeypatch.setattr(Teachers, "label", noted)
    config = copy.config()
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        write_labels(copy, config, training_corpora(config)[0], lambda: next(asked))
    assert labelled_texts == []
    write_labels(copy, config, training_corpora(config)[0], lambda: False)
    assert labelled_texts == ["abcabc", "fedfed"]
    assert list(labelled(copy)) == list(labelled(student))


def test_a_damaged_part_is_named(student, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(student.labels_path, folder / "labels")
    part = folder / "labels" / "part-000000.npz"
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"part-000000.npz: damaged"):
        list(labelled(Run(folder)))


def test_a_student_needs_teachers(teachers):
    with pytest.raises(UserError, match="no teachers"):
        compose_student([], None, None)
