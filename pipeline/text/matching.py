"""Longest match from the left, in plain Python: no TensorFlow is needed here."""

#: What continuation pieces begin with in vocabularies.
CONTINUATION = "##"

#: What stands for it where text is matched: in no alphabet, so no text can spell it.
CONTINUATION_MARK = "\uffff"


def origins(characters):
    """Returns the different code points that (character, code point) pairs name."""
    return list(dict.fromkeys(index for _, index in characters))


def longest_matches(word, marked_pieces, longest):
    """Yields (start, end) of the pieces of a word, which are characters at least."""
    start, mark = 0, ""
    while start < len(word):
        end = min(len(word), start + longest)
        while mark + word[start:end] not in marked_pieces:
            end -= 1
        yield start, end
        start, mark = end, CONTINUATION_MARK
