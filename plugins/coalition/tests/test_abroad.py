"""Brands in deployments of their own: everything happens on both sides or on neither, and strangers are not heard."""

from __future__ import annotations

import base64
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import sqlalchemy as sa

from plugins.coalition.tests import abroad as far
from plugins.coalition.tests.abroad import Abroad
from plugins.coalition.tests.conftest import agree, flow, key_of
from tallystick.commands import visit
from tallystick.problems import problem_document
from tallystick_coalition import agreement as agreements
from tallystick_coalition import calls, exchange, line, pairing, settlement, signing, tables
from tallystick_coalition.commands import propose
from tallystick_coalition.errors import NotHeard
from tallystick_coalition.exchange import Answer, Message

T1 = "t-00000001"


@pytest.fixture
def abroad(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Abroad]:
    """Fuel on a SQLite file; the grocer too, or on whatever the test's ``make_database`` makes."""
    grocer = f"sqlite:///{tmp_path / 'grocer.db'}"
    if "make_database" in request.fixturenames:
        grocer = request.getfixturevalue("make_database")()
    with far.abroad(tmp_path, (f"sqlite:///{tmp_path / 'fuel.db'}", grocer)) as made:
        yield made


def hold(abroad: Abroad, alias: str, amount: int = 100, **more: Any) -> Message:
    return Message(
        **{"action": "hold", "sender": "fuel", "at": abroad.towns["fuel"].now, "transfer": T1, "kind": "redeem", "alias": alias,
           "amount": amount, "version": 1, **more}
    )  # fmt: skip


def ann(abroad: Abroad, points: int = 300) -> str:
    """Ann shops at both, and has points at the grocer."""
    alias = abroad.link("ann", "grocer", "fuel")
    abroad.towns["grocer"].gives("grocer", abroad.numbers["grocer"], points)
    return alias


def records(abroad: Abroad, brand: str = "grocer") -> int:
    return int(abroad.towns[brand].rows("SELECT count(*) FROM record")[0][0])


# -- transfers ------------------------------------------------------------------------------------------------------------


def test_a_member_pays_converts_earns_and_returns_between_two_deployments(
    abroad: Abroad, make_database: Callable[[], str]
) -> None:
    alias, grocer, fuel = ann(abroad, 900), abroad.towns["grocer"], abroad.towns["fuel"]
    paid = fuel.pay("fuel", "grocer", alias, 300, order="P-1")
    assert (paid.state, paid.gets, paid.owed) == ("committed", 300, 240)
    assert fuel.pay("fuel", "grocer", alias, 300, order="P-1") == paid
    moved = grocer.convert("grocer", "fuel", abroad.numbers["grocer"], 300, transfer="t-00000002")
    assert (moved.state, moved.gets, fuel.usable("fuel", abroad.numbers["fuel"])) == ("confirmed", 200, 200)
    earned = exchange.send(
        fuel.desk("fuel"), fuel.way("fuel", "grocer"), transfer="t-00000003", kind="earn", amount=5_000, alias=alias
    )
    assert (earned.state, earned.gets, grocer.usable("grocer", abroad.numbers["grocer"])) == ("confirmed", 50, 350)
    exchange.give_back(fuel.desk("fuel"), fuel.way("fuel", "grocer"), transfer=T1, total=100)
    assert grocer.usable("grocer", abroad.numbers["grocer"]) == 450
    for brand, town in abroad.towns.items():
        town.house.relay()
        town.works()
        town.proves()
        assert town.rows("SELECT count(*) FROM coalition_waiting")[0][0] == 0, brand
    books = [abroad.towns[brand].desk(brand).list_entries(far.other(brand), "2026-06") for brand in far.BRANDS]
    assert books[0] == books[1] and len(books[0]) == 4


