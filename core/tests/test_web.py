"""The HTTP door in front of a real house on a real file."""

from __future__ import annotations

import gzip
import hashlib
import json
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallystick import errors, keys
from tallystick.api import BY_KIND, DOORS, Door
from tallystick.errors import TallyError
from tallystick.problems import TABLE, choose_language, problem_document, status_of
from tallystick.web import GUARDED, PUBLIC, build_app
from tests.town import NOW, START, Town, build_town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with build_town(tmp_path, f"sqlite:///{tmp_path / 'tally.db'}") as town:
        yield town


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Town]:
    """The town on each database: for what could differ between them."""
    with build_town(tmp_path, database_url) as town:
        yield town


def balance(town: Town, member: str = "ann", **more: Any) -> int:
    found = town.ask("GET", f"/v1/members/{member}/balances", **more).json()["balances"]
    return int(found["acorns"]["usable"]) if "acorns" in found else 0


# --- events ---------------------------------------------------------------------------------------------------------


def test_an_event_is_answered_with_points_lots_and_an_explanation(town: Town) -> None:
    answer = town.send(town.event(id="e-1"))
    assert answer.status_code == 200
    receipt = answer.json()
    assert receipt["units"] == {"acorns": {"gained": 12, "spent": 0, "balance": 12}}
    assert [(lot["amount"], lot["left"]) for lot in receipt["lots"]] == [(12, 12)]
    (step,) = receipt["explanation"]
    assert (step["rule"], step["plugin"], step["version"]) == ("acorns.purchase", "acorns", "1.5")
    assert step["numbers"] == {"cents": 1234}
    assert step["text"] == "acorns.purchase gave 12 acorns"
    assert (receipt["member"], receipt["status"], receipt["time"]) == (town.members["oak/ann"], "recorded", NOW)


def test_the_same_event_is_answered_the_same_to_the_byte(served: Town) -> None:
    """S02: fifty at once, and once more after thirty days."""
    document = served.event(id="once")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: served.send(document), range(50)))
    served.clock[0] += 30 * 86_400_000_000
    answers.append(served.send(document))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert balance(served) == 12


def test_an_event_is_answered_the_same_after_the_clock_was_set_back(served: Town) -> None:
    """What was recorded lies in the future of a clock that was set back by days; only what is new is too early."""
    document = served.event(id="once")
    first = served.send(document)
    served.clock[0] -= 3 * 86_400_000_000
    again = served.send(document)
    assert (again.status_code, again.content) == (200, first.content)
    other = served.send({**document, "data": {**document["data"], "store": "x"}})
    assert (other.status_code, other.json()["code"]) == (409, "event_conflict")
    fresh = served.send(served.event(id="fresh"))
    assert (fresh.status_code, fresh.json()["code"], fresh.json()["pointer"]) == (422, "too_early", "/time")
    several = served.send([document, served.event(id="fresh")]).json()
    assert [item["status"] for item in several] == [200, 422]
    served.clock[0] += 3 * 86_400_000_000
    assert balance(served) == 12


def test_an_id_with_other_contents_is_refused(served: Town) -> None:
    """S03: same id, other facts, other member, other tenant."""
    document = served.event(id="once")
    assert served.send(document).status_code == 200
    for other in ({**document, "member": "bob"}, {**document, "data": {**document["data"], "store": "x"}}):
        answer = served.send(other)
        assert (answer.status_code, answer.json()["code"]) == (409, "event_conflict")
        assert "R-1" not in answer.text
    assert served.send(document, key="elm/owner").status_code == 200
    assert (balance(served), balance(served, key="elm/owner")) == (12, 12)


def test_each_event_of_an_array_has_its_own_answer(served: Town) -> None:
    good, bad, poor = (
        served.event(),
        served.event(data={"order": "R"}),
        served.event("acorns.spent", data={"acorns": 999}),
    )
    answer = served.send([good, bad, poor, good])
    assert answer.status_code == 207
    items = answer.json()
    assert [item["status"] for item in items] == [200, 422, 422, 200]
    assert items[0] == items[3]
    assert items[1]["problem"]["pointer"] == "/1/data/currency"
    assert items[2]["problem"]["code"] == "insufficient_balance"
    assert items[2]["problem"]["details"]["usable"] == 12
    assert balance(served) == 12


