"""The server of `demo`: what it serves, to whom, and how it refuses.

The page itself, and models in browsers, are tested by ``tests/apps/demo.py``.
"""

import asyncio
import fnmatch
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketseq.cli import main
from pocketseq.export.demo import litert, server
from pocketseq.export.demo.server import application, listening
from pocketseq.export.demo.site import TYPES, demo_site
from pocketseq.pipeline.errors import UserError

ROOT = Path(__file__).parents[1]
ENGLISH = ROOT / "models" / "english-pronunciation"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """A folder with what stands in for LiteRT.js."""
    folder = tmp_path_factory.mktemp("litert")
    for name in ("core.js", "litert_wasm_internal.js", "litert_wasm_internal.wasm"):
        (folder / name).write_text(name, encoding="utf-8")
    (folder / ".DS_Store").touch()
    return folder


@pytest.fixture(scope="module")
def site(runtime):
    return demo_site(None, runtime)


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(ENGLISH, tmp_path / "bundle")


def request(site, path="/", method="GET", host="127.0.0.1:8473", **headers):
    """The status, the headers and the body that the application sends."""
    sent = []

    async def send(message):
        sent.append(message)

    given = {"host": host} | headers
    scope = {
        "type": "http", "method": method, "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in given.items() if v],
    }  # fmt: skip
    asyncio.run(application(site, 8473)(scope, None, send))
    start, body = sent
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], fields, body["body"]


# What is served.


def test_the_page_asks_for_nothing_that_is_not_there(site):
    named = set()
    for path, one in site.items():
        if one.media_type.startswith("text/") and not path.startswith("/litert/"):
            text = one.content.decode()
            named |= set(re.findall(r'(?:href|src)="([^"#]+)"', text))
            named |= set(re.findall(r'from "\./([^"]+)"', text))
            named |= set(re.findall(r'(?:fetch|register)\("([^"]+)"\)', text))
    named.discard("./pocketseq.js")
    assert {"demo.js", "base.css", "icon.svg", "pocketseq.js", "site.json"} <= named
    assert {f"/{name}" for name in named} <= set(site)
    assert {"/worker.js", "/service-worker.js", "/litert/core.js"} <= set(site)


def test_the_models_in_the_box_are_listed_and_served_whole(site):
    models = json.loads(site["/site.json"].content)["models"]
    names = sorted(path.parent.name for path in ENGLISH.parent.glob("*/manifest.json"))
    assert [one["name"] for one in models] == names
    for one in models:
        manifest = json.loads(site[f"/{one['folder']}manifest.json"].content)
        entry = manifest["models"][one["recipe"]]
        served = site[f"/{one['folder']}{entry['file']}"].content
        assert len(served) == entry["bytes"]


