"""The remembered wall clock shows what the zone's rules say, in every zone, on every kind of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tests.rules.test_agreement import PATIENT
from tallystick.rules.clock import steady, wall_clock
from tallystick.rules.operations import local

ZONES = sorted(available_timezones() - {"localtime"})
INSTANTS = st.datetimes(datetime(1960, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(PATIENT, max_examples=300)
@given(zone=st.sampled_from(ZONES), moments=st.lists(INSTANTS, min_size=10, max_size=10))
def test_the_wall_clock_of_any_zone(zone: str, moments: list[datetime]) -> None:
    read = wall_clock(ZoneInfo(zone))
    for moment in moments:
        for near in (moment, moment.replace(hour=23, minute=59), moment.replace(hour=0, minute=0)):
            assert read(near).replace(tzinfo=None) == local(near, ZoneInfo(zone)).replace(tzinfo=None)


@pytest.mark.parametrize(
    "zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Europe/Dublin", "Asia/Gaza"]
)
def test_every_half_hour_of_three_years(zone: str) -> None:
    read, known, moment = wall_clock(ZoneInfo(zone)), ZoneInfo(zone), datetime(2024, 1, 1, tzinfo=UTC)
    for _ in range(3 * 365 * 48):
        assert read(moment).replace(tzinfo=None) == moment.astimezone(known).replace(tzinfo=None)
        moment += timedelta(minutes=30)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "UTC", "Europe/Moscow", "America/Sao_Paulo", "Asia/Kathmandu"])
def test_through_its_steady_years_a_clock_keeps_its_distance(zone: str) -> None:
    span = steady(ZoneInfo(zone))
    assert span is not None
    first, end, offset = span
    moment = first
    while moment < end:
        assert moment.astimezone(ZoneInfo(zone)).utcoffset() == offset
        moment += timedelta(hours=12)


def test_a_clock_that_is_moved_every_year_has_no_steady_years() -> None:
    assert steady(ZoneInfo("America/New_York")) is None


def test_instants_that_are_not_in_utc_and_the_ends_of_time() -> None:
    read = wall_clock(ZoneInfo("America/New_York"))
    assert read(datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=8)))).hour == 12
    for end in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert read(end).year in (1, 9999)
