"""What every channel promises, asked of all of them alike, each against a real receiver on loopback."""

from __future__ import annotations

import base64
import email
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from plugins.notify.tests.conftest import VAPID, Post, Receiver, Shop, Site, hook, lines
from tallystick_notify import store, webpush
from tallystick_notify.channels import Parcel, Result
from tallystick_notify.mail import Mail
from tallystick_notify.sms import Sms
from tallystick_notify.wechat import Form, WeChat
from tallystick_notify.wording import Wording

#: Apprise asks for a module of Python's own that goes away in 3.13, and brings its own when it is gone.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PHONE, OPENID, MAIL = "+86 138-0013-8000", "oZ1abc_DEF-2345678", "ann@example.com"
#: A browser: its private key, its secret, and what it tells the shop.
BROWSER = ec.derive_private_key(0xC9F58F89813E9F8E872E71F42AA64E1757C9254DCC62B72DDC010BB4043EA11C, ec.SECP256R1())
AUTH = b"sixteen bytes of"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@attrs.frozen(kw_only=True)
class Rig:
    """A channel that is set up, and the other side of it."""

    settings: str
    arrived: Callable[[Shop], list[tuple[str, str]]]  #: (id, all that can be read), in order of arrival
    profile: dict[str, Any] = attrs.field(factory=dict)
    fails: Callable[[], None] | None = None  #: once, for a moment
    refuses: Callable[[], None] | None = None  #: for good
    dies: Callable[[], None] | None = None
    browser: str = ""  #: where a browser of the member is
    secrets: tuple[str, ...] = ()  #: what must not be written down anywhere

    def joins(self, shop: Shop, name: str = "ann") -> int:
        number = shop.joins(name, **self.profile)
        if self.browser:
            with shop.stage.house.db.begin() as conn:
                body = json.dumps(subscription(self.browser)).encode()
                store.subscribe(conn, "shop", number, self.browser, body, shop.stage.clock[0])
        return number


def subscription(endpoint: str) -> dict[str, Any]:
    return {"endpoint": endpoint, "keys": {"p256dh": b64(webpush._point(BROWSER.public_key())), "auth": b64(AUTH)}}


def unseal(body: bytes) -> bytes:
    """What the browser does with a push message (RFC 8291), written a second time."""
    salt, ours = body[:16], body[21 : 21 + body[20]]
    shared = BROWSER.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ours))
    theirs = webpush._point(BROWSER.public_key())
    seed = hmac.digest(hmac.digest(AUTH, shared, "sha256"), b"WebPush: info\0" + theirs + ours + b"\1", "sha256")
    mixed = hmac.digest(salt, seed, "sha256")
    key = hmac.digest(mixed, b"Content-Encoding: aes128gcm\0\1", "sha256")[:16]
    nonce = hmac.digest(mixed, b"Content-Encoding: nonce\0\1", "sha256")[:12]
    return AESGCM(key).decrypt(nonce, body[21 + len(ours) :], None).removesuffix(b"\2")


PAGER = """\
id = "pager"
api = ">=1,<2"
summary = { en = "Pages people.", zh = "呼叫。" }
layer = "channel"
factory = "tallystick_pager.hooks:Pager"
hooks = ["notify"]
"""
PAGER_CODE = """\
import json
from pathlib import Path
from tallystick.hookspecs import hookimpl
FOLDER = Path(__file__).parent
class Pager:
    @hookimpl
    async def notify(self, message):
        if message["channel"] != "way":
            return None
        said = (FOLDER / "says").read_text().split() if (FOLDER / "says").exists() else []
        (FOLDER / "says").write_text(" ".join(said[1:]))
        with (FOLDER / "got").open("a") as file:
            file.write(json.dumps([message["key"], f"{message['subject']} {message['text']} {message['address']}"]) + "\\n")
        if said[:1] == ["raise"]:
            raise RuntimeError("no line")
        return said[:1] != ["no"]
"""


