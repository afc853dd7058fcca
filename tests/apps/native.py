"""Compiles and runs the C and Kotlin wrappers in ``apps/``.

Needs Debian on x86-64 with gcc, clang, ``libclang-rt-dev``, a JDK,
``libutf8proc-dev``, ``gcc-aarch64-linux-gnu`` and ``qemu-user-static``; and
``npm ci --prefix tests/apps --ignore-scripts``, which brings Kotlin's compiler. Its
name keeps it out of the usual suite: name the file to pytest.

What is expected comes from the golden lines, and from the wrapper for Python in the
same environment.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from unicodedata import normalize

import ai_edge_litert
import numpy as np
import pytest

from answering.c import phone_root
from pocketseq.export.apps import PLATFORMS, description, description_name
from pocketseq.export.contract import Manifest

ROOT = Path(__file__).parents[2]
APPS = ROOT / "apps"
HERE = Path(__file__).with_name("native")
MODULES = Path(__file__).with_name("node_modules")
LITERT = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

# What an app may be given; bundles have golden lines besides.
HOSTILE = (
    "", " ", "a b", "\u00e9", "e\u0301", "\uac01", "\u1100\u1161\u11a8",
    "\U0001f600", "ab\U0001f600cd", "\U0010ffff" * 70, "abc" * 40, "ab " * 60,
    " " * 70, "a" + " " * 70, "abcdefgh " * 2 + "ab", "a" * 15 + "e\u0301",
    "\u05e9\u05dc", "\u200b", "a\u00a0b", "##a", "ab\0cd", "\0", "\ufffd", "\ud800a",
    "ab cd ef ab cd ef ab", "a\x1cb " * 20, "abcdefgh " * 3 + "abcde fg",
    "abcdefgh " * 7 + "i jk",
)  # fmt: skip

# Bytes that are not UTF-8, besides those that a fuzzer finds.
BROKEN = (
    b"\xff", b"a\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf",
    b"\xe0\x80\xaf", b"\xf0\x9f\x98a", b"ab\x80\x80cd", b"\xf0\x80\x80\x80",
)  # fmt: skip


def run(*command, **options):
    """Runs a program that must be there and succeed, and returns what it printed."""
    texts = [str(part) for part in command]
    if shutil.which(texts[0]) is None:
        pytest.fail(f"{texts[0]} is not installed; {__file__} says what is needed")
    options.setdefault("stderr", subprocess.PIPE)
    done = subprocess.run(texts, stdout=subprocess.PIPE, encoding="utf-8", **options)
    assert done.returncode == 0, f"{texts}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def lines_of(path):
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.fixture(scope="module")
def python_wrapper():
    path = APPS / "python" / "pocketseq_model.py"
    spec = importlib.util.spec_from_file_location("pocketseq_model", path)
    assert spec and spec.loader
    sys.modules["pocketseq_model"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small_bundle(app_bundle):
    return app_bundle


@pytest.fixture(
    scope="module", params=["small", "english-pronunciation", "italian-pronunciation"]
)
def bundle(request):
    if request.param == "small":
        return request.getfixturevalue("small_bundle")
    return ROOT / "models" / request.param


def described(folder, template, work):
    """Writes what describes a bundle's model, and returns its path."""
    manifest = Manifest.from_json((folder / "manifest.json").read_text("utf-8"))
    path = work / description_name(manifest.name, template)
    path.write_text(description(manifest, template), encoding="utf-8")
    return path


def model_file(folder):
    (path,) = folder.glob("*-int8.tflite")
    return path


