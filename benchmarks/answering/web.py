"""LiteRT.js: the wrapper for the web in browsers, and the runtime alone in Node.js."""

import contextlib
import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from answering.golden import Found, Runtime, answered, output_of, read_golden
from pocketseq.export.contract import MANIFEST, Manifest
from pocketseq.export.demo.litert import litert_folder

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_WEB = _ROOT / "apps" / "web"
# Drives a browser by steps, a line of JSON each.
_SESSION = _ROOT / "tests" / "apps" / "browser" / "session.mjs"

_BROWSERS = {
    "chrome": ("chromium", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}

# Opens a file and answers all texts; the time is that until the first answer.
_PROGRAM = """(async () => {
  const { Model } = await import("/pocketseq.js");
  const start = performance.now();
  const model = await Model.open("bundle/", { recipe: %(recipe)s });
  await model.translate("a");
  const milliseconds = performance.now() - start;
  const answers = {};
  for (const [signature, texts] of Object.entries(%(texts)s)) {
    answers[signature] = [];
    for (const text of texts) {
      const isGreedy = signature === "translate";
      const found = isGreedy ? [await model.translate(text)] : await model.best(text);
      answers[signature].push(found.map(({ text, score }) => [text, score]));
    }
  }
  model.close();
  return { answers, milliseconds };
})()"""


def web_runtimes(work: Path) -> Iterator[Runtime]:
    """Yields two browsers and Node.js.

    Args:
        work: Where the files of a site are put together.
    """
    package = json.loads((_WEB / "package.json").read_text(encoding="utf-8"))
    name = f"LiteRT.js {package['dependencies']['@litertjs/core']}"
    for browser, programs in _BROWSERS.items():
        found = partial(_answer, work / "site", browser, programs)
        yield Runtime(f"{name}, {programs[0].removesuffix('-esr').capitalize()}", found)
    yield Runtime(f"{name}, Node.js", _answer_in_node)


def _answer_in_node(bundle: Path, file: str) -> Found:
    return answered(["node", _HERE / "node_driver.mjs", litert_folder()], bundle, file)


def _answer(
    site: Path, browser: str, programs: tuple[str, ...], bundle: Path, file: str
) -> Found:
    """Lets the wrapper answer on an empty page of a browser."""
    program = next((one for one in programs if shutil.which(one)), None)
    if program is None:
        raise click.ClickException(f"{programs[0]}: not installed")
    manifest = Manifest.from_json((bundle / MANIFEST).read_text(encoding="utf-8"))
    recipe = next(name for name, one in manifest.models.items() if one.file == file)
    code = _PROGRAM % {
        "recipe": json.dumps(recipe),
        "texts": json.dumps(read_golden(bundle).texts),
    }
    _put_together(site, bundle)
    with _served(site) as address:
        steps = [["open", f"{address}/index.html"], ["evaluate", code]]
        options = json.dumps({"dark": False, "width": 800, "height": 600})
        output = output_of(
            ["node", _SESSION, browser, shutil.which(program) or program, options],
            input="".join(f"{json.dumps(step)}\n" for step in steps),
        )
    answer = json.loads(output.splitlines()[-1])
    if "error" in answer:
        raise click.ClickException(f"{program}: {answer['error']}")
    report = answer["found"]
    return Found(report["answers"], report["milliseconds"])


def _put_together(site: Path, bundle: Path) -> None:
    """Makes a folder with all that a page loads."""
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    for name in ("pocketseq.js", "worker.js"):
        shutil.copyfile(_WEB / name, site / name)
    (site / "index.html").write_text("<!doctype html><title>Empty</title>")
    (site / "litert").symlink_to(litert_folder())
    (site / "bundle").symlink_to(bundle)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Yields the address of a server for one benchmark, which nobody else asks."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
