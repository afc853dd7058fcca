"""Numbers as they are written and as they are spoken, in short sentences.

Number words come from num2words, the ways of writing from babel; what stands here is
which of them make an example, and the few things that neither has: times, amounts of
money, digits one by one.

Examples are divided by their numbers, see :func:`key_of`: a number that is tested was
never seen in training, in whatever sentence or unit. The sentences are the same in all
parts: they show what kind of number it is, and test nothing themselves.
"""

import datetime
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal
from babel.units import format_unit
from num2words import num2words

from pocketseq.pipeline.data.installed import part_of

#: Names of parts, and a test of numbers with more digits than most in training.
PARTS = ("train", "dev", "test", "longer")

# Below this, numbers are words that a language has, and all of them are for training.
_FIRST_HELD_OUT = 100

# The share of training numbers that are as long as those of ``longer``, and the digits.
_LONG_SHARE = 0.03
_LONG = (7, 9)
_USUAL = (1, 6)

_YEARS = (1100, 2099)


class Example(NamedTuple):
    """A text as it is written and as it is spoken; ``kind`` is of its number."""

    kind: str
    written: str
    spoken: str


Rendering = tuple[str, str]


class Language(ABC):
    """A language: how its numbers are written and spoken, and sentences for them.

    Methods return (written, spoken); where there are several ways of writing, a random
    one.
    """

    code: ClassVar[str]
    locale: ClassVar[str]
    #: ``{kind: sentences}``: "{}" is the number, and all that a kind has.
    sentences: ClassVar[Mapping[str, tuple[str, ...]]]
    #: ``{currency: (one, many, one hundredth, many hundredths)}``.
    money_words: ClassVar[Mapping[str, tuple[str, str, str, str]]]
    date_formats: ClassVar[tuple[str, ...]]
    units: ClassVar[tuple[str, ...]] = (
        "length-kilometer", "length-meter", "length-centimeter", "length-mile",
        "mass-kilogram", "mass-gram", "temperature-celsius",
        "speed-kilometer-per-hour", "volume-liter", "concentr-percent",
        "digital-gigabyte", "power-watt",
    )  # fmt: skip

    def words(self, number: int | Decimal, kind: str = "cardinal") -> str:
        """Returns the words of a number: ``cardinal``, ``ordinal`` or ``year``."""
        text = num2words(number, lang=self.code, to=kind)
        return text.replace(",", "")

    def digits(self, number: int | Decimal, rng: random.Random) -> str:
        """Returns a number in digits, in groups of three or not."""
        grouped = rng.random() < 0.5
        return format_decimal(
            number,
            locale=self.locale,
            group_separator=grouped,
            decimal_quantization=False,
        )

    def cardinal(self, number: int, rng: random.Random) -> Rendering:
        return self.digits(number, rng), self.words(number)

    @abstractmethod
    def ordinal(self, number: int, rng: random.Random) -> Rendering: ...

    def year(self, year: int, rng: random.Random) -> Rendering:
        return str(year), self.words(year, "year")

    def decimal(self, number: Decimal, rng: random.Random) -> Rendering:
        return self.digits(number, rng), self.words(number)

    def date(self, date: datetime.date, rng: random.Random) -> Rendering:
        pattern = rng.choice(self.date_formats)
        written = format_date(date, pattern, locale=self.locale)
        return written, self.spoken_date(date, pattern)

    @abstractmethod
    def spoken_date(self, date: datetime.date, pattern: str) -> str: ...

    def name_of(self, date: datetime.date, pattern: str) -> str:
        """Returns the name of a month (``MMMM``) or of a day of the week (``EEEE``)."""
        return format_date(date, pattern, locale=self.locale)

    @abstractmethod
    def time(self, minutes: int, rng: random.Random) -> Rendering:
        """Renders a time of the day, in minutes since midnight."""

    def money(self, amount: Decimal, rng: random.Random) -> Rendering:
        currency = rng.choice(list(self.money_words))
        whole = amount == amount.to_integral_value()
        pattern = None
        if whole and rng.random() < 0.5:
            pattern = {"en": "¤#,##0", "de": "#,##0 ¤"}[self.code]
        written = format_currency(
            amount, currency, pattern, locale=self.locale, currency_digits=not pattern
        )
        return written.replace("\xa0", " "), self.spoken_money(amount, currency)

    def spoken_money(self, amount: Decimal, currency: str) -> str:
        """Returns the words of an amount; hundredths of 0 are not mentioned."""
        one, many, one_part, parts = self.money_words[currency]
        whole = int(amount)
        rest = int((amount - whole) * 100)
        found = []
        if whole or not rest:
            found.append(self.counted(whole, one, many))
        if rest:
            found.append(self.counted(rest, one_part, parts))
        return f" {self.conjunction} ".join(found)

    #: Between the two parts of an amount of money.
    conjunction: ClassVar[str]

    def counted(self, number: int, one: str, many: str) -> str:
        """Returns the words of a number of things."""
        return f"{self.words(number)} {one if number == 1 else many}"

    def measure(self, number: Decimal, rng: random.Random) -> Rendering:
        unit = rng.choice(self.units)

        def form(length: Any) -> str:
            text = format_unit(number, unit, length, locale=self.locale)
            return text.replace("\xa0", " ")

        _, _, name = form("long").partition(" ")
        return form("short"), f"{self.words(number)} {name}"

    @abstractmethod
    def phone(self, digits: str, rng: random.Random) -> Rendering: ...

    def one_by_one(self, digits: str) -> str:
        """Returns the words of digits, each by itself."""
        return " ".join(self.words(int(digit)) for digit in digits if digit.isdecimal())


