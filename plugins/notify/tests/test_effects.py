"""What became of a message after it was sent: told by mail servers, by browsers, by WeChat and by members."""

from __future__ import annotations

import email
import hashlib
import re
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from plugins.notify.tests.conftest import Post, Receiver, Shop
from plugins.notify.tests.test_channels import OPENID, weixin
from tallystick import commands
from tallystick.web import build_app
from tallystick_notify import commands as own
from tallystick_notify import store
from tallystick_notify.mail import read_bounce
from tallystick_notify.wechat import read_news

DSN = """\
From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: bounces@shop.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="cut"

--cut
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--cut
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; ann@example.com
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 no such user

--cut
Content-Type: {returned}

{head}

--cut--
"""


def dsn(head: str, *, action: str = "failed", status: str = "5.1.1", returned: str = "text/rfc822-headers") -> bytes:
    return DSN.format(action=action, status=status, returned=returned, head=head).replace("\n", "\r\n").encode()


def sent(shop: Shop, post: Post) -> str:
    """A mail that was taken; its head."""
    shop.tells(shop.joins("ann", email="ann@example.com"), purpose="reminder")
    shop.works()
    return post.letters[-1].decode().replace("\r\n", "\n").partition("\n\n")[0]


def links(shop: Shop) -> dict[str, str]:
    visit = commands.visit(shop.stage.house, "shop", "notify", "notify.links")
    return {one["for"]: one["address"].partition("example")[2] for one in own.links(visit)[0]}


def report(shop: Shop) -> dict[str, Any]:
    visit = commands.visit(shop.stage.house, "shop", "notify", "notify.report")
    (row,) = own.report(visit)[0]
    return dict(row)


@pytest.mark.parametrize("returned", ["text/rfc822-headers", "message/rfc822"])
def test_a_letter_that_comes_back_later_is_known_as_bounced(shop, post: Post, tmp_path: Path, returned: str) -> None:
    box = tmp_path / "bounces"
    for name in ("new", "cur", "tmp"):
        (box / name).mkdir(parents=True)
    shop = shop(post.channel(f'bounces = "{box}"\nbounces_to = "bounces@shop.example"\n'))
    head = sent(shop, post)
    assert post.envelopes[-1][0] == "bounces@shop.example"
    (box / "new" / "1.host").write_bytes(dsn(head, returned=returned))
    (box / "new" / "2.host").write_bytes(b"Subject: I am on holiday\r\n\r\nUntil Monday.\r\n")
    for _ in range(2):
        shop.stage.house.run_jobs(force=True, only="notify.bounces")
    assert shop.deliveries() == [("letters", "bounced", "bounced_5.1.1")]
    assert sorted(path.name for path in (box / "cur").iterdir()) == ["1.host:2,S", "2.host:2,S"]
    assert (report(shop)["sent"], report(shop)["bounced"], report(shop)["reasons"]) == (1, 1, {"bounced_5.1.1": 1})


@pytest.mark.parametrize("status, left_alone", [("5.1.1", True), ("5.2.1", True), ("5.2.2", False), ("5.7.1", False)])
def test_an_address_that_does_not_exist_is_left_alone_for_half_a_year(
    small_shop, post: Post, status: str, left_alone: bool
) -> None:
    shop = small_shop(post.channel())
    ann = shop.joins("ann", email="ann@example.com")
    bob, cyd = shop.joins("bob", email="ANN@example.com"), shop.joins("cyd", email="cyd@example.com")

    def sends(key: str) -> int:
        before = len(post.letters)
        for number in (ann, bob, cyd):
            shop.tells(number, key=key)
        shop.works()
        return len(post.letters) - before

    assert sends("before") == 3
    head = next(one for one in post.letters if b"To: ann@" in one).decode().replace("\r\n", "\n").partition("\n\n")[0]
    with TestClient(build_app(shop.stage.house)) as client:
        client.post(links(shop)["bounces"], content=dsn(head, status=status))
    assert sends("behind") == (1 if left_alone else 3)
    reasons = [reason for _, _, reason in shop.deliveries()]
    assert reasons.count("address_bounced") == (2 if left_alone else 0)
    shop.goes_by(days=181)
    assert sends("later") == 3