class Calls:
    """Texts to translate, and what the wrapper for Python answers."""

    def __init__(self, folder, wrapper):
        self.golden = lines_of(folder / "golden.jsonl")
        beam = folder / "golden_beam.jsonl"
        self.golden_beam = lines_of(beam) if beam.exists() else []
        self.greedy = [line["text"] for line in self.golden] + list(HOSTILE)
        self.beam = [line["text"] for line in self.golden_beam]
        self.beam += HOSTILE if self.beam else ()
        model = wrapper.Model(folder)
        self.expected = [[model.translate(text)] for text in self.greedy]
        self.expected += [model.best(text) for text in self.beam]

    def __iter__(self):
        """Yields (whether with the beam, the text)."""
        return chain(((False, t) for t in self.greedy), ((True, t) for t in self.beam))

    def check(self, answers, tolerance):
        """Compares answers with the golden lines and with Python's.

        Args:
            answers: ``[[(source, text, score, alignment)]]``, in the order of the
                calls.
            tolerance: How much scores and alignments may differ from Python's; where
                other kernels round otherwise, texts that are not golden may differ.
        """
        assert len(answers) == len(self.expected)
        texts = [[text for _, text, *_ in answer] for answer in answers]
        assert texts[: len(self.golden)] == [
            [line["translation"]] for line in self.golden
        ]
        first = len(self.greedy)
        assert texts[first : first + len(self.golden_beam)] == [
            line["translations"] for line in self.golden_beam
        ]
        differing = 0
        for answer, expected in zip(answers, self.expected, strict=True):
            assert {source for source, *_ in answer} == {expected[0].source}
            differing += [one[1] for one in answer] != [one.text for one in expected]
            for one, right in zip(answer, expected, strict=False):
                self.check_one(one, right, tolerance)
        return differing

    def check_one(self, answer, expected, tolerance):
        source, text, score, alignment = answer
        assert alignment.shape == (len(text), len(source))
        if source:
            np.testing.assert_allclose(alignment.sum(1), 1, atol=1e-3)
        if text == expected.text:
            assert abs(score - expected.score) <= tolerance
            np.testing.assert_allclose(alignment, expected.alignment, atol=tolerance)


@pytest.fixture(scope="module")
def calls(bundle, python_wrapper):
    return Calls(bundle, python_wrapper)


# C.


def compile_c(folder, program, *options, compiler="gcc", libraries=(LITERT,)):
    """Compiles a program with the wrapper and what describes a bundle's model."""
    target = program.parent
    header = described(folder, PLATFORMS["c"].description, target)
    name = header.stem
    run(
        compiler, *WARNINGS, *options, f'-DMODEL_HEADER="{header.name}"',
        f"-DMODEL={name}", "-I", target, "-I", APPS / "c", "-o", program,
        *libraries, *(f"-Wl,-rpath,{path.parent}" for path in libraries),
    )  # fmt: skip
    return program


