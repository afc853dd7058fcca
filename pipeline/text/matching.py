"""Longest match from the left, in plain Python, without TensorFlow."""

from collections.abc import Container, Iterable, Iterator

#: Prefix of continuation pieces in vocabularies.
CONTINUATION = "##"

#: Stands for that prefix in matching. In no alphabet, so no text can spell it.
CONTINUATION_MARK = "\uffff"


def origins(characters: Iterable[tuple[str, int]]) -> list[int]:
    """Returns the distinct indexes of (character, code point index) pairs, in order."""
    return list(dict.fromkeys(index for _, index in characters))


def longest_matches(
    word: str, marked_pieces: Container[str], longest: int
) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of each piece of a word, from left to right.

    Args:
        word: Its characters must all be pieces, both bare and as continuation.
        marked_pieces: The vocabulary; continuations begin with the mark.
        longest: The length of the longest piece in characters, without the mark.
    """
    start, mark = 0, ""
    while start < len(word):
        end = min(len(word), start + longest)
        while mark + word[start:end] not in marked_pieces:
            end -= 1
        yield start, end
        start, mark = end, CONTINUATION_MARK
