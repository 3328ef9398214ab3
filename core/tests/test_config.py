"""tally.toml: what it may say, and what is answered when it says something else."""

import contextlib
import tomllib
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import config, discovery
from tallystick.document import Document
from tallystick.errors import InvalidConfig, Problem, TenantNotServed
from tallystick.values import Text

WHOLE = """\
[house]
database = "sqlite:///books.db"
port = 8081
log = "json"

[tenants.tea-house]
name = { en = "Tea House", zh = "茶馆" }
zone = "Asia/Shanghai"
currency = "CNY"
language = "zh"
lateness_days = 3

[tenants.tea-house.sources.till]
lateness_days = 1

[tenants.tea-house.rates.USD]
2025-01-01 = "7.30"
2025-02-01 = "7.25"

[tenants.tea-house.rates]
JPY = { 2025-01-01 = "1/20" }

[tenants.tea-house.units.points]
rounding = "half_up"
shortfall = "within_balance"
shortfall_limit = 500
"""


def check(text: str, **options) -> config.Config:
    return config.check(Document(text, "tally.toml"), **options)


def mistakes(text: str, **options) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        check(text, **options)
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_configuration_is_read(tmp_path) -> None:
    found = check(WHOLE, folder=tmp_path)
    assert (found.house.database, found.house.port, found.house.log) == ("sqlite:///books.db", 8081, "json")
    assert (found.house.host, found.house.workers, found.house.data_dir) == ("127.0.0.1", 1, tmp_path)
    tenant = found.tenants["tea-house"]
    assert tenant.name == Text({"en": "Tea House", "zh": "茶馆"})
    assert tenant.zone.key == "Asia/Shanghai"
    assert tenant.lateness_of("till") == timedelta(days=1)
    assert tenant.lateness_of("anybody") == timedelta(days=3)
    points = tenant.units["points"]
    assert (points.rounding, points.shortfall, points.shortfall_limit) == ("half_up", "within_balance", 500)


def test_rates_hold_from_their_day_and_count_smallest_units() -> None:
    programme = check(WHOLE).tenants["tea-house"].programme(4)
    assert programme.generation == 4
    assert programme.rate("USD", date(2024, 12, 31)) is None
    assert programme.rate("USD", date(2025, 1, 31)) == Fraction("7.30")
    assert programme.rate("USD", date(2025, 2, 1)) == Fraction("7.25")
    # 1 yen = 1/20 yuan = 5 fen
    assert programme.rate("JPY", date(2025, 6, 1)) == 5


