"""The types of settings beside Cerberus's own, and what is said about values that are not of them."""

from datetime import date

import pytest
from cerberus import SchemaError
from hypothesis import given
from hypothesis import strategies as st

from tallystick import checker, config, discovery, inspection, manifest, schema
from tallystick.document import Document


def said(kind, value, **more):
    _, mistakes = inspection.check({"x": value}, {"x": {"type": kind, **more}})
    return [mistake.message for mistake in mistakes]


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        ("amount", [0, -5, 10**12], [True, "5", 1.0, None]),
        ("exact", ["1.5", "1/3", 7], [1.5, True, "x", "1/0"]),
        ("period", ["P12M", "30d"], [12, "12m", "P"]),
        ("duration", ["7d", "PT36H"], [7, "1mo"]),
        ("zone", ["Asia/Shanghai", "UTC"], ["Mars/Olympus", 8]),
        ("currency", ["EUR", "JPY"], ["eur", "EURO", 978]),
        ("language", ["en", "zh-CN"], ["EN", "english language"]),
        ("text", ["x", {"en": "x", "zh": "y"}], [1, {"EN": "x"}, {"en": 1}]),
        ("day", ["2025-12-31"], ["2025-02-30", "31.12.2025", 20251231]),
        ("instant", ["2025-12-31T18:00:00+08:00", "2025-12-31T18:00:00Z"], ["2025-12-31T18:00:00", "now"]),
        ("clock", ["18:30", "18:30:00"], ["25:00", 1830]),
        ("id", ["points", "vr_kiosk2"], ["Points", "2x", "a-b", "a" * 41, ""]),
        ("name", ["points.redeemed", "points"], ["points.", "Points.redeemed", "a b"]),
        ("object", ["a.b:C", "a:b.c"], ["a.b", "a:", ":b", "a b:c"]),
        ("package", ["a.b"], ["a-b", "a:b"]),
        ("versions", [">=1,<2", ""], ["one", "=>1"]),
        ("version", ["1.2.0", "1.0rc1"], ["one", ""]),
        ("secret", [{"file": "x"}, {"env": "X"}], ["hunter2", {"file": "x", "env": "X"}, {"value": "x"}, {}]),
        ("integer", [1], [True, "1"]),
    ],
)
def test_types_take_what_they_should_and_nothing_else(kind, good, bad) -> None:
    for value in good:
        assert said(kind, value) == [], value
    for value in bad:
        (message,) = said(kind, value)
        assert message.startswith("found "), value
        assert "expected " in message


@pytest.mark.parametrize(
    "definition, value, message",
    [
        ({"type": "string", "allowed": ["gold", "silver"]}, "glod", 'found "glod"; expected one of "gold", "silver"; did you mean "gold"?'),
        ({"type": "string", "maxlength": 3}, "abcd", 'found "abcd"; expected a length of at most 3'),
        ({"type": "string", "empty": False}, "", 'found ""; expected a string'),
        ({"type": "list", "minlength": 1}, [], "found []; expected a length of at least 1"),
        ({"type": "integer", "min": 1, "max": 5}, "x", 'found "x"; expected a whole number, at least 1, at most 5'),
        ({"type": "string", "regex": "a+", "meta": {"expected": "some a"}}, "b", 'found "b"; expected some a'),
        ({"type": ["dict", "string"]}, 1, "found 1; expected a table or a string"),
        ({"type": ["day", "instant"], "meta": {"expected": "a day or an instant"}}, "2025", 'found "2025"; expected a day or an instant'),
        ({"type": "dict", "schema": {"a": {"type": "integer"}}}, {"b": 1}, 'unknown key "b"; expected "a"'),
    ],
)  # fmt: skip
def test_messages_say_what_was_found_and_what_was_expected(definition, value, message) -> None:
    assert [each.message for each in inspection.check({"x": value}, {"x": definition})[1]] == [message]


def test_units_must_be_declared_where_that_is_known() -> None:
    rules = {"x": {"type": "unit"}}
    assert inspection.check({"x": "stamps"}, rules)[1] == []
    assert inspection.check({"x": "stamps"}, rules, units=["stamps"])[1] == []
    (mistake,) = inspection.check({"x": "stamp"}, rules, units=["points", "stamps"])[1]
    assert (
        mistake.message
        == 'found "stamp"; expected the name of a declared unit; declared are points, stamps; did you mean "stamps"?'
    )


def test_defaults_are_filled_in_and_never_shared() -> None:
    rules = checker.prepare({"x": {"type": "dict", "default": {}}})
    first, _ = inspection.check({}, rules)
    first["x"]["changed"] = True
    assert inspection.check({}, rules)[0] == {"x": {}}


def test_a_schema_that_is_none_is_found_when_it_is_prepared() -> None:
    with pytest.raises(SchemaError):
        checker.prepare({"x": {"type": "nonsense"}})


INSTALLED = discovery.discover()


