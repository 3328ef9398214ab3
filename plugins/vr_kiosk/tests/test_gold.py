"""The plugin is certified gold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tallystick.certify import certify


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_the_plugin_is_gold(make_database: Callable[[], str]) -> None:
    found = certify("vr_kiosk", postgresql=make_database(), up_to="gold")
    assert [each for each in found.findings if each.state == "failed"] == []
    assert found.level == "gold"
