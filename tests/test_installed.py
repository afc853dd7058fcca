"""Tests of pocketseq.pipeline.data.installed: dictionaries that packages bring."""

import hashlib
import sqlite3
import sys
import threading
from importlib import metadata

import pytest

from pocketseq.pipeline.configuration import Config, load_recipe, override
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.data.installed import (
    held_out_part,
    installed,
    is_installed,
    license_of,
)
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import compose

ROWS = [
    # word, pron_order, phonemes, role
    ("två(2)", 0, "t v 'uː", ""),
    ("två", 0, "t v 'oː", ""),
    ("ALPHA", 1, "a l f a", ""),
    ("alpha", 0, "ˈa l ˌf a", ""),
    ("beta", 1, "b eː t a", ""),
    ("beta", 0, "²b 'eː t a", ""),
    ("beta", 2, "b 'eː t a", ""),  # the second again, but for the stress
    ("col·legi", 0, "k u l ˈl ɛ dʒ i", ""),
    ("d'or", 0, "d ɔ ʁ", ""),
    ("e\u0301tude", 0, "e t y d", ""),  # not in NFC
    ("neu-ulm", 0, "n ɔʏ̯ ʊ l m", ""),
    ("-ig", 0, "ɪ ç", ""),
    ("ab-", 0, "a p", ""),
    ("mp3", 0, "m p t ʁ w a", ""),
    ("d.v.s.", 0, "d eː v eː ɛ s", ""),
    ("!sil", 0, "SIL", ""),
    ("c/o", 0, "s eː oː", ""),
    ("two words", 0, "t uː", ""),
    ("(x)", 0, "k s", ""),
    ("'", 0, "a", ""),
    ("", 0, "a", ""),
    ("mute", 0, " ˈ ", ""),
    ("none", 0, None, ""),
]

PLAIN = {
    "alpha": ["a l f a"],
    "beta": ["b eː t a"],
    "col·legi": ["k u l l ɛ dʒ i"],
    "d'or": ["d ɔ ʁ"],
    "\u00e9tude": ["e t y d"],
    "neu-ulm": ["n ɔʏ̯ ʊ l m"],
    "två": ["t v oː", "t v uː"],
}

STRESSED = {
    **PLAIN,
    "alpha": ["ˈa l ˌf a", "a l f a"],
    "beta": ["²b ˈeː t a", "b eː t a", "b ˈeː t a"],
    "col·legi": ["k u l ˈl ɛ dʒ i"],
    "två": ["t v ˈoː", "t v ˈuː"],
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as gruut's, installed where importing it would fail."""

    def make(language, rows):
        name = f"gruut_lang_{language}"
        folder = tmp_path / "site" / name
        (folder / "espeak").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise ImportError('no code is run')")
        (folder / "espeak" / "lexicon.db").write_bytes(b"made by rules")
        with sqlite3.connect(folder / "lexicon.db") as connection:
            connection.execute(
                "CREATE TABLE word_phonemes (id INTEGER PRIMARY KEY AUTOINCREMENT, "
                "word TEXT, pron_order INTEGER, phonemes TEXT, role TEXT)"
            )
            connection.executemany(
                "INSERT INTO word_phonemes (word, pron_order, phonemes, role) "
                "VALUES (?, ?, ?, ?)",
                rows,
            )
        connection.close()
        about = tmp_path / "site" / f"{name}-2.0.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0.0\n"
        )
        files = ("__init__.py", "espeak/lexicon.db", "lexicon.db")
        (about / "RECORD").write_text("".join(f"{name}/{file},,\n" for file in files))
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        return folder

    return make


def part_of(word):
    byte = hashlib.sha256(word.encode()).digest()[0]
    return "test" if byte < 13 else "dev" if byte < 16 else "train"


def entries(name):
    return {
        word: targets
        for part in ("train", "dev", "test")
        for word, targets in Corpus(f"{name}:{part}").references().items()
    }


def test_a_lexicon_gives_words_of_letters_and_their_different_phones(package):
    package("sv", ROWS)
    assert entries("gruut:sv") == PLAIN
    assert "gruut_lang_sv" not in sys.modules


def test_a_lexicon_gives_marks_of_stress_under_another_name(package):
    package("sv", ROWS)
    assert entries("gruut-stress:sv") == STRESSED


