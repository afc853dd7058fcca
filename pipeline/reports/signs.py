"""Signs for what text does not show: spaces, single marks, control characters."""

import re
import unicodedata

#: Stands where a symbol was left out or added.
NOTHING = "∅"

_SPACE = "␣"
_LINE_SIGNS = {"\n": "↵", "\t": "⇥"}

# Control characters, lone surrogates, private and unassigned code points, separators of
# lines and paragraphs: no font has them, and some may not stand in an SVG file.
_UNDRAWABLE = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")

# They turn around the text that follows, and are not seen themselves.
_DIRECTIONS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)

# Spaces at an end of a text, and all but single ones within it.
_ODD_SPACES = re.compile(r"^ +| +$| {2,}")


def visible(text: str) -> str:
    """Returns text as it can be drawn: in one line, and not just white.

    Characters that would break or turn the line, or that alone make up the text and
    would not be seen (spaces, joiners), become a sign or a code such as ``U+200D``. A
    combining mark at the beginning stands on a dotted circle.
    """
    unseen = not any(map(str.isprintable, text))
    shown = "".join(
        _LINE_SIGNS.get(character)
        or (_code(character) if unseen or _is_undrawable(character) else character)
        for character in text
    )
    return "◌" + shown if unicodedata.category(shown[:1] or "-")[0] == "M" else shown


def visible_spaces(text: str) -> str:
    """Returns text as :func:`visible`, with signs for spaces that are easily missed."""
    shown = _ODD_SPACES.sub(lambda spaces: _SPACE * len(spaces[0]), text)
    return visible("".join(_code(c) if _is_odd_space(c) else c for c in shown))


def visible_symbol(symbol: str) -> str:
    """Returns one symbol, a character or a word, as it can be seen by itself."""
    if not symbol:
        return NOTHING
    return visible(
        "".join(_code(c) if _is_odd_space(c) else c for c in symbol)
    ).replace(" ", _SPACE)


def describe(symbol: str) -> str:
    """Returns the code points of a symbol with their names in Unicode."""
    return ", ".join(f"{_code(c)} {unicodedata.name(c, '')}".strip() for c in symbol)


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _is_odd_space(character: str) -> bool:
    return character != " " and unicodedata.category(character) == "Zs"


def _is_undrawable(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in _UNDRAWABLE
