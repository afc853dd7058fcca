"""Tests of the pairs that the benchmarks of each use make, and of their figures."""

import datetime
import gzip
import random
import re
from collections import Counter
from decimal import Decimal

import click
import pytest
from click.testing import CliRunner

import gruut
import multi30k
import normalization
import sigmorphon2020
import spelling
from pocketseq.pipeline.configuration import RECIPES, load_recipe
from pocketseq.pipeline.data.installed import part_of
from pocketseq.pipeline.errors import UserError
from trials import Plan, Trial, plan_options, write_pairs
from written_numbers import DRAWS, LANGUAGES, PARTS, example, examples, key_of

ENGLISH, GERMAN = LANGUAGES["en"], LANGUAGES["de"]


class Always(random.Random):
    """A generator that takes the choice with some number, and groups no digits."""

    def __init__(self, index=0, share=0.9):
        super().__init__(1)
        self.index, self.share = index, share

    def choice(self, seq):
        return seq[self.index]

    def random(self):
        return self.share


# written_numbers.py


@pytest.mark.parametrize(
    ("language", "number", "expected"),
    [
        (ENGLISH, 0, "zero"), (ENGLISH, 21, "twenty-one"),
        (ENGLISH, 1101, "one thousand one hundred and one"),
        (ENGLISH, 2000017, "two million and seventeen"),
        (GERMAN, 0, "null"), (GERMAN, 21, "einundzwanzig"),
        (GERMAN, 1101, "eintausendeinhunderteins"),
        (GERMAN, 201000, "zweihunderteintausend"),
        (GERMAN, 1000030, "eine Million dreißig"),
    ],
)  # fmt: skip
def test_cardinal_numbers_are_spoken(language, number, expected):
    assert language.cardinal(number, Always()) == (str(number), expected)


def test_digits_are_in_groups_as_the_language_has_them():
    grouped = Always(share=0.1)
    assert ENGLISH.digits(1234567, grouped) == "1,234,567"
    assert GERMAN.digits(1234567, grouped) == "1.234.567"
    assert ENGLISH.digits(Decimal("1234.506"), grouped) == "1,234.506"
    assert GERMAN.digits(Decimal("1234.506"), Always()) == "1234,506"


def test_ordinal_numbers_and_years_are_spoken():
    assert ENGLISH.ordinal(3, Always()) == ("3rd", "third")
    assert ENGLISH.ordinal(112, Always()) == ("112th", "one hundred and twelfth")
    assert GERMAN.ordinal(3, Always()) == ("3.", "dritten")
    assert ENGLISH.year(1905, Always()) == ("1905", "nineteen oh-five")
    assert ENGLISH.year(2021, Always()) == ("2021", "twenty twenty-one")
    expected = ("1905", "neunzehnhundertfünf")
    assert GERMAN.year(1905, Always()) == expected


def test_digits_after_the_point_are_spoken_one_by_one():
    number = Decimal("12.075")
    expected = ("12.075", "twelve point zero seven five")
    assert ENGLISH.decimal(number, Always()) == expected
    assert GERMAN.decimal(number, Always()) == (
        "12,075", "zwölf Komma null sieben fünf",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("language", "index", "written", "spoken"),
    [
        (ENGLISH, 0, "4/3/2021", "April third twenty twenty-one"),
        (ENGLISH, 1, "04/03/2021", "April third twenty twenty-one"),
        (ENGLISH, 2, "2021-04-03", "April third twenty twenty-one"),
        (ENGLISH, 3, "April 3, 2021", "April third twenty twenty-one"),
        (ENGLISH, 4, "Apr 3, 2021", "April third twenty twenty-one"),
        (ENGLISH, 5, "3 April 2021", "the third of April twenty twenty-one"),
        (ENGLISH, 6, "Saturday, April 3, 2021",
         "Saturday April third twenty twenty-one"),
        (GERMAN, 0, "3.4.2021", "dritten April zweitausendeinundzwanzig"),
        (GERMAN, 1, "03.04.2021", "dritten April zweitausendeinundzwanzig"),
        (GERMAN, 2, "2021-04-03", "dritten April zweitausendeinundzwanzig"),
        (GERMAN, 3, "3. April 2021", "dritten April zweitausendeinundzwanzig"),
        (GERMAN, 4, "Samstag, 3. April 2021",
         "Samstag dem dritten April zweitausendeinundzwanzig"),
    ],
)  # fmt: skip
def test_dates_are_written_in_several_ways(language, index, written, spoken):
    assert len(language.date_formats) == (7 if language is ENGLISH else 5)
    date = datetime.date(2021, 4, 3)
    assert language.date(date, Always(index)) == (written, spoken)