def test_an_array_where_all_is_well_is_200(town: Town) -> None:
    assert town.send([town.event(), town.event()]).status_code == 200
    assert town.send([]).json() == []


def test_a_refund_without_its_sale_waits(town: Town) -> None:
    refund = town.event("purchase.refunded", data={"order": "R-later"})
    answer = town.send(refund)
    assert (answer.status_code, answer.json()["status"]) == (202, "parked")
    assert town.send(refund).content == answer.content
    assert town.send([refund]).json() == [{"status": 202, "receipt": answer.json()}]


def test_a_dry_run_records_nothing(served: Town) -> None:
    document = served.event()
    for _ in range(2):
        answer = served.send(document, params={"dry_run": "true"})
        assert answer.status_code == 200
        assert (answer.json()["entry"], answer.json()["units"]["acorns"]["gained"]) == ("dry-run", 12)
        assert {lot["lot"] for lot in answer.json()["lots"]} == {"dry-run"}
    assert balance(served) == 0
    assert served.ask("GET", "/v1/members/ann/entries").json()["entries"] == []
    items = served.send([document, served.event(type="no.such")], params={"dry_run": "1"}).json()
    assert [item["status"] for item in items] == [200, 422]


def test_a_dry_run_of_a_known_event_says_what_sending_it_again_would(town: Town) -> None:
    document = town.event()
    receipt = town.send(document)
    other = {**document, "member": "bob"}
    for sent in (document, other, [document, other]):
        would, is_now = town.send(sent, params={"dry_run": "true"}), town.send(sent)
        assert (would.status_code, would.content) == (is_now.status_code, is_now.content)
    assert town.send(document, params={"dry_run": "true"}).content == receipt.content


@pytest.mark.parametrize(
    "media, body, status",
    [
        ("application/json", "one", 200),
        ("application/json; charset=utf-8", "one", 200),
        ("APPLICATION/JSON", "many", 200),
        ("application/cloudevents+json", "one", 200),
        ("application/cloudevents-batch+json", "many", 200),
        ("application/cloudevents+json", "many", 415),
        ("application/cloudevents-batch+json", "one", 415),
        ("application/json; charset=gbk", "one", 415),
        ("text/plain", "one", 415),
        ("", "one", 415),
    ],
)
def test_the_media_type_says_what_the_body_is(town: Town, media: str, body: str, status: int) -> None:
    document: Any = town.event() if body == "one" else [town.event()]
    answer = town.ask("POST", "/v1/events", content=json.dumps(document), headers={"content-type": media})
    assert answer.status_code == status
    assert balance(town) == (12 if status == 200 else 0)


def test_a_body_too_large_is_given_up_while_it_comes(town: Town) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b" " * 1_000_000

    answer = town.ask("POST", "/v1/events", content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    declared = town.ask(
        "POST", "/v1/events", content=b"[]", headers={"content-type": "application/json", "content-length": "5000000"}
    )
    assert declared.status_code == 413
    small = town.ask("POST", "/v1/members", content=b" " * 70_000, headers={"content-type": "application/json"})
    assert small.status_code == 413


def test_compressed_bodies_are_not_taken(town: Town) -> None:
    body = gzip.compress(json.dumps(town.event()).encode())
    answer = town.ask(
        "POST", "/v1/events", content=body, headers={"content-type": "application/json", "content-encoding": "gzip"}
    )
    assert answer.status_code == 415


def test_events_of_a_house_that_closes_are_refused_and_may_be_sent_again(town: Town) -> None:
    town.house.writer.stop()
    answer = town.send(town.event(id="late"))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert town.ask("GET", "/readyz", key=None).status_code == 503
    town.house.writer.start()
    assert town.send(town.event(id="late")).status_code == 200


def test_nothing_is_recorded_in_a_file_that_was_moved_away(town: Town, tmp_path: Path) -> None:
    """It would be gone with the last process that has it open."""
    town.send(town.event(id="first"))
    books, away = tmp_path / "tally.db", tmp_path / "away.db"
    books.rename(away)
    refused = town.send(town.event(id="second"))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert "moved away" in refused.json()["detail"]
    ready = town.ask("GET", "/readyz", key=None)
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "gone")
    assert not books.exists(), "nobody made another"
    away.rename(books)
    assert town.send(town.event(id="second")).status_code == 200
    copy = tmp_path / "copy.db"
    copy.write_bytes(books.read_bytes())
    copy.rename(books)
    assert town.send(town.event(id="third")).status_code == 503


