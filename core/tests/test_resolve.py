"""Which plugins run together, in which order, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tallystick.document import Document
from tallystick.errors import InvalidConfig, Unresolvable
from tallystick.manifest import LAYERS, Manifest
from tallystick.resolve import diff_locks, lock, read_lock, render_lock, resolve
from tallystick.values import text

CONFIG = "enabled in tally.toml"


def plugin(name, *, version="1.0", api=">=1,<2", depends=None, provides=None, tested=None, **more) -> Manifest:
    return Manifest(
        id=name,
        version=Version(version),
        api=SpecifierSet(api),
        tested=Version(tested) if tested else None,
        summary=text(name),
        depends={needed: SpecifierSet(versions) for needed, versions in (depends or {}).items()},
        provides={each: Version(number) if number else None for each, number in (provides or {}).items()},
        **more,
    )


def of(*plugins):
    return {each.id: each for each in plugins}


def on(*names):
    return dict.fromkeys(names, CONFIG)


@pytest.mark.parametrize(
    "plugins, enabled, order",
    [
        pytest.param([plugin("b"), plugin("a")], ["b", "a"], ["a", "b"], id="names decide among equals"),
        pytest.param(
            [plugin("a", layer="channel"), plugin("z", layer="kernel"), plugin("m")],
            ["a", "z", "m"],
            ["z", "m", "a"],
            id="layers before names",
        ),
        pytest.param(
            [plugin("a", depends={"z": ""}), plugin("z", layer="glue")],
            ["a"],
            ["z", "a"],
            id="dependencies before layers",
        ),
        pytest.param([plugin("a", after=("b", "absent")), plugin("b")], ["a", "b"], ["b", "a"], id="after, if there"),
        pytest.param([plugin("a"), plugin("b", before=("a", "absent"))], ["a", "b"], ["b", "a"], id="before, if there"),
        pytest.param([plugin("a", after=("b",)), plugin("b")], ["a"], ["a"], id="soft order enables nothing"),
        pytest.param(
            [plugin("a", depends={"ladder": ">=1"}), plugin("t", provides={"ladder": "1.2"})],
            ["a", "t"],
            ["t", "a"],
            id="what provides a name comes before what needs it",
        ),
        pytest.param([], [], [], id="nothing is an order too"),
    ],
)
def test_the_order(plugins, enabled, order) -> None:
    assert list(resolve(of(*plugins), on(*enabled)).order) == order


def test_each_plugin_knows_why_it_is_on() -> None:
    resolution = resolve(
        of(
            plugin("coalition", depends={"tiers": ">=1"}),
            plugin("tiers", depends={"points": ""}),
            plugin("points"),
            plugin("join", auto_install=("coalition", "points"), layer="glue"),
            plugin("idle"),
        ),
        on("coalition"),
    )
    assert resolution.reasons == {
        "points": "needed by tiers, which is needed by coalition, which is enabled in tally.toml",
        "tiers": "needed by coalition, which is enabled in tally.toml",
        "coalition": "enabled in tally.toml",
        "join": "glue between coalition and points, which are on",
    }
    assert resolution.glue == ("join",)


GLUED = of(
    plugin("a"), plugin("b"), plugin("ab", auto_install=("a", "b"), layer="glue", depends={"a": ">=1", "b": ">=1"})
)


@pytest.mark.parametrize(
    "enabled, options, glue",
    [
        (["a", "b"], {}, ("ab",)),
        (["a"], {}, ()),
        (["a", "b"], {"auto_install": False}, ()),
        (["a", "b"], {"disabled": ["ab"]}, ()),
        (["a", "b"], {"broken": {"ab": "it does not import"}}, ()),
        (["a", "b"], {"api_version": Version("2.0"), "lenient": True}, ()),
    ],
)
def test_glue_is_on_when_all_it_joins_is_on_and_nobody_minds(enabled, options, glue) -> None:
    assert resolve(GLUED, on(*enabled), **options).glue == glue


LADDER = of(
    plugin("a"), plugin("b", provides={"ladder": "2"}), plugin("c"),
    plugin("ab", auto_install=("a", "b"), layer="glue", depends={"ladder": ">=2"}),
)  # fmt: skip


def test_glue_may_need_what_a_plugin_provides_by_another_name() -> None:
    assert resolve(LADDER, on("a", "b")).glue == ("ab",)
    older = LADDER | of(plugin("b", provides={"ladder": "1"}))
    assert resolve(older, on("a", "b")).glue == ()


@pytest.mark.parametrize(
    "glue, other",
    [
        ({"conflicts": {"c": "both pay"}}, {}),
        ({}, {"conflicts": {"ab": "both pay"}}),
        ({"exclusive": ("payer",)}, {"exclusive": ("payer",)}),
    ],
    ids=["it says so", "the other says so", "a role for one"],
)
def test_glue_that_nobody_asked_for_yields_to_what_it_cannot_run_with(glue, other) -> None:
    found = of(
        plugin("a"), plugin("b"), plugin("c", **other), plugin("ab", auto_install=("a", "b"), layer="glue", **glue)
    )
    assert resolve(found, on("a", "b")).glue == ("ab",)
    resolution = resolve(found, on("a", "b", "c"))
    assert resolution.order == ("a", "b", "c")
    assert resolution.notes == ("ab does not join a and b, for it cannot run with c",)
    with pytest.raises(Unresolvable):
        resolve(found, on("a", "b", "c", "ab"))


def test_glue_can_bring_further_glue() -> None:
    more = GLUED | of(plugin("abc", auto_install=("ab",), layer="glue"))
    assert resolve(more, on("a", "b")).order == ("a", "b", "ab", "abc")


REFUSALS = [
    pytest.param(
        [plugin("coalition", depends={"tiers": ">=2"}), plugin("tiers", version="1.4")],
        ["coalition"],
        {},
        ['coalition 1.0 needs tiers ">=2", and 1.4 is installed; coalition is enabled in tally.toml'],
        id="version out of range",
    ),
    pytest.param(
        [plugin("a", depends={"b": ""}), plugin("b", depends={"c": ""})],
        ["a"],
        {},
        ["c is not installed; it is needed by b, which is needed by a, which is enabled in tally.toml"],
        id="missing at the end of a chain",
    ),
    pytest.param([], ["pionts"], {}, ["pionts is not installed; it is enabled in tally.toml"], id="missing"),
    pytest.param(
        [plugin("a", depends={"b": ""}), plugin("b")],
        ["a"],
        {"disabled": ["b"]},
        ["a needs b, which is switched off; a is enabled in tally.toml"],
        id="switched off",
    ),
    pytest.param(
        [plugin("a", api=">=2,<3")],
        ["a"],
        {},
        ['a 1.0 needs hook API "<3,>=2", and this is 1.0; it is enabled in tally.toml'],
        id="another API",
    ),
    pytest.param(
        [plugin("a")], ["a"], {"broken": {"a": "SyntaxError"}}, ["a is broken: SyntaxError; it is enabled in tally.toml"],
        id="broken",
    ),
    pytest.param(
        [plugin("a", conflicts={"b": "both pay"}), plugin("b"), plugin("c", depends={"b": ""})],
        ["a", "c"],
        {},
        ["a and b cannot run together: both pay; a is enabled in tally.toml; b is needed by c, which is enabled in tally.toml"],
        id="conflict",
    ),
    pytest.param(
        [plugin("a", exclusive=("tier.policy",)), plugin("b", exclusive=("tier.policy",))],
        ["a", "b"],
        {},
        ['only one plugin may be "tier.policy", and a and b both are; a is enabled in tally.toml; b is enabled in tally.toml'],
        id="exclusive",
    ),
    pytest.param(
        [plugin("a", depends={"ladder": ">=2"}), plugin("t", provides={"ladder": "1"})],
        ["a", "t"],
        {},
        ['a needs "ladder" ">=2", which nothing provides: t provides another version; a is enabled in tally.toml'],
        id="provided in another version",
    ),
    pytest.param(
        [plugin("a", depends={"ladder": ""}), plugin("t", provides={"ladder": "1"})],
        ["a"],
        {},
        ['a needs "ladder", which nothing provides: t would, if enabled; a is enabled in tally.toml'],
        id="provided by one that is off",
    ),
    pytest.param(
        [plugin("a", depends={"b": ""}), plugin("b", after=("c",)), plugin("c", after=("a",))],
        ["a", "c"],
        {},
        ["a circle: a -> c -> b -> a (c wants to come after a; b wants to come after c; a depends on b)"],
        id="circle",
    ),
    pytest.param(
        [plugin("a", api=">=3"), plugin("b", conflicts={"c": "no"}), plugin("c")],
        ["a", "b", "c", "d"],
        {},
        ['a 1.0 needs hook API ">=3", and this is 1.0; it is enabled in tally.toml',
         "d is not installed; it is enabled in tally.toml",
         "b and c cannot run together: no; b is enabled in tally.toml; c is enabled in tally.toml"],
        id="everything at once",
    ),
]  # fmt: skip


@pytest.mark.parametrize("plugins, enabled, options, reasons", REFUSALS)
def test_a_refusal_says_each_chain_of_reasons(plugins, enabled, options, reasons) -> None:
    with pytest.raises(Unresolvable) as caught:
        resolve(of(*plugins), on(*enabled), **options)
    assert list(caught.value.reasons) == reasons


def test_leniently_those_that_cannot_run_are_left_out_with_those_that_need_them() -> None:
    plugins = of(
        plugin("points"),
        plugin("coalition", depends={"tiers": ""}),
        plugin("tiers", depends={"ladder_data": ">=2"}),
        plugin("ladder_data"),
        plugin("joint", auto_install=("points", "tiers"), layer="glue"),
    )
    resolution = resolve(plugins, on("points", "coalition", "tiers"), lenient=True)
    assert resolution.order == ("points",)
    assert resolution.left_out == {
        "coalition": 'coalition needs tiers; tiers 1.0 needs ladder_data ">=2", and 1.0 is installed; '
        "tiers is enabled in tally.toml",
        "tiers": 'tiers 1.0 needs ladder_data ">=2", and 1.0 is installed; tiers is enabled in tally.toml',
    }


def test_a_contradiction_is_refused_even_leniently() -> None:
    with pytest.raises(Unresolvable, match="cannot run together"):
        resolve(of(plugin("a", conflicts={"b": "no"}), plugin("b")), on("a", "b"), lenient=True)


def test_a_plugin_not_yet_tried_with_this_api_runs_with_a_note() -> None:
    resolution = resolve(of(plugin("a", tested="1.0")), on("a"), Version("1.3"))
    assert resolution.order == ("a",)
    assert resolution.notes == ("a was tested with hook API 1.0, and this is 1.3",)


NAMES = [f"p{number}" for number in range(12)]


@st.composite
def registries(draw):
    some = st.lists(st.sampled_from(NAMES), max_size=2, unique=True)
    plugins = [
        plugin(
            name,
            layer=draw(st.sampled_from(LAYERS)),
            depends=dict.fromkeys(set(draw(some)) - {name}, ">=1"),
            after=tuple(draw(some)),
            before=tuple(draw(some)),
            auto_install=tuple(draw(st.one_of(st.just([]), some))),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]
    enabled = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return plugins, enabled, draw(st.permutations(plugins)), draw(st.permutations(enabled)), draw(st.booleans())


def outcome(plugins, enabled, lenient):
    try:
        return resolve(of(*plugins), on(*enabled), lenient=lenient)
    except Unresolvable as error:
        return error.reasons


@given(registries())
def test_the_order_of_telling_does_not_matter(registry) -> None:
    plugins, enabled, shuffled, enabled_shuffled, lenient = registry
    assert outcome(plugins, enabled, lenient) == outcome(shuffled, enabled_shuffled, lenient)


@given(registries())
def test_every_wish_about_order_is_kept(registry) -> None:
    plugins, enabled, _, _, lenient = registry
    resolution = outcome(plugins, enabled, lenient)
    if isinstance(resolution, tuple):
        return
    known = of(*plugins)
    place = {name: index for index, name in enumerate(resolution.order)}
    for name, number in place.items():
        for earlier in (*known[name].depends, *known[name].after):
            assert earlier == name or place.get(earlier, -1) < number
        for later in known[name].before:
            assert later == name or place.get(later, len(place)) > number
        assert known[name].depends.keys() <= place.keys()
    assert set(enabled) == (place.keys() & set(enabled)) | resolution.left_out.keys()


LOCKED = of(
    plugin("points", hooks=("earn", "redeem")), plugin("risk", before=("points",), hooks=("review",)), plugin("tiers")
)


def test_a_lock_reads_back_as_it_was_written() -> None:
    written = lock({"demo": resolve(LOCKED, on("points", "risk")), "other": resolve(LOCKED, on("tiers"))}, LOCKED)
    assert written.tenants == {"demo": ("risk", "points"), "other": ("tiers",)}
    assert read_lock(Document(render_lock(written), "plugins.lock")) == written
    assert diff_locks(written, written) == ()


def test_an_upgrade_that_would_change_the_order_is_shown() -> None:
    old = lock({"demo": resolve(LOCKED, on("points", "risk", "tiers"))}, LOCKED)
    upgraded = of(
        plugin("points", version="1.1", hooks=("earn", "react")), plugin("risk", hooks=("review",)), plugin("gifts")
    )
    new = lock({"demo": resolve(upgraded, on("points", "risk", "gifts"))}, upgraded)
    assert diff_locks(old, new) == (
        "points 1.0 becomes 1.1",
        "points now answers react",
        "points answers redeem no more",
        "demo: gifts is new, first of all",
        "demo: tiers is gone",
        "demo: points now runs before risk, and ran after it",
    )


def test_a_lock_edited_by_hand_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidConfig, match=r'plugins\.lock:2:1: unknown key "tenant"'):
        read_lock(Document('api = "1.0"\ntenant = 1\n', "plugins.lock"))