@pytest.mark.parametrize(
    ("language", "hour", "minute", "share", "expected"),
    [
        (ENGLISH, 15, 45, 0.9, ("15:45", "fifteen forty-five")),
        (ENGLISH, 15, 0, 0.9, ("15:00", "fifteen hundred")),
        (ENGLISH, 3, 0, 0.9, ("3:00", "three o'clock")),
        (ENGLISH, 3, 5, 0.9, ("3:05", "three oh five")),
        (ENGLISH, 15, 45, 0.1, ("3:45 pm", "three forty-five p m")),
        (ENGLISH, 12, 0, 0.1, ("12:00 pm", "twelve p m")),
        (ENGLISH, 0, 30, 0.9, ("12:30 am", "twelve thirty a m")),
        (GERMAN, 15, 45, 0.9, ("15:45 Uhr", "fünfzehn Uhr fünfundvierzig")),
        (GERMAN, 1, 0, 0.9, ("1:00 Uhr", "ein Uhr")),
        (GERMAN, 0, 5, 0.9, ("0:05 Uhr", "null Uhr fünf")),
    ],
)
def test_times_are_spoken(language, hour, minute, share, expected):
    assert language.time(60 * hour + minute, Always(share=share)) == expected


@pytest.mark.parametrize(
    ("language", "amount", "index", "share", "expected"),
    [
        (ENGLISH, "1234.50", 0, 0.9,
         ("$1,234.50",
          "one thousand two hundred and thirty-four dollars and fifty cents")),
        (ENGLISH, "12", 1, 0.1, ("€12", "twelve euros")),
        (ENGLISH, "12", 1, 0.9, ("€12.00", "twelve euros")),
        (ENGLISH, "1.01", 2, 0.9, ("£1.01", "one pound and one penny")),
        (ENGLISH, "0.99", 2, 0.9, ("£0.99", "ninety-nine pence")),
        (ENGLISH, "0", 0, 0.9, ("$0.00", "zero dollars")),
        (GERMAN, "1234.50", 0, 0.9,
         ("1.234,50 €", "eintausendzweihundertvierunddreißig Euro und fünfzig Cent")),
        (GERMAN, "1.01", 0, 0.9, ("1,01 €", "ein Euro und ein Cent")),
        (GERMAN, "7", 2, 0.1, ("7 CHF", "sieben Franken")),
    ],
)  # fmt: skip
def test_amounts_of_money_are_spoken(language, amount, index, share, expected):
    generator = Always(index, share)
    assert language.money(Decimal(amount), generator) == expected


def test_measures_and_telephone_numbers_are_spoken():
    assert ENGLISH.measure(Decimal("12.5"), Always()) == (
        "12.5 km", "twelve point five kilometers",
    )  # fmt: skip
    celsius = ENGLISH.units.index("temperature-celsius")
    expected = ("21°C", "twenty-one degrees Celsius")
    assert ENGLISH.measure(Decimal(21), Always(celsius)) == expected
    assert GERMAN.measure(Decimal("12.5"), Always()) == (
        "12,5 km", "zwölf Komma fünf Kilometer",
    )  # fmt: skip
    written, spoken = ENGLISH.phone("2125550134", Always(1))
    assert written == "(212) 555-0134"
    assert spoken == "two one two five five five zero one three four"
    written, spoken = GERMAN.phone("2301234567", Always())
    assert written == "0301 234567"
    assert spoken == "null drei null eins zwei drei vier fünf sechs sieben"


