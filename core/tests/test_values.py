"""Values as settings write them."""

from datetime import date, timedelta
from fractions import Fraction

import pytest

from tallystick import values
from tallystick.values import Period


@pytest.mark.parametrize(
    "written, number",
    [
        ("1.5", Fraction(3, 2)),
        ("1/3", Fraction(1, 3)),
        ("-2", Fraction(-2)),
        (7, Fraction(7)),
        ("0.10", Fraction(1, 10)),
    ],
)
def test_exact_numbers(written, number) -> None:
    assert values.exact(written) == number


@pytest.mark.parametrize(
    "written", ["", "1,5", "1e3", ".5", "1.", "1/0", "1 / 3", "nan", "inf", "٣", "1" * 31, "1_000", "--1"]
)
def test_what_is_no_exact_number(written) -> None:
    with pytest.raises(ValueError, match="is not an exact number"):
        values.exact(written)


@pytest.mark.parametrize("written", [1.5, True, None])
def test_what_cannot_be_one(written) -> None:
    with pytest.raises(TypeError):
        values.exact(written)


@pytest.mark.parametrize(
    "written, months, days",
    [
        ("P12M", 12, 0),
        ("P1Y6M", 18, 0),
        ("P30D", 0, 30),
        ("P2W", 0, 14),
        ("12mo", 12, 0),
        ("1y", 12, 0),
        ("30d", 0, 30),
    ],
)
def test_periods(written, months, days) -> None:
    assert values.period(written) == Period(months, days)


@pytest.mark.parametrize("written", ["", "P", "P0D", "0d", "12m", "1.5y", "PT1H", "36h", "-P1D", "P1D ", "p1d"])
def test_what_is_no_period(written) -> None:
    with pytest.raises(ValueError, match="is not a period"):
        values.period(written)


@pytest.mark.parametrize(
    "day, period, then",
    [
        ("2025-01-31", "P1M", "2025-02-28"),
        ("2024-02-29", "P12M", "2025-02-28"),
        ("2025-12-15", "P1M", "2026-01-15"),
        ("2018-07-01", "30d", "2018-07-31"),
        ("2025-01-31", "P1M1D", "2025-03-01"),
    ],
)
def test_months_clamp(day, period, then) -> None:
    assert values.period(period).after(date.fromisoformat(day)) == date.fromisoformat(then)


def test_the_period_before_clamps_too() -> None:
    assert values.period("P1M").before(date(2025, 3, 31)) == date(2025, 2, 28)


@pytest.mark.parametrize(
    "written, length",
    [
        ("7d", timedelta(days=7)),
        ("36h", timedelta(hours=36)),
        ("15min", timedelta(minutes=15)),
        ("PT90S", timedelta(seconds=90)),
        ("P1DT12H", timedelta(hours=36)),
        ("0s", timedelta()),
    ],
)
def test_durations(written, length) -> None:
    assert values.duration(written) == length


@pytest.mark.parametrize("written", ["", "P", "PT", "1mo", "1y", "P1M", "7", "7 d"])
def test_what_is_no_duration(written) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        values.duration(written)


@pytest.mark.parametrize("written", ["", "Nowhere", "../etc/passwd", "/etc/localtime", "Asia", "\0", "a" * 300])
def test_what_is_no_zone(written) -> None:
    with pytest.raises(ValueError, match="is not an IANA time zone"):
        values.zone(written)


@pytest.mark.parametrize(
    "said, language, shown",
    [
        ("Hello", "zh", "Hello"),
        ({"en": "Hello", "zh": "你好"}, "zh-TW", "你好"),
        ({"en": "Hello", "zh": "你好"}, "fr", "Hello"),
        ({"de": "Hallo"}, "fr", "Hallo"),
    ],
)
def test_texts_fall_back(said, language, shown) -> None:
    assert values.text(said).in_language(language) == shown


@pytest.mark.parametrize("currency, decimals", [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)])
def test_currencies_know_their_smallest_unit(currency, decimals) -> None:
    assert values.CURRENCIES[currency] == decimals
