"""Stories: what was decided in an event arrives once, or it is known why not."""

from __future__ import annotations

import base64
import email
import hashlib
import hmac
import json
from datetime import timedelta
from email.policy import default
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from plugins.notify.tests.conftest import SECRET, Post, Receiver, hook, lines
from tallystick import database, migrate, tables
from tallystick.outbox import Committed
from tallystick_notify import store
from tallystick_notify.tables import METADATA

APP = '[plugins.notify.channels.app]\nkind = "inbox"\n'


def to_file(path: Path) -> str:
    return f'[plugins.notify.channels.lines]\nkind = "file"\npath = "{path}"\n'


def test_the_migrations_lead_to_the_tables(database_url):
    engine = database.connect(database_url)
    migrate.upgrade(engine, [migrate.CORE, migrate.Part("notify", "tallystick_notify.migrations")])
    assert migrate.differences(engine, METADATA) == []
    engine.dispose()


def test_a_reminder_is_written_once_however_often_the_job_runs(shop, tmp_path):
    shop = shop(to_file(tmp_path / "out"))
    shop.reminds()
    shop.works()
    shop.stage.house.run_jobs(force=True, only="points.remind")
    shop.works()
    (line,) = lines(tmp_path / "out")
    assert (line["template"], line["facts"]["points"]) == ("points.expiring", 1200)
    assert shop.deliveries() == [("lines", "sent", "")]


def test_what_was_committed_is_taken_over_again_after_a_crash_and_is_the_same_message(shop, tmp_path):
    shop = shop(to_file(tmp_path / "out"))
    shop.reminds()
    with shop.stage.house.db.begin() as conn:
        conn.execute(tables.consumer.update().where(tables.consumer.c.name == "notify.committed").values(batch=0))
    shop.works()
    assert len(lines(tmp_path / "out")) == 1


def test_a_webhook_is_signed_and_is_a_cloud_event(shop, receiver: Receiver):
    shop = shop(hook(receiver.url))
    shop.reminds()
    ((headers, body),) = receiver.got
    said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"].split() == [expected]
    event = json.loads(body)
    assert (event["specversion"], event["type"], event["id"]) == ("1.0", "points.expiring", headers["webhook-id"])
    assert event["data"]["member"] == f"m-{shop.stage.number('ann'):012d}"


def test_a_receiver_that_fails_hears_again_later_under_the_same_id(shop, receiver: Receiver):
    shop = shop(hook(receiver.url))
    receiver.answers = [500, 302]
    shop.reminds()
    shop.works()
    assert len(receiver.got) == 1, "not before it is due"
    for _ in range(2):
        shop.goes_by(minutes=1)
        shop.works()
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    assert shop.deliveries() == [("crm", "sent", "204")]


def test_after_three_days_it_is_a_dead_letter_and_replay_sends_it(shop, receiver: Receiver):
    shop = shop(hook(receiver.url))
    receiver.answers = [503] * 100
    shop.reminds()
    for _ in range(10):
        shop.goes_by(hours=9)
        shop.works()
    assert shop.deliveries() == [("crm", "dead", "503")]
    assert 5 <= len(receiver.got) <= 12
    receiver.answers = []
    with shop.stage.house.db.begin() as conn:
        assert store.replay(conn, "shop", "", shop.stage.clock[0]) == 1
    shop.goes_by(minutes=2)  # the channel had been resting
    shop.works()
    assert shop.deliveries() == [("crm", "sent", "204")]


def test_a_dead_channel_rests_and_the_others_go_on(shop, receiver: Receiver, tmp_path):
    shop = shop(hook(receiver.url) + to_file(tmp_path / "out"))
    receiver.answers = [500] * 100
    for number in range(8):
        shop.reminds(f"member-{number}")
        shop.stage.at(shop.stage.now - timedelta(days=25))
    tried = len(receiver.got)
    assert tried < 20
    shop.works()
    assert len(receiver.got) == tried, "it rests"
    assert len(lines(tmp_path / "out")) == 8


def test_gone_is_gone(shop, receiver: Receiver):
    shop = shop(hook(receiver.url))
    receiver.answers = [410]
    shop.reminds()
    assert shop.deliveries() == [("crm", "dead", "410")]