def test_a_number_stands_in_a_sentence_of_its_kind():
    found = example(ENGLISH, "cardinal", 12, Always(2))
    assert found == ("cardinal", "12 people came", "twelve people came")


@pytest.fixture(scope="module", params=LANGUAGES)
def generated(request):
    return request.param, examples(LANGUAGES[request.param], 1, 300)


_WORD_VALUES = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen "
        "fourteen fifteen sixteen seventeen eighteen nineteen".split(),
        range(20), strict=True,
    )
) | dict(
    zip("twenty thirty forty fifty sixty seventy eighty ninety".split(),
        range(20, 100, 10), strict=True)
)  # fmt: skip


def value_of(words):
    """The number that English words say."""
    words, _, fraction = words.partition(" point ")
    total = group = 0
    for word in words.replace("-", " ").replace(" and ", " ").split():
        if word == "hundred":
            group *= 100
        elif word in ("thousand", "million"):
            total += group * {"thousand": 1000, "million": 10**6}[word]
            group = 0
        else:
            group += _WORD_VALUES[word]
    digits = "".join(str(_WORD_VALUES[word]) for word in fraction.split())
    return Decimal(f"{total + group}.{digits or 0}")


def test_english_words_say_what_the_digits_say():
    checked = 0
    for part in examples(ENGLISH, 2, 300).values():
        for one in part:
            written = re.search(r"[\d,]+(\.\d+)?", one.written)
            spoken = re.search(
                rf"(\b({'|'.join(_WORD_VALUES)}|hundred|thousand|million|and|point)\b"
                r"[ -]?)+", one.spoken,
            )  # fmt: skip
            if one.kind in ("cardinal", "decimal"):
                assert written and spoken, one
                digits = Decimal(written[0].replace(",", ""))
                assert value_of(spoken[0].strip()) == digits, one
                checked += 1
    assert checked > 500


# What is left of a written text is the number, but for signs between its digits.
def numbers_in(written):
    return {
        int(run)
        for run in re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3})", "", written))
    }


def test_no_number_of_a_test_is_in_training(generated):
    language, parts = generated
    texts = {part: {one.written for one in parts[part]} for part in PARTS}
    assert all(len(texts[part]) == len(parts[part]) for part in PARTS)
    assert sum(map(len, texts.values())) == len(set().union(*texts.values()))
    if language != "en":
        return

    # Times and telephone numbers are made of small numbers: there, the whole counts.
    def of_kinds(part, *kinds):
        return [one for one in parts[part] if one.kind in kinds]

    counted = ("cardinal", "ordinal", "year", "decimal", "date", "money", "measure")
    known = set().union(*(numbers_in(o.written) for o in of_kinds("train", *counted)))
    for part in PARTS[1:]:
        for one in of_kinds(part, *counted):
            # A fraction below 100 is new as a whole, not in its parts.
            large = {n for n in numbers_in(one.written) if n >= 1000}
            assert not large & known, one
    for kind in ("time", "phone"):
        wholes = [
            {re.sub(r"\D", "", one.written) for one in of_kinds(part, kind)}
            for part in ("train", "test")
        ]
        assert wholes[1] and not wholes[0] & wholes[1]
    small = [
        {re.sub(r"[^\d.]", "", o.written).strip(".") for o in of_kinds(p, "decimal")}
        for p in ("train", "test")
    ]
    assert small[1] and not small[0] & small[1]


def test_every_kind_is_in_training_and_its_numbers_are_drawn_again(generated):
    language, parts = generated
    assert set(Counter(one.kind for one in parts["train"])) == set(DRAWS)
    assert {one.kind for one in parts["longer"]} == {"cardinal", "decimal", "money"}
    for one in parts["longer"]:
        digits = sum(character.isdecimal() for character in one.written)
        assert 7 <= digits <= (9 if one.kind == "cardinal" else 12)
    assert parts == examples(LANGUAGES[language], 1, 300)
    assert parts != examples(LANGUAGES[language], 2, 300)