def test_a_partner_that_is_away_is_asked_when_it_is_back(abroad: Abroad) -> None:
    ann(abroad)
    grocer = abroad.towns["grocer"]
    abroad.hang_up("fuel")
    abroad.doors["fuel"].close()
    assert grocer.convert("grocer", "fuel", abroad.numbers["grocer"], 300).state == "held"
    for _ in range(4):
        grocer.goes_by(minutes=1)
        grocer.works()
    (line,) = grocer.rows("SELECT failures FROM coalition_line")
    assert line.failures >= 5 and grocer.usable("grocer", abroad.numbers["grocer"]) == 0
    abroad.move("fuel")
    abroad.serve("fuel")
    url = f"http://127.0.0.1:{abroad.doors['fuel'].getsockname()[1]}{abroad.path('fuel')}"
    abroad.configure("grocer", url=url)
    grocer.goes_by(minutes=1)
    grocer.works()
    assert grocer.state("grocer", "fuel") == "released", "fuel never heard of it, and now never will"
    assert (
        grocer.usable("grocer", abroad.numbers["grocer"]),
        grocer.rows("SELECT failures FROM coalition_line")[0][0],
    ) == (300, 0)


def test_a_month_is_closed_by_each_for_itself_and_the_statements_are_the_same(abroad: Abroad) -> None:
    alias, grocer, fuel = ann(abroad), abroad.towns["grocer"], abroad.towns["fuel"]
    fuel.pay("fuel", "grocer", alias, 300, order="P-1")
    results = []
    for brand in ("grocer", "fuel", "grocer"):
        desk = abroad.towns[brand].desk(brand)
        done = settlement.settle_period({brand: desk}, "2026-06", "USD", early=True)
        results.append([(pair.state, pair.code, pair.owed, pair.signed) for pair in done.pairs])
    assert results == [
        [("open", "coalition_outside_terms", (0, 240), False)],
        [("agreed", "", (0, 240), True)],
        [("agreed", "", (0, 240), True)],
    ]
    statements = [abroad.towns[brand].desk(brand).find(far.other(brand), "2026-06") for brand in far.BRANDS]
    texts = {msgspec.json.decode(text)["text"] for one in statements for text in (one.ours, one.theirs)}
    assert len(texts) == 1
    with pytest.raises(exchange.OutsideTerms):
        grocer.convert(
            "grocer", "fuel", abroad.numbers["grocer"], 100, transfer="t-00000008"
        )  # nothing more leaves in a month that is closed
    grocer.goes_by(days=21)
    grocer.gives("grocer", abroad.numbers["grocer"], 100)
    assert grocer.convert("grocer", "fuel", abroad.numbers["grocer"], 100, transfer="t-00000009").state == "confirmed"
    fuel.proves()
    grocer.proves()


def test_whoever_says_otherwise_of_a_month_is_disputed_with_proofs(abroad: Abroad) -> None:
    alias, fuel = ann(abroad), abroad.towns["fuel"]
    fuel.pay("fuel", "grocer", alias, 300)
    fuel.house.relay()
    with fuel.house.db.begin() as conn:
        conn.exec_driver_sql("UPDATE coalition_entry SET owed = owed + 1")
    for brand in ("grocer", "fuel"):
        desk = abroad.towns[brand].desk(brand)
        done = settlement.settle_period({brand: desk}, "2026-06", "USD", early=True)
    assert [(pair.state, pair.code) for pair in done.pairs] == [("disputed", "coalition_mismatch")]
    assert done.payments == ()
    dispute = msgspec.json.decode(fuel.desk("fuel").find("grocer", "2026-06").dispute)
    assert [each["transfer"] for each in dispute["differences"]] == [T1]


def test_an_agreement_is_proposed_with_the_key_that_the_partner_tells(abroad: Abroad, tmp_path: Path) -> None:
    terms, made = tmp_path / "terms.toml", tmp_path / "agreement.json"
    terms.write_text(
        'partner = "fuel"\nsince = 2026-01-01T00:00:00Z\n[[flows]]\nkind = "redeem"\nsource = "grocer"\ntarget = "fuel"\nrate = "1"\nprice = "1/2"\n'
    )
    document, _ = propose(
        visit(abroad.towns["grocer"].house, "grocer", "coalition", "coalition.propose"), str(terms), str(made)
    )  # type: ignore[arg-type]
    assert document["agreement"] == "fuel-grocer/2"
    assert document["terms"]["keys"]["fuel"] == (agreements.public_key(key_of("fuel")),)