# --- members --------------------------------------------------------------------------------------------------------


def test_a_person_joins_once(served: Town) -> None:
    joiner = {"external_ids": ["cyd", "phone:1"], "profile": {"name": "Cyd"}, "channel": "app"}
    first = served.ask("POST", "/v1/members", json=joiner)
    assert first.status_code == 201
    served.clock[0] += 30 * 86_400_000_000
    assert served.ask("POST", "/v1/members", json=joiner).content == first.content
    for other in (
        {**joiner, "profile": {"name": "Dan"}},
        {**joiner, "external_ids": ["cyd", "other"]},
        {**joiner, "channel": "till"},
    ):
        answer = served.ask("POST", "/v1/members", json=other)
        assert answer.status_code == 409
        assert "Cyd" not in answer.text
    assert served.ask("GET", "/v1/members/other").status_code == 404
    assert served.ask("GET", "/v1/members/phone:1").json() == first.json()["member"]


def test_what_a_person_told_us_is_told_only_to_those_who_may_know(town: Town) -> None:
    town.ask("POST", "/v1/members", json={"external_ids": ["cyd"], "profile": {"name": "Cyd", "birthday": "02-29"}})
    assert "Cyd" not in town.ask("GET", "/v1/members/cyd").text
    answer = town.ask("GET", "/v1/members/cyd", params={"profile": "true"})
    assert answer.json()["profile"] == {"name": "Cyd", "birthday": "02-29", "external_ids": ["cyd"]}
    assert town.ask("GET", "/v1/members/cyd", params={"profile": "true"}, key="oak/cashier").status_code == 403


@pytest.mark.parametrize("birthday", ["02-30", "1990-02-30", "1990-02-29", "0000-01-01", "04-31"])
def test_nobody_is_born_on_a_day_that_never_was(town: Town, birthday: str) -> None:
    answer = town.ask("POST", "/v1/members", json={"external_ids": ["cyd"], "profile": {"birthday": birthday}})
    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (
        422,
        "invalid_member",
        "/profile/birthday",
    )
    assert town.ask("GET", "/v1/members/cyd").status_code == 404


@pytest.mark.parametrize("door", [door for door in DOORS if door.query], ids=lambda door: f"{door.method} {door.path}")
def test_a_door_whose_parameters_are_all_left_out_never_breaks(town: Town, door: Door) -> None:
    required = [field.name for field in msgspec.structs.fields(door.query) if field.required]
    path = door.path.format(member="m-000000000001", entry="1-1-0", rule="acorns.purchase")
    answer = town.ask(door.method, path, json=None if door.method == "GET" else {})
    assert answer.status_code < 500
    if required:
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert required[0] in answer.json()["detail"]


def test_a_member_is_found_by_another_id(town: Town) -> None:
    for _ in range(2):
        assert town.ask("POST", "/v1/members/ann/link", json={"external_id": "card-1"}).status_code == 200
    assert town.ask("GET", "/v1/members/card-1").json()["member"] == town.members["oak/ann"]
    taken = town.ask("POST", "/v1/members/bob/link", json={"external_id": "card-1"})
    assert (taken.status_code, taken.json()["code"]) == (409, "alias_taken")


def test_a_guest_order_is_claimed_once(served: Town) -> None:
    assert (
        served.send(
            served.event(member=None, data={"order": "G-1", "currency": "USD", "lines": [{"sku": "A", "amount": 500}]})
        ).status_code
        == 200
    )
    first = served.ask("POST", "/v1/members/ann/claim", json={"order": "G-1"})
    assert first.json()["units"]["acorns"]["gained"] == 5
    served.clock[0] += 60_000_000
    assert served.ask("POST", "/v1/members/ann/claim", json={"order": "G-1"}).content == first.content
    assert served.ask("POST", "/v1/members/bob/claim", json={"order": "G-1"}).status_code == 409
    assert served.ask("POST", "/v1/members/ann/claim", json={"order": "G-2"}).status_code == 404
    assert (balance(served), balance(served, "bob")) == (5, 0)


