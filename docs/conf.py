"""How Sphinx builds the guide pages and the API reference: ``make docs``."""

import importlib.metadata
import inspect
import os
import re
import sys

# Before TensorFlow is imported, which happens when docstrings are read.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

project = "Pocketseq"
release = importlib.metadata.version("pocketseq")
copyright = "the Pocketseq authors, Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

# The API reference: one page per module, written anew by each build.
apidoc_modules = [
    {
        "path": "../src/pocketseq",
        "destination": "api",
        "exclude_patterns": ["**/cli.py"],
        "follow_links": True,
        "max_depth": 1,
        "module_first": True,
        "separate_modules": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
exclude_patterns = ["api/modules.rst"]  # a second list of all modules
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of Keras are not ours to mend
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]

# A reference to a name of ours that does not exist is a warning, and so an error; those
# to other libraries are left as they are, so that a build needs no network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!pocketseq\.).*"),
    (r"py:.*", r"pocketseq\..*\._\w+"),  # what is private has no page
    (r"py:data", r".*"),  # nor have all tables
]

myst_heading_anchors = 3
html_theme = "furo"
html_title = f"Pocketseq {release}"


def _link_code_to_its_page(app, document, source):
    """Leads links to source files, which guide pages have on GitHub, to the API."""

    def page(match):
        return f"](api/pocketseq.{match[1].replace('/', '.')}.rst)"

    source[0] = re.sub(
        r"\]\(\.\./((?:pipeline|layers|export)/[\w/]+?)(?:/__init__)?\.py\)",
        page,
        source[0],
    )


def _document_once(app, document, source):
    """Leaves what a package gathers from its modules to their pages.

    The package ``pocketseq.export`` stays out of the index: a function has its name.
    """
    if document.startswith("api/") and document != "api/pocketseq":
        once = (
            ":no-index:"
            if document == "api/pocketseq.export"
            else ":ignore-module-all:"
        )
        source[0] = source[0].replace(":undoc-members:", once)


def _find_by_last_name(app, environment, node, content):
    """Resolves ``:class:`Run``` in any module, as long as there is one ``Run``.

    Names that a package takes from its modules lead to their pages, too.
    """
    domain = environment.domains.python_domain
    target = node.get("reftarget", "")
    package, _, name = target.rpartition(".")
    taken = getattr(sys.modules.get(package), name, None)
    last = f".{name}" if taken is not None else f".{target}"
    found = [name for name in domain.objects if name.endswith(last)]
    if node.get("refdomain") != "py" or len(found) != 1:
        return None
    return domain.resolve_xref(
        environment, node["refdoc"], app.builder, "obj", found[0], node, content
    )


def _sign_layer(app, what, name, constructor, options, signature, returned):
    """Shows what a layer is made with; Keras hides it behind ``*args, **kwargs``."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    parameters = list(inspect.signature(constructor.__init__).parameters.values())
    return str(inspect.Signature(parameters[1:])), returned


def setup(app):
    """Connects the functions above."""
    app.connect("autodoc-process-signature", _sign_layer)
    app.connect("source-read", _link_code_to_its_page)
    app.connect("source-read", _document_once)
    app.connect("missing-reference", _find_by_last_name)