def test_a_lexicon_is_split_by_the_hash_of_the_word(package):
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{'a' * (n // 676 + 1)}"
             for n in range(2000)]  # fmt: skip
    rows = [(word, order, f"p{order}", "") for word in words for order in (0, 1)]
    package("it", rows)
    for part in ("train", "dev", "test"):
        found = list(Corpus(f"gruut:it:{part}"))
        expected = sorted(word for word in words if part_of(word) == part)
        assert expected
        assert found == [(w, f"p{order}") for w in expected for order in (0, 1)]
    assert list(Corpus("gruut:it")) == list(Corpus("gruut:it:train"))
    whole = [(w, f"p{order}") for w in sorted(words) for order in (0, 1)]
    assert list(Corpus("gruut:it:all")) == whole


def test_a_part_of_a_dictionary_can_be_divided_again():
    train, dev = (
        list(Corpus("cmudict:test", part=(name, 0.05))) for name in ("train", "dev")
    )
    assert sorted(train + dev) == sorted(Corpus("cmudict:test"))
    words = {word for word, _ in dev}
    assert not words & {word for word, _ in train}
    # Five standard deviations of a fair split of 6,300 words.
    assert abs(len(words) - 0.05 * 6300) < 90


def test_a_lexicon_is_read_by_any_thread_and_left_as_it_is(package):
    file = package("sv", ROWS) / "lexicon.db"
    before = file.read_bytes()
    pairs = iter(Corpus("gruut:sv"))
    found = [next(pairs)]
    thread = threading.Thread(target=lambda: found.extend(pairs))
    thread.start()
    thread.join()
    assert found == list(Corpus("gruut:sv"))
    assert file.read_bytes() == before
    assert {path.name for path in file.parent.iterdir()} == {
        "__init__.py", "espeak", "lexicon.db",
    }  # fmt: skip
    assert Corpus("gruut:sv").files() == [str(file)]


def test_a_missing_package_is_an_error_that_says_how_to_install_it(monkeypatch):
    def no_files(package):
        raise metadata.PackageNotFoundError(package)

    # On a machine that has the package, too.
    monkeypatch.setattr("pocketseq.pipeline.data.installed.metadata.files", no_files)
    with pytest.raises(UserError, match=r"gruut:lb: .*\(pip install gruut-lang-lb\)$"):
        list(Corpus("gruut:lb"))


def test_a_damaged_lexicon_is_an_error_that_names_the_file(package):
    file = package("sv", ROWS) / "lexicon.db"
    file.write_bytes(b"not a database, but long enough to be taken for one" * 9)
    with pytest.raises(UserError, match="lexicon.db: damaged: "):
        list(Corpus("gruut:sv"))
    file.unlink()
    with pytest.raises(UserError, match="lexicon.db: "):
        list(Corpus("gruut:sv"))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gruut:xx", "gruut:xx: no such language, expected one of ar, ca, cs, "),
        ("gruut:", "gruut:: no such language"),
        ("gruut:sv:a", "gruut:sv:a: no such part, expected one of all, dev, test"),
        ("gruut:sv:", "gruut:sv:: no such part"),
        ("cmudict-stress:x", "no such part, expected one of all, dev, test, train"),
    ],
)
def test_names_that_name_nothing_are_errors_that_list_what_there_is(name, problem):
    with pytest.raises(UserError, match=problem):
        installed(name)


@pytest.mark.parametrize(
    "name", ["words.tsv", "gruut", "cmudict", "C:words", "a:b", ""]
)
def test_other_names_are_files(name):
    assert not is_installed(name) and installed(name) is None
    assert license_of(name) == held_out_part(name) == ""


def test_the_test_part_belongs_to_the_training_part():
    assert (
        held_out_part("gruut:sv") == held_out_part("gruut:sv:train") == "gruut:sv:test"
    )
    assert held_out_part("cmudict:train") == "cmudict:test"
    assert held_out_part("cmudict:dev") == held_out_part("gruut:sv:test") == ""


def test_stress_digits_are_kept_under_another_name():
    plain = list(Corpus("cmudict:dev"))
    stressed = list(Corpus("cmudict-stress:dev"))
    without = [(w, "".join(c for c in p if not c.isdigit())) for w, p in stressed]
    assert list(dict.fromkeys(without)) == plain
    assert any("AH0" in phones.split() for _, phones in stressed)


def test_a_run_has_the_licence_of_a_dictionary_unless_it_states_one():
    files = "gruut:sv", None, None, None
    sv = compose("pronunciation-small", files).data
    assert sv.test == "gruut:sv:test" and sv.dev == ""
    assert "MIT" in sv.license and "Wiktionary, CC BY-SA" in sv.license
    assert "gruut-lang-sv" in sv.license
    mine = ["data.license=mine"]
    stated = compose(
        "pronunciation-small", ("gruut:sv", None, None, None), settings=mine
    )
    assert stated.data.license == "mine"
    named = compose("pronunciation-small", settings=["data.train=gruut:cs"])
    assert "gruut-lang-cs" in named.data.license
    assert compose("pronunciation").data == load_recipe("pronunciation").data
    default = Config().data.license
    assert compose(None, ("a.tsv", None, None, None)).data.license == default
    assert override(Config(), ["data.train=gruut:sv"]).data.license == default