def test_the_texts_fit_the_recipe(generated):
    _, parts = generated
    recipe = load_recipe("normalization")
    for one in (one for part in parts.values() for one in part):
        assert len(one.written) <= recipe.source.max_code_points
        assert len(one.spoken) <= recipe.target.max_code_points


def test_numbers_that_are_spoken_alike_have_the_same_key():
    assert key_of("cardinal", 1987) == key_of("year", 1987) == "1987"
    assert key_of("money", Decimal("1987.50")) == "1987"
    assert key_of("date", datetime.date(1987, 5, 3)) == "1987"
    assert key_of("decimal", Decimal("2.50")) == key_of("measure", Decimal("2.5"))
    assert key_of("time", 15 * 60 + 5) == key_of("time", 3 * 60 + 5) == "3:05"
    # All small numbers are for training.
    assert key_of("ordinal", 99) == key_of("money", Decimal("12.00")) == ""


# normalization.py


def test_exact_answers_are_told_by_part():
    one = {"bytes": 9, "test": {"exact": 99.0}, "longer": {"exact": 90.0}}
    found = normalization.exact({"minutes": 1.0, "float32": one, "int8": one})
    assert found["int8"] == {"test": 99.0, "longer": 90.0}


# spelling.py

LINES = """Abandonned->abandoned
abck->back, aback,
nd->and, 2nd,
clas->class, disabled because of name clash
becasue->because
afircan->African
"""


def test_lines_of_the_dictionary_are_read():
    assert spelling.read_corrections(LINES) == {
        "abandonned": ["abandoned"],
        "abck": ["back", "aback"],
        "nd": ["and", "2nd"],
        "clas": ["class"],
        "becasue": ["because"],
        "afircan": ["african"],
    }


def test_a_word_that_is_corrected_is_not_right_however_frequent():
    corrections = spelling.read_corrections(LINES)
    found = spelling.right_words(corrections, ["the", "nd", "back", "becasue"])
    assert found[:2] == ["the", "back"]
    assert set(found) == {
        "the", "back", "aback", "and", "2nd", "class", "because", "african",
        "abandoned",
    }  # fmt: skip


def test_words_are_letters():
    words = ["don't", "été", "'tis", "1990s", "e-mail", "'", "a"]
    assert [word for word in words if spelling.is_word(word)] == ["don't", "été", "a"]


def test_no_right_word_of_codespells_is_in_two_parts():
    text = spelling.dictionary().read_text(encoding="utf-8")
    corrections = spelling.read_corrections(text)
    assert len(corrections) > 60_000
    parts = [spelling.of_part(corrections, part) for part in ("train", "dev", "test")]
    words = [{word for several in part.values() for word in several} for part in parts]
    assert not (words[0] & words[1] | words[0] & words[2] | words[1] & words[2])
    assert not set(parts[0]) & set(parts[2])
    # Few are left out, and a test is a twentieth.
    kept = sum(map(len, parts))
    assert kept > 0.98 * len(corrections)
    assert 0.03 < len(parts[2]) / kept < 0.07
    # Right words that training repeats are none of the test's.
    right = {
        word
        for word in spelling.right_words(corrections, [])
        if part_of(word) == "train"
    }
    assert words[0] <= right and not right & words[2]


def test_training_has_one_answer_and_a_test_accepts_all():
    corrections = spelling.read_corrections("abck->back, aback,")
    assert list(spelling.likeliest(corrections)) == [("abck", "back")]
    assert list(spelling.every(corrections)) == [("abck", "back"), ("abck", "aback")]
    assert list(spelling.unchanged(["the"])) == [("the", "the")]


