"""Takes the lines to copy out of a bundle's README."""

import re

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lines_of(readme):
    """Returns ``{language: the lines}``; each language has one block."""
    blocks = _BLOCK.findall(readme)
    languages = [language for language, _ in blocks if language != "sh"]
    assert len(set(languages)) == len(languages)
    return dict(blocks)