def test_two_members_who_are_one_are_merged_and_parted(served: Town) -> None:
    served.send(served.event(member="bob"))
    first = served.ask("POST", "/v1/members/bob/merge", json={"into": "ann", "reason": "one phone"})
    assert first.status_code == 200, first.text
    assert served.ask("POST", "/v1/members/bob/merge", json={"into": "ann"}).content == first.content
    assert (balance(served), served.ask("GET", "/v1/members/bob").json()["member"]) == (12, served.members["oak/ann"])
    entry = first.json()["entry"]
    parted = served.ask("POST", f"/v1/members/{served.members['oak/bob']}/unmerge", json={"entry": entry})
    assert parted.status_code == 200, parted.text
    assert (
        served.ask("POST", f"/v1/members/{served.members['oak/bob']}/unmerge", json={"entry": entry}).content
        == parted.content
    )
    assert (balance(served), balance(served, "bob")) == (0, 12)
    again = served.ask("POST", "/v1/members/bob/merge", json={"into": "ann", "id": "second"})
    assert again.json()["entry"] != entry
    assert (balance(served), balance(served, "bob")) == (12, 12)


def test_whoever_was_merged_keeps_what_was_theirs(served: Town) -> None:
    """The survivor's page is theirs, and so are the entries from before; bob's from after the parting are not."""
    entry = served.send(served.event(member="ann")).json()["entry"]
    merged = served.ask("POST", "/v1/members/ann/merge", json={"into": "bob"}).json()["entry"]
    asked = [
        f"/v1/members/{served.members['oak/ann']}",
        f"/v1/entries/{entry}/explanation",
        f"/v1/rules/acorns.purchase/whynot?member=ann&entry={entry}",
    ]
    for key in ("oak/member", "oak/owner"):
        assert [served.ask("GET", path, key=key).status_code for path in asked] == [200, 200, 200], key
    assert served.ask("GET", "/v1/members/bob", key="oak/member").status_code == 200
    served.ask("POST", f"/v1/members/{served.members['oak/ann']}/unmerge", json={"entry": merged})
    assert [served.ask("GET", path, key="oak/member").status_code for path in asked] == [200, 200, 200]
    assert served.ask("GET", "/v1/members/bob", key="oak/member").status_code == 404
    assert served.ask("GET", asked[2].replace("member=ann", "member=bob")).status_code == 404


@pytest.mark.parametrize(
    "path, body, pointer",
    [
        ("nobody/merge", {"into": "ann"}, None),
        ("ann/merge", {"into": "nobody"}, "/into"),
        ("ann/unmerge", {"entry": "1-1-0"}, "/entry"),
        ("ann/unmerge", {"entry": "x"}, "/entry"),
        ("ann/claim", {"order": "none"}, "/order"),
    ],
)
def test_what_is_named_must_be_there(town: Town, path: str, body: dict[str, str], pointer: str | None) -> None:
    town.send(town.event())
    answer = town.ask("POST", f"/v1/members/{path}", json=body)
    assert (answer.status_code, answer.json().get("pointer")) == (404, pointer)


