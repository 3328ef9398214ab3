"""Whether, when and why: pure rules in tables; templates and settings that are refused."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import config, discovery
from tallystick.document import Document
from tallystick.errors import InvalidConfig
from tallystick_notify import egress
from tallystick_notify.errors import AddressRefused, TemplateRefused
from tallystick_notify.messages import LANGUAGES, declared
from tallystick_notify.plan import PATIENCE, Quiet, Wish, allowed, decide, next_attempt
from tallystick_notify.store import message_id
from tallystick_notify.webhook import sign
from tallystick_notify.wording import Wording, choose, objections, render

NIGHT = Quiet(since=time(21), until=time(9))
SHANGHAI = ZoneInfo("Asia/Shanghai")
LATE = datetime(2025, 6, 15, 14, tzinfo=UTC)  # 22:00 in Shanghai
MORNING = datetime(2025, 6, 16, 1, tzinfo=UTC)
NOON = datetime(2025, 6, 15, 4, tzinfo=UTC)


def wish(purpose: str, channel: str, given: bool) -> Wish:
    return Wish(purpose=purpose, channel=channel, given=given)


@pytest.mark.parametrize(
    "purpose, wishes, expected",
    [
        ("service", [], True),
        ("reminder", [], True),
        ("marketing", [], False),
        ("marketing", [wish("marketing", "", True)], True),
        ("marketing", [wish("marketing", "", True), wish("marketing", "letters", False)], False),
        ("marketing", [wish("marketing", "", False), wish("marketing", "letters", True)], True),
        ("marketing", [wish("reminder", "", True)], False),
        ("marketing", [wish("marketing", "app", True)], False),
        ("reminder", [wish("reminder", "", False)], False),
        ("service", [wish("service", "letters", False)], False),
    ],
)
def test_a_word_about_one_channel_outweighs_one_about_all(purpose: str, wishes: list[Wish], expected: bool) -> None:
    assert allowed(purpose, "letters", wishes) is expected


@pytest.mark.parametrize(
    "changes, due, reason",
    [
        ({}, NOON, ""),
        ({"now": LATE}, MORNING, ""),
        ({"now": LATE, "expires": MORNING}, None, "quiet"),
        ({"now": LATE, "purpose": "service"}, LATE, ""),
        ({"now": LATE, "kind": "inbox"}, LATE, ""),
        ({"now": LATE, "quiet": None}, LATE, ""),
        ({"now": LATE, "zone": ZoneInfo("America/New_York")}, LATE, ""),
        ({"expires": NOON}, None, "expired"),
        ({"full": True}, None, "cap"),
        ({"purpose": "marketing"}, None, "no_consent"),
        ({"wishes": [wish("reminder", "", False)]}, None, "withdrawn"),
        ({"wishes": [wish("reminder", "", False)], "kind": "webhook", "full": True, "now": LATE}, LATE, ""),
        ({"purposes": ("service",)}, None, "not_offered"),
    ],
)
def test_a_message_goes_waits_or_is_kept_back_with_its_reason(changes: dict[str, Any], due: Any, reason: str) -> None:
    given = {
        "purpose": "reminder", "channel": "letters", "kind": "mail", "purposes": ("service", "reminder", "marketing"), "now": NOON,
        "expires": None, "zone": SHANGHAI, "wishes": [], "quiet": NIGHT, "full": False,
    }  # fmt: skip
    found = decide(**{**given, **changes})
    assert (found.due, found.reason) == (due, reason)


@given(
    st.integers(1_577_836_800, 1_893_456_000),
    st.times(),
    st.times(),
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_quiet_hours_end_within_a_day_and_are_over_then(at: int, since: time, until: time, zone: str) -> None:
    now, place, quiet = datetime.fromtimestamp(at, UTC), ZoneInfo(zone), Quiet(since=since, until=until)
    ends = quiet.ends(now, place)
    if ends is not None:
        assert now - timedelta(hours=1) <= ends <= now + timedelta(hours=26)
        assert ends.time() == until


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True), st.integers(0, 80))
def test_attempts_come_further_apart_and_end_after_three_days(attempts: int, chance: float, hours: int) -> None:
    now = NOON + timedelta(hours=hours)
    again = next_attempt(attempts, NOON, now, chance)
    assert again is None or now < again < NOON + PATIENCE
    if again is None:
        assert now + timedelta(hours=10) > NOON + PATIENCE


@given(st.integers(), st.text(), st.text())
def test_one_key_is_one_message(member: int, template: str, key: str) -> None:
    assert message_id(member, template, key) == message_id(member, template, key)
    assert message_id(member, template, key) != message_id(member, template, key + "x")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification."""
    body = b'{"test": 2432232314}'
    found = sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://user:pw@example.com/", "https:///x", "ftp://example.com", "https://example.com/a b",
        "https://example.com/\r\nx: y", "https://example.com:99999/", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        egress.check_url(url)


def test_a_name_with_one_private_address_is_refused_whichever_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is the world's; what it says is given here."""
    for order in (["93.184.216.34", "10.0.0.7"], ["10.0.0.7", "93.184.216.34"]):
        said = [(2, 1, 6, "", (address, 443)) for address in order]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, said=said, **__: said)
        with pytest.raises(AddressRefused, match=r"10\.0\.0\.7"):
            egress.resolve("rebinding.example", 443)