class English(Language):
    """American ways of writing, with the "and" that num2words puts into numbers."""

    code, locale, conjunction = "en", "en_US", "and"
    sentences: ClassVar = {
        "cardinal": (
            "{}", "there are {} of them", "{} people came", "we counted {} birds.",
            "it has {} pages", "more than {} items were sold", "is it {} or less?",
        ),
        "ordinal": (
            "{}", "the {} time", "this is our {} meeting", "she came {}.",
            "on the {} floor", "the {} edition was the best",
        ),
        "year": (
            "in {}", "since {}", "the summer of {}", "it was built in {}.",
            "from the year {}", "was he born in {}?",
        ),
        "decimal": (
            "{}", "the value is {}", "a factor of {}", "it rose by {} points.",
            "about {} on average",
        ),
        "date": (
            "{}", "on {}", "it was signed on {}.", "since {}", "the letter of {}",
            "are you free on {}?",
        ),
        "time": (
            "{}", "at {}", "the train leaves at {}.", "before {}", "wake me at {}",
            "is {} too late?",
        ),
        "money": (
            "{}", "it costs {}", "he paid {} for it", "a fee of {}.",
            "we still owe {}", "is {} enough?",
        ),
        "measure": (
            "{}", "it is {}", "about {} more", "after {} we stopped.", "only {} left",
        ),
        "phone": (
            "{}", "call {}", "my number is {}", "dial {} now", "reach us at {}.",
        ),
    }  # fmt: skip
    money_words: ClassVar = {
        "USD": ("dollar", "dollars", "cent", "cents"),
        "EUR": ("euro", "euros", "cent", "cents"),
        "GBP": ("pound", "pounds", "penny", "pence"),
    }
    date_formats: ClassVar = (
        "M/d/y", "MM/dd/y", "y-MM-dd", "MMMM d, y", "MMM d, y", "d MMMM y",
        "EEEE, MMMM d, y",
    )  # fmt: skip

    def ordinal(self, number, rng):
        return self.words(number, "ordinal_num"), self.words(number, "ordinal")

    def spoken_date(self, date, pattern):
        month, day = self.name_of(date, "MMMM"), self.words(date.day, "ordinal")
        year = self.words(date.year, "year")
        if pattern == "d MMMM y":
            return f"the {day} of {month} {year}"
        week_day = f"{self.name_of(date, 'EEEE')} " * pattern.startswith("EEEE")
        return f"{week_day}{month} {day} {year}"

    def time(self, minutes, rng):
        hour, minute = divmod(minutes, 60)
        if hour == 0 or rng.random() < 0.5:
            half = "ap"[hour >= 12]
            hour = (hour - 1) % 12 + 1
            suffix = rng.choice((f" {half}m", f" {half.upper()}M", f"{half}m"))
            after, spoken_suffix = "", f" {half} m"
        else:
            after = "hundred" if hour > 12 else "o'clock"
            suffix = spoken_suffix = ""
        if minute:
            after = "oh " * (minute < 10) + self.words(minute)
        spoken = f"{self.words(hour)} {after}".strip()
        return f"{hour}:{minute:02}{suffix}", spoken + spoken_suffix

    def phone(self, digits, rng):
        area, exchange, line = digits[:3], digits[3:6], digits[6:]
        forms = (
            f"{area}-{exchange}-{line}", f"({area}) {exchange}-{line}",
            f"{area}.{exchange}.{line}", f"{area} {exchange} {line}",
        )  # fmt: skip
        return rng.choice(forms), self.one_by_one(digits)