@pytest.mark.parametrize(
    "body, pointer",
    [
        (b'{"external_ids":["x"],"external_ids":["y"]}', "/external_ids"),
        (b'{"external_ids":["x"],"colour":1}', "/colour"),
        (b'{"external_ids":[]}', "/external_ids"),
        (b'{"external_ids":["x"],"profile":{"birthday":17}}', "/profile/birthday"),
        (b'{"external_ids":["x"],"profile":{"birthday":"02-30-1"}}', "/profile/birthday"),
        (b'{"external_ids":["x"],"profile":{"birthday":"05-17\\n"}}', "/profile/birthday"),
        (b'{"external_ids":["x"],"language":"en\\n"}', "/language"),
        (b'{"external_ids":["x\\u0000"]}', "/external_ids/0"),
        (b"{}", "/external_ids"),
        (b"[]", ""),
        (b"{", ""),
        (b"", ""),
    ],
)
def test_other_bodies_are_read_as_strictly_as_events(town: Town, body: bytes, pointer: str) -> None:
    answer = town.ask("POST", "/v1/members", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (400, "invalid_request", pointer)


@pytest.mark.parametrize("external_id", ["m-000000000001", " x", "x\ty"])
def test_what_cannot_be_an_external_id_is_refused(town: Town, external_id: str) -> None:
    assert town.ask("POST", "/v1/members", json={"external_ids": [external_id]}).status_code in {400, 422}


# --- what a member has ----------------------------------------------------------------------------------------------


def test_balances_can_be_asked_at_any_past_instant(served: Town) -> None:
    served.send(served.event())
    served.clock[0] += 3_600_000_000
    served.send(served.event("acorns.spent", data={"acorns": 5}, time="2026-11-21T11:15:00Z"))
    assert balance(served) == 7
    assert balance(served, params={"at": "2026-11-21T11:14:59Z"}) == 12
    assert balance(served, params={"at": "2026-11-21T18:14:59+08:00"}) == 0
    now = served.ask("GET", "/v1/members/ann/balances").json()
    assert now["at"] == "2026-11-21T11:15:00Z"
    assert now["balances"]["acorns"] == {
        "unit": "acorns",
        "posted": 7,
        "usable": 7,
        "pending": 0,
        "due": 0,
        "deficit": 0,
    }


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-21T11:16:00Z",
        "2026-11-21T10:00:00",
        "2026",
        "0",
        "yesterday",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+12:00",
    ],
)
def test_no_balance_is_told_of_a_time_that_is_not(town: Town, at: str) -> None:
    answer = town.ask("GET", "/v1/members/ann/balances", params={"at": at})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_lots_are_told_in_the_order_of_spending(town: Town) -> None:
    town.send(town.event())
    town.send(town.event("acorns.spent", data={"acorns": 12}))
    assert town.ask("GET", "/v1/members/ann/lots").json()["lots"] == []
    (lot,) = town.ask("GET", "/v1/members/ann/lots", params={"spent": "true"}).json()["lots"]
    assert (lot["amount"], lot["left"], lot["state"], lot["unit"]) == (12, 0, "spent", "acorns")
    assert "expires_at" not in lot


def test_pages_of_a_statement_hold_every_entry_once(served: Town) -> None:
    for _ in range(7):
        served.send(served.event())
    seen, after, pages = [], {}, 0
    while True:
        page = served.ask("GET", "/v1/members/ann/entries", params={"limit": 3, **after}).json()
        seen += [line["entry"] for line in page["entries"]]
        pages += 1
        if "next" not in page:
            break
        after = {"after": page["next"]}
        served.send(served.event())  # what comes meanwhile is newer, and moves no page
    assert (pages, len(seen), len(set(seen))) == (3, 7, 7)


@pytest.mark.parametrize(
    "query, said",
    [
        ({"limit": 0}, "in the query, limit: expected a number >= 1"),
        ({"limit": 501}, "in the query, limit: expected a number <= 500"),
        ({"limit": "x"}, "in the query, limit: expected a whole number, found a text"),
        ({"after": "x"}, "in the query, after: "),
        ({"after": "1-2-3"}, "in the query, after: "),
        ({"colour": "red"}, 'in the query, colour: there is no field "colour" here'),
        ([("limit", 1), ("limit", 2)], 'the parameter "limit" stands there more than once'),
    ],
)
def test_a_query_is_checked(town: Town, query: Any, said: str) -> None:
    answer = town.ask("GET", "/v1/members/ann/entries", params=query)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid_request")
    assert problem["detail"].startswith(said)
    assert problem["details"]["parameter"] in said
    assert "pointer" not in problem, "that would be a place in the body"


def test_an_entry_is_explained_from_what_was_stored(served: Town) -> None:
    entry = served.send(served.event()).json()["entry"]
    said = served.ask("GET", f"/v1/entries/{entry}/explanation").json()
    assert said["receipt"]["explanation"][0]["numbers"] == {"cents": 1234}
    assert (said["transfers"][0]["amount"], said["steps"][0]["amount"]) == (12, 12)
    refund = served.send(served.event("purchase.refunded", data={"order": "R-1"})).json()["entry"]
    again = served.ask("GET", f"/v1/entries/{entry}/explanation").json()
    assert (again["steps"][0]["taken_back"], again["related"]) == (12, [refund])
    assert again["receipt"] == said["receipt"]


@pytest.mark.parametrize("entry", ["1-1-99", "9-9-9", "x", "1-1", "-1-1-1", "1-1-" + "9" * 40, "%00", "1-1-0%2F.."])
def test_an_entry_that_is_not_there_is_missing(town: Town, entry: str) -> None:
    assert town.ask("GET", f"/v1/entries/{entry}/explanation").status_code == 404


# --- problems -------------------------------------------------------------------------------------------------------