@pytest.mark.parametrize("said, left_alone", [("550 nobody here", True), ("550 5.7.1 not from you", False)])
def test_a_mail_server_that_knows_no_such_mailbox_is_not_asked_again(
    small_shop, post: Post, said: str, left_alone: bool
) -> None:
    shop = small_shop(post.channel())
    ann = shop.joins("ann", email="ann@example.com")
    post.refuses = said
    shop.tells(ann, key="1")
    shop.works()
    post.refuses = ""
    shop.tells(ann, key="2")
    shop.works()
    assert len(post.letters) == (0 if left_alone else 1)


def test_a_mail_server_posts_what_came_back_and_nobody_else_can(small_shop, post: Post) -> None:
    shop = small_shop(post.channel())
    head = sent(shop, post)
    with TestClient(build_app(shop.stage.house)) as client:
        door = links(shop)["bounces"]
        forged = re.sub(r"(<msg_\w+\.)\w{20}", r"\g<1>" + "0" * 20, head)
        for raw, answer in [
            (b"hello", "ignored"), (dsn(forged), "ignored"), (dsn(head, action="delayed", status="4.4.1"), "ignored"),
            (dsn(head, action="delivered", status="2.0.0"), "delivered"), (dsn(head), "bounced"), (dsn(head), "ignored"),
        ]:  # fmt: skip
            said = client.post(door, content=raw, headers={"content-type": "message/rfc822"})
            assert (said.status_code, said.text) == (200, answer)
        assert client.post(door[:-1], content=dsn(head)).status_code == 404
    assert (report(shop)["delivered"], report(shop)["bounced"]) == (1, 1)


@given(st.binary(max_size=400), st.integers(0, 900), st.sampled_from(["failed", "delivered", "x", ""]))
def test_bytes_from_anywhere_are_a_bounce_or_nothing(noise: bytes, place: int, action: str) -> None:
    raw = dsn("Message-ID: <msg_" + "a" * 32 + "." + "b" * 20 + "@shop.example>", action=action)
    for text in (noise, raw[:place] + noise + raw[place:], raw[:place] + raw[place + len(noise) :]):
        found = read_bounce(text)
        assert found is None or (len(found.message), len(found.proof)) == (36, 20)


def test_a_picture_tells_that_a_mail_was_opened_only_where_it_is_configured(small_shop, post: Post) -> None:
    shop = small_shop(post.channel("pixel = true\n"))
    sent(shop, post)
    html: Any = email.message_from_bytes(post.letters[-1], policy=default)
    (source,) = re.findall(r'<img src="https://club.shop.example([^"]+)"', html.get_body(("html",)).get_content())
    with TestClient(build_app(shop.stage.house)) as client:
        for _ in range(2):
            picture = client.get(source)
            assert (picture.status_code, picture.headers["content-type"], picture.content[:4]) == (
                200,
                "image/gif",
                b"GIF8",
            )
        assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
    assert report(shop)["opened"] == 1


def test_without_being_told_to_no_picture_is_in_a_mail(small_shop, post: Post) -> None:
    shop = small_shop(post.channel())
    sent(shop, post)
    assert b"<img" not in post.letters[-1] and b"/seen/" not in post.letters[-1]


def test_one_click_of_a_mail_unsubscribes_and_is_counted(shop, post: Post) -> None:
    shop = shop(post.channel())
    head = sent(shop, post)
    (link,) = re.findall(r"List-Unsubscribe: <https://club.shop.example([^>]+)>", head)
    with TestClient(build_app(shop.stage.house)) as client:
        assert client.get(link).status_code == 200
        assert report(shop)["unsubscribed"] == 0
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert client.post(link, content=b"List-Unsubscribe=One-Click", headers=form).status_code == 200
    assert report(shop)["unsubscribed"] == 1
    shop.tells(shop.stage.number("ann"), purpose="reminder", key="2")
    shop.works()
    assert ("letters", "skipped", "withdrawn") in shop.deliveries()


CALLBACK = (
    "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[o1]]></FromUserName><CreateTime>1</CreateTime>"
    "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>200228332</MsgID>"
    "<Status><![CDATA[{status}]]></Status></xml>"
)