def test_the_nearest_word_is_the_most_frequent_of_the_nearest():
    # One swap from "the"; "then" and "than" are both one letter from "thn".
    assert spelling.nearest(["teh"], ["ten", "the", "tea"]) == ["ten"]
    assert spelling.nearest(["teh"], ["the", "ten", "tea"]) == ["the"]
    assert spelling.nearest(["thn", "becasue"], ["then", "than", "because"]) == [
        "then", "because",
    ]  # fmt: skip


def test_baselines_are_measured_on_misspelled_words():
    corrections = {"becasue": ["because"], "abck": ["back", "aback"]}
    found = spelling.baselines(corrections, ["because", "black"])
    assert found["unchanged"]["exact"] == 0.0
    assert found["nearest"]["exact"] == 50.0
    # Two edits in seven letters, and one from "aback" (one letter is missing) of five.
    assert found["unchanged"]["cer"] == pytest.approx(100 * 3 / 12)


# multi30k.py


@pytest.mark.parametrize(
    ("lower_case", "target"), [(False, "Die Straße"), (True, "die straße")]
)
def test_both_sides_of_a_caption_are_one_line(tmp_path, lower_case, target):
    for language, text in (("en", "The\u00a0street \n"), ("de", "Die  Straße\n")):
        with gzip.open(tmp_path / f"val.{language}.gz", "wt", encoding="utf-8") as file:
            file.write(text)
    source = "the street" if lower_case else "The street"
    found = list(multi30k.parallel(tmp_path, "val", "en", "de", lower_case))
    assert found == [(source, target)]
    found = list(multi30k.parallel(tmp_path, "val", "de", "en", lower_case))
    assert found == [(target, source)]


def test_bleu_is_case_insensitive_and_signed():
    found = multi30k.both_forms(
        ["A Dog runs in the park"], ["a dog runs in a park"], "en"
    )
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours.
    by_hand = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    assert found["bleu"] == pytest.approx(by_hand)
    assert found["tokenized"] == pytest.approx(by_hand)
    assert "case:lc" in found["bleu_signature"] and "tok:13a" in found["bleu_signature"]
    assert "tok:none" in found["tokenized_signature"]


def test_the_form_of_the_literature_has_the_tokens_of_moses():
    output, reference = "The man's hat is red now", "the man hat is red now"
    found = multi30k.both_forms([output], [reference], "en")
    # 's is a token of its own, or one with the word before it.
    apart = 100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** (1 / 4)
    together = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    assert found["tokenized"] == pytest.approx(apart)
    assert found["bleu"] == pytest.approx(together)


def test_what_int8_loses_is_a_difference():
    report = {"float32": {"test": {"bleu": 36.0}}, "int8": {"test": {"bleu": 35.75}}}
    assert multi30k.loss(report, "test") == 0.25


# gruut.py


def test_a_language_is_reported_with_what_looks_rule_made(monkeypatch, tmp_path):
    measured = {"bytes": 640_000, "test": {"wer": 0.4, "per": 0.1}}
    commands = []

    def report(trial, files):
        commands.append((trial.command[1], files))
        return {"minutes": 3.0, "float32": measured, "int8": measured}

    def check(train, dev):
        return {"recipe": "pronunciation-small", "settings": ["source.decompose=true"]}

    monkeypatch.setattr(Trial, "report", report)
    monkeypatch.setattr("gruut.pocketseq.check", check)
    monkeypatch.setattr("gruut.words_of", {
        "gruut:sw:train": 1900, "gruut:sw:dev": 20, "gruut:sw:test": 100,
    }.get)  # fmt: skip
    found = gruut.language_report(Plan(tmp_path, ""), "sw", stress=False)
    assert commands == [
        ("pronunciation-small", {"dev": "gruut:sw:dev", "test": "gruut:sw:test"})
    ]
    assert found["looks_rule_made"]
    lines = gruut.table({"sw": found, "de": found | {"looks_rule_made": False}})
    assert lines.splitlines()[2:] == [
        "| sw | 1,900 | 20 | 100 | pronunciation-small | 0.40 | 0.10 | 0.40 | 0.10 | "
        "640 | 3.0 | yes |",
        "| de | 1,900 | 20 | 100 | pronunciation-small | 0.40 | 0.10 | 0.40 | 0.10 | "
        "640 | 3.0 |  |",
    ]