def test_a_receiver_that_does_not_answer_delays_nobody(shop, receiver: Receiver, tmp_path):
    shop = shop(hook(receiver.url) + to_file(tmp_path / "out"))
    receiver.hold.clear()
    stage = shop.stage
    stage.enrol("ann")
    stage.send(
        "purchase.completed", {"order": "R", "currency": "USD", "lines": [{"sku": "S", "amount": 120000}]}, member="ann"
    )
    stage.at(stage.now + timedelta(days=25))
    stage.house.run_jobs(force=True, only="points.remind")
    stage.house.run_jobs(force=True, only="notify.deliver")
    assert len(lines(tmp_path / "out")) == 1
    assert receiver.got == []
    assert ("crm", "waiting", "") in shop.deliveries()
    receiver.hold.set()
    shop.works()
    assert len(receiver.got) == 1


def test_whoever_was_killed_leaves_the_delivery_to_the_next(shop, receiver: Receiver):
    shop = shop(hook(receiver.url))
    receiver.answers = [500]
    shop.reminds()
    shop.goes_by(minutes=1)
    with shop.stage.house.db.begin() as conn:  # taken up by somebody who is no more
        (taken,) = store.take_due(conn, "shop", "crm", shop.stage.clock[0], 10)
    shop.works()
    assert len(receiver.got) == 1
    shop.goes_by(minutes=3)
    shop.works()
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [taken.message.id] * 2


def test_two_processes_take_each_delivery_up_once(shop, receiver: Receiver):
    shop = shop(hook(receiver.url))
    receiver.answers = [500]
    shop.reminds()
    now = shop.stage.clock[0] + 60_000_000
    with shop.stage.house.db.begin() as conn:
        first = store.take_due(conn, "shop", "crm", now, 10)
    with shop.stage.house.db.begin() as conn:
        assert (len(first), store.take_due(conn, "shop", "crm", now, 10)) == (1, [])


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]"]
)
def test_an_address_inside_is_refused_and_nothing_is_sent(shop, receiver: Receiver, host):
    shop = shop(hook(f"https://{host}:{receiver.server_address[1]}/hook", private=False))
    shop.reminds()
    assert shop.deliveries() == [("crm", "dead", "address_refused")]
    assert receiver.got == []


def letters(post: Post) -> list[Any]:
    return [email.message_from_bytes(one, policy=default) for one in post.letters]


