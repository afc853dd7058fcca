"""Runs the web, Kotlin and C lines of a bundle's README.

Needs Linux, node, npm, a JDK and a C compiler, which not everyone has: its name keeps
it out of the usual suite. `npm ci --prefix tests/apps --ignore-scripts` brings the
rest; then name the file to pytest.

The web lines run on the real LiteRT.js, the C lines on a real `libtensorflowlite_c`.
What exactly lines hand to a runtime is seen with stand-ins that answer with the text.
"""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from unicodedata import normalize

import pytest
from readme_lines import lines_of

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
N, M = 32, 48

# What an app may be given, besides the "abcdef" that the model of the tests knows.
HOSTILE = (
    "", " ", "a b", "\u00e9", "e\u0301", "\uac01", "\u1100\u1161\u11a8",
    "\U0001f600", "ab\U0001f600cd", "\U0010ffff" * N, "abc" * 20,
    "a" * (N - 1) + "e\u0301", "\U0001f600" * (N + 4), "\u05e9\u05dc", "\u200b",
    "a\u00a0b", "##a", "full",
)  # fmt: skip

# What a stand-in answers.
ECHOED = [normalize("NFC", text)[:N] for text in HOSTILE[:-1]] + ["x" * M]


@pytest.fixture(scope="module")
def folder(app_bundle):
    return app_bundle


@pytest.fixture(scope="module")
def lines(folder):
    return lines_of((folder / "README.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def golden(folder):
    """``{text: its translation}``."""
    text = (folder / "golden.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.split("\n") if line]
    assert len(found) >= 100
    return {line["text"]: line["translation"] for line in found}


def run(*command, **options):
    """Runs a program that must be there and succeed, and returns what it printed."""
    options.setdefault("stdout", subprocess.PIPE)
    texts = [str(part) for part in command]
    return subprocess.run(texts, check=True, encoding="utf-8", **options).stdout


def run_web(lines, model, texts, folder):
    """Runs the web lines in a folder that has the runtime in `node_modules`."""
    script = folder / "lines.mjs"
    script.write_text(lines["js"], encoding="utf-8")
    command = ("node", HERE / "web" / "main.mjs", script, model)
    environment = os.environ | {"OUTPUT_LENGTH": str(M)}
    return json.loads(run(*command, input=json.dumps(texts), env=environment))


def test_the_web_lines_answer_as_the_golden_lines_say(folder, lines, golden, tmp_path):
    (tmp_path / "node_modules").symlink_to(MODULES)
    answers = run_web(lines, folder / "model-int8.tflite", list(golden), tmp_path)
    assert answers == list(golden.values())


def test_the_web_lines_give_the_model_what_it_reads(folder, lines, tmp_path):
    stand_in = tmp_path / "node_modules" / "@litertjs" / "core"
    stand_in.mkdir(parents=True)
    shutil.copy(HERE / "web" / "stand_in.mjs", stand_in)
    (stand_in / "package.json").write_text('{"exports": "./stand_in.mjs"}')
    assert run_web(lines, folder / "model-int8.tflite", HOSTILE, tmp_path) == ECHOED


@pytest.fixture(scope="module")
def kotlin(lines, tmp_path_factory):
    """The compiled lines, as a classpath."""
    work = tmp_path_factory.mktemp("kotlin")
    classes, compiled = work / "classes", work / "lines.jar"
    sources = sorted((HERE / "android" / "src").rglob("*.java"))
    run("javac", "-Xlint:all", "-Werror", "-d", classes, *sources)
    script = work / "Lines.kt"
    script.write_text(lines["kotlin"], encoding="utf-8")
    library = MODULES / "kotlin-compiler" / "lib"
    run(
        "java", "-cp", library / "kotlin-compiler.jar",
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-Werror",
        "-kotlin-home", library.parent, "-no-reflect",
        "-classpath", classes, "-d", compiled, script, HERE / "android" / "Main.kt",
    )  # fmt: skip
    return os.pathsep.join(map(str, (classes, compiled, library / "kotlin-stdlib.jar")))


def test_the_kotlin_lines_give_the_model_what_it_reads(folder, kotlin, tmp_path):
    model = (folder / "model-int8.tflite").read_bytes()
    archive = tmp_path / "app.apk"
    archive.write_bytes(b"before" + model + b"after")
    output = run(
        "java", "-cp", kotlin, "MainKt",
        archive, "model-int8.tflite", len(b"before"), len(model), N, M,
        input="".join(f"{utf16_units(text)}\n" for text in HOSTILE),
    )  # fmt: skip
    opened, *answers = output.splitlines()
    assert opened == f"{len(model)} {java_hash(model)}"
    found = ["".join(chr(int(code)) for code in line.split()) for line in answers]
    assert found == ECHOED


def utf16_units(text):
    return " ".join(map(str, memoryview(text.encode("utf-16-le")).cast("H")))


def java_hash(data):
    """``Arrays.hashCode`` of signed bytes."""
    result = 1
    for byte in data:
        result = (31 * result + (byte ^ 0x80) - 0x80) & 0xFFFFFFFF
    return (result ^ 0x80000000) - 0x80000000


def test_the_c_lines_answer_as_the_golden_lines_say(folder, lines, golden, tmp_path):
    script = tmp_path / "lines.h"
    script.write_text(lines["c"], encoding="utf-8")
    dependencies = MODULES / "tfjs-tflite-node" / "cc_deps"
    processor = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    library = dependencies / f"linux_{processor}"
    run(
        "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined",
        f'-DLINES="{script}"', f"-DOUTPUT_LENGTH={M}", "-I", HERE / "c",
        "-isystem", dependencies / "include", HERE / "c" / "main.c",
        HERE / "c" / "utf8proc.c", library / "libtensorflowlite_c.so",
        f"-Wl,-rpath,{library}", "-o", tmp_path / "main",
    )  # fmt: skip
    shutil.copy(folder / "model-int8.tflite", tmp_path)
    # A line is a text here; other texts than these are in NFC already.
    texts = {
        text: answer for text, answer in golden.items()
        if not {"\n", "\0"} & {*text} and normalize("NFC", text) == text
    }  # fmt: skip
    assert len(texts) >= 90
    more = ["\u00e9", "e\u0301", "abc\u00e9", "abce\u0301"]
    output = run(
        tmp_path / "main", cwd=tmp_path,
        input="".join(f"{text}\n" for text in (*texts, *more)),
    )  # fmt: skip
    answers = output.split("\n")[:-1]
    assert answers[: len(texts)] == list(texts.values())
    composed, decomposed, longer, longer_decomposed = answers[len(texts) :]
    assert (decomposed, longer_decomposed) == (composed, longer)