def test_languages_that_are_not_installed_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr("gruut.installed", lambda name: None)
    assert not gruut.is_there("sw")
    result = CliRunner().invoke(gruut.main, ["--runs", str(tmp_path)])
    assert result.exit_code == 1
    assert "expected packages such as gruut-lang-sw" in result.output


# trials.py


def test_a_plan_makes_the_command_of_a_trial(tmp_path):
    plan = Plan(tmp_path, "spelling", 3, ("model.units=8",), 5.0)
    trial = plan.trial("one", tmp_path / "a.tsv", "cmudict:dev", settings=["x.y=1"])
    assert trial.command == [
        "train", "spelling", "--train", str(tmp_path / "a.tsv"), "--dev", "cmudict:dev",
        "--set", "training.seed=3", "--set", "x.y=1", "--set", "model.units=8",
    ]  # fmt: skip
    assert (trial.run, trial.minutes) == (tmp_path / "one", 5.0)
    assert plan.parts("d", test="t") == {"dev": "d", "test": "t"}
    assert Plan(tmp_path, "", dev_only=True).parts("d", test="t") == {"dev": "d"}


def test_a_student_is_trained_after_its_teachers(tmp_path, monkeypatch):
    commands = []

    def run(words, **_):
        words = words[2:]
        commands.append(words)
        (tmp_path / words[words.index("--run") + 1]).mkdir()
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("trials.subprocess.run", run)
    plan = Plan(tmp_path, "spelling", 3, ("model.units=8",))
    trial = sigmorphon2020.trial_of(plan, 2, "one", tmp_path / "a", tmp_path / "b")
    trial.train()
    trial.train()
    runs = [str(tmp_path / name) for name in ("one-seed3", "one-seed4", "one-of-2")]
    assert [command[command.index("--run") + 1] for command in commands] == runs
    seeds = [3, 4, 3]
    for command, seed in zip(commands, seeds, strict=True):
        assert f"training.seed={seed}" in command
        assert "model.units=8" in command
    assert commands[2][:5] == ["distill", *runs[:2], "--recipe", "spelling"]


def test_a_run_that_another_command_began_is_refused(tmp_path):
    (tmp_path / "trial.json").write_text('{"command": ["train", "a"], "trained": 1.0}')
    Trial("one", tmp_path, ["train", "a"]).train()
    with pytest.raises(click.ClickException, match="another command began it"):
        Trial("one", tmp_path, ["train", "b"]).train()


def test_minutes_count_over_interruptions(tmp_path, monkeypatch):
    commands = []

    def run(words, **_):
        commands.append(words[2:])
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("trials.subprocess.run", run)
    (tmp_path / "config.toml").touch()
    (tmp_path / "trial.json").write_text('{"training": 90.0}')
    Trial("one", tmp_path, ["train", "a"], minutes=2.0).train()
    assert commands[0][:4] == ["train", "--resume", "--minutes", "0.50"]


def test_a_users_mistake_is_one_line():
    @click.command()
    @plan_options("runs/x", "spelling")
    def command(plan):
        raise UserError(f"{plan.recipe}: wrong")

    result = CliRunner().invoke(command, [])
    assert (result.exit_code, result.output) == (1, "Error: spelling: wrong\n")


def test_pairs_are_written_as_lines(tmp_path):
    path = write_pairs(tmp_path / "new" / "a.tsv", [("ä", "b c")])
    assert path.read_text(encoding="utf-8") == "ä\tb c\n"


def test_every_use_has_a_recipe():
    names = {path.stem for path in RECIPES.glob("*.toml")}
    assert {"spelling", "normalization", "transliteration", "translation"} <= names
    assert load_recipe("spelling").metric == load_recipe("normalization").metric