def test_two_people_see_the_same_fingerprints(abroad: Abroad) -> None:
    seen = {}
    for brand in far.BRANDS:
        work: Any = visit(abroad.towns[brand].house, brand, "coalition", "coalition.partners")
        ((seen[brand],), lines) = pairing.partners(work, ask=True)
        assert lines[-1] == "  knows agreement fuel-grocer/1 as we do"
        invited, _ = pairing.invite(work, far.other(brand), "https://example.com")
        assert invited["url"] == f"https://example.com{abroad.path(brand)}"
        assert invited["fingerprint"] == seen[brand]["ours"]
    assert seen["fuel"]["theirs"] == [seen["grocer"]["ours"]] and seen["grocer"]["theirs"] == [seen["fuel"]["ours"]]
    assert seen["fuel"]["ours"] != seen["grocer"]["ours"]


def test_a_key_is_replaced_while_both_are_known_and_then_revoked(abroad: Abroad) -> None:
    alias, fuel = ann(abroad), abroad.towns["fuel"]

    def pays(number: int) -> str:
        try:
            return str(fuel.pay("fuel", "grocer", alias, 10, transfer=f"t-0000010{number}").state)
        except exchange.Unreachable:
            return "unreachable"

    assert pays(0) == "committed"
    old, new = (abroad.print_of("fuel", number) for number in (1, 2))
    abroad.configure("grocer", fingerprints=[old, new])
    assert pays(1) == "committed"
    abroad.configure("fuel", our_key=2)
    assert pays(2) == "committed"
    abroad.configure("grocer", fingerprints=[new])
    assert pays(3) == "committed"
    abroad.configure("fuel", our_key=1)
    assert pays(4) == "unreachable", "the old key is revoked"


# -- answers that are none -------------------------------------------------------------------------------------------------


class Liar(threading.Thread):
    """Somebody at the partner's address who answers every message with the same bytes, or slowly."""

    def __init__(self, said: bytes, slow: bool = False) -> None:
        super().__init__(daemon=True)
        self.said, self.slow, self.asked = said, slow, 0
        self.door = socket.create_server(("127.0.0.1", 0))
        self.start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self.door.accept()
                self.asked += 1
                with suppress(OSError), line:
                    line.recv(65_536)
                    for place in range(0, len(self.said), 1 if self.slow else len(self.said)):
                        line.sendall(self.said[place : place + 1] if self.slow else self.said)
                        time.sleep(0.05 if self.slow else 0)


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