class German(Language):
    """Dates and ordinals in the dative, which the sentences ask for."""

    code, locale, conjunction = "de", "de_DE", "und"
    sentences: ClassVar = {
        "cardinal": (
            "{}", "es sind {}", "genau {} Leute kamen", "wir zählten {} Vögel.",
            "das Buch hat {} Seiten", "mehr als {} Stück", "sind es {} oder weniger?",
        ),
        "ordinal": (
            "zum {} Mal", "beim {} Versuch", "mit der {} Ausgabe", "im {} Stock.",
            "nach dem {} Treffen",
        ),
        "year": (
            "im Jahr {}", "seit {}", "der Sommer {}", "gebaut wurde es {}.",
            "aus dem Jahr {}", "war das {}?",
        ),
        "decimal": (
            "{}", "der Wert ist {}", "ein Faktor von {}", "es stieg um {} Punkte.",
            "im Mittel etwa {}",
        ),
        "date": (
            "am {}", "seit dem {}", "vor dem {}.", "der Brief vom {}",
            "bist du am {} frei?",
        ),
        "time": (
            "{}", "um {}", "der Zug fährt um {}.", "vor {}", "weck mich um {}",
            "ist {} zu spät?",
        ),
        "money": (
            "{}", "es kostet {}", "er zahlte {} dafür", "eine Gebühr von {}.",
            "wir schulden noch {}", "reichen {}?",
        ),
        "measure": (
            "{}", "es sind {}", "etwa {} mehr", "nach {} hielten wir.", "nur noch {}",
        ),
        "phone": (
            "{}", "Telefon {}", "meine Nummer ist {}", "bitte {} wählen",
            "Sie erreichen uns unter {}.",
        ),
    }  # fmt: skip
    money_words: ClassVar = {
        "EUR": ("Euro", "Euro", "Cent", "Cent"),
        "USD": ("Dollar", "Dollar", "Cent", "Cent"),
        "CHF": ("Franken", "Franken", "Rappen", "Rappen"),
    }
    date_formats: ClassVar = (
        "d.M.y", "dd.MM.y", "y-MM-dd", "d. MMMM y", "EEEE, d. MMMM y",
    )  # fmt: skip

    def words(self, number, kind="cardinal"):
        # num2words 0.5.14 says "zweihunderteinstausend" for 201000.
        return super().words(number, kind).replace("einstausend", "eintausend")

    def counted(self, number, one, many):
        return f"ein {one}" if number == 1 else super().counted(number, one, many)

    def ordinal(self, number, rng):
        return f"{number}.", f"{self.words(number, 'ordinal')}n"

    def spoken_date(self, date, pattern):
        day = f"{self.words(date.day, 'ordinal')}n"
        week_day = ""
        if pattern.startswith("EEEE"):
            week_day = f"{self.name_of(date, 'EEEE')} dem "
        year = self.words(date.year, "year")
        return f"{week_day}{day} {self.name_of(date, 'MMMM')} {year}"

    def time(self, minutes, rng):
        hour, minute = divmod(minutes, 60)
        written = f"{hour}{rng.choice(':.')}{minute:02} Uhr"
        spoken = self.counted(hour, "Uhr", "Uhr")
        return written, f"{spoken} {self.words(minute)}" if minute else spoken

    def phone(self, digits, rng):
        digits = f"0{digits[1:]}"
        area, line = digits[:4], digits[4:]
        forms = (
            f"{area} {line}",
            f"{area}-{line}",
            f"{area}/{line}",
            f"({area}) {line}",
        )
        return rng.choice(forms), self.one_by_one(digits)


LANGUAGES: dict[str, Language] = {"en": English(), "de": German()}


# Numbers at random: each takes the generator and whether the number is to be long.


def _integer(rng: random.Random, long: bool, digits: tuple[int, int] = _USUAL) -> int:
    """Returns a number, each number of digits being equally likely."""
    long = long or rng.random() < _LONG_SHARE
    length = rng.randint(*(_LONG if long else digits))
    return rng.randrange(10 ** (length - 1) if length > 1 else 0, 10**length)


