"""Name plates: what may stand in plugin.toml, and what is said when something else does."""

from fractions import Fraction

import pytest
from packaging.version import Version

from tallystick import access, api, events, hookspecs, intake, manifest, migrate, tables
from tallystick.document import Document
from tallystick.errors import InvalidManifest
from tallystick.values import Period

WHOLE = """\
id = "points"
api = ">=1,<2"
summary = { en = "Points on purchases.", zh = "消费积分" }
tested = "1.0"
layer = "domain"
provides = ["points.ledger@1"]
exclusive = ["points.base"]
factory = "tallystick_points.hooks:Points"
hooks = ["needs", "earn"]
tables = ["points_gift"]
metadata = "tallystick_points.tables:METADATA"
migrations = "tallystick_points.migrations"
metrics = ["points_granted"]

[depends]
risk = ">=1,<3"

[order]
after = ["tiers"]

[conflicts]
oldpoints = "both give points for the same purchase"

[effects]
Grant = { units = ["*"], max_per_event = 1_000_000 }
Multiply = { max_factor = "12.5" }

[settings]
schema = "tallystick_points.settings:SCHEMA"
read = "tallystick_points.settings:read"
version = 3

[units.points]
decimals = 0

[events."points.redeemed"]
facts = "tallystick_points.events:Redeemed"
summary = { en = "Points were spent.", zh = "积分已兑换" }
example = { points = 100 }

[permissions."points.adjust"]
summary = "Correct a balance."
roles = ["admin"]

[routes."points.adjust"]
path = "/v1/points/adjust"
endpoint = "tallystick_points.routes:adjust"
permission = "points.adjust"
methods = ["POST"]

[jobs."points.remind"]
run = "tallystick_points.jobs:remind"
daily = 03:00:00

[data]
personal = ["points_gift.note"]
retain = "P3Y"
"""


def read(text: str) -> manifest.Manifest:
    return manifest.from_document(Document(text, "plugin.toml"), version="1.2.0")


def mistakes(text: str) -> list[str]:
    with pytest.raises(InvalidManifest) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_manifest_is_read() -> None:
    points = read(WHOLE)
    assert points.id == "points"
    assert points.version == Version("1.2.0")
    assert manifest.API_VERSION in points.api
    assert points.summary.in_language("zh-CN") == "消费积分"
    assert points.depends["risk"].contains("2.5")
    assert points.after == ("tiers",)
    assert points.provides == {"points.ledger": Version("1")}
    assert points.effects["Grant"].units == ("*",)
    assert points.effects["Multiply"].max_factor == Fraction(25, 2)
    assert points.settings is not None
    assert points.settings.version == 3
    assert points.events[0].example == {"points": 100}
    assert points.routes[0].methods == ("POST",)
    assert points.jobs[0].daily == "03:00:00"
    assert points.retain == Period(months=36)


def test_what_the_house_calls_its_own_is_reserved() -> None:
    """A plugin called ``record`` might list the table of that name, and purge the journal."""
    words = {name.partition(".")[0] for name in [*access.PERMISSIONS, *(kind.name for kind in events.CORE_KINDS)]}
    words |= {door.path.split("/")[2] for door in api.DOORS if door.path.startswith("/v1/")}
    assert {*tables.metadata.tables, *words, migrate.CORE.id, intake.HOUSE, "tallystick"} == manifest.RESERVED


def test_a_table_of_the_house_is_no_plugins() -> None:
    text = 'id = "api"\napi = ">=1"\nsummary = "x"\ntables = ["api_key"]\nmetadata = "tallystick_api:METADATA"\n'
    assert mistakes(text) == [
        'plugin.toml:4:11: found "api_key"; expected another name, for the house itself uses this one'
    ]


def test_the_version_of_the_text_beats_that_of_the_distribution() -> None:
    assert read('version = "3.0"\n' + WHOLE).version == Version("3.0")


def test_a_small_manifest_is_enough() -> None:
    birthday = read('id = "birthday"\napi = ">=1,<2"\nsummary = "Points on birthdays."\n')
    assert birthday.layer == "domain"
    assert birthday.hooks == ()


def test_glue_is_of_layer_glue_without_saying_so() -> None:
    assert read('id = "g"\napi = ">=1"\nsummary = "x"\nauto_install = ["a", "b"]\n').layer == "glue"


