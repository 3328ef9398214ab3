"""The values settings are written in: exact numbers, periods, durations, currencies, zones, texts in several languages."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from datetime import date, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import attrs

_EXACT = re.compile(r"([+-]?[0-9]{1,30})(?:/([0-9]{1,30})|\.([0-9]{1,30}))?")
_PERIOD = re.compile(r"P(?:([0-9]{1,4})Y)?(?:([0-9]{1,5})M)?(?:([0-9]{1,5})W)?(?:([0-9]{1,6})D)?")
_DURATION = re.compile(
    r"P(?:([0-9]{1,5})W)?(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,7})M)?(?:([0-9]{1,9})S)?)?"
)
_SHORT = re.compile(r"([0-9]{1,9})(y|mo|w|d|h|min|s)")


def exact(value: str | int) -> Fraction:
    """The exact number written as ``"1.5"``, ``"-2"``, ``"1/3"`` or 7.

    Raises ValueError otherwise; a float is a TypeError, for it has already lost what was written.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"{value!r} is not an exact number")
    if isinstance(value, int):
        return Fraction(value)
    found = _EXACT.fullmatch(value)
    if found is None or (found[2] is not None and int(found[2]) == 0):
        raise ValueError(f"{value!r} is not an exact number")
    return Fraction(value)


@attrs.frozen
class Period:
    """A length on the calendar: months first (clamped to the month's end), then days."""

    months: int = 0
    days: int = 0

    def after(self, day: date) -> date:
        """The day this period after *day*; the 31st plus one month is the last day of the next month."""
        month = day.month - 1 + self.months
        year, month = day.year + month // 12, month % 12 + 1
        clamped = date(year, month, min(day.day, calendar.monthrange(year, month)[1]))
        return clamped + timedelta(days=self.days)

    def before(self, day: date) -> date:
        """The day this period before *day*, clamped in the same way."""
        return Period(-self.months, -self.days).after(day)


def period(value: str) -> Period:
    """The calendar period written as ``"P12M"``, ``"P1Y6M"``, ``"P30D"``, or short ``"12mo"``, ``"1y"``, ``"2w"``, ``"30d"``.

    Raises ValueError for anything else, and for a period of nothing.
    """
    if short := _SHORT.fullmatch(value):
        number = int(short[1])
        sizes = {"y": Period(12 * number), "mo": Period(number), "w": Period(0, 7 * number), "d": Period(0, number)}
        if short[2] in sizes and number:
            return sizes[short[2]]
    elif long := _PERIOD.fullmatch(value):
        years, months, weeks, days = (int(part or 0) for part in long.groups())
        if years or months or weeks or days:
            return Period(12 * years + months, 7 * weeks + days)
    raise ValueError(f"{value!r} is not a period")


def duration(value: str) -> timedelta:
    """The fixed length of time written as ``"PT36H"``, ``"P7D"``, or short ``"7d"``, ``"36h"``, ``"15min"``, ``"90s"``.

    A day is 24 hours here; for calendar days and months use :func:`period`. Raises ValueError for anything else.
    """
    if short := _SHORT.fullmatch(value):
        number = int(short[1])
        match short[2]:
            case "w":
                return timedelta(weeks=number)
            case "d":
                return timedelta(days=number)
            case "h":
                return timedelta(hours=number)
            case "min":
                return timedelta(minutes=number)
            case "s":
                return timedelta(seconds=number)
            case _:
                pass
    elif (long := _DURATION.fullmatch(value)) and any(part is not None for part in long.groups()):
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in long.groups())
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    raise ValueError(f"{value!r} is not a duration")


def zone(value: str) -> ZoneInfo:
    """The IANA time zone of that name; raises ValueError if there is none."""
    try:
        return ZoneInfo(value)
    except (OSError, ValueError, LookupError):  # ZoneInfo raises any of these, by the kind of nonsense
        raise ValueError(f"{value!r} is not an IANA time zone") from None


@attrs.frozen
class Text:
    """A sentence for people, in one or more languages."""

    languages: Mapping[str, str]

    def in_language(self, language: str) -> str:
        """The text in *language*, else in its base language (``zh`` for ``zh-TW``), else in English, else in any."""
        for wanted in (language, language.partition("-")[0], "en"):
            if wanted in self.languages:
                return self.languages[wanted]
        return next(iter(self.languages.values()), "")

    def __str__(self) -> str:
        return self.in_language("en")


def text(value: str | Mapping[str, str]) -> Text:
    """A plain string counts as English."""
    return Text({"en": value} if isinstance(value, str) else dict(value))


_TWO_DIGITS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE
CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR
KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB
PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY
TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
#: ISO 4217 codes and how many decimals their smallest unit has.
CURRENCIES: Mapping[str, int] = {
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}
