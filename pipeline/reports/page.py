"""Pages: HTML files that load nothing, from the templates beside this module.

All pages share ``base.html`` and ``base.css``; each adds a template of its own. Styles
and scripts stand inside the file, and its Content-Security-Policy names their hashes:
whatever a text in it contains, a browser runs and loads nothing else. A page can be
read without its scripts.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.reports.signs import describe, visible_spaces, visible_symbol
from pocketseq.pipeline.runs import write_atomically

_TEMPLATES = Path(__file__).with_name("templates")

# By this a page is known again, so that nothing else is ever replaced by one.
_GENERATOR = '<meta name="generator" content="Pocketseq'
_HEAD_BYTES = 4096

# Of the cells of a map, in shades.css; 0 is none.
_SHADES = 9


def render(
    template: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    **values: Any,
) -> str:
    """Returns a page as HTML.

    Args:
        template: The name of a template that extends ``base.html``.
        styles, scripts: Names of files beside it, after ``base.css``.
        values: What the template shows; texts are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = text_html
    environment.filters["symbol"] = symbol_html
    environment.filters["describe"] = describe
    environment.filters["number"] = _number
    environment.filters["percent"] = percent
    environment.filters["label"] = label
    style, script = _joined(["base.css", *styles]), _joined(scripts)
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        version=version("pocketseq"),
        **values,
    )


def text_html(text: str) -> Markup:
    """Returns a text of any script as HTML, apart from the text around it."""
    return Markup('<bdi class="text">{}</bdi>').format(visible_spaces(text))


def symbol_html(symbol: str) -> Markup:
    """Returns one symbol as HTML that shows it by itself; "" is nothing."""
    title = describe(symbol) if symbol else "nothing"
    return Markup('<bdi class="symbol" title="{}">{}</bdi>').format(
        title, visible_symbol(symbol)
    )


def shade(count: float, most: float) -> int:
    """Returns the shade of a cell, 0 to 9; the root, so that small numbers show."""
    if not count:
        return 0
    return max(1, round(_SHADES * (count / most) ** 0.5))


def check_place(
    path: str | Path, *, what: str = "page", mark: str = _GENERATOR
) -> None:
    """Checks that a page can be written to a path without a loss.

    Args:
        path: Where to write.
        what: What will be written there, if not a page.
        mark: By which an earlier one is known: it stands at the beginning of the file.

    Raises:
        UserError: Its folder does not exist, or something stands there that is not a
            page.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent}, expected an existing one")
    if path.exists() and not _has_mark(path, mark):
        raise UserError(
            f"{path}: exists already and is not a {what} of this program, expected "
            f"another file"
        )


def write_page(path: str | Path, html: str) -> None:
    """Writes a page, in place of an earlier one.

    Raises:
        UserError: It cannot be written, or something else stands there.
    """
    check_place(path)
    write_atomically(Path(path), html.encode())


def _has_mark(path: Path, mark: str) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return mark.encode() in file.read(_HEAD_BYTES)


def _joined(names: Sequence[str]) -> str:
    texts = [(_TEMPLATES / name).read_text(encoding="utf-8") for name in names]
    return "\n".join(texts)


def _policy(style: str, script: str) -> str:
    """Returns the Content-Security-Policy of a page with these inside."""
    scripts = f"'{_hash(script)}'" if script else "'none'"
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src {scripts}; "
        f"base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def percent(share: float) -> str:
    """Returns a share in percent, with a decimal where it is small."""
    value = 100 * share
    if value == 0:
        return "0 %"
    if value < 0.1:
        return "under 0.1 %"
    return f"{value:.1f} %" if value < 9.95 else f"{value:.0f} %"


def label(token: str) -> str:
    """Returns a token as it can be seen by itself; "" stays, and is for a sign."""
    return visible_symbol(token) if token else ""


def _number(value: float, digits: int = 1) -> str:
    """Returns a number with a real minus sign."""
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")