@pytest.fixture
def rig(  # noqa: C901  a case per channel
    request: pytest.FixtureRequest, receiver: Receiver, post: Post, tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:  # fmt: skip
    allow = 'allow_private = ["127.0.0.1"]\n'
    head = "[plugins.notify.channels.way]\n"
    dies = lambda: (receiver.shutdown(), receiver.server_close())  # noqa: E731
    again = lambda: receiver.answers.append(503)  # noqa: E731
    for name, value in {
        "GATE": "secret-of-the-gateway", "WECHAT": "secret-of-wechat", "VAPID": VAPID, "APPRISE": f"json://127.0.0.1:{receiver.server_address[1]}/x",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    match request.param:
        case "inbox":

            def inbox(shop: Shop) -> list[tuple[str, str]]:
                found = "SELECT message FROM notify_delivery WHERE state = 'sent'"
                return [(row[0], "R-1") for row in shop.stage.rows(found)]

            yield Rig(settings=head + 'kind = "inbox"\n', arrived=inbox)
        case "file":
            path = tmp_path / "out"
            yield Rig(
                settings=head + f'kind = "file"\npath = "{path}"\n',
                arrived=lambda _: [(line["id"], json.dumps(line, ensure_ascii=False)) for line in lines(path)],
            )
        case "webhook":
            yield Rig(
                settings=hook(receiver.url).replace("channels.crm", "channels.way"),
                arrived=lambda _: [(headers["webhook-id"], body.decode()) for headers, body in receiver.got],
                fails=again, refuses=lambda: receiver.answers.append(410), dies=dies, secrets=("whsec",),
            )  # fmt: skip
        case "mail":

            def mails(_: Shop) -> list[tuple[str, str]]:
                found = [email.message_from_bytes(raw, policy=default) for raw in post.letters]
                texts = [f"{one['subject']} {[part.get_content() for part in one.iter_parts()]}" for one in found]
                return [(one["message-id"].strip(" <\r\n")[:36], text) for one, text in zip(found, texts, strict=True)]

            yield Rig(
                settings=post.channel().replace("channels.letters", "channels.way"), arrived=mails, profile={"email": MAIL},
                fails=lambda: setattr(post, "refuses", ["451 later"]), refuses=lambda: setattr(post, "refuses", "550 nobody"),
                dies=post.stop, secrets=(MAIL,),
            )  # fmt: skip
        case "sms":
            yield Rig(
                settings=head + f'kind = "sms"\nurl = "{receiver.url}"\n{allow}'
                'fields = { to = "{phone}", content = "[Shop] {text}", ref = "{id}" }\nsecret_fields = { key = { env = "GATE" } }\n'
                'verdict = { field = "result.code", is = "0", never = ["13"] }\n',
                arrived=lambda _: [(form["ref"][0], f"{form}") for form in (parse_qs(body.decode()) for _, body in receiver.got)],
                profile={"phone": PHONE}, fails=again, dies=dies, secrets=(PHONE, "secret-of-the-gateway"),
                refuses=lambda: receiver.answers.append((200, b'{"result": {"code": 13}}')),
            )  # fmt: skip
            return
        case "wechat":
            receiver.usual = weixin

            def sent() -> list[dict[str, Any]]:
                both = zip(receiver.asked, receiver.got, strict=True)
                return [json.loads(body) for path, (_, body) in both if "template" in path]

            yield Rig(
                settings=head + f'kind = "wechat"\napp = "wx1"\nsecret = {{ env = "WECHAT" }}\nhost = "{receiver.base}"\n{allow}'
                '[plugins.notify.channels.way.templates."notify.held"]\nid = "T-1"\nzh = { thing1 = "{{ order or entry }}" }\n',
                arrived=lambda _: [("msg_" + one["client_msg_id"], json.dumps(one, ensure_ascii=False)) for one in sent()],
                profile={"more": {"wechat": OPENID}}, dies=dies, secrets=(OPENID, "secret-of-wechat"),
                fails=lambda: receiver.answers.append((200, b'{"errcode": -1}')),
                refuses=lambda: receiver.answers.extend([(200, TOKEN), (200, b'{"errcode": 43004}')]),
            )  # fmt: skip
        case "webpush":

            def pushed(_: Shop) -> list[tuple[str, str]]:
                found = [json.loads(unseal(body)) for _, body in receiver.got]
                return [(one["id"], f"{one['title']} {one['body']}") for one in found]

            yield Rig(
                settings=head + f'kind = "webpush"\nvapid = {{ env = "VAPID" }}\ncontact = "mailto:club@shop.example"\n{allow}',
                arrived=pushed, browser=f"{receiver.base}/push/1", fails=again, dies=dies,
                refuses=lambda: receiver.answers.append(410), secrets=(f"{receiver.base}/push/1", VAPID),
            )  # fmt: skip
        case "apprise":
            pytest.importorskip("apprise")
            yield Rig(
                settings=head + 'kind = "apprise"\nurls = [{ env = "APPRISE" }]\n', fails=again, dies=dies, secrets=("json://",),
                arrived=lambda _: [("", f"{one['title']} {one['message']}") for one in (json.loads(b) for _, b in receiver.got)],
            )  # fmt: skip
        case "plugin":
            folder = site.install("pager", code="", manifest=PAGER)
            (folder / "hooks.py").write_text(PAGER_CODE)
            yield Rig(
                settings=head + 'kind = "plugin"\naddress = "more.pager"\n[plugins.pager]\n', arrived=lambda _: [tuple(one) for one in lines(folder / "got")],
                profile={"more": {"pager": "beep-42"}}, fails=lambda: (folder / "says").write_text("raise"),
                refuses=lambda: (folder / "says").write_text("no"), secrets=("beep-42",),
            )  # fmt: skip


TOKEN = b'{"access_token": "abc", "expires_in": 7200}'


def weixin(path: str, body: bytes) -> tuple[int, bytes]:
    """WeChat's interface, as far as it is asked."""
    if path == "/cgi-bin/stable_token":
        right = json.loads(body) == {"grant_type": "client_credential", "appid": "wx1", "secret": "secret-of-wechat"}
        return 200, TOKEN if right else b'{"errcode": 40125}'
    right = path == "/cgi-bin/message/template/send?access_token=abc" and json.loads(body)["touser"] == OPENID
    return 200, b'{"errcode": 0, "msgid": 200228332}' if right else b'{"errcode": 40003}'


KINDS = ["inbox", "file", "webhook", "mail", "sms", "wechat", "webpush", "apprise", "plugin"]
FAILING = KINDS[2:]
every = pytest.mark.parametrize("rig", KINDS, indirect=True)
SMS_SAYS = (200, b'{"result": {"code": 0}}')


@pytest.fixture(autouse=True)
def gateway(request: pytest.FixtureRequest, receiver: Receiver) -> None:
    if "sms" in request.node.name:
        receiver.usual = SMS_SAYS


@every
def test_a_message_arrives_once_with_what_it_says(small_shop, rig: Rig) -> None:
    shop = small_shop(rig.settings)
    id = shop.tells(rig.joins(shop))
    for _ in range(2):
        shop.works()
    ((known, said),) = rig.arrived(shop)
    assert known in (id, "") and "R-1" in said
    assert [state for _, state, _ in shop.deliveries()] == ["sent"]


@pytest.mark.parametrize("rig", FAILING, indirect=True)
def test_what_fails_for_a_moment_comes_again_under_the_same_id(small_shop, rig: Rig) -> None:
    shop = small_shop(rig.settings)
    id = shop.tells(rig.joins(shop))
    assert rig.fails is not None
    rig.fails()
    shop.works()
    assert [state for _, state, _ in shop.deliveries()] == ["waiting"]
    shop.goes_by(minutes=1)
    shop.works()
    assert [state for _, state, _ in shop.deliveries()] == ["sent"]
    assert {known for known, _ in rig.arrived(shop)} in ({id}, {""})


@pytest.mark.parametrize("rig", [kind for kind in FAILING if kind != "apprise"], indirect=True)
def test_what_is_refused_for_good_is_not_tried_again(small_shop, rig: Rig) -> None:
    """Apprise never says that a refusal is for good."""
    shop = small_shop(rig.settings)
    shop.tells(rig.joins(shop))
    assert rig.refuses is not None
    rig.refuses()
    for _ in range(3):
        shop.works()
        shop.goes_by(hours=1)
    ((_, state, reason),) = shop.deliveries()
    assert state == "dead" and reason
    assert len(rig.arrived(shop)) <= 1


@pytest.mark.parametrize("rig", ["webhook", "mail", "sms", "wechat", "webpush", "apprise"], indirect=True)
def test_where_nobody_answers_it_waits(small_shop, rig: Rig) -> None:
    shop = small_shop(rig.settings)
    shop.tells(rig.joins(shop))
    assert rig.dies is not None
    rig.dies()
    shop.works()
    ((_, state, reason),) = shop.deliveries()
    assert state == "waiting" and reason


HOSTILE = "R-1\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script> {{ 7 * 7 }} {id} \x00\x1b[2J\u202e"


@every
def test_facts_are_words_whatever_stands_in_them(small_shop, rig: Rig, post: Post) -> None:
    shop = small_shop(rig.settings)
    shop.tells(rig.joins(shop), order=HOSTILE)
    shop.works()
    ((_, said),) = rig.arrived(shop)
    assert "49" not in said.replace("{{ 7 * 7 }}", "") or "{{ 7 * 7 }}" in said
    for raw in post.letters:
        letter: Any = email.message_from_bytes(raw, policy=default)
        assert letter["bcc"] is None and "\r\nBcc" not in raw.decode().partition("\r\n\r\n")[0]
        html = letter.get_body(("html",)).get_content()
        assert "<script>" not in html and "&lt;script&gt;" in html
    assert all(recipients == [MAIL] for _, recipients in post.envelopes)


@pytest.mark.parametrize("rig", ["mail", "sms", "wechat", "webpush", "plugin"], indirect=True)
def test_who_said_nowhere_to_be_reached_gets_nothing(small_shop, rig: Rig) -> None:
    shop = small_shop(rig.settings)
    shop.tells(shop.joins("bob"))
    shop.works()
    assert shop.deliveries() == [("way", "dead", "no_address")]
    assert rig.arrived(shop) == []


ADDRESSED = [
    Mail(host="192.0.2.1", port=25, sender="Shop <club@shop.example>"),
    Sms(url="https://192.0.2.1/", fields={"to": "{phone}", "text": "{text}"}),
    WeChat(app="wx1", secret={}, forms={"notify.held": Form(id="T", data={"en": {}})}, host="https://192.0.2.1"),
]


@pytest.mark.parametrize(
    "bad", ["x", "a@b\r\nRCPT TO:<all@example.com>", "+86;rm", "../../token", "9" * 300, "；", " "]
)
@pytest.mark.parametrize("channel", ADDRESSED, ids=lambda channel: type(channel).__name__)
def test_what_is_no_address_is_refused_before_anybody_is_asked(channel: Any, bad: str) -> None:
    now = datetime(2025, 6, 15, tzinfo=UTC)
    parcel = Parcel(
        id="msg_1", tenant="shop", member="m-1", template="notify.held", purpose="service", facts={}, created=now, now=now,
        wording=Wording("Held", "Held"), addresses=(bad,),
    )  # fmt: skip
    assert channel.send(parcel) == Result("dead", "bad_address")


@pytest.mark.parametrize("rig", ["inbox", "mail", "sms", "wechat", "webpush", "plugin"], indirect=True)
def test_a_member_who_took_consent_back_hears_nothing(small_shop, rig: Rig) -> None:
    shop = small_shop(rig.settings)
    number = rig.joins(shop)
    with shop.stage.house.db.begin() as conn:
        store.say(conn, "shop", number, "service", "way", given=False, wording="", via="app", at=shop.stage.clock[0])
    shop.tells(number)
    shop.tells(number, purpose="marketing", key="2")
    shop.works()
    assert sorted(shop.deliveries()) == [("way", "skipped", "no_consent"), ("way", "skipped", "withdrawn")]
    assert rig.arrived(shop) == []


@pytest.mark.parametrize("rig", [kind for kind in FAILING if kind != "apprise"], indirect=True)
def test_no_address_and_no_secret_is_written_down(small_shop, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    shop = small_shop(rig.settings)
    shop.tells(rig.joins(shop))
    assert rig.fails is not None and rig.secrets
    rig.fails()
    shop.works()
    shop.goes_by(minutes=1)
    shop.works()
    kept = [
        shop.stage.rows(f"SELECT * FROM notify_{name}") for name in ("message", "delivery", "consent", "subscription")
    ]
    assert [one for one in rig.secrets if one in f"{kept}{caplog.text}"] == []


# --- what only one of them promises ----------------------------------------------------------------------------------


def test_the_example_of_rfc_8291_comes_out_byte_for_byte() -> None:
    text = b"When I grow up, I want to be a watermelon"
    key = ec.derive_private_key(
        int.from_bytes(unb64("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big"), ec.SECP256R1()
    )
    browser = unb64("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
    sealed = webpush.encrypt(
        text, browser, unb64("BTBZMqHH6r4Tts7J_aSIgg"), key=key, salt=unb64("DGv6ra1nlYgDCS1FRnbzlw")
    )
    assert b64(sealed) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
        "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@pytest.mark.parametrize("rig", ["webpush"], indirect=True)
def test_a_push_service_knows_who_we_are_and_a_browser_that_is_gone_is_forgotten(
    small_shop, rig: Rig, receiver: Receiver
) -> None:
    shop = small_shop(rig.settings)
    number = rig.joins(shop)
    shop.tells(number)
    shop.works()
    headers, _ = receiver.got[0]
    token, _, point = headers["authorization"].removeprefix("vapid t=").partition(", k=")
    said, _, signature = token.rpartition(".")
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(point))
    raw = unb64(signature)
    both = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(both, said.encode(), ec.ECDSA(SHA256()))
    claims, now = json.loads(unb64(said.partition(".")[2])), shop.stage.now.timestamp()
    assert claims["aud"] == receiver.base and now < claims["exp"] <= now + 86_400
    assert (headers["content-encoding"], headers["ttl"]) == ("aes128gcm", "259200")
    receiver.usual = 410
    shop.tells(number, key="2")
    shop.works()
    assert shop.stage.rows("SELECT * FROM notify_subscription") == []


@pytest.mark.parametrize("rig", ["wechat"], indirect=True)
def test_wechats_token_is_fetched_once_and_anew_when_it_is_stale(small_shop, rig: Rig, receiver: Receiver) -> None:
    shop = small_shop(rig.settings)
    number = rig.joins(shop)
    for key in "123":
        shop.tells(number, key=key)
        shop.works()
    assert [path.partition("?")[0].rpartition("/")[2] for path in receiver.asked] == [
        "stable_token",
        "send",
        "send",
        "send",
    ]
    receiver.answers.append((200, b'{"errcode": 42001}'))
    shop.tells(number, key="4")
    shop.works()
    assert [state for _, state, _ in shop.deliveries()] == ["sent"] * 4
    assert sum("stable_token" in path for path in receiver.asked) == 2


@pytest.mark.parametrize("rig", ["sms"], indirect=True)
def test_a_short_message_is_a_form_with_its_secret_and_its_places_filled_in_once(
    small_shop, rig: Rig, receiver: Receiver
) -> None:
    shop = small_shop(rig.settings)
    id = shop.tells(rig.joins(shop), order="{phone}")
    shop.works()
    form = parse_qs(receiver.got[0][1].decode())
    assert (form["to"], form["key"], form["ref"]) == (["+8613800138000"], ["secret-of-the-gateway"], [id])
    assert form["content"][0].startswith("[Shop] Something about {phone} has")


def test_a_plugin_that_says_none_leaves_the_message_to_the_others(small_shop, site: Site) -> None:
    folder = site.install("pager", code="", manifest=PAGER)
    (folder / "hooks.py").write_text(PAGER_CODE)
    shop = small_shop('[plugins.notify.channels.horn]\nkind = "plugin"\n[plugins.pager]\n')
    shop.tells(shop.joins("ann"))
    shop.works()
    assert shop.deliveries() == [("horn", "dead", "no_plugin")]