# --- templates -------------------------------------------------------------------------------------------------------


MANIFESTS, _ = discovery.manifests(discovery.discover())
MESSAGES = declared(one for manifest in MANIFESTS.values() for one in manifest.messages)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", MESSAGES)
def test_every_message_of_our_plugins_has_words_that_go_with_its_example(template: str, language: str) -> None:
    message = MESSAGES[template]
    for text in (message.words[language].subject, message.words[language].text):
        assert list(objections(text, message.facts)) == []
    assert set(message.example) == set(message.facts)
    words = render(message.words[language], message.example, language, SHANGHAI)
    assert words.subject and words.text and "{" not in words.subject + words.text


def test_the_messages_of_the_issue_exist() -> None:
    """Expiry, near upgrade, about to lose, held, released."""
    assert {"points.expiring", "tiers.near", "tiers.at_risk", "notify.held", "notify.released"} <= set(MESSAGES)


@pytest.mark.parametrize(
    "text, says",
    [
        ("{{ ponits }}", '"ponits" is no fact of this message; expected one of points, tier'),
        ("{{ points.__class__.__mro__ }}", '"__class__" is not offered'),
        ("{{ points * 1000000 }}", "mul is not offered"),
        ("{{ 'x' ~ points }}", "concat is not offered"),
        ("{{ range(99999999) }}", "call is not offered"),
        ("{% for a in tier %}{% for b in tier %}x{% endfor %}{% endfor %}", "for within for is not offered"),
        ("{% for a in tier recursive %}{{ a }}{% endfor %}", "for within for is not offered"),
        ("{% include 'x' %}", "include is not offered"),
        ("{% set x = 1 %}", "assign is not offered"),
        ("{% macro m() %}{% endmacro %}", "macro is not offered"),
        ("{{ points|tojson }}", "there is no filter"),
        ("{{ points", "cannot be read"),
        ("x" * 20_000, "longer than"),
    ],
)
def test_a_template_that_reaches_for_more_is_refused(text: str, says: str) -> None:
    found = list(objections(text, ("points", "tier")))
    assert any(says in one for one in found), found
    with pytest.raises(TemplateRefused):
        render(Wording("", text), {"points": 1, "tier": "gold"}, "en", SHANGHAI)


@given(st.text(max_size=60))
def test_any_text_is_a_template_or_refused_by_name(text: str) -> None:
    with contextlib.suppress(TemplateRefused):
        render(Wording(text, text), {"points": 5, "tier": "gold"}, "en", SHANGHAI)


EN, ZH, FR = Wording("en", ""), Wording("zh", ""), Wording("fr", "")


@pytest.mark.parametrize(
    "languages, words, expected",
    [
        (("zh", "en"), {"en": EN, "zh": ZH}, "zh"),
        (("zh-Hant-TW", "en"), {"en": EN, "zh": ZH}, "zh"),
        (("fr", "zh"), {"en": EN, "zh": ZH}, "zh"),
        (("fr", "it"), {"en": EN, "zh": ZH}, "en"),
        (("", "zh"), {"en": EN, "zh": ZH}, "zh"),
        (("de", "it"), {"fr": FR}, "fr"),
        (("en", "zh"), {}, None),
    ],
)
def test_the_members_language_comes_first_then_the_programmes_then_english_then_any(
    languages: tuple[str, ...], words: dict[str, Wording], expected: str | None
) -> None:
    found = choose(words, languages)
    assert (found[0] if found is not None else None) == expected


def test_facts_are_words_and_never_templates() -> None:
    words = render(Wording("{{ tier }}", "{{ tier }}"), {"tier": "{{ 7 }}\nBcc: all@example.com"}, "en", SHANGHAI)
    assert words.subject == "{{ 7 }} Bcc: all@example.com", "one line"


# --- settings --------------------------------------------------------------------------------------------------------

HEAD = '[house]\ndatabase = "sqlite:///:memory:"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n[tenants.shop.plugins.notify]\n'


@pytest.mark.parametrize(
    "toml, says",
    [
        ('wordings."notify.held".en = { subject = "Held", text = "{{ mising }}" }', '"mising" is no fact of this message'),
        ('wordings."acme.hello".en = { subject = "Hi", text = "Hi" }', '"facts" is missing'),
        ('channels.crm = { kind = "webhook", url = "https://crm.example" }', '"secrets" is missing'),
        ('channels.crm = { kind = "webhook", url = "http://crm.example", secrets = [{ env = "X" }] }', "expected an address"),
        ('channels.app = { kind = "inbox", url = "https://crm.example" }', 'a inbox channel has no "url"'),
        ('channels.post = { kind = "mail", host = "h", sender = "a@b.example\\nbcc: c@d.example" }', "expected one line with an address"),
        ('caps = [{ most = 1, window = "1d", channel = "pigeon" }]', 'there is no channel "pigeon"'),
        ('caps = [{ most = 0, window = "1d" }]', "expected at least 1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_with_their_place(toml: str, says: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        config.check(Document(HEAD + toml), installed=discovery.discover())
    (problem,) = caught.value.problems
    assert says in str(problem)
    assert problem.line == HEAD.count("\n") + 1
