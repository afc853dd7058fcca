import unicodedata

import numpy as np
import pytest

from pocketseq.pipeline.text.normalization import (
    MAXIMUM_EXPANSION,
    PAGE_SIZE,
    WHITE_SPACE,
    Normalization,
    frozen_table,
    paged_table,
)

ALPHABET = "abcdefgksz \u00df\u00e9\u0301\u0308\u03b1\u03b9\u1112\u1161\u11ab\u4e00"
COMBINATIONS = [(False, False), (True, False), (False, True), (True, True)]
# Beyond these, Unicode has no character with a normal form of its own.
EVERY_CHARACTER = [chr(c) for c in range(1, 0x32000) if not 0xD800 <= c < 0xE000]


def oracle(character, fold_case, decompose):
    """The normal form, from Python's own Unicode functions."""
    form = character.casefold() if fold_case else character
    return unicodedata.normalize("NFD", form) if decompose else form


@pytest.fixture(scope="module", params=COMBINATIONS, ids=str)
def case(request):
    """One combination of the two steps, and the table for it."""
    return request.param, frozen_table(Normalization(*request.param), ALPHABET)


def test_a_table_holds_the_normal_form_of_all_that_leads_to_the_alphabet(case):
    combination, table = case
    alphabet, expected = set(ALPHABET), {}
    for character in EVERY_CHARACTER:
        form = oracle(character, *combination)
        if not alphabet.isdisjoint(form):
            known = (c if c in ALPHABET else "\ufffd" for c in form)
            expected[character] = "".join(known)[:4]
    assert table == expected


def test_a_normal_form_has_one_to_four_code_points(case):
    _, table = case
    assert MAXIMUM_EXPANSION == 4
    assert all(1 <= len(form) <= 4 for form in table.values())


def test_the_alphabet_is_its_own_normal_form(case):
    combination, table = case
    own = [c for c in ALPHABET if oracle(c, *combination) == c]
    assert [table[c] for c in own] == own


def test_text_is_normalised_code_point_by_code_point_without_reordering():
    # Canonical reordering would put the dot below before the accent above.
    text = "q\u0301\u0323"
    assert Normalization(decompose=True).apply(text) == text
    assert unicodedata.normalize("NFD", text) != text


def test_case_folding_knows_no_context():
    # str.lower would make the last sigma a final one.
    apply = Normalization(fold_case=True).apply
    assert apply("\u03a3\u0391\u03a3") == "\u03c3\u03b1\u03c3"
    assert apply("Stra\u00dfe") == "strasse"


def test_without_steps_text_stays_as_it_is():
    assert Normalization().apply("\u00c5b\uac01\u00df") == "\u00c5b\uac01\u00df"


def test_korean_syllables_become_letters():
    letters = Normalization(decompose=True).apply("\ud55c\uae00")
    assert letters == "\u1112\u1161\u11ab\u1100\u1173\u11af"


def test_white_space_is_the_unicode_property():
    # PropList.txt of Unicode 15 counts 25: all of category Z, and six controls.
    assert len(WHITE_SPACE) == 25
    separators = {c for c in EVERY_CHARACTER if unicodedata.category(c)[0] == "Z"}
    assert separators < WHITE_SPACE
    controls = {"\t", "\n", "\x0b", "\x0c", "\r", "\x85"}
    assert WHITE_SPACE - separators == controls


def looked_up(paged, code_point):
    page, place = divmod(code_point, PAGE_SIZE)
    page = min(page, len(paged.page_of) - 1)
    row = paged.forms[paged.page_of[page] * PAGE_SIZE + place]
    return [int(number) for number in row if number]


@pytest.mark.parametrize("page", [0, 1, 3, 0x1F, 0x4D, 0x4E, 0x4F, 0xAC, 0x1F6, 0x10FF])
def test_a_lookup_by_page_equals_the_table(case, page):
    _, table = case
    number_of = {c: i for i, c in enumerate(["\ufffd", *sorted(ALPHABET)], start=1)}
    paged = paged_table(table, number_of, unknown=1)
    for code_point in range(page * PAGE_SIZE, (page + 1) * PAGE_SIZE):
        form = table.get(chr(code_point), "\ufffd")
        assert looked_up(paged, code_point) == [number_of[c] for c in form]


def test_pages_without_an_entry_share_one(case):
    _, table = case
    paged = paged_table(table, dict.fromkeys("\ufffd" + ALPHABET, 1), unknown=1)
    used = {ord(character) // PAGE_SIZE for character in table}
    assert len(paged.forms) == PAGE_SIZE * (1 + len(used))
    assert paged.width == max(map(len, table.values()))
    assert (paged.page_of.dtype, paged.forms.dtype) == (np.int32, np.int16)


def test_an_empty_table_knows_nothing():
    paged = paged_table({}, {}, unknown=7)
    assert [looked_up(paged, c) for c in (0, 65, 0x10FFFF)] == [[7], [7], [7]]


@pytest.mark.parametrize(("largest", "dtype"), [(32_767, np.int16), (32_768, np.int32)])
def test_numbers_of_a_large_alphabet_have_room(largest, dtype):
    characters = [chr(0x4E00 + i) for i in range(3)]
    number_of = dict(zip(characters, (2, 3, largest), strict=True))
    paged = paged_table({c: c for c in characters}, number_of, unknown=1)
    assert [looked_up(paged, ord(c)) for c in characters] == [[2], [3], [largest]]
    assert paged.forms.dtype == dtype