@pytest.mark.parametrize(
    "status, state, delivered",
    [("success", "sent", 1), ("failed:user block", "bounced", 0), ("failed: system failed", "bounced", 0)],
)
def test_wechat_tells_what_came_of_a_message(
    small_shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: str, state: str, delivered: int
) -> None:
    monkeypatch.setenv("WECHAT", "secret-of-wechat")
    monkeypatch.setenv("TOKEN", "token-of-wechat")
    receiver.usual = weixin
    shop = small_shop(
        'public = "https://club.shop.example"\n[plugins.notify.channels.account]\nkind = "wechat"\napp = "wx1"\n'
        f'secret = {{ env = "WECHAT" }}\ntoken = {{ env = "TOKEN" }}\nhost = "{receiver.base}"\nallow_private = ["127.0.0.1"]\n'
        '[plugins.notify.channels.account.templates."notify.held"]\nid = "T-1"\nzh = { thing1 = "{{ order }}" }\n'
    )
    shop.tells(shop.joins("ann", more={"wechat": OPENID}))
    shop.works()
    stamp = str(int(shop.stage.now.timestamp()))
    right = hashlib.sha1("".join(sorted(["token-of-wechat", stamp, "n1"])).encode()).hexdigest()
    signed = {"signature": right, "timestamp": stamp, "nonce": "n1"}
    with TestClient(build_app(shop.stage.house)) as client:
        door = links(shop)["callbacks"]
        assert client.get(door, params={**signed, "echostr": "hello"}).text == "hello"
        for wrong in ({**signed, "signature": "0" * 40}, {**signed, "timestamp": "1"}, {}):
            assert client.post(door, params=wrong, content=CALLBACK.format(status=status)).status_code == 404
        assert report(shop)["delivered"] == 0
        assert client.post(door, params=signed, content=CALLBACK.format(status=status)).text == "success"
        shop.goes_by(minutes=6)
        assert client.post(door, params=signed, content=CALLBACK.format(status=status)).status_code == 404, "not again"
    assert [one for _, one, _ in shop.deliveries()] == [state]
    assert report(shop)["delivered"] == delivered


@given(st.binary(max_size=300))
def test_any_bytes_are_news_of_wechat_or_nothing(noise: bytes) -> None:
    assert read_news(noise) is None or isinstance(read_news(noise), tuple)
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]><xml><Event>TEMPLATESENDJOBFINISH</Event><MsgID>&a;</MsgID></xml>'
        + noise
    )
    assert read_news(bomb) in (("&a;", ""), None) or noise


def test_what_is_read_in_the_app_is_opened(small_shop) -> None:
    shop = small_shop('[plugins.notify.channels.app]\nkind = "inbox"\n')
    number = shop.joins("ann")
    id = shop.tells(number)
    shop.works()
    with shop.stage.house.db.begin() as conn:
        assert store.mark_read(conn, "shop", number, [id], ["app"], shop.stage.clock[0]) == 1
    assert report(shop)["opened"] == 1


def test_the_report_counts_per_local_day_template_and_channel(shop, tmp_path: Path) -> None:
    """23:50 and 00:10 in New York are two days; what is kept back is there with its reason."""
    shop = shop(
        '[plugins.notify.channels.app]\nkind = "inbox"\n'
        f'[plugins.notify.channels.out]\nkind = "file"\npath = "{tmp_path / "out"}"\npurposes = ["reminder"]\n'
    )
    number = shop.joins("ann")
    shop.goes_by(hours=11, minutes=50)
    for key, minutes in (("1", 0), ("2", 20)):
        shop.goes_by(minutes=minutes)
        shop.tells(number, key=key)
        shop.works()
    visit = commands.visit(shop.stage.house, "shop", "notify", "notify.report")
    first, last = shop.stage.now.date(), shop.stage.now.date()
    rows = own.report(visit, since=first.replace(day=15), until=last)[0]
    found = {(row["day"], row["channel"]): (row["sent"], row["skipped"], row["reasons"]) for row in rows}
    assert found == {
        ("2025-06-15", "app"): (1, 0, {}), ("2025-06-16", "app"): (1, 0, {}),
        ("2025-06-15", "out"): (0, 1, {"not_offered": 1}), ("2025-06-16", "out"): (0, 1, {"not_offered": 1}),
    }  # fmt: skip
