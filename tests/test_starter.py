"""What is installed here is in order, and the first tally.toml that anybody sees works with it."""

import pytest

from tallystick import config, discovery
from tallystick.document import Document

INSTALLED = discovery.discover()


@pytest.mark.parametrize("plugin", INSTALLED.values(), ids=INSTALLED)
def test_every_plugin_has_a_manifest_and_events_whose_examples_fit(plugin) -> None:
    assert {kind.plugin for kind in discovery.load_kinds(plugin.manifest)} <= {plugin.id}


def test_the_first_tally_toml_passes_its_check_with_the_plugins_it_names(tmp_path) -> None:
    (tmp_path / "tally.secret").write_text("0123456789abcdef0123456789abcdef")
    found = config.check(Document(config.render_default("demo")), installed=INSTALLED, folder=tmp_path)
    assert found.unavailable == ()
    assert "points" in found.tenants["demo"].plugins
