"""The lines of the README and of the guide pages: they run, and lead somewhere."""

import ast
import inspect
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
from conftest import backwards

import pocketseq
from pocketseq.cli import main
from pocketseq.pipeline.configuration import load_recipe, override, parse_config

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

#: What the model of the tests knows, in place of what the pages show.
KNOWN = {
    '"phone"': '"bead"',
    "'F OW N'": repr(backwards("bead")),
    "(6, 5)": "(11, 4)",
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, *languages):
    """The fenced blocks of a page in some languages."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def prose(page):
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def with_blocks(*languages):
    """Parameters: the pages that have blocks in some languages."""
    pages = [page for page in PAGES if blocks(page, *languages)]
    assert pages
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


def commands(page):
    """What the commands of a page are given: lists of words, the first the command."""
    for text in blocks(page, "", "sh", "yaml"):
        for call in re.findall(r"python cli\.py (.*)", text.replace("\\\n", " ")):
            words = shlex.split(call.split(" &")[0], comments=True)
            yield [word for word in words if word != "$more"]


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}


# Links.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_names_every_guide_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    elsewhere = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "index.md":
            link = elsewhere.get(page.stem, f"docs/{page.name}")
            assert f"({link})" in readme
            assert f"\n{page.stem}\n" in guide


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_source_files_that_a_page_names_exist(page):
    pattern = r"`((?:pipeline|layers|export|tests|examples|\.ci|\.github)/[\w./]+)`"
    for name in re.findall(pattern, prose(page)):
        assert (ROOT / name).exists(), name


# Shell.


@with_blocks("sh", "")
def test_shell_lines_are_shell(page):
    for text in blocks(page, "sh"):
        result = subprocess.run(["bash", "-n"], input=text, text=True)
        assert result.returncode == 0, text


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if list(commands(page))],
    ids=lambda page: page.name,
)
def test_commands_of_a_page_are_accepted_by_the_command_line(page):
    for name, *arguments in commands(page):
        command = main.commands[name]
        context = command.make_context(name, arguments)  # a UsageError otherwise
        settings = context.params.get("settings")
        if settings:
            recipe = context.params.get("recipe") or "pronunciation"
            # A page's own recipes are files that need not be there.
            known = recipe if not recipe.endswith(".toml") else "pronunciation"
            override(load_recipe(known), settings)


def test_a_command_that_does_not_exist_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\npython cli.py translate --beams 3 \\\n  phone\n```\n")
    ((name, *arguments),) = commands(page)
    with pytest.raises(click.NoSuchOption, match="--beams"):
        main.commands[name].make_context(name, arguments)


def test_the_targets_of_make_that_pages_name_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        name
        for page in PAGES
        for name in re.findall(
            r"(?:^|`)make ([a-z][\w-]*)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert {"train", "test", "docs", "lint"} <= named <= set(targets)


def test_recipes_of_the_guide_are_recipes():
    for page in PAGES:
        for text in blocks(page, "toml"):
            assert tomllib.loads(text)
            parse_config(text, page)


# Python.


@pytest.fixture(scope="module")
def project(trained_run, corpus_folder, tmp_path_factory):
    """A folder with what pages take for granted, made by the lines about export."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "runs").mkdir()
    (folder / "runs/pronunciation").symlink_to(trained_run.folder)
    (folder / "words.tsv").symlink_to(corpus_folder / "train.tsv")
    export, *_ = blocks(ROOT / "docs/export.md", "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_lines(export)
    return folder


def run_lines(text):
    """Runs lines of Python; what stands in a comment is what they evaluate to.

    Returns:
        How many values were compared.
    """
    for shown, known in KNOWN.items():
        text = text.replace(shown, known)
    names: dict[str, object] = {}
    compared = 0
    for statement in ast.parse(text).body:
        lines = text.splitlines()[statement.lineno - 1 : statement.end_lineno]
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "page", "exec"), names)
            continue
        value = eval(compile(ast.Expression(statement.value), "page", "eval"), names)
        if expected := value_in_comment(lines[-1]):
            assert value == expected[0], lines
            compared += 1
    return compared


TRAIN = inspect.signature(pocketseq.train)


def accept_training(*arguments, **options):
    """Stands in for a training run of minutes: arguments, recipe and file are right."""
    given = TRAIN.bind(*arguments, **options).arguments
    load_recipe(given["recipe"])
    assert Path(given["train"]).is_file()


def value_in_comment(line):
    """The value that a comment shows, in a tuple; an empty one if it is prose."""
    try:
        return (ast.literal_eval(line.partition("  # ")[2]),)
    except (SyntaxError, ValueError):
        return ()


def test_a_value_in_a_comment_is_compared():
    assert run_lines("x = 'a'\nx * 2  # 'aa'\nx  # prose, which is not") == 1
    with pytest.raises(AssertionError):
        run_lines("1 + 1  # 3")


@with_blocks("python")
def test_python_lines_run_and_give_what_they_say(page, project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(pocketseq, "train", accept_training)
    found = blocks(page, "python")
    if page.name == "export.md":
        found = found[1:]  # the first has made the project
    if page.name == "attention.md":
        found = ["\n".join(found)]  # one example, with words between
    assert found
    compared = sum(map(run_lines, found))
    if page.name in ("README.md", "attention.md", "embedding.md", "layers.md"):
        assert compared >= 1
