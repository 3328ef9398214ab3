"""What a rule may know: the programme's calendar."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.situation import Programme

EARLIEST, LATEST = datetime(1901, 1, 1), datetime(2399, 1, 1)  # noqa: DTZ001  hypothesis puts the zone to it
ZONES = ("UTC", "America/New_York", "Asia/Shanghai", "Asia/Beirut", "America/Havana", "Pacific/Apia", "Africa/Cairo")


@pytest.mark.parametrize("zone", ZONES)
@given(st.lists(st.datetimes(EARLIEST, LATEST, timezones=st.just(UTC)), max_size=20), st.data())
def test_the_local_day_is_the_zones_own_in_whatever_order_it_is_asked(
    zone: str, times: list[datetime], data: st.DataObject
) -> None:
    programme = Programme(tenant="t", generation=1, hash="", zone=ZoneInfo(zone), currency="USD", units={})
    for time in times:
        near = time + timedelta(minutes=data.draw(st.integers(-3_000, 3_000)))
        for instant in (time, near, time):
            assert programme.local_date(instant) == instant.astimezone(ZoneInfo(zone)).date()