def test_what_is_kept_offline_is_there_without_the_variants_of_the_runtime(site):
    files = json.loads(site["/site.json"].content)["files"]
    assert set(files) <= set(site)
    assert "/litert/core.js" in files
    assert not any("wasm_internal" in path for path in files)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/demo.js", "text/javascript; charset=utf-8"),
        ("/worker.js", "text/javascript; charset=utf-8"),
        ("/litert/litert_wasm_internal.wasm", "application/wasm"),
        ("/models/english-pronunciation/model-int8.tflite", "application/octet-stream"),
        ("/site.json", "application/json"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_files_have_their_media_types(site, path, media_type):
    status, fields, body = request(site, path)
    assert (status, fields["content-type"]) == (200, media_type)
    assert fields["x-content-type-options"] == "nosniff"
    assert int(fields["content-length"]) == len(body) > 0


def test_the_policy_allows_webassembly_and_nothing_inline(site):
    _, fields, page = request(site)
    policy = fields["content-security-policy"]
    assert "default-src 'none'" in policy and "'wasm-unsafe-eval'" in policy
    assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert b" style=" not in page and b"<style" not in page and b" on" not in page
    scripts = re.findall(rb"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert scripts == [b""]


def test_a_browser_that_has_a_file_does_not_get_it_again(site):
    _, fields, _ = request(site, "/demo.js")
    status, _, body = request(site, "/demo.js", **{"if-none-match": fields["etag"]})
    assert (status, body) == (304, b"")


def test_head_has_the_length_and_no_body(site):
    status, fields, body = request(site, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(fields["content-length"]) == len(site["/"].content)


# What is not.


@pytest.mark.parametrize(
    "path",
    [
        "/models", "/models/", "/litert/", "/index.html", "/demo", "//", "/./", "/..",
        "/../cli.py", "/models/../../cli.py", "/%2e%2e/cli.py", "/..%2fcli.py",
        "/models/english-pronunciation/../../../cli.py", "//etc/passwd",
        "/models/english-pronunciation/golden.jsonl", "/litert/.DS_Store",
        "/..\\cli.py", "/\0", "/demo.js\0.html", "/demo.js/", "*", "", "/README.md",
        "/package.json", "http://127.0.0.1:8473/",
    ],
)  # fmt: skip
def test_no_other_path_leads_anywhere(site, path):
    status, _, body = request(site, path)
    assert (status, body) == (404, b"there is nothing here\n")


@pytest.mark.parametrize(
    "host",
    ["", "example.org", "example.org:8473", "127.0.0.1", "127.0.0.1:80",
     "localhost:8473.example.org", "[::1]:8473"],
)  # fmt: skip
def test_other_hosts_are_refused(site, host):
    assert request(site, host=host)[0] == 421


def test_localhost_is_this_machine(site):
    assert request(site, host="localhost:8473")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_sent(site, method):
    status, fields, _ = request(site, method=method)
    assert (status, fields["allow"]) == (405, "GET, HEAD")


# The server.


@pytest.fixture(scope="module")
def port(site):
    """A server in a thread, as the command runs it."""
    import uvicorn

    with listening(None) as listener:
        running = uvicorn.Server(server.settings(site, listener))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        running.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET / HTTP/1.1", 200),
        ("GET /../cli.py HTTP/1.1", 404),
        ("GET /%2e%2e/cli.py HTTP/1.1", 404),
        ("GET /..%2f..%2fetc/passwd HTTP/1.1", 404),
        ("GET /%00 HTTP/1.1", 404),
        ("GET /%ff HTTP/1.1", 404),
        ("GET /models/ HTTP/1.1", 404),
        ("nonsense", 400),
    ],
)
def test_hostile_requests_are_answered(port, line, status):
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        host = f"Host: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(f"{line}\r\n{host}".encode())
        answer = connection.makefile("rb").readline()
    assert answer.split()[1] == str(status).encode()


def test_the_server_answers_several_requests_over_a_connection(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for path in ("/", "/nothing", "/pocketseq.js"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert len(response.read()) == int(response.headers["Content-Length"])
        assert "Server" not in response.headers
    connection.close()


def test_only_the_loopback_address_is_listened_on():
    with listening(None) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_one_line_and_another_is_found_without_one(monkeypatch):
    with listening(None) as listener:
        taken = listener.getsockname()[1]
        result = CliRunner().invoke(main, ["demo", "--port", str(taken)])
        monkeypatch.setattr(server, "USUAL_PORT", taken)
        with listening(None) as other:
            assert other.getsockname()[1] != taken
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: --port {taken}: Address already in use, expected a free port; without "
        f"--port one is found\n"
    )


# Models of the user's.


def test_a_bundle_of_the_user_s_comes_first(bundle, runtime):
    site = demo_site(str(bundle), runtime)
    first, *others = json.loads(site["/site.json"].content)["models"]
    assert first == {
        "name": "english-pronunciation", "folder": "given/", "recipe": "int8",
    }  # fmt: skip
    assert len(others) == len(list(ENGLISH.parent.glob("*/manifest.json")))
    assert "/given/model-int8.tflite" in site


def test_a_file_of_the_user_s_comes_first(bundle, runtime):
    path = bundle / "model-int8.tflite"
    path.rename(bundle / "it's 100 %.tflite")
    site = demo_site(str(bundle / "it's 100 %.tflite"), runtime)
    first, *_ = json.loads(site["/site.json"].content)["models"]
    assert first == {"name": "it's 100 %.tflite", "file": "given/model.tflite"}


def test_a_model_in_the_box_can_come_first(runtime):
    site = demo_site("italian-pronunciation", runtime)
    names = [one["name"] for one in json.loads(site["/site.json"].content)["models"]]
    assert names[0] == "italian-pronunciation"
    assert sorted(names) == sorted(set(names))


def edit(bundle, **values):
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["models"]["int8"] |= values
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("name", ["../secret.tflite", "/etc/passwd", "missing", ".."])
def test_a_manifest_cannot_publish_other_files(bundle, runtime, name):
    shutil.copy(bundle / "model-int8.tflite", bundle.parent / "secret.tflite")
    edit(bundle, file=name)
    with pytest.raises(UserError, match="no such file beside"):
        demo_site(str(bundle), runtime)


def test_a_damaged_file_is_named_before_anything_is_served(bundle, runtime):
    data = bytearray((bundle / "model-int8.tflite").read_bytes())
    data[1000] ^= 1
    (bundle / "model-int8.tflite").write_bytes(data)
    with pytest.raises(UserError, match="model-int8.tflite: damaged"):
        demo_site(str(bundle), runtime)


def test_a_file_of_another_export_is_named(bundle, runtime):
    edit(bundle, sha256="0" * 64)
    with pytest.raises(UserError, match="of another export: expected the SHA-256 in"):
        demo_site(str(bundle), runtime)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ((), "no manifest.json of an export in it, expected the folder of an export"),
        (("saved_model.pb",), "a SavedModel, which no app runs"),
        (("config.toml",), r"has no export yet, .* python cli.py export --model .*run"),
        (
            ("config.toml", "export/manifest.json"),
            "a run, expected its export: --model .*run/export",
        ),
    ],
)
def test_folders_that_are_no_export_say_what_to_do(tmp_path, runtime, files, problem):
    for name in files:
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "run").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=problem):
        demo_site(str(tmp_path / "run"), runtime)