def _with_fraction(rng: random.Random, long: bool) -> Decimal:
    """Returns a number with up to three places after the point, the last one not 0."""
    places = rng.randint(1, 3)
    part = rng.randrange(1, 10**places)
    part += part % 10 == 0
    whole = _integer(rng, long) if long else _integer(rng, False, (1, 4))
    return whole + Decimal(part).scaleb(-places)


def _amount(rng: random.Random, long: bool) -> Decimal:
    whole = Decimal(_integer(rng, long))
    return whole + Decimal(rng.randrange(100)).scaleb(-2) * (rng.random() < 0.6)


def _measured(rng: random.Random, long: bool) -> Decimal:
    """Returns a number of at least 2, because one of a unit is another word."""
    if rng.random() < 0.4:
        return _with_fraction(rng, False) + 2
    return Decimal(max(_integer(rng, long, (1, 4)), 2))


def _date(rng: random.Random, long: bool) -> datetime.date:
    year = rng.randint(*_YEARS)
    return datetime.date(year, 1, 1) + datetime.timedelta(rng.randrange(365))


#: How a number of each kind is chosen at random: ``(generator, is it long)``.
DRAWS: dict[str, Callable[[random.Random, bool], Any]] = {
    "cardinal": _integer,
    "ordinal": lambda rng, long: rng.randrange(1, 10 ** rng.randint(1, 4)),
    "year": lambda rng, long: rng.randint(*_YEARS),
    "decimal": _with_fraction,
    "date": _date,
    "time": lambda rng, long: rng.randrange(24 * 60),
    "money": _amount,
    "measure": _measured,
    "phone": lambda rng, long: f"{rng.randrange(200, 1000)}{rng.randrange(10**7):07}",
}

#: The kinds that have numbers of any length.
OF_ANY_LENGTH = ("cardinal", "decimal", "money")


def key_of(kind: str, value: Any) -> str:
    """Returns what no two parts share; "": a number that training always has.

    It is the same for all kinds that speak a number alike: the whole part of a number;
    for one below 100, the number with its fraction. For a date it is the year, for a
    time the hours of a dial with the minutes, for a phone number all its digits.
    """
    if kind == "date":
        return str(value.year)
    if kind == "time":
        hour, minute = divmod(value, 60)
        return f"{hour % 12}:{minute:02}"
    if kind == "phone":
        return f"phone {value[1:]}"
    if value >= _FIRST_HELD_OUT:
        return str(int(value))
    return "" if value == int(value) else f"{value.normalize():f}"


def _part_of(kind: str, value: Any) -> str:
    key = key_of(kind, value)
    return part_of(key) if key else "train"


def example(language: Language, kind: str, value: Any, rng: random.Random) -> Example:
    """Returns a number in one of the ways of writing it, in one of the sentences."""
    written, spoken = getattr(language, kind)(value, rng)
    sentence = rng.choice(language.sentences[kind])
    return Example(kind, sentence.format(written), sentence.format(spoken))


def examples(language: Language, seed: int, per_kind: int) -> dict[str, list[Example]]:
    """Returns the examples of each part, no written text twice.

    Args:
        language: One of :data:`LANGUAGES`.
        seed: Of the generator.
        per_kind: How many are drawn for each kind, before the same ones are left out.
            Their numbers decide the part: about 94 % are for training, 5 % for the
            test. For ``longer``, a twentieth of that, of the numbers of the test.
    """
    found: dict[str, list[Example]] = {part: [] for part in PARTS}
    seen: set[str] = set()
    for part, one in _drawn(language, random.Random(seed), per_kind):
        if one.written not in seen:
            seen.add(one.written)
            found[part].append(one)
    # In training, kinds are mixed.
    random.Random(seed).shuffle(found["train"])
    return found


def _drawn(
    language: Language, rng: random.Random, per_kind: int
) -> Iterator[tuple[str, Example]]:
    # The longer ones first, which would else be taken from the test.
    for kind in OF_ANY_LENGTH:
        for _ in range(per_kind):
            value = DRAWS[kind](rng, True)
            if _part_of(kind, value) == "test":
                yield "longer", example(language, kind, value, rng)
    for kind, draw in DRAWS.items():
        for _ in range(per_kind):
            value = draw(rng, False)
            yield _part_of(kind, value), example(language, kind, value, rng)