@pytest.mark.parametrize("old, new, says",
    [
        ('layer = "domain"', 'layr = "domain"', '5:1: unknown key "layr"; did you mean "layer"?'),
        ('layer = "domain"', 'layer = "domian"', '5:9: found "domian"; expected one of "kernel", "data", "domain"'),
        ('api = ">=1,<2"', "api = 1", "2:7: found 1; expected a version range (PEP 440)"),
        ('api = ">=1,<2"', 'api = "one"', '2:7: found "one"; expected a version range (PEP 440)'),
        ('api = ">=1,<2"\n', "", '1:1: "api" is missing; expected a version range'),
        ('id = "points"', 'id = "Points"', '1:6: found "Points"; expected an id of small letters'),
        ('"earn"]', '"earns"]', '9:19: found "earns"; expected one of "needs", "earn"'),
        ("Multiply =", "Multply =", '26:1: found the key "Multply"; expected one of "Grant"'),
        ('max_factor = "12.5"', "max_factor = 12.5", '26:27: found 12.5, a float, which is not exact; expected it in quotes: "12.5"'),
        ("max_per_event = 1_000_000", "max_per_event = 0", "found 0; expected at least 1"),
        ("max_per_event", "max_per_evnt", 'unknown key "max_per_evnt"; expected one of "units"'),
        ('"tallystick_points.hooks:Points"', '"tallystick_points.hooks"', 'expected "module:object"'),
        ('[events."points.redeemed"]', '[events."coupon.redeemed"]', 'found "coupon.redeemed"; expected a name that begins with "points."'),
        ('[permissions."points.adjust"]', '[permissions.a]\nsummary = "A"\n[permissions."points.adjust"]', 'found "a"; expected a name that begins with "points."'),
        ('[routes."points.adjust"]', '[routes."adjust"]', 'found "adjust"; expected a name that begins with "points."'),
        ('[jobs."points.remind"]', '[jobs."remind"]', 'found "remind"; expected a name that begins with "points."'),
        ('tables = ["points_gift"]', 'tables = ["points_gift", "gift"]', 'found "gift"; expected a name that begins with "points_"'),
        ('metrics = ["points_granted"]', 'metrics = ["granted"]', 'found "granted"; expected a name that begins with "points_"'),
        ('"/v1/points/adjust"', '"/v1/adjust"', 'expected a path that begins with "/v1/points/"'),
        ('permission = "points.adjust"', 'permission = "points.adjst"', "expected it to be declared in [permissions]"),
        ('permission = "points.adjust"\n', "", '"permission" is missing; expected what a key must be allowed to do'),
        ('permission = "points.adjust"\n', "public = true\n", 'a public route has "{pass}" in its path and no "permission"'),
        ('permission = "points.adjust"\n', 'permission = "points.adjust"\npublic = true\n', 'a public route has "{pass}"'),
        ('permission = "points.adjust"\n', 'permission = "points.adjust"\nrate = 5\n', "are for a route that says public = true"),
        ('permission = "points.adjust"\n', 'permission = "points.adjust"\ngrouped = true\n', "are for a route that says public = true"),
        ('roles = ["admin"]', 'roles = ["chief"]', 'found "chief"; expected one of "owner", "admin"'),
        ('factory = "tallystick_points.hooks:Points"\n', "", 'hooks need "factory" beside them'),
        ('metadata = "tallystick_points.tables:METADATA"\n', "", 'tables need "metadata" beside them'),
        ("[depends]", '[interests]\nearn = ["purchase.*"]\nredeem = ["*"]\n[depends]', 'found "redeem"; expected a hook that is listed'),
        ("[depends]", '[interests]\nearn = ["Purchase"]\n[depends]', 'found "Purchase"; expected a kind of event, "purchase.*"'),
        ('id = "points"', 'id = "core"', '1:6: found "core"; expected another name, for the house itself uses this one'),
        ('tables = ["points_gift"]', 'tables = ["points_gift", "points_schema_version"]', "expected another name"),
        ('after = ["tiers"]', 'after = ["tiers", "points"]', '"points" names itself'),
        ('after = ["tiers"]', 'before = ["points"]', '"points" names itself'),
        ('layer = "domain"', 'layer = "glue"\nauto_install = ["points"]', '"points" names itself'),
        ("daily = 03:00:00", 'every = "PT0S"', 'found "PT0S"; expected a duration longer than 0'),
        ('[jobs."points.remind"]', '[[jobs]]\nname = "points.remind"', "found an array of tables, [[jobs]]; expected a table for each name, as in [jobs.NAME]"),
        ("daily = 03:00:00", "", 'job "points.remind" says no time; expected "every" or "daily"'),
        ("daily = 03:00:00", 'daily = 03:00:00\nevery = "1h"', 'job "points.remind" says two times'),
        ('"P3Y"', '"3 years"', 'found "3 years"; expected a calendar period such as "P12M"'),
        ('["points_gift.note"]', '["gift.note"]', "of a table listed in"),
        ('risk = ">=1,<3"', 'points = ">=1"', '"points" names itself'),
        ('layer = "domain"', 'layer = "domain"\nauto_install = ["a"]', "install themselves"),
        ("example = { points = 100 }\n", "", '"example" is missing; expected a table of facts, or a JSON file'),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_what_was_expected(old, new, says) -> None:
    assert old in WHOLE
    found = mistakes(WHOLE.replace(old, new, 1))
    assert len(found) == 1, found
    assert found[0].startswith("plugin.toml:")
    assert says in found[0]


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    broken = WHOLE.replace("layer", "layr").replace("Multiply", "Multply").replace("P3Y", "3 years")
    assert [problem.split(":")[1] for problem in mistakes(broken)] == ["5", "26", "57"]


def test_what_is_not_toml_is_named_too(tmp_path) -> None:
    path = tmp_path / "plugin.toml"
    path.write_text('id = "x\n')
    with pytest.raises(InvalidManifest, match=r"plugin\.toml:1:8: not TOML"):
        manifest.read(path, file="plugin.toml")


def test_without_a_distribution_the_text_must_say_the_version() -> None:
    with pytest.raises(InvalidManifest, match='"version" is missing'):
        manifest.from_document(Document('id = "x"\napi = ">=1"\nsummary = "x"\n'))


def test_a_manifest_may_list_exactly_the_hooks_there_are() -> None:
    assert hookspecs.all_hooks() == manifest.HOOKS