def test_an_unknown_model_lists_those_in_the_box(runtime):
    with pytest.raises(UserError, match="the box: english-pronunciation"):
        demo_site("klingon-pronunciation", runtime)


# LiteRT.js.


def program(folder, name, lines):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The folder of the only programs there are."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return folder


def test_without_npm_there_is_one_line(programs):
    with pytest.raises(UserError, match="expected Node.js with npm"):
        litert.litert_folder()


def test_the_runtime_is_fetched_once_and_whole(programs, caplog):
    program(programs, "npm", "[ -f package-lock.json ] && [ $1 = ci ]")
    program(programs, "node", "[ $1 = litert.mjs ] && /bin/mkdir $2")
    with caplog.at_level("INFO", logger="pocketseq"):
        folder = litert.litert_folder()
        assert litert.litert_folder() == folder
    assert folder.is_dir() and list(folder.parent.iterdir()) == [folder]
    (line,) = caplog.messages
    assert re.fullmatch(r"fetching LiteRT.js [\d.]+ by npm, once, into .*", line)


def test_a_failure_of_npm_is_one_line_and_leaves_nothing(programs):
    program(programs, "npm", "echo 'npm error network' >&2; echo more >&2; exit 1")
    program(programs, "node", "exit 1")
    with pytest.raises(UserError, match=r"cannot be fetched: npm: npm error network$"):
        litert.litert_folder()
    assert list((programs.parent / "caches" / "pocketseq").iterdir()) == []


def test_the_lock_names_the_version_and_no_place():
    lock = json.loads((ROOT / "apps/web/package-lock.json").read_text())
    package = json.loads((ROOT / "apps/web/package.json").read_text())
    (name, version), *others = package["dependencies"].items()
    assert lock["packages"][f"node_modules/{name}"]["version"] == version and not others
    fetched = [one for path, one in lock["packages"].items() if path]
    assert all("integrity" in one and "resolved" not in one for one in fetched)


# The command.


def test_ctrl_c_ends_the_command_which_never_needs_tensorflow(runtime, tmp_path):
    caches = tmp_path / "pocketseq"
    version = json.loads((ROOT / "apps/web/package.json").read_text())["dependencies"]
    shutil.copytree(runtime, caches / f"litert-js-{version['@litertjs/core']}")
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from pocketseq.cli import main; main(['demo'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    address = process.stdout.readline().strip()
    host = address.removeprefix("http://").removesuffix("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read().startswith(b"<!doctype html>")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    connection.close()
    assert (process.returncode, output, errors) == (0, "", "Ctrl-C ends it\n")


def test_everything_that_the_command_serves_goes_into_a_wheel():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = options["tool"]["setuptools"]["package-data"]["pocketseq"]
    needed = [
        path for path in (ROOT / "apps/web").rglob("*")
        if path.is_file() and path.suffix in (*TYPES, ".mjs")
        and "node_modules" not in path.parts
    ]  # fmt: skip
    assert len(needed) > 10
    for path in needed:
        name = str(path.relative_to(ROOT))
        assert any(
            fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/")
            for pattern in patterns
        ), name