def test_a_mail_in_the_members_language_that_can_be_unsubscribed_by_one_click(shop, post: Post):
    shop = shop(post.channel())
    shop.joins("ann", email="ann@example.com", language="zh-CN")
    shop.reminds()
    (letter,) = letters(post)
    assert (letter["to"], letter["subject"]) == ("ann@example.com", "您的积分即将过期")
    plain, html = (part.get_content() for part in letter.iter_parts())
    assert "1,200" in plain and "2025年" in plain and "1,200" in html and 'lang="zh-CN"' in html
    assert letter["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert letter["list-unsubscribe"].startswith("<https://club.shop.example/v1/notify/unsubscribe/")
    found = shop.stage.rows("SELECT facts FROM notify_message")
    assert "example.com" not in str(found), "no address is kept"


@pytest.mark.parametrize(
    "address, reason",
    [("", "no_address"), ("ann@example.com\nbcc: all@example.com", "bad_address"), ("ann@@example.com", "bad_address")],
)
def test_an_address_that_is_none_gets_nothing(shop, post: Post, address, reason):
    shop = shop(post.channel())
    shop.joins("ann", email=address)
    shop.reminds()
    assert shop.deliveries() == [("letters", "dead", reason)]
    assert post.letters == []


def test_a_mail_that_bounces_is_known_as_such(shop, post: Post):
    shop = shop(post.channel())
    shop.joins("ann", email="ann@example.com")
    post.refuses = "550 nobody here"
    shop.reminds()
    assert shop.deliveries() == [("letters", "dead", "bounced_550")]


def test_a_reminder_waits_for_the_morning_and_is_not_sent_if_it_is_withdrawn_meanwhile(shop, post: Post):
    shop = shop("quiet = { since = 11:00:00, until = 13:30:00 }\n" + post.channel())
    shop.joins("ann", email="ann@example.com")
    shop.reminds()
    assert (letters(post), shop.deliveries()) == ([], [("letters", "waiting", "")])
    with shop.stage.house.db.begin() as conn:
        number = shop.stage.number("ann")
        store.say(conn, "shop", number, "reminder", "", given=False, wording="", via="app", at=shop.stage.clock[0])
    shop.goes_by(hours=3)
    shop.works()
    assert (letters(post), shop.deliveries()) == ([], [("letters", "dead", "withdrawn")])


def test_a_cap_keeps_the_third_message_back(shop):
    shop = shop('caps = [{ purpose = "reminder", most = 2, window = "365d" }]\n' + APP)
    for _ in range(3):
        shop.reminds()
        shop.goes_by(days=10)
    assert sorted(state for _, state, _ in shop.deliveries()) == ["sent", "sent", "skipped"]
    assert ("app", "skipped", "cap") in shop.deliveries()


def test_a_cap_holds_among_messages_that_are_decided_together(small_shop):
    shop = small_shop('caps = [{ purpose = "service", channel = "app", most = 2, window = "7d" }]\n' + APP)
    for name in ("ann", "bob"):
        number = shop.joins(name)
        for key in "12345":
            shop.tells(number, key=key)
    shop.works()
    found = shop.deliveries()
    assert (found.count(("app", "sent", "")), found.count(("app", "skipped", "cap"))) == (4, 6)


def test_what_was_taken_up_and_not_begun_is_given_back_uncounted(small_shop, receiver: Receiver):
    """A channel that starts to rest leaves the others untouched: every attempt that is counted was made."""
    shop = small_shop(hook(receiver.url))
    receiver.usual = 500
    for n in range(60):
        shop.tells(shop.joins(f"m{n}"))
    shop.works()
    attempts = [row[0] for row in shop.stage.rows("SELECT attempts FROM notify_delivery")]
    assert sum(attempts) == len(receiver.got) < 60
    assert {state for _, state, _ in shop.deliveries()} == {"waiting"}
    receiver.usual = 204
    for _ in range(4):
        shop.goes_by(minutes=2)
        shop.works()
    assert shop.deliveries() == [("crm", "sent", "204")] * 60


def test_a_member_is_exported_and_forgotten(shop):
    shop = shop(APP)
    shop.reminds()
    number, house = shop.stage.number("ann"), shop.stage.house
    part = next(part for part in house.registry.latest("shop").pipeline.parts if part.id == "notify")
    with house.db.begin() as conn:
        store.say(conn, "shop", number, "marketing", "app", given=True, wording="v1", via="app", at=shop.stage.clock[0])
        told: Any = part.plugin.export_member(member=number, store=conn)  # type: ignore[attr-defined]
        assert [one["template"] for one in told["messages"]] == ["points.expiring"]
        assert told["consents"][0]["wording"] == "v1"
        assert part.plugin.erase_member(member=number, store=conn)  # type: ignore[attr-defined]
        for table in METADATA.tables.values():
            assert conn.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_what_is_held_and_what_became_of_it_is_told_and_the_past_is_not(shop):
    shop = shop(APP)
    shop.stage.enrol("ann")
    sale = shop.stage.send(
        "purchase.completed", {"order": "R-7", "currency": "USD", "lines": [{"sku": "S", "amount": 100}]}, member="ann"
    )
    house, now = shop.stage.house, shop.stage.clock[0]
    held = msgspec.structs.replace(sale, status="held")
    freed = msgspec.structs.replace(sale, kind="entry.released", entry="1-9-0", order="", more={"decides": sale.entry})
    old = msgspec.structs.replace(held, entry="1-8-0", at=now - 9 * 86_400_000_000)
    part = next(part for part in house.registry.latest("shop").pipeline.parts if part.id == "notify")
    with house.db.begin() as conn:
        batch = [Committed(1, 7, now, (sale, held, freed, old), ())]
        part.plugin.committed(batch=batch, store=conn)  # type: ignore[attr-defined]
    shop.works()
    found = shop.stage.rows("SELECT template, facts FROM notify_message ORDER BY template")
    assert [tuple(row) for row in found] == [
        ("notify.held", f'{{"entry":"{sale.entry}","order":"R-7"}}'),
        ("notify.released", f'{{"entry":"{sale.entry}","order":"R-7"}}'),
    ]
    assert [state for _, state, _ in shop.deliveries()] == ["sent", "sent"]