def every_error() -> list[type[TallyError]]:
    found, queue = [], [TallyError]
    while queue:
        one = queue.pop()
        found.append(one)
        queue += one.__subclasses__()
    return [one for one in found if one.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.code)
def test_every_refusal_has_a_row(kind: type[TallyError]) -> None:
    status, chinese = TABLE[kind.code]
    assert 400 <= status < 600
    assert not chinese.isascii()


def test_no_row_is_left_over() -> None:
    assert set(TABLE) == {kind.code for kind in every_error()}


def test_a_plugins_refusal_has_the_status_of_its_kind() -> None:
    class NoHats(errors.OutOfStock):
        """No hats are left."""

        code = "acorns.no_hats"

    document = problem_document(NoHats(left=0), "en")
    assert (document["status"], document["code"], document["title"]) == (422, "acorns.no_hats", "No hats are left.")
    assert problem_document(NoHats(), "zh")["title"] == TABLE["out_of_stock"][1]
    assert status_of(NoHats()) == 422


def test_a_problem_speaks_the_readers_language(town: Town) -> None:
    document = town.event(data={"order": "R", "currency": "USD", "lines": [{"sku": "A", "amount": "12"}]})
    english = town.send(document, headers={"accept-language": "fr, en;q=0.5"})
    chinese = town.send(document, headers={"accept-language": "zh-CN, en;q=0.5"})
    assert english.headers["content-type"] == "application/problem+json"
    assert (english.json()["detail"], english.headers["content-language"]) == (
        "expected a whole number, found a text",
        "en",
    )
    assert (chinese.json()["detail"], chinese.headers["content-language"]) == ("应为整数，实为文字", "zh")
    assert {key: value for key, value in english.json().items() if key not in {"title", "detail"}} == {
        key: value for key, value in chinese.json().items() if key not in {"title", "detail"}
    }


@pytest.mark.parametrize(
    "header, language",
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-TW;q=0.1, en;q=0.2", "en"),
        ("de", "en"),
        ("zh;q=x", "en"),
        ("zh;q=9", "en"),
        ("," * 999, "en"),
    ],
)
def test_a_language_is_chosen(header: str, language: str) -> None:
    assert choose_language(header) == language


def test_a_receipt_speaks_the_readers_language(town: Town) -> None:
    receipt = town.send(town.event(), headers={"accept-language": "zh"}).json()
    assert receipt["explanation"][0]["text"] == "acorns.purchase 发放 12 acorns"


def test_a_mistake_of_ours_is_a_problem_that_says_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    app = build_app(town.house)
    monkeypatch.setattr("tallystick.people.load", lambda *_: 1 / 0)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/v1/members/ann", headers={"authorization": f"Bearer {town.keys['oak', 'owner']}"})
    assert (answer.status_code, answer.json()["code"]) == (500, "error")
    assert "zero" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


