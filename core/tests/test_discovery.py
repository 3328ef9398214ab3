"""Installed plugins are found, and not imported."""

import sys

import pytest

from tallystick import discovery
from tallystick.errors import PluginBroken

MANIFEST = 'id = "{id}"\napi = ">=1,<2"\nsummary = "A plugin."\n'


def test_an_installed_plugin_is_known_without_being_imported(site) -> None:
    site.install("aster")
    found = discovery.discover()["aster"]
    assert str(found.manifest.version) == "1.5"
    assert found.distribution == "tallystick-aster"
    assert found.manifest.root == site.folder / "tallystick_aster"
    assert "tallystick_aster" not in sys.modules


def test_an_editable_install_is_found_where_its_source_is(site, tmp_path, monkeypatch) -> None:
    source = tmp_path / "src"
    site.install("bellis", source=source)
    monkeypatch.syspath_prepend(str(source))  # what the .pth file does at start
    assert discovery.discover()["bellis"].manifest.root == source / "tallystick_bellis"
    assert "tallystick_bellis" not in sys.modules


@pytest.mark.parametrize(
    "how, says",
    [
        ({"manifest": None}, "has no plugin.toml: its files are missing"),
        (
            {"manifest": 'id = "other"\napi = ">=1"\nsummary = "x"\n'},
            'called "crocus" but its plugin.toml says id = "other"',
        ),
        (
            {"manifest": 'id = "crocus"\napi = ">=1"\nsummary = 3\n'},
            "tallystick_crocus/plugin.toml:3:11: found 3; expected a string",
        ),
        ({"entry": "tallystick_crocus.deep:plugin.toml"}, 'expected "top_level_package:plugin.toml"'),
        ({"entry": "tallystick_gone:plugin.toml"}, "package tallystick_gone has no plugin.toml"),
    ],
)
def test_a_broken_plugin_is_named_and_its_neighbours_stand(site, how, says) -> None:
    site.install("crocus", **how)
    site.install("dahlia")
    good, bad = discovery.manifests(discovery.discover())
    assert "dahlia" in good
    assert says in bad["crocus"].message
    assert bad["crocus"].details["plugin"] == "crocus"


def test_two_distributions_of_one_plugin_are_both_refused(site) -> None:
    site.install("erica")
    site.install("erica", dist="foreign_erica")
    _, bad = discovery.manifests(discovery.discover())
    assert "foreign-erica" in bad["erica"].message
    assert "tallystick-erica" in bad["erica"].message


def test_glue_is_known_by_its_text(site) -> None:
    site.install("ficus", manifest=MANIFEST + 'auto_install = ["a", "b"]\n')
    site.install("gazania")
    found = discovery.discover()
    assert found["ficus"].is_glue
    assert not found["gazania"].is_glue


@pytest.mark.parametrize(
    "code, says",
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Own(BaseException): pass\nraise Own('hm')", "Own: hm"),
        ("import absent_library", "No module named 'absent_library'"),
        ("", "has no attribute 'Hooks'"),
        ("def (", "SyntaxError"),
    ],
)
def test_whatever_happens_while_importing_is_the_plugins_fault(site, code, says) -> None:
    site.install("hosta", code=code)
    with pytest.raises(PluginBroken) as caught:
        discovery.load("tallystick_hosta:Hooks", plugin="hosta")
    assert says in caught.value.message
    assert 'plugin "hosta"' in caught.value.message


EVENTS = MANIFEST + '[events."iris.seen"]\nfacts = "tallystick_iris:Seen"\nsummary = "Seen."\nexample = {example}\n'
SEEN = """\
from typing import Annotated
from msgspec import Meta
from tallystick.events import Facts
class Seen(Facts):
    times: Annotated[int, Meta(ge=0, le=100)]
"""


@pytest.mark.parametrize(
    "code, example, says",
    [
        (SEEN, '{ times = "two" }', "does not fit its facts: Expected `int`, got `str`"),
        (SEEN, '"absent.json"', "does not fit its facts: "),
        ("class Seen: pass", "{ times = 2 }", "is not a subclass of Facts"),
        (SEEN.replace("ge=0, ", ""), "{ times = 2 }", "Seen.times: the number needs a lower and an upper bound"),
        (SEEN.replace("Annotated[int, Meta(ge=0, le=100)]", "float"), "{ times = 2 }", "fractions are not exact"),
    ],
)
def test_an_event_whose_example_does_not_fit_is_refused(site, code, example, says) -> None:
    site.install("iris", code=code, manifest=EVENTS.replace("{example}", example))
    with pytest.raises(PluginBroken, match=says):
        discovery.load_kinds(discovery.discover()["iris"].manifest)


def test_the_kinds_of_events_a_plugin_brings(site) -> None:
    folder = site.install("iris", code=SEEN, manifest=EVENTS.replace("{example}", '"seen.json"'))
    (folder / "seen.json").write_text('{"times": 2}')
    (kind,) = discovery.load_kinds(discovery.discover()["iris"].manifest)
    assert (kind.name, kind.plugin, kind.example) == ("iris.seen", "iris", {"times": 2})
    assert kind.facts(times=3).times == 3


@pytest.mark.parametrize(
    "text, found",
    [
        ("[tallystick.plugins]\na = x:plugin.toml\nb=y:plugin.toml\n", {"a", "b"}),
        ("[console_scripts]\nrun = m:main\n\n[tallystick.plugins]\na = x:plugin.toml\n\n[other]\nb = y:z\n", {"a"}),
        ("[tallystick.plugins]\n# a = x:plugin.toml\n\n", set()),
        ("[tallystick.plugins]\n\n[other]\nb = y:z\n", set()),
        ("[tallystick.plugins]\n[other]\nb = y:z\n", set()),
        ("[not.tallystick.plugins]\nb = y:z\n", set()),
    ],
)
def test_only_entries_of_our_group_are_plugins(site, text, found) -> None:
    site.install("lilac")
    (site.folder / "tallystick_lilac-1.5.dist-info" / "entry_points.txt").write_text(text)
    assert {name for name in discovery.discover() if len(name) == 1} == found