OK = b'{"state":"committed","period":"2026-06","owed":150,"gets":200}'
DIGEST = f"content-digest: {signing.digest(OK)}"
FORGED = [f"{name}: {text}" for name, text in signing.sign_answer(
    agreements.new_key(b"f" * 32), agreements.public_key(agreements.new_key(b"f" * 32)), 1_781_092_800, OK, "coalition=:x:"
).items()]  # fmt: skip
LIES = {
    "a redirect": http("307 Temporary Redirect", b"", "location: http://127.0.0.1:1/"),
    "an error": http("500 Internal Server Error", b"{}"),
    "not signed": http("200 OK", OK),
    "a digest and no signature": http("200 OK", OK, DIGEST),
    "signed by somebody else": http("200 OK", OK, *FORGED),
    "too large": http("200 OK", b" " * 70_000),
    "cut off": http("200 OK", OK)[:-9],
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing that is HTTP": b"\r\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_what_the_partner_did_not_sign_is_no_answer(stranger: tuple[Abroad, str], lie: str) -> None:
    """Whether it arrived is not known: the message is neither believed nor given up, and nobody goes where a redirect points."""
    abroad, _ = stranger
    liar = Liar(LIES[lie])
    with pytest.raises(exchange.Unreachable), suppress_door(liar):
        lying(abroad, liar).ask(Message(action="void", sender="grocer", at=abroad.towns["grocer"].now, transfer=T1))
    assert liar.asked == 1


def lying(abroad: Abroad, liar: Liar) -> line.Line:
    """The grocer's line to fuel, at whose address a liar sits.  It did not fail before."""
    desk = abroad.towns["grocer"].desk("grocer")
    abroad.clock[0] += 60_000_000
    url = f"http://127.0.0.1:{liar.door.getsockname()[1]}{abroad.path('fuel')}"
    return line.Line(desk.errand, attrs.evolve(desk.errand.plugin.settings.partners["fuel"], url=url))


@contextmanager
def suppress_door(liar: Liar) -> Iterator[None]:
    try:
        yield
    finally:
        liar.door.close()


def test_whoever_answers_byte_by_byte_is_not_waited_for(
    stranger: tuple[Abroad, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    abroad, _ = stranger
    monkeypatch.setattr(line, "DEADLINE", 0.5)
    liar = Liar(http("200 OK", b" " * 10_000), slow=True)
    with pytest.raises(exchange.Unreachable), suppress_door(liar):
        lying(abroad, liar).ask(Message(action="hello", sender="grocer", at=abroad.towns["grocer"].now))


@pytest.mark.parametrize(
    "body",
    [
        b'{"state":"held"}',
        b'{"state":"committed","more":1}',
        b'{"state":"committed","owed":-1}',
        b'{"state":"committed","code":"<b>"}',
        b"[]",
    ],
)
def test_an_answer_that_fits_no_question_is_none_although_it_is_signed(
    stranger: tuple[Abroad, str], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    abroad, _ = stranger
    private = abroad.private("fuel")

    def say(url: str, said: bytes, headers: dict[str, str], largest: int) -> Any:
        return 200, signing.sign_answer(private, agreements.public_key(private), 1, body, headers["signature"]), body

    monkeypatch.setattr(line, "post", say)
    desk = abroad.towns["grocer"].desk("grocer")
    abroad.clock[0] += 60_000_000
    way = line.Line(desk.errand, desk.errand.plugin.settings.partners["fuel"])
    with pytest.raises(exchange.Unreachable):
        way.ask(Message(action="void", sender="grocer", at=desk.now, transfer=T1))


def test_an_answer_belongs_to_its_question(stranger: tuple[Abroad, str]) -> None:
    abroad, _ = stranger
    now = abroad.towns["fuel"].now
    body, headers, path = abroad.written("fuel", Message(action="hello", sender="fuel", at=now))
    status, got, said = abroad.post("grocer", path, body, headers)
    signing.check_answer(abroad.prints["fuel"], status, got, said, headers["signature"])
    _, another, _ = abroad.written("fuel", Message(action="hello", sender="fuel", at=now))
    for question, result in ((another["signature"], 200), (headers["signature"], 201)):
        with pytest.raises(NotHeard, match="the signature is wrong"):
            signing.check_answer(abroad.prints["fuel"], result, got, said, question)
    with pytest.raises(NotHeard, match="the body is not"):
        signing.check_answer(abroad.prints["fuel"], 200, got, said + b" ", headers["signature"])


# -- who is not heard -----------------------------------------------------------------------------------------------------

Change = Callable[[Abroad, dict[str, str], bytes], tuple[dict[str, str], bytes]]


def header(name: str, text: str | None) -> Change:
    return lambda _, headers, body: (
        {**{k: v for k, v in headers.items() if k != name}, **({name: text} if text is not None else {})},
        body,
    )


def within(name: str, old: str, new: str) -> Change:
    def change(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        assert old in headers[name]
        return {**headers, name: headers[name].replace(old, new)}, body

    return change


def longer(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    return headers, body + b" "


def longer_with_its_digest(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    return {**headers, "content-digest": signing.digest(body + b" ")}, body + b" "


def later(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    return {**headers, "tallystick-sequence": str(int(headers["tallystick-sequence"]) + 1)}, body


def other_second(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    second = int(headers["tallystick-sequence"]) // 1_000_000
    said = headers["signature-input"].replace(f"created={second}", f"created={second + 1}")
    return {**headers, "signature-input": said, "tallystick-sequence": str((second + 1) * 1_000_000)}, body


def other_nonce(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    before, _, after = headers["signature-input"].partition('nonce="')
    return {**headers, "signature-input": f'{before}nonce="{"A" * 22}{after[22:]}'}, body


def known_key_of_another(abroad: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """It says a key that is known, and was signed with another."""
    mine, forged = agreements.public_key(abroad.private("fuel")), agreements.new_key(b"f" * 32)
    stamp = signing.Stamp(mine, int(headers["tallystick-sequence"]), "A" * 22)
    return signing.sign_request(forged, abroad.path("grocer"), body, stamp), body


def flipped(place: int) -> Change:
    def change(_: Abroad, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        raw = bytearray(base64.b64decode(headers["signature"].removeprefix("coalition=:").rstrip(":")))
        raw[place] ^= 1
        return {**headers, "signature": f"coalition=:{base64.b64encode(raw).decode()}:"}, body

    return change


TAMPERED: dict[str, tuple[Change, str]] = {
    "no signature": (header("signature", None), "there is no signature"),
    "no signature input": (header("signature-input", None), "there is no signature"),
    "no digest": (header("content-digest", None), "the body is not the one"),
    "no sequence": (header("tallystick-sequence", None), "the sequence is not of the time"),
    "another body": (longer, "the body is not the one"),
    "another body and its digest": (longer_with_its_digest, "the signature is wrong"),
    "another sequence": (later, "the signature is wrong"),
    "another time": (other_second, "the signature is wrong"),
    "a sequence of another time": (header("tallystick-sequence", "1"), "the sequence is not of the time"),
    "a sequence that is no number": (header("tallystick-sequence", "1e9"), "the sequence is not of the time"),
    "another nonce": (other_nonce, "the signature is wrong"),
    "another algorithm": (within("signature-input", "ed25519", "hmac-sha256"), "there is no signature"),
    "another purpose": (
        within("signature-input", "tallystick-coalition/1", "tallystick-coalition-answer/1"),
        "made for something else",
    ),
    "less is covered": (within("signature-input", ' "content-digest"', ""), "something else is signed"),
    "more is covered": (within("signature-input", '("@method"', '("@method" "date"'), "something else is signed"),
    "in another order": (
        within("signature-input", '"@method" "@path"', '"@path" "@method"'),
        "something else is signed",
    ),
    "another label": (within("signature-input", "coalition=", "other="), "there is no signature"),
    "a signature of another key": (known_key_of_another, "the signature is wrong"),
    "the first bit of the signature": (flipped(0), "the signature is wrong"),
    "the last bit of the signature": (flipped(63), "the signature is wrong"),
    "two lines in one": (within("signature-input", 'alg="', 'alg=" '), "there is no signature"),
}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Abroad, str]]:
    """Two deployments in which nothing changes, whatever is said, and the code of a member who has points."""
    folder = tmp_path_factory.mktemp("abroad")
    with far.abroad(folder, [f"sqlite:///{folder / brand}.db" for brand in far.BRANDS]) as made:
        yield made, ann(made)


def unheard(
    abroad: Abroad, caplog: pytest.LogCaptureFixture, why: str, say: Callable[[], tuple[int, dict[str, str], bytes]]
) -> None:
    """One and the same answer, which is signed by nobody; the log says why; nothing happened."""
    before, caplog.records[:] = records(abroad), []
    status, headers, said = say()
    assert (status, "signature" in headers) == (422, False)
    assert said == msgspec.json.encode(problem_document(NotHeard()), order="deterministic")
    assert [why in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [True], (
        caplog.text
    )
    assert records(abroad) == before
    assert abroad.towns["grocer"].usable("grocer", abroad.numbers["grocer"]) == 300


@pytest.mark.parametrize("case", TAMPERED)
def test_a_message_that_was_changed_is_not_heard(
    stranger: tuple[Abroad, str], caplog: pytest.LogCaptureFixture, case: str
) -> None:
    abroad, alias = stranger
    change, why = TAMPERED[case]
    body, headers, path = abroad.written("fuel", hold(abroad, alias))
    headers, body = change(abroad, headers, body)
    unheard(abroad, caplog, why, lambda: abroad.post("grocer", path, body, headers))


def second(abroad: Abroad, seconds: int) -> int:
    return abroad.clock[0] + seconds * 1_000_000


UNHEARD: dict[str, tuple[Callable[[Abroad, str], dict[str, Any]], str]] = {
    "too old": (lambda abroad, _: {"at": second(abroad, -302)}, "too far from our time"),
    "of the future": (lambda abroad, _: {"at": second(abroad, 302)}, "too far from our time"),
    "a key nobody knows": (lambda _, __: {"private": agreements.new_key(b"x" * 32)}, "is not one of the partner's"),
    "a key that was never told": (lambda abroad, _: {"private": abroad.private("fuel", 2)}, "is not one of the partner's"),
    "the grocer's own key": (lambda abroad, _: {"private": abroad.private("grocer")}, "is not one of the partner's"),
    "the key of agreements": (lambda _, __: {"private": key_of("fuel")}, "is not one of the partner's"),
    "signed for another door": (lambda _, __: {"path": "/v1/coalition/partners/AAAA"}, "the signature is wrong"),
    "no JSON": (lambda _, __: {"body": b"{"}, "it is no message"),
    "nothing": (lambda _, __: {"body": b" "}, "it is no message"),
    "an unknown field": (lambda abroad, alias: {"body": msgspec.json.encode({**msgspec.to_builtins(hold(abroad, alias)), "more": 1})}, "it is no message"),
    "an unknown action": (lambda abroad, alias: {"body": msgspec.json.encode({**msgspec.to_builtins(hold(abroad, alias)), "action": "give"})}, "it is no message"),
    "half a point": (lambda abroad, alias: {"body": msgspec.json.encode({**msgspec.to_builtins(hold(abroad, alias)), "amount": 0.5})}, "it is no message"),
    "less than nothing": (lambda abroad, alias: {"body": msgspec.json.encode({**msgspec.to_builtins(hold(abroad, alias)), "amount": -1})}, "it is no message"),
    "too many parts": (lambda abroad, alias: {"body": msgspec.json.encode({**msgspec.to_builtins(hold(abroad, alias)), "parts": [{"amount": 1}] * 201})}, "it is no message"),
    "in the name of another": (lambda abroad, alias: {"body": msgspec.json.encode(hold(abroad, alias, sender="wine"))}, "speaks in the name of wine"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNHEARD)
def test_a_message_that_is_not_of_the_partner_and_of_now_is_not_heard(
    stranger: tuple[Abroad, str], caplog: pytest.LogCaptureFixture, case: str
) -> None:
    abroad, alias = stranger
    make, why = UNHEARD[case]
    body, headers, path = abroad.written("fuel", hold(abroad, alias), **make(abroad, alias))
    real = abroad.path("grocer")
    unheard(abroad, caplog, why, lambda: abroad.post("grocer", real, body, headers))
    assert path


def test_what_was_heard_is_not_heard_again(stranger: tuple[Abroad, str], caplog: pytest.LogCaptureFixture) -> None:
    abroad, _ = stranger
    body, headers, path = abroad.written("fuel", Message(action="hello", sender="fuel", at=abroad.towns["fuel"].now))
    assert abroad.post("grocer", path, body, headers)[0] == 200
    for _ in range(2):
        unheard(abroad, caplog, "it was heard before", lambda: abroad.post("grocer", path, body, headers))


def test_a_query_is_not_heard(stranger: tuple[Abroad, str], caplog: pytest.LogCaptureFixture) -> None:
    abroad, alias = stranger
    body, headers, path = abroad.written("fuel", hold(abroad, alias))
    unheard(abroad, caplog, "there is a query", lambda: abroad.post("grocer", f"{path}?x=1", body, headers))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_there_is_one_method(stranger: tuple[Abroad, str], method: str) -> None:
    abroad, alias = stranger
    body, headers, path = abroad.written("fuel", hold(abroad, alias))
    assert abroad.post("grocer", path, body, headers, method)[0] == 405


def test_a_door_for_a_brand_that_is_no_partner_hears_nothing(
    stranger: tuple[Abroad, str], caplog: pytest.LogCaptureFixture
) -> None:
    abroad, alias = stranger
    path = abroad.path("grocer", "wine")
    body, headers, _ = abroad.written("fuel", hold(abroad, alias, sender="wine"), path=path)
    unheard(abroad, caplog, "it is no partner", lambda: abroad.post("grocer", path, body, headers))


def test_a_pass_of_another_house_opens_no_door(stranger: tuple[Abroad, str]) -> None:
    abroad, alias = stranger
    path = abroad.path("fuel")  # of another secret
    body, headers, _ = abroad.written("fuel", hold(abroad, alias), path=path)
    assert abroad.post("grocer", path, body, headers)[0] == 404


def test_sequences_within_the_window_are_heard_once_in_any_order_and_what_lies_before_it_never(
    database_url: str,
) -> None:
    db, now = sa.create_engine(database_url), 10**15

    def hear(sequence: int, once: str) -> str:
        with db.begin() as conn:
            return calls.hear_once(conn, "grocer", "wine", sequence, once)

    with db.begin() as conn:
        tables.METADATA.create_all(conn)
        calls.fail(conn, "grocer", "wine", now)
    assert hear(now, "a") == ""
    assert hear(now, "a") == "it was heard before"
    assert hear(now - calls.WINDOW, "b") == ""
    assert hear(now, "b") == "", "two processes, one microsecond"
    assert hear(now - calls.WINDOW, "b") == "it was heard before"
    assert hear(now - calls.WINDOW - 1, "c") == "its sequence lies too far behind the latest one"
    after = now + 2 * calls.WINDOW - (now + 2 * calls.WINDOW) % calls.SWEEP
    for step in range(3):  # one message in so many sweeps: what is swept is refused by its sequence
        assert hear(after + calls.SWEEP * step, "d") == ""
    assert hear(now, "a") == "its sequence lies too far behind the latest one"
    with db.connect() as conn:
        assert conn.scalar(sa.select(sa.func.count()).select_from(tables.nonce)) == 3
    db.dispose()


# -- who is heard, and refused --------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an agreement that is not known": ({"version": 2}, "coalition_outside_terms"),
    "no agreement": ({"version": 1_000_000}, "coalition_outside_terms"),
    "a flow that was not agreed": ({"kind": "convert"}, "coalition_outside_terms"),
    "less than the minimum": ({"amount": 9}, "coalition_outside_terms"),
    "more than the maximum": ({"amount": 501}, "coalition_outside_terms"),
    "more than the cap": ({"amount": 260}, "coalition_limit_reached"),
    "more than the member has": ({"amount": 101, "alias": "poor"}, "coalition_not_possible"),
    "more than a member may send a day": ({"amount": 151}, "coalition_not_possible"),
    "a member nobody knows": ({"alias": "a" * 24}, "coalition_not_possible"),
    "no member": ({"alias": ""}, "coalition_not_possible"),
    "a member who did not agree": ({"alias": "shy"}, "coalition_not_possible"),
    "a member who took it back": ({"alias": "gone"}, "coalition_not_possible"),
    "a member who was forgotten": ({"alias": "forgotten"}, "coalition_not_possible"),
    "a member who is blocked": ({"alias": "blocked"}, "coalition_not_possible"),
    "said long ago": ({"at": timedelta(seconds=-301)}, "coalition_outside_terms"),
    "said in the future": ({"at": timedelta(seconds=301)}, "coalition_outside_terms"),
    "a commit of what nobody sent": ({"action": "commit", "kind": "redeem"}, "coalition_outside_terms"),
    "a confirmation of nothing": ({"action": "confirm", "owed": 80, "period": "2026-06"}, "coalition_unknown_transfer"),
    "a return of nothing": ({"action": "return", "total": 5, "period": "2026-06"}, "coalition_unknown_transfer"),
    "a month that is not over": ({"action": "close", "period": "2026-06"}, "coalition_outside_terms"),
    "a statement of what is open": ({"action": "statement", "period": "2026-06"}, "coalition_outside_terms"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Abroad, dict[str, str]]]:
    """An agreement with every bound, and the codes of members whom one thing or another keeps out."""
    folder = tmp_path_factory.mktemp("bounded")
    terms = flow(
        "redeem", "grocer", "fuel", price="1", minimum=10, maximum=500, open_cap=250, day_cap=250, member_day=150
    )
    with far.abroad(folder, [f"sqlite:///{folder / brand}.db" for brand in far.BRANDS]) as made:
        made.clock[0] += 1
        made.agree(agree("grocer", "fuel", [terms], version=2, name="fuel-grocer"))
        grocer = made.towns["grocer"]
        codes = {}
        for name in ("rich", "poor", "shy", "gone", "forgotten", "blocked"):
            number = grocer.member("grocer", name)
            grocer.gives("grocer", number, 100 if name == "poor" else 1_000)
            desk = grocer.desk("grocer")
            codes[name] = desk.alias("fuel", number) if name == "shy" else desk.link("fuel", number)
            if name == "gone":
                desk.link("fuel", number, given=False)
            if name == "forgotten":
                grocer.house.erase("grocer", number)
            if name == "blocked":
                with grocer.house.db.begin() as conn:
                    conn.exec_driver_sql(f"UPDATE member SET status = 'blocked' WHERE number = {number}")
        yield made, codes


@pytest.mark.parametrize("case", REFUSED)
def test_a_message_outside_what_was_agreed_is_refused_by_name_and_changes_nothing(
    bounded: tuple[Abroad, dict[str, str]], caplog: pytest.LogCaptureFixture, case: str
) -> None:
    abroad, codes = bounded
    change, code = REFUSED[case]
    said: dict[str, Any] = {"alias": "rich", "version": 2, **change}
    if "version" in change and change["version"] == 2:
        said["version"] = 3
    said["alias"] = codes.get(said["alias"], said["alias"])
    said["at"] = abroad.towns["fuel"].now + said.get("at", timedelta(0))
    if said.get("action", "hold") != "hold":
        said = {
            name: value
            for name, value in said.items()
            if name not in ("alias", "version") or said["action"] == "commit"
        }
        message = Message(sender="fuel", transfer=T1, amount=100 if said["action"] == "commit" else 0, **said)
    else:
        message = hold(abroad, **said)
    before, caplog.records[:] = records(abroad), []
    answer = abroad.answer("fuel", message)
    assert answer == Answer(state="refused", code=code)
    assert f"refused {message.action} of fuel" in caplog.text and code in caplog.text
    assert records(abroad) == before


def test_what_keeps_a_member_out_cannot_be_told_from_the_answer(bounded: tuple[Abroad, dict[str, str]]) -> None:
    """Signature and time aside, the bytes are the same; so is what is signed over."""
    abroad, codes = bounded
    said = set()
    for name, amount in [
        ("poor", 101),
        ("rich", 151),
        ("shy", 50),
        ("gone", 50),
        ("forgotten", 50),
        ("blocked", 50),
        ("?", 50),
    ]:
        status, headers, body = abroad.say("fuel", hold(abroad, codes.get(name, "b" * 24), amount, version=2))
        said.add((status, body, tuple(sorted(headers)), headers["content-digest"]))
    assert len(said) == 1