@pytest.mark.parametrize(
    "rules",
    [config.SCHEMA, config.TENANT, manifest.SCHEMA]
    + [
        discovery.load(each.manifest.settings.schema, plugin=name)
        for name, each in INSTALLED.items()
        if each.manifest.settings is not None
    ],
)
def test_every_schema_there_is_is_one_and_means_the_same_without_being_looked_at(rules) -> None:
    assert checker._met(rules) == checker.prepare(rules)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_ALL = checker.prepare(
    {kind: {"type": kind} for kind in schema.TYPES} | {"t": {"type": "dict", "keysrules": {"type": "id"}}}
)


@given(st.dictionaries(st.sampled_from([*_ALL, "other"]), _JSON, max_size=6))
def test_nothing_that_stands_in_a_file_makes_the_check_fail_otherwise_than_by_mistakes(data) -> None:
    _, mistakes = inspection.check(data, _ALL)
    assert all(mistake.message for mistake in mistakes)


@pytest.mark.parametrize(
    "definition",
    [
        {"default": 1, "type": "integer"},
        {"type": "dict", "default": {}, "schema": {"deep": {"default": 1}}},
        {"type": "list", "default": [{}], "schema": {"type": "dict", "schema": {"deep": {"default": 1}}}},
    ],
)
def test_what_a_schema_fills_in_is_filled_in_wherever_it_stands(definition):
    """Schemas that fill in nothing are spared the search for it; one that does so in any depth is not."""
    found, mistakes = inspection.check({}, {"there": definition})
    assert found["there"] in (1, {"deep": 1}, [{"deep": 1}])
    assert not mistakes


# --- the quick look and Cerberus ------------------------------------------------------------------------------------

#: Documents as people write them, each with its schema.
_WRITTEN = {
    f"plugin.toml of {name}": (Document.read(each.file).data, manifest.SCHEMA) for name, each in INSTALLED.items()
} | {
    "a new tally.toml": (Document(config.render_default("shop")).data, config.SCHEMA),
    "a tenant": (Document(config.render_default("shop")).data["tenants"]["shop"], config.TENANT),
    "settings": (
        {"name": "x", "n": 3, "on": True, "list": ["a"], "of": [{"id": "a"}], "by": {"x": {"id": "a"}}, "day": "2025-01-01", "full": "x"},
        {
            "name": {"type": "string", "required": True, "regex": "[a-z]+|b$", "maxlength": 5, "excludes": "other"},
            "other": {"type": "string"},
            "full": {"type": "string", "empty": False},
            "n": {"type": ["integer", "exact"], "min": 1, "max": 5, "default": 1},
            "on": {"type": "boolean", "allowed": [True]},
            "list": {"type": "list", "minlength": 1, "allowed": ["a", "b"], "schema": {"type": "string"}},
            "of": {"type": "list", "schema": {"type": "dict", "schema": {"id": {"type": "id", "required": True}, "n": {"type": "integer", "default": 0}}}},
            "by": {"type": "dict", "keysrules": {"type": "id"}, "valuesrules": {"type": "dict", "allow_unknown": True, "schema": {"id": {"type": "id"}}}},
            "day": {"type": ["day", "instant"]},
            "filled": {"type": "dict", "default": {}, "schema": {"deep": {"type": "unit", "default": "points"}}},
        },
    ),
}  # fmt: skip


#: What may stand anywhere.
_VALUES = [
    "a", "c", "points", "stamps", "b\n", "Ab", "abcdef", "", "1.5", "2025-01-01", date(2025, 1, 1), 0, 1, 6, -1, True, False,
    1.5, None, [], ["a"], ["c"], [""], {}, {"id": "a"}, {"id": "A"}, {"a": 1.5}, [{"id": "a", "x": 1}], {"x": {"id": "a", "y": 1}}, {"X": {}},
]  # fmt: skip


def _changes(data, values):
    """*data* with one thing in it replaced, taken away or added: everything, one after the other."""
    yield from values
    if isinstance(data, dict):
        for key, inner in data.items():
            yield {other: each for other, each in data.items() if other != key}
            yield from ({**data, key: changed} for changed in _changes(inner, values))
        yield from ({**data, key: value} for key in ("other", "n", "Id") if key not in data for value in values)
    if isinstance(data, list):
        for place, inner in enumerate(data):
            yield from ([*data[:place], changed, *data[place + 1 :]] for changed in _changes(inner, values))


@pytest.mark.parametrize(
    "written, units",
    [("settings", None), ("settings", ("points",)), ("a tenant", None), ("plugin.toml of points", None)],
)
def test_what_the_quick_look_lets_pass_cerberus_lets_pass_and_fills_in_alike(written, units) -> None:
    said, rules = _WRITTEN[written]
    passed = 0
    for changed in _changes(said, _VALUES if written == "settings" else _VALUES[::9]):
        if not isinstance(changed, dict):
            continue
        try:
            quick = inspection._table(changed, rules, units)
        except inspection._Doubt:
            continue
        passed += 1
        if written != "plugin.toml of points" or passed % 20 == 0:  # that is a long document
            assert (quick, []) == checker.check(changed, rules, units=units), changed
    assert passed > 10


@pytest.mark.parametrize("written", [each for each in _WRITTEN if each != "settings"])
def test_what_is_in_order_does_not_wait_for_cerberus(written) -> None:
    """A quick look that always had its doubts would be no use."""
    said, rules = _WRITTEN[written]
    assert inspection._table(said, rules, None) == checker.check(said, rules)[0]