# --- keys at the door -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer tk_x_y", "Bearer " + "x" * 5_000, "Bearer tk_\xff_\xff"]
)
def test_without_a_valid_key_the_answer_is_always_the_same(town: Town, header: str) -> None:
    headers = {"authorization": header.encode("latin-1")} if header else {}
    answer = town.client.get("/v1/plugins", headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.content == town.client.get("/v1/plugins").content
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_is_refused_as_soon_as_this_process_forgets(town: Town) -> None:
    with town.house.db.begin() as conn:
        key, text = keys.create(conn, tenant="oak", role="owner", name="x", now=START)
    headers = {"authorization": f"Bearer {text}"}
    assert town.client.get("/v1/plugins", headers=headers).status_code == 200
    with town.house.db.begin() as conn:
        keys.revoke(conn, tenant="oak", key_id=key.id, now=START)
    town.client.app.state.desk.keyring.forget()  # type: ignore[attr-defined]
    assert town.client.get("/v1/plugins", headers=headers).status_code == 401


def test_scopes_narrow_a_key(town: Town) -> None:
    with town.house.db.begin() as conn:
        _, text = keys.create(conn, tenant="oak", role="owner", name="x", now=START, scopes=["acorns.spend"])
    headers = {"authorization": f"Bearer {text}"}
    town.send(town.event())
    assert town.client.get("/v1/plugins", headers=headers).status_code == 403
    bought, spent = (
        town.client.post("/v1/events", json=town.event(kind), headers=headers)
        for kind in ("purchase.completed", "acorns.spent")
    )
    assert (bought.status_code, spent.status_code) == (403, 200)
    assert bought.json()["details"] == {"permission": "events.write"}


def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    with build_town(tmp_path, f"sqlite:///{tmp_path / 'tally.db'}", rate=0.5, burst=3) as town:
        answers = [town.ask("GET", "/v1/plugins") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].headers["retry-after"] == "2"
        assert town.ask("GET", "/v1/plugins", key="oak/admin").status_code == 200


# --- the rest -------------------------------------------------------------------------------------------------------


def test_plugins_are_listed_as_they_stand(town: Town) -> None:
    (acorns,) = town.ask("GET", "/v1/plugins", headers={"accept-language": "zh"}).json()
    assert (acorns["id"], acorns["state"], acorns["version"], acorns["summary"]) == (
        "acorns",
        "enabled",
        "1.5",
        "每消费一元得一颗橡果。",
    )


def test_the_house_says_how_it_is(town: Town) -> None:
    assert town.ask("GET", "/healthz", key=None).json() == {"status": "alive"}
    ready = town.ask("GET", "/readyz", key=None).json()
    assert ready == {
        "status": "ready",
        "checks": {"database": "ok", "writer": "ok"},
        "plugins": {"broken": [], "failing": []},
        "tenants": {"served": 2, "refused": 0},
    }


def test_numbers_are_counted(town: Town) -> None:
    document = town.event()
    town.send([document, document, town.event(data={})])
    text = town.ask("GET", "/metrics").text
    assert 'tallystick_events_total{outcome="recorded"} 1' in text
    assert 'tallystick_events_total{outcome="repeated"} 1' in text
    assert 'tallystick_events_total{outcome="invalid_event"} 1' in text
    assert 'tallystick_http_requests_total{method="POST",route="/v1/events",status="207"} 1' in text


def test_what_is_vendored_is_what_it_says() -> None:
    static = resources.files("tallystick").joinpath("static")
    assets = tomllib.loads(static.joinpath("vendored.toml").read_text())["asset"]
    named = {"vendored.toml", *(asset["file"] for asset in assets), *(asset["licence_file"] for asset in assets)}
    assert {file.name for file in static.iterdir()} == named
    for asset in assets:
        body = static.joinpath(asset["file"]).read_bytes()
        assert hashlib.sha256(body).hexdigest() == asset["sha256"]
        assert hashlib.sha256(gzip.decompress(body)).hexdigest() == asset["sha256_unpacked"]


def test_the_reference_page_fetches_nothing_from_elsewhere(town: Town) -> None:
    page = town.ask("GET", "/docs", key=None)
    assert "//" not in page.text
    assert '<link rel="icon" href="data:,">' in page.text, "or a browser asks for /favicon.ico and complains"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    script = town.ask("GET", "/docs/rapidoc-9.3.8.js", key=None)
    assert script.headers["content-encoding"] == "gzip"
    plain = town.ask("GET", "/docs/rapidoc-9.3.8.js", key=None, headers={"accept-encoding": "identity"})
    assert plain.text == script.text


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nothing", "/v1/members/", "/v1/events/", "/docs/../etc", "/v1/members/a/b/c"]
)
def test_there_is_nothing_elsewhere(town: Town, path: str) -> None:
    answer = town.ask("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_method_that_is_not_there_is_named(town: Town) -> None:
    answer = town.ask("DELETE", "/v1/events")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "POST")


@pytest.mark.parametrize(
    "path", ["/v1/plugins", "/v1/nothing", "/healthz", "/docs", "/openapi.json", "/docs/rapidoc-9.3.8.js", "/metrics"]
)
@pytest.mark.parametrize("key", [None, "oak/owner"])
def test_every_answer_carries_the_security_headers(town: Town, path: str, key: str | None) -> None:
    headers = town.ask("GET", path, key=key).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_every_route_is_declared(town: Town) -> None:
    """No route without a permission, none public by accident."""
    routes = {(method, route.path) for route in town.client.app.routes for method in route.methods if method != "HEAD"}  # type: ignore[attr-defined]
    declared = {(door.method, door.path) for door in (*DOORS, *GUARDED)} | {("GET", path) for path in PUBLIC}
    assert routes == declared
    assert all(door.permission for door in DOORS)
    assert [door.path for door in DOORS if door.permission == BY_KIND] == ["/v1/events"]