def as_utf8(text):
    """A text for C: halves of surrogate pairs have bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def call_c(command, calls, times=1):
    """Returns what C answers to ``(with beam, text or bytes)``."""
    lines = [
        f"{'best' if beam else 'translate'} "
        f"{(text if isinstance(text, bytes) else as_utf8(text)).hex()}\n"
        for beam, text in calls
    ]
    output = run(*command, times, input="".join(lines))
    return [[*answers_in(line)] for line in output.splitlines()]


def answers_in(line):
    source, *translations = line.split("\t")
    assert source != "error", line
    source = bytes.fromhex(source).decode()
    for one in translations:
        text, score, rows, columns, *shares = one.split(" ") if one else []
        text = bytes.fromhex(text).decode()
        shape = int(rows), int(columns)
        alignment = np.array(shares, np.float32).reshape(shape)
        yield source, text, float(score), alignment


# C cuts a surrogate pair's half into three broken bytes, so it has more U+FFFD.
def without_surrogates(calls):
    return [not any("\ud800" <= c <= "\udfff" for c in text) for _, text in calls]


class Kept:
    """Calls without those that a platform cannot be given."""

    def __init__(self, calls, keep):
        self.calls = [call for call, kept in zip(calls, keep, strict=True) if kept]
        self.whole = calls
        self.keep = keep

    def check(self, answers, tolerance):
        given = iter(answers)
        whole = [
            next(given) if kept else
            [(one.source, one.text, one.score, one.alignment) for one in expected]
            for kept, expected in zip(self.keep, self.whole.expected, strict=True)
        ]  # fmt: skip
        return self.whole.check(whole, tolerance)


@pytest.fixture(scope="module")
def c_calls(calls):
    return Kept(calls, without_surrogates(calls))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_answers_as_golden_lines_and_python_do(bundle, c_calls, compiler, tmp_path):
    program = compile_c(
        bundle, tmp_path / "calls", "-O2", HERE / "calls.c", APPS / "c/pocketseq.c",
        "-lutf8proc", compiler=compiler,
    )  # fmt: skip
    answers = call_c((program, model_file(bundle)), c_calls.calls)
    assert c_calls.check(answers, tolerance=1e-4) == 0


def test_c_is_clean_under_sanitizers_and_remembers_what_it_answered(
    bundle, c_calls, tmp_path
):
    program = compile_c(
        bundle, tmp_path / "calls", *SANITIZERS, "-DPOCKETSEQ_REMEMBERED=8",
        HERE / "calls.c", APPS / "c/pocketseq.c", "-lutf8proc",
    )  # fmt: skip
    # Twice the same question: by the model, and from memory.
    answers = call_c((program, model_file(bundle)), c_calls.calls, times=2)
    assert c_calls.check(answers[::2], tolerance=1e-4) == 0
    assert c_calls.check(answers[1::2], tolerance=1e-4) == 0


@pytest.fixture(scope="module")
def aarch64(tmp_path_factory):
    """A folder that is the root of an aarch64 machine."""
    return phone_root(tmp_path_factory.mktemp("aarch64"))


def test_c_answers_on_aarch64_as_golden_lines_say(bundle, c_calls, aarch64, tmp_path):
    program = compile_c(
        bundle, tmp_path / "calls", "-O2", "-isystem", aarch64 / "usr/include",
        HERE / "calls.c", APPS / "c/pocketseq.c", "-Wl,-rpath,/ai_edge_litert",
        "-Wl,--allow-shlib-undefined", compiler="aarch64-linux-gnu-gcc",
        libraries=(
            aarch64 / "ai_edge_litert/libLiteRt.so",
            aarch64 / "usr/lib/aarch64-linux-gnu/libutf8proc.so.2",
        ),
    )  # fmt: skip
    command = ("qemu-aarch64-static", "-cpu", "cortex-a76", "-L", aarch64, program)
    answers = call_c((*command, model_file(bundle)), c_calls.calls)
    # Other kernels round activations otherwise.
    assert c_calls.check(answers, tolerance=0.05) <= 2


def test_c_reads_what_is_not_utf8_as_python_does(small_bundle, tmp_path):
    program = compile_c(
        small_bundle, tmp_path / "calls", *SANITIZERS, HERE / "calls.c",
        APPS / "c/pocketseq.c", "-lutf8proc",
    )  # fmt: skip
    generator = np.random.default_rng(1)
    drawn = [
        bytes(generator.choice([0x61, 0x80, 0xA0, 0xBF, 0xC3, 0xE0, 0xE2, 0xED, 0xF0,
                                0xF4, 0xFF], 12).astype(np.uint8))
        for _ in range(300)
    ]  # fmt: skip
    texts = [*BROKEN, *drawn]
    answers = call_c(
        (program, model_file(small_bundle)), [(False, text) for text in texts]
    )
    expected = [normalize("NFC", text.decode("utf-8", "replace")) for text in texts]
    assert [answer[0][0] for answer in answers] == expected


def test_c_knows_a_dictionary_of_the_app(small_bundle, tmp_path):
    program = compile_c(
        small_bundle, tmp_path / "calls", *SANITIZERS, HERE / "calls.c",
        APPS / "c/pocketseq.c", "-lutf8proc",
    )  # fmt: skip
    long = "abc " * 30
    entries = [("e\u0301", "B"), ("abc", "X"), ("abc", "Y \u00e9"), (long, "long"),
               ("", "nothing"), ("ab", "")]  # fmt: skip
    lines = [f"entry {k.encode().hex() or ' '} {v.encode().hex()}\n"
             for k, v in entries if k]  # fmt: skip
    asked = ["\u00e9", "abc", long, "ab", "abcd"]
    lines += [f"translate {text.encode().hex()}\n" for text in asked]
    output = run(program, model_file(small_bundle), 1, input="".join(lines))
    answers = [[*answers_in(line)] for line in output.splitlines()]
    assert [answer[0][1] for answer in answers[:4]] == ["B", "Y \u00e9", "long", ""]
    source, _, score, alignment = answers[1][0]
    assert (source, score) == ("abc", 0)
    np.testing.assert_allclose(alignment, np.full((3, 3), 1 / 3), atol=1e-6)
    assert answers[4][0][2] < 0  # by the model


@pytest.mark.parametrize("count", [2000])
def test_c_refuses_damaged_files_by_one_line(small_bundle, count, tmp_path):
    program = compile_c(
        small_bundle, tmp_path / "mutants", "-O2", *SANITIZERS, HERE / "mutants.c",
        APPS / "c/pocketseq.c", "-lutf8proc",
    )  # fmt: skip
    output = run(program, model_file(small_bundle), tmp_path / "copy.tflite", count)
    assert output == f"{count + 2} of {count + 2} refused, the whole file opened\n"


def test_c_says_in_a_line_what_it_cannot_open(small_bundle, tmp_path):
    program = compile_c(
        small_bundle, tmp_path / "calls", *SANITIZERS, HERE / "calls.c",
        APPS / "c/pocketseq.c", "-lutf8proc",
    )  # fmt: skip
    problems = {}
    whole = model_file(small_bundle).read_bytes()
    for name, content in {
        "short": whole[:-1], "long": whole + b"0", "other": whole[:-1] + b"?",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    for name in ("short", "long", "other", "missing", ""):
        done = subprocess.run(
            [program, tmp_path / name, "1"], stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert done.returncode == 1
        problems[name] = done.stdout
    size = f"does not have the expected {len(whole)} bytes\n"
    assert problems["short"].endswith(size) and problems["long"].endswith(size)
    assert problems["other"].endswith("does not have the expected SHA-256\n")
    assert problems["short"].startswith(f"error\t{tmp_path / 'short'}: damaged")
    assert problems["missing"] == (
        f"error\t{tmp_path / 'missing'}: cannot be read: No such file or directory\n"
    )
    assert problems[""].endswith("cannot be read: Is a directory\n")


def test_a_file_that_does_not_have_the_described_signatures_is_refused(
    small_bundle, tmp_path
):
    program = tmp_path / "calls"
    header = described(small_bundle, PLATFORMS["c"].description, tmp_path)
    text = header.read_text()
    changes = {
        '"translate_beam"': '"translate_bean"', ", 3}": ", 4}",
        '{"translate", 32': '{"translate", 31', ", 1}": "1, 1}",
    }  # fmt: skip
    for old, new in changes.items():
        assert old in text
        header.write_text(text.replace(old, new))
        run(
            "gcc", *WARNINGS, *SANITIZERS, f'-DMODEL_HEADER="{header.name}"',
            f"-DMODEL={header.stem}", "-I", tmp_path, "-I", APPS / "c",
            HERE / "calls.c", APPS / "c/pocketseq.c", "-lutf8proc", LITERT,
            f"-Wl,-rpath,{LITERT.parent}", "-o", program,
        )  # fmt: skip
        done = subprocess.run(
            [program, model_file(small_bundle), "1"], stdout=subprocess.PIPE
        )
        assert (done.returncode, done.stdout.split(b": ")[1:]) == (1, [
            b"the runtime cannot find the described signatures, expected LiteRT 2.2 "
            b"or 2.3\n"
        ])  # fmt: skip


def test_the_text_side_of_c_withstands_a_fuzzer(tmp_path):
    program, corpus = tmp_path / "fuzz", tmp_path / "corpus"
    corpus.mkdir()
    for i, seed in enumerate([*BROKEN, *map(as_utf8, HOSTILE)]):
        (corpus / str(i)).write_bytes(b"\x05" + seed)
    run(
        "clang", *WARNINGS, "-g", "-O1", "-fsanitize=fuzzer,address,undefined",
        "-fno-sanitize-recover=all", "-Wno-unused-function",
        HERE / "fuzz_text.c", "-o", program, LITERT, f"-Wl,-rpath,{LITERT.parent}",
        "-lutf8proc",
    )  # fmt: skip
    calls = 50_000
    run(program, "-seed=1", f"-runs={calls}", "-max_len=256", "-print_final_stats=1",
        corpus, cwd=tmp_path)  # fmt: skip
    assert not list(tmp_path.glob("crash-*")) + list(tmp_path.glob("leak-*"))


def test_c_hashes_any_length_and_calls_the_shortest_signature(tmp_path):
    run(
        "gcc", *WARNINGS, *SANITIZERS, "-Wno-unused-function", HERE / "units.c", "-o",
        tmp_path / "units", LITERT, f"-Wl,-rpath,{LITERT.parent}", "-lutf8proc",
    )  # fmt: skip
    hashes = run(tmp_path / "units").split()
    data = bytes(range(200))
    expected = [hashlib.sha256(data[:length]).hexdigest() for length in range(201)]
    assert hashes == expected


def test_models_in_c_do_not_know_of_one_another(small_bundle, tmp_path):
    program = compile_c(
        small_bundle, tmp_path / "threads", *SANITIZERS, HERE / "threads.c",
        APPS / "c/pocketseq.c", "-lutf8proc", "-pthread",
    )  # fmt: skip
    run(program, model_file(small_bundle))


def test_the_example_in_c_answers_line_by_line(tmp_path):
    bundle = ROOT / "models/english-pronunciation"
    program = compile_c(
        bundle, tmp_path / "main", APPS / "c/example.c", APPS / "c/pocketseq.c",
        "-lutf8proc",
    )  # fmt: skip
    shutil.copy(model_file(bundle), tmp_path)
    output = run(program, cwd=tmp_path, input="phone\r\npocket\n")
    assert output == "F OW1 N\nP AA1 K AH0 T\n"


# Kotlin.


def kotlinc(output, *sources, classpath=()):
    library = MODULES / "kotlin-compiler" / "lib"
    if not library.is_dir():
        pytest.fail(f"{library}: not there, expected npm ci --prefix tests/apps")
    run(
        "java", "-cp", library / "kotlin-compiler.jar",
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-Werror",
        "-kotlin-home", library.parent, "-no-reflect", "-classpath",
        joined(*classpath, library / "kotlin-test.jar"), "-d", output, *sources,
    )  # fmt: skip
    return output


def joined(*classpath):
    return os.pathsep.join(map(str, classpath))


@pytest.fixture(scope="module")
def kotlin(small_bundle, tmp_path_factory):
    """The wrapper and its tests, compiled with stubs of LiteRT, as a classpath."""
    work = tmp_path_factory.mktemp("kotlin")
    stubs = work / "stubs"
    sources = sorted(HERE.with_name("android").glob("src/**/*.java"))
    run("javac", "-Xlint:all", "-Werror", "-d", stubs, *sources)
    model = described(small_bundle, PLATFORMS["android"].description, work)
    wrapper = [APPS / "android" / path for path in PLATFORMS["android"].sources]
    classes = kotlinc(
        work / "classes.jar", *wrapper, model, *(HERE / "kotlin").glob("*.kt"),
        classpath=[stubs],
    )  # fmt: skip
    library = MODULES / "kotlin-compiler" / "lib"
    return joined(
        classes, stubs, library / "kotlin-stdlib.jar", library / "kotlin-test.jar"
    )


def test_kotlin_reads_cuts_remembers_refuses_and_can_be_cancelled(kotlin, tmp_path):
    output = run("java", "-cp", kotlin, "pocketseq.tests.UnitsKt", tmp_path / "model")
    assert len(output.splitlines()) == 11


def write_table(folder, wrapper, calls, path):
    """Writes what the model's signatures answer, for a runtime that looks it up."""
    model = wrapper.Model(folder)
    lines = set()
    for (with_beam, _), expected in zip(calls, calls.expected, strict=True):
        source = expected[0].source
        length = min(one for one in model._lengths if one >= len(source))
        name = model._lengths[length]
        if with_beam:
            name = name.replace("translate", "translate_beam", 1)
        fields = [name, codes_of(source)]
        for one in expected:
            shares = " ".join(map(str, one.alignment.flat))
            fields += [repr(one.score), codes_of(one.text), shares]
        lines.add("\t".join(fields))
    path.write_text("".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")


def codes_of(text):
    return " ".join(str(ord(character)) for character in text)


def test_kotlin_answers_as_golden_lines_and_python_do(
    small_bundle, python_wrapper, kotlin, tmp_path
):
    calls = Calls(small_bundle, python_wrapper)
    write_table(small_bundle, python_wrapper, calls, tmp_path / "table")
    lines = [
        f"{'best' if beam else 'translate'} "
        f"{text.encode('utf-16-be', 'surrogatepass').hex()}\n"
        for beam, text in calls
    ]
    output = run(
        "java", "-cp", kotlin, "pocketseq.tests.MainKt", model_file(small_bundle),
        tmp_path / "table", 2, input="".join(lines),
    )  # fmt: skip
    answers = [[*answers_in(line)] for line in output.split("\n")[:-1]]
    assert calls.check(answers[::2], tolerance=1e-6) == 0
    assert calls.check(answers[1::2], tolerance=1e-6) == 0


def test_the_screen_of_the_android_project_compiles_with_stubs(kotlin, tmp_path):
    folder = APPS / "android/app/src/main/kotlin/pocketseq/example"
    bundle = ROOT / "models/english-pronunciation"
    model = described(bundle, PLATFORMS["android"].description, tmp_path)
    kotlinc(
        tmp_path / "app.jar", model, *folder.glob("*.kt"), *HERE.glob("stubs/*.kt"),
        classpath=[kotlin],
    )  # fmt: skip