def test_an_empty_configuration_is_a_house_without_tenants(tmp_path) -> None:
    found = check("", folder=tmp_path)
    assert found.house.database == f"sqlite:///{tmp_path}/tally.db"
    assert found.tenants == {}


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("[house]", "[hose]", '1:2: unknown key "hose"; expected one of "house", "tenants"; did you mean "house"?'),
        ("port = 8081", "prot = 8081", '3:1: unknown key "prot"; did you mean "port"?'),
        ("port = 8081", 'port = "8081"', '3:8: found "8081"; expected a whole number, at least 1, at most 65535'),
        ("port = 8081", "port = true", "3:8: found true; expected a whole number"),
        ("port = 8081", "port = 0", "3:8: found 0; expected at least 1"),
        ("port = 8081", "port = 8081.5", "3:8: found 8081.5; expected a whole number"),
        ('log = "json"', 'log = "jsn"', '4:7: found "jsn"; expected one of "text", "json"; did you mean "json"?'),
        ("sqlite:///", "mysql://", '2:12: found "mysql://books.db"; expected a database URL such as'),
        (
            "port = 8081",
            'secret_file = "absent"',
            '3:15: found "absent", which cannot be read (No such file or directory)',
        ),
        ('zone = "Asia/Shanghai"\n', "", '6:10: "zone" is missing; expected an IANA time zone such as "Asia/Shanghai"'),
        ("Asia/Shanghai", "Asia/Shangai", '8:8: found "Asia/Shangai"; expected an IANA time zone'),
        ('"CNY"', '"CNX"', '9:12: found "CNX"; expected an ISO 4217 currency such as "EUR"'),
        ('"CNY"', '"cny"', '9:12: found "cny"; expected an ISO 4217 currency such as "EUR"; did you mean "CNY"?'),
        ('zh = "茶馆"', "zh = 3", "7:8: found a table; expected a string or a table of languages"),
        ("lateness_days = 3", "lateness_days = -3", "11:17: found -3; expected at least 0"),
        ('"7.30"', "7.30", '17:14: found 7.3, a float, which is not exact; expected it in quotes: "7.3"'),
        ('"7.30"', '"about 7"', '17:14: found "about 7"; expected an exact number in quotes such as "1.5" or "1/3"'),
        ('"1/20"', '"1/0"', '21:22: found "1/0"; expected an exact number in quotes'),
        ("2025-02-01 =", "2025-02-30 =", '18:1: found the key "2025-02-30"; expected a date such as 2025-12-31'),
        ("rates.USD", "rates.USX", '16:26: found the key "USX"; expected an ISO 4217 currency'),
        ('"half_up"', '"half-up"', '24:12: found "half-up"; expected one of "floor", "half_up"'),
        ("shortfall_limit", "limit", 'unknown key "limit"; expected one of "decimals"'),
        ('log = "json"', "log = json", "4:7: not TOML: Invalid value"),
        ("port = 8081", "port = 8081\nport = 8082", "4:12: not TOML: Cannot overwrite a value"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_expected(old, new, says) -> None:
    assert old in WHOLE
    try:
        document = Document(WHOLE.replace(old, new, 1), "tally.toml")
    except Problem as problem:
        found = [str(problem)]
    else:
        with pytest.raises(InvalidConfig) as caught:
            config.check(document)
        found = [str(problem) for problem in caught.value.problems]
    assert len(found) == 1, found
    assert found[0].startswith("tally.toml:")
    assert says in found[0]


def test_a_tenants_id_is_small_letters() -> None:
    (found,) = mistakes(TENANT.replace("demo", "Demo"))
    assert found.startswith('tally.toml:1:10: found the key "Demo"; expected an id of small letters, digits, _ and -')


def test_a_config_with_three_mistakes_names_all_three() -> None:
    text = (
        WHOLE.replace("port = 8081", 'port = "x"').replace("Shanghai", "Shangai").replace('"within_balance"', '"never"')
    )
    assert mistakes(text) == [
        'tally.toml:3:8: found "x"; expected a whole number, at least 1, at most 65535',
        'tally.toml:8:8: found "Asia/Shangai"; expected an IANA time zone such as "Asia/Shanghai"',
        'tally.toml:25:13: found "never"; expected one of "negative", "within_balance", "pending_only"',
    ]


def test_a_file_is_loaded_with_its_secrets(tmp_path) -> None:
    (tmp_path / "database").write_text("postgresql://tally:pass@db/tally\n")
    (tmp_path / "secret").write_text("not a short one\n")
    path = tmp_path / "tally.toml"
    path.write_text('[house]\ndatabase_file = "database"\nsecret_file = "secret"\n')
    house = config.load(path).house
    assert house.database == "postgresql://tally:pass@db/tally"
    assert house.secret == "not a short one"
    assert "pass" not in repr(house)
    assert "short" not in repr(house)


def test_a_file_that_is_not_there_is_a_mistake_too(tmp_path) -> None:
    with pytest.raises(InvalidConfig, match=r"tally\.toml:1:1: cannot be read"):
        config.load(tmp_path / "tally.toml")


def test_the_environment_overrides_the_file(tmp_path) -> None:
    (tmp_path / "url").write_text("postgresql://db/tally")
    environ = {
        "TALLY__HOUSE__PORT": "9000",
        "TALLY__HOUSE__DATABASE_FILE": str(tmp_path / "url"),
        "TALLY__TENANTS__TEA_HOUSE__LANGUAGE": "en",
        "TALLY__TENANTS__TEA_HOUSE__LATENESS_DAYS": "30",
        "TALLY__TENANTS__TEA_HOUSE__REQUIRED": "[]",
        "TALLY__TENANTS__TEA_HOUSE__NAME": "1984",
        "OTHER": "x",
    }
    found = check(WHOLE, environ=environ)
    tenant = found.tenants["tea-house"]
    assert (found.house.port, found.house.database) == (9000, "postgresql://db/tally")
    assert (tenant.language, tenant.lateness, str(tenant.name)) == ("en", timedelta(days=30), "1984")


@pytest.mark.parametrize(
    "variable, value, says",
    [
        ("TALLY__HOUSE__PORT", "many", 'TALLY__HOUSE__PORT:1:1: found "many"; expected a whole number'),
        ("TALLY__HOUSE__PROT", "1", 'TALLY__HOUSE__PROT:1:1: unknown key "prot"; did you mean "port"?'),
        ("TALLY__HOUSE", "1", "TALLY__HOUSE:1:1: found 1; expected a table"),
        ("TALLY__TENANTS__TEA_HOUSE__ZONE", "Nowhere", 'TALLY__TENANTS__TEA_HOUSE__ZONE:1:1: found "Nowhere"'),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable, value, says) -> None:
    (found,) = mistakes(WHOLE, environ={variable: value})
    assert says in found


def test_equal_programmes_have_equal_hashes_wherever_they_were_written() -> None:
    reordered = WHOLE.replace('currency = "CNY"\nlanguage = "zh"\n', 'language = "zh"\ncurrency = "CNY"\n')
    one, same = check(WHOLE).tenants["tea-house"], check(reordered + "# a comment\n").tenants["tea-house"]
    other = check(WHOLE.replace("half_up", "floor")).tenants["tea-house"]
    assert one.hash == same.hash
    assert one.hash != other.hash
    assert len(one.hash) == 64


@pytest.mark.parametrize("name", ["demo", 'Tea "House" 茶\\n'])
@pytest.mark.parametrize("currency, per", [("USD", 100), ("JPY", 1), ("KWD", 1000)])
def test_the_first_tally_toml_passes_its_own_check(tmp_path, name, currency, per) -> None:
    (tmp_path / "tally.secret").write_text("s" * 40)
    text = config.render_default("demo", name=name, zone="Europe/Berlin", currency=currency)
    found = check(text, folder=tmp_path)
    assert str(found.tenants["demo"].name) == name
    assert f"per = {per}" in text


# --- plugins -------------------------------------------------------------------------------------------------------

MANIFEST = """\
id = "{id}"
api = ">=1,<2"
summary = "A plugin."
[units.stamps]
decimals = 1
[settings]
schema = "tallystick_{id}:SCHEMA"
read = "tallystick_{id}:read"
check = "tallystick_{id}:check"
version = 2
migrate = "tallystick_{id}:migrate"
"""
CODE = """\
from tallystick.errors import InvalidRule
SCHEMA = {
    "rate": {"type": "exact", "required": True},
    "unit": {"type": "unit"},
    "since": {"type": "day"},
    "rules": {"type": "list", "schema": {"type": "dict", "schema": {"when": {"type": "rule"}}}},
}
def check(document, context):
    if document["rate"] == "13":
        yield ("rate",), "found 13; expected luck"
    for place, rule in enumerate(document.get("rules", ())):
        at = rule["when"].find("oops")
        if at >= 0:
            line, start = rule["when"].count("\\n", 0, at) + 1, rule["when"].rfind("\\n", 0, at) + 1
            yield ("rules", place, "when"), InvalidRule("unknown name oops", line=line, column=at - start + 1)
def read(document):
    return ("read", document["rate"])
def migrate(document, version):
    return {"rate": document["old_rate"]}
"""
TENANT = '[tenants.demo]\nzone = "UTC"\ncurrency = "EUR"\n'


def test_only_what_a_tenant_uses_is_imported_and_read(site) -> None:
    site.install("oak", code=CODE, manifest=MANIFEST)
    site.install("pine")  # cannot be imported
    text = (
        TENANT
        + '[tenants.demo.plugins.oak]\nrate = "1/3"\nsince = 2025-01-31\n[tenants.demo.plugins.pine]\nenabled = false\n'
    )
    found = check(text, installed=discovery.discover())
    oak = found.tenants["demo"].plugins["oak"]
    assert (oak.version, oak.settings, oak.document["since"]) == (2, ("read", "1/3"), "2025-01-31")
    assert found.tenants["demo"].units["stamps"].plugin == "oak"
    assert found.tenants["demo"].reasons == {"oak": "enabled in tally.toml"}
    assert found.unavailable == ()


@pytest.mark.parametrize(
    "settings, says",
    [
        ("rate = 0.5", '5:8: found 0.5, a float, which is not exact; expected it in quotes: "0.5"'),
        ('rate = "half"', '5:8: found "half"; expected an exact number in quotes'),
        ("", '4:23: "rate" is missing; expected an exact number in quotes'),
        ('rate = "13"', "5:8: found 13; expected luck"),
        (
            'rate = "1"\nunit = "stmps"',
            '6:8: found "stmps"; expected the name of a declared unit; declared are stamps; did you mean "stamps"?',
        ),
        ('rate = "1"\nrules = [{ when = "a && oops" }]', "6:25: unknown name oops"),
        ('rate = "1"\n[[tenants.demo.plugins.oak.rules]]\nwhen = """\na\n  && oops"""', "9:6: unknown name oops"),
        ('rate = "1"\nenabled = 1', "6:11: found 1; expected true or false"),
    ],
)
def test_a_mistake_in_a_plugins_settings_has_its_place(site, settings, says) -> None:
    site.install("oak", code=CODE, manifest=MANIFEST)
    text = f"{TENANT}[tenants.demo.plugins.oak]\n{settings}\n"
    (found,) = mistakes(text, installed=discovery.discover())
    assert says in found


def test_mistakes_of_the_tenant_and_of_its_plugins_come_together(site) -> None:
    site.install("oak", code=CODE, manifest=MANIFEST)
    text = TENANT.replace("UTC", "UTX") + '[tenants.demo.plugins.oak]\nrate = "x"\n'
    assert [said.partition(" ")[0] for said in mistakes(text, installed=discovery.discover())] == [
        "tally.toml:2:8:",
        "tally.toml:5:8:",
    ]


@pytest.mark.parametrize(
    "plugin, says",
    [
        ("oaks", 'oaks is not installed; it is enabled in tally.toml; did you mean "oak"?'),
        ("pine", 'pine is broken: plugin "pine" (tallystick-pine): its package tallystick_pine has no plugin.toml'),
        ("elm", 'elm is broken: plugin "elm": cannot import tallystick_elm:SCHEMA: RuntimeError: imported'),
        ("fir", 'fir 1.5 needs hook API ">=2", and this is 1.0; it is enabled in tally.toml'),
        ("ash", 'ash is broken: plugin "ash" (tallystick-ash): reading its settings failed with KeyError'),
    ],
)
def test_a_plugin_that_cannot_run_never_stops_the_house(site, plugin, says) -> None:
    site.install("oak", code=CODE, manifest=MANIFEST)
    site.install("pine", manifest=None)
    site.install("elm", manifest=MANIFEST)
    site.install("fir", manifest=MANIFEST.replace(">=1,<2", ">=2"))
    site.install(
        "ash",
        manifest=MANIFEST,
        code="SCHEMA = {}\ndef check(document): return ()\ndef read(document): return document['x']\n",
    )
    text = f'{TENANT}required = []\n[tenants.demo.plugins.oak]\nrate = "1"\n[tenants.demo.plugins.{plugin}]\n'
    found = check(text, installed=discovery.discover())
    tenant = found.tenants["demo"]
    assert list(tenant.plugins) == ["oak"]
    assert says in tenant.left_out[plugin] or says in found.unavailable[0].reason
    assert str(found.unavailable[0]).startswith("tally.toml:7:23: ")
    tenant.assure_served()
    required = check(text.replace("required = []", f'required = ["{plugin}"]'), installed=discovery.discover())
    with pytest.raises(TenantNotServed, match=f"tenant demo requires {plugin}: "):
        required.tenants["demo"].assure_served()


def test_plugins_that_contradict_each_other_are_a_mistake(site) -> None:
    plain = 'id = "{id}"\napi = ">=1"\nsummary = "x"\n'
    site.install("elm", manifest=plain)
    site.install("fir", manifest=plain + '[conflicts]\nelm = "shade"\n')
    text = TENANT + "plugins = { elm = {}, fir = {} }\n"
    (found,) = mistakes(text, installed=discovery.discover())
    assert (
        found
        == (
            "tally.toml:4:1: elm and fir cannot run together: shade; fir is enabled in tally.toml; elm is enabled in tally.toml"
        )
        or "fir and elm cannot run together: shade" in found
    )


def test_a_required_plugin_cannot_be_switched_off(site) -> None:
    text = TENANT + 'required = ["oak"]\nplugins.oak.enabled = false\n'
    (found,) = mistakes(text)
    assert found == 'tally.toml:5:23: found false, but oak is listed in "required"; expected true'


def test_glue_comes_with_what_it_joins_and_can_be_refused(site) -> None:
    plain = 'id = "{id}"\napi = ">=1"\nsummary = "x"\n'
    site.install("elm", manifest=plain)
    site.install("fir", manifest=plain)
    site.install("joint", manifest=plain + 'auto_install = ["elm", "fir"]\n')
    text = TENANT + "plugins = { elm = {}, fir = {} }\n"
    tenant = check(text, installed=discovery.discover()).tenants["demo"]
    assert tenant.glue == ("joint",)
    assert tenant.reasons["joint"] == "glue between elm and fir, which are on"
    assert list(check(text + "auto_install = false\n", installed=discovery.discover()).tenants["demo"].plugins) == [
        "elm",
        "fir",
    ]


def test_a_plugin_may_need_what_another_provides(site) -> None:
    plain = 'id = "{id}"\napi = ">=1"\nsummary = "x"\n'
    site.install("elm", manifest=plain + 'depends = { "tree.shade" = ">=1" }\n')
    site.install("fir", manifest=plain + 'provides = ["tree.shade@1"]\n')
    text = TENANT + "plugins = { elm = {}, fir = {} }\n"
    assert list(check(text, installed=discovery.discover()).tenants["demo"].plugins) == ["fir", "elm"]
    alone = check(text.replace(", fir = {}", ""), installed=discovery.discover())
    assert alone.tenants["demo"].left_out == {
        "elm": 'elm needs "tree.shade" ">=1", which nothing provides: fir would, if enabled; elm is enabled in tally.toml'
    }


def test_a_programme_is_made_again_from_its_document(site) -> None:
    site.install("oak", code=CODE, manifest=MANIFEST)
    installed = discovery.discover()
    tenant = check(f'{TENANT}[tenants.demo.plugins.oak]\nrate = "1/3"\n', installed=installed).tenants["demo"]
    again = config.build_tenant("demo", tenant.document, installed)
    assert again.hash == tenant.hash
    assert again.plugins == tenant.plugins


def test_settings_of_an_older_version_are_migrated(site) -> None:
    site.install("oak", code=CODE, manifest=MANIFEST)
    installed = discovery.discover()
    tenant = check(f'{TENANT}[tenants.demo.plugins.oak]\nrate = "1/3"\n', installed=installed).tenants["demo"]
    old = {**tenant.document, "plugins": [{"id": "oak", "version": 1, "settings": {"old_rate": "2"}}]}
    assert config.build_tenant("demo", old, installed).plugins["oak"].settings == ("read", "2")


def test_a_secret_is_read_from_where_the_setting_points(tmp_path) -> None:
    (tmp_path / "key").write_text("k1\n")
    assert config.read_secret({"file": "key"}, tmp_path, {}) == "k1"
    assert config.read_secret({"env": "SMS_KEY"}, tmp_path, {"SMS_KEY": "k2"}) == "k2"
    with pytest.raises(Exception, match="SMS_KEY is not set"):
        config.read_secret({"env": "SMS_KEY"}, tmp_path, {})


EVENT = '[events."oak.seen"]\nfacts = "tallystick_oak:Seen"\nsummary = "Seen."\nexample = SHOWN\n'
FACTORY = (
    CODE
    + """
from typing import Annotated
from msgspec import Meta
from tallystick.events import Facts
from tallystick.hookspecs import hookimpl
class Seen(Facts):
    times: Annotated[int, Meta(ge=0, le=100)]
class Oak:
    def __init__(self, settings, programme):
        self.known = (settings, programme.currency)
        if settings[1] == "7":
            raise ValueError("seven")
        if settings[1] == "11":
            raise InvalidRule("unknown name oops")
        if settings[1] == "9":
            raise SystemExit(3)
    def earn(self, event, situation):
        return ()
class Ash(Oak):
    @hookimpl
    def react(self, event, situation):
        return ()
"""
)
WITH_FACTORY = 'factory = "tallystick_{id}:Oak"\nhooks = ["earn"]\n' + MANIFEST


def make(site, *, rate="1", manifest=WITH_FACTORY):
    site.install("oak", code=FACTORY, manifest=manifest)
    installed = discovery.discover()
    tenant = check(f'{TENANT}[tenants.demo.plugins.oak]\nrate = "{rate}"\n', installed=installed).tenants["demo"]
    return tenant, installed


def test_a_plugin_is_made_with_its_settings_and_the_programme(site) -> None:
    tenant, installed = make(site)
    oak = config.make_plugin(installed["oak"], tenant.plugins["oak"], tenant.programme(1))
    assert oak.known == (("read", "1"), "EUR")


def test_a_plugin_without_a_factory_has_no_hooks(site) -> None:
    tenant, installed = make(site, manifest=MANIFEST)
    assert config.make_plugin(installed["oak"], tenant.plugins["oak"], tenant.programme(1)) is None


@pytest.mark.parametrize(
    "how, says",
    [
        ({"rate": "7"}, "tallystick_oak:Oak failed with ValueError: seven"),
        (
            {"manifest": WITH_FACTORY.replace('"earn"', '"redeem"')},
            "lists the hook redeem, which tallystick_oak:Oak does not",
        ),
        ({"manifest": WITH_FACTORY.replace(":Oak", ":Elm")}, "has no attribute 'Elm'"),
        ({"rate": "9"}, "tallystick_oak:Oak failed with SystemExit: 3"),
        (
            {"manifest": WITH_FACTORY.replace(":Oak", ":Ash")},
            'tallystick_oak:Ash implements react; expected "react" in the hooks of its plugin.toml',
        ),
        (
            {"manifest": MANIFEST + EVENT.replace("SHOWN", '{ times = "two" }')},
            "the example of oak.seen does not fit its facts",
        ),
    ],
)
def test_a_plugin_that_cannot_be_made_is_left_out(site, how, says) -> None:
    tenant, _ = make(site, **how)
    assert tenant.plugins == {}
    assert says in tenant.left_out["oak"]


def test_a_rule_that_a_plugin_refuses_only_when_it_is_made_is_a_mistake_all_the_same(site) -> None:
    with pytest.raises(InvalidConfig, match=r"tally\.toml:4:23: oak: unknown name oops"):
        make(site, rate="11")


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.times()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def _paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, key))


_PATHS = [path for path in _paths(tomllib.loads(WHOLE)) if path]


@given(st.lists(st.tuples(st.sampled_from(_PATHS), _ANY), min_size=1, max_size=3))
def test_whatever_stands_where_it_should_not_is_a_mistake_and_no_accident(changes) -> None:
    document = Document(WHOLE)
    for path, value in changes:
        table = document.data
        for key in path[:-1]:
            table = table.get(key, {}) if isinstance(table, dict) else {}
        if isinstance(table, dict):
            table[path[-1]] = value
    with contextlib.suppress(InvalidConfig):  # any other exception is the accident
        config.check(document)
