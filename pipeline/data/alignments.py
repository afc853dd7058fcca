"""Gold alignments: which letters of a word each of its phones is written with."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pocketseq.pipeline.data.corpora import lines_of
from pocketseq.pipeline.data.installed import installed
from pocketseq.pipeline.errors import UserError

# Between the letters and the phones of a unit, between those of one side, and what
# stands for a side that is empty.
_SIDES, _BETWEEN, _NOTHING = "}", "|", "_"


@dataclass(frozen=True)
class AlignedPair:
    """A source with the symbols of its target, and where each of them comes from.

    ``places[i]``: the code points of the source that symbol i is aligned with; none
    where it has been inserted.
    """

    source: str
    symbols: tuple[str, ...]
    places: tuple[range, ...]


def parse_alignment(text: str) -> AlignedPair:
    """Reads an alignment such as ``A|a}aː c|h}χ e}ə n}n``.

    Units stand between spaces: some letters, ``}``, and the phones that they are read
    as; ``|`` is between two of a kind, and ``_`` stands for none.

    Raises:
        ValueError: It is not such a text.

    References: Novak, Minematsu and Hirose 2012, "WFST-based grapheme-to-phoneme
    conversion: open source tools for alignment, model-building and decoding": the
    format of Phonetisaurus.
    """
    source = ""
    symbols: list[str] = []
    places: list[range] = []
    for unit in text.split():
        letters, sides, phones = unit.rpartition(_SIDES)
        if not (letters and sides and phones):
            raise ValueError(
                f"{unit!r} is not aligned, expected letters}}phones such as c|h}}x"
            )
        start = len(source)
        source += "".join(_parts(letters))
        for phone in _parts(phones):
            symbols.append(phone)
            places.append(range(start, len(source)))
    return AlignedPair(source, tuple(symbols), tuple(places))


def read_alignments(name: str) -> Iterator[AlignedPair]:
    """Yields the gold alignments of a file, or of an installed dictionary.

    Those whose letters would be other code points in NFC are left out: they have no
    places there.

    Args:
        name: A file of lines ``source TAB alignment``, also ``.gz``, or a name such as
            ``gruut:it:test``.

    Raises:
        UserError: There is no such file or dictionary, it has no alignments, or a line
            is broken; names it.
    """
    corpus = installed(name)
    if corpus is None:
        found = _of_file(name)
    elif corpus.alignments is None:
        raise UserError(f"{name}: has no alignments, expected a file or gruut:LANGUAGE")
    else:
        found = _parsed(name, corpus.aligned())
    empty = True
    for pair in found:
        empty = False
        if unicodedata.is_normalized("NFC", pair.source):
            yield pair
    if empty:
        raise UserError(f"{name}: no alignments, expected lines source TAB alignment")


def _of_file(path: str) -> Iterator[AlignedPair]:
    for number, line in lines_of(path):
        where = f"{path}:{number}"
        if line is None:
            raise UserError(f"{where}: not UTF-8")
        source, tab, alignment = line.partition("\t")
        if not tab:
            raise UserError(f"{where}: expected source TAB alignment, found no TAB")
        yield from _parsed(where, [(source, alignment)])


def _parsed(where: str, lines: Iterable[tuple[str, str]]) -> Iterator[AlignedPair]:
    """Yields the alignments of (source, alignment) that stand somewhere."""
    for source, alignment in lines:
        try:
            pair = parse_alignment(alignment)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        if pair.source != source:
            raise UserError(
                f"{where}: the alignment has the letters {pair.source!r}, expected "
                f"{source!r}"
            )
        yield pair


def _parts(side: str) -> list[str]:
    return [] if side == _NOTHING else side.split(_BETWEEN)
