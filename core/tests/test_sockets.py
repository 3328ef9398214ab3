"""Files that anybody may read, and sockets that a pass opens: what they answer, and what they never do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from core.tests.conftest import house_of
from tallystick import assets, passes, sockets
from tallystick.document import Document
from tallystick.errors import InvalidManifest, NotFound
from tallystick.manifest import from_document
from tallystick.web import build_app

MANIFEST = """\
id = "larks"
api = ">=1,<2"
summary = "Larks on a wire."
factory = "tallystick_larks.wire:Wire"
hooks = ["earn"]
[routes."larks.sing"]
path = "/v1/larks/{pass}/sing"
endpoint = "tallystick_larks.wire:sing"
methods = ["WEBSOCKET"]
public = true
rate = 50
[routes."larks.choir"]
path = "/v1/larks/{pass}/choir"
endpoint = "tallystick_larks.wire:choir"
methods = ["POST", "WEBSOCKET"]
public = true
grouped = true
rate = 50
[assets."larks.book"]
path = "/v1/larks/book"
folder = "static/book"
"""
CODE = """\
import json
from concurrent.futures import ThreadPoolExecutor
from tallystick.errors import NotFound, TooLarge
class Wire:
    def earn(self, event, situation):
        return ()
def sing(knock):
    said = json.loads(knock.body)
    if said == "nothing":
        raise NotFound("no such song")
    if said.startswith("break"):
        raise ZeroDivisionError
    return "application/json", json.dumps([knock.tenant, list(knock.words), said]).encode()
voices = ThreadPoolExecutor(1)
def choir(knocks):
    assert len({knock.tenant for knock in knocks}) == 1
    if any(knock.body == b'"break all"' for knock in knocks):
        raise ZeroDivisionError
    return [voices.submit(sing, knock) if b"later" in knock.body else alone(knock) for knock in knocks]
def alone(knock):
    try:
        return sing(knock)
    except NotFound as refusal:
        return refusal
"""
SETTINGS = """\
[house]
database = "{url}"
[tenants.oak]
zone = "UTC"
currency = "USD"
[tenants.oak.plugins.larks]
[tenants.elm]
zone = "UTC"
currency = "USD"
"""


class Wire:
    """A house whose tenant oak runs the plugin, and elm does not."""

    def __init__(self, client: TestClient, secret: bytes) -> None:
        self.client, self._secret = client, secret

    def path(self, tenant: str = "oak", door: str = "larks.sing", way: str = "sing", nest: str = "7") -> str:
        return f"/v1/larks/{passes.issue(self._secret, passes.Pass(door, tenant, ('nest', nest)))}/{way}"

    def open(self, tenant: str = "oak", door: str = "larks.sing", **more: Any) -> Any:
        return self.client.websocket_connect(self.path(tenant, door), **more)

    def choir(self, nest: str = "7") -> Any:
        return self.client.websocket_connect(self.path(door="larks.choir", way="choir", nest=nest))


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    with house_of(folder, "larks", MANIFEST, {"wire": CODE}, SETTINGS) as house:
        book = folder / "tallystick_larks" / "static" / "book"
        (book / "songs").mkdir(parents=True)
        (book / "index.html").write_text("<h1>Larks</h1>")
        (book / "songs" / "index.html").write_text("<h1>Songs</h1>")
        (book / "secret.py").write_text("1")
        (book / ".hidden.js").write_text("1")
        (book / "large.js.gz").write_bytes(gzip.compress(b"let a = 1"))
        (book.parent / "beside.js").write_text("1")
        (book / "away.js").symlink_to(book.parent / "beside.js")
        with TestClient(build_app(house), base_url="http://testserver") as client:
            yield Wire(client, house.secret)


def test_each_message_gets_its_answer_in_order(wire: Wire) -> None:
    with wire.open() as socket:
        for said in ("one", "two"):
            socket.send_text(json.dumps(said))
        assert [socket.receive_json() for _ in range(2)] == [
            ["oak", ["nest", "7"], "one"],
            ["oak", ["nest", "7"], "two"],
        ]


@pytest.mark.parametrize("said, code", [("nothing", "not_found"), ("break", "plugin_failed")])
def test_a_refusal_is_an_answer_and_the_socket_goes_on(wire: Wire, said: str, code: str) -> None:
    with wire.open() as socket:
        socket.send_text(json.dumps(said))
        assert socket.receive_json()["code"] == code
        socket.send_text('"on"')
        assert socket.receive_json()[2] == "on"


@pytest.mark.parametrize(
    "said, answer",
    [
        ("nothing", "not_found"),
        ("break", "plugin_failed"),
        ("break all", "plugin_failed"),
        ("break later", "plugin_failed"),
    ],
)
def test_what_comes_together_is_answered_one_by_one(wire: Wire, said: str, answer: str) -> None:
    """Whoever sings beside one that is refused, or fails at once or later, gets the answer all the same."""
    with wire.choir("1") as one, wire.choir("2") as two, wire.choir("3") as three:
        for turn in range(3):
            for socket, text in ((one, f"{turn}"), (two, said), (three, f"{turn} later")):
                socket.send_text(json.dumps(text))
            assert [one.receive_json()[2], three.receive_json()[2]] == [f"{turn}", f"{turn} later"]
            assert two.receive_json()["code"] == answer
    posted = wire.client.post(wire.path(door="larks.choir", way="choir"), content=b'"posted"')
    assert posted.json()[2] == "posted"


@pytest.mark.parametrize("how", [{"tenant": "elm"}, {"tenant": "nobody"}, {"door": "larks.other"}])
def test_a_pass_for_something_else_opens_nothing(wire: Wire, how: dict[str, str]) -> None:
    with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)), wire.open(**how):
        pass


def test_a_page_from_elsewhere_may_not_connect(wire: Wire) -> None:
    with pytest.raises(WebSocketDisconnect), wire.open(headers={"origin": "https://example.com"}):
        pass
    with wire.open(headers={"origin": "http://testserver"}) as socket:
        socket.send_text('"home"')
        assert socket.receive_json()[2] == "home"


def test_a_message_too_large_ends_the_socket(wire: Wire) -> None:
    with wire.open() as socket:
        socket.send_text('"' + "x" * sockets.MESSAGE + '"')
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_text()
    assert ended.value.code == 1009


def test_a_sender_without_measure_is_cut_off(wire: Wire) -> None:
    with wire.open() as socket:
        ended = _say(socket, 1_000)
    assert ended == 1013


def _say(socket: Any, times: int) -> int:
    """Say something so often; the code with which the socket was closed meanwhile, or 0."""
    try:
        for _ in range(times):
            socket.send_text('"again"')
            socket.receive_text()
    except WebSocketDisconnect as ended:
        return ended.code
    return 0


def test_one_pass_has_only_so_many_sockets(wire: Wire) -> None:
    opened = [wire.open() for _ in range(sockets.MOST_OF_ONE)]
    for each in opened:
        each.__enter__()
    try:
        with pytest.raises(WebSocketDisconnect), wire.open():
            pass
    finally:
        for each in opened:
            each.__exit__(None, None, None)
    with wire.open():
        pass


@pytest.mark.parametrize(
    "path, status",
    [
        ("", 200),
        ("index.html", 200),
        ("songs/", 200),
        ("large.js", 200),
        ("songs", 404),
        ("secret.py", 404),
        (".hidden.js", 404),
        ("../beside.js", 404),
        ("%2e%2e/beside.js", 404),
        ("songs/..%2f..%2fbeside.js", 404),
        ("away.js", 404),
        ("no.html", 404),
        ("nul%00.html", 404),
    ],
)
def test_only_files_of_the_folder_are_read(wire: Wire, path: str, status: int) -> None:
    answer = wire.client.get(f"/v1/larks/book/{path}")
    assert answer.status_code == status
    if status == 200:
        assert "'unsafe" not in answer.headers["content-security-policy"]
        again = wire.client.get(f"/v1/larks/book/{path}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_compressed_file_is_unpacked_for_whoever_cannot(wire: Wire) -> None:
    plain = wire.client.get("/v1/larks/book/large.js", headers={"accept-encoding": "identity"})
    packed = wire.client.get("/v1/larks/book/large.js", headers={"accept-encoding": "gzip"})
    assert plain.content == packed.content == b"let a = 1"
    assert ("content-encoding" in plain.headers, packed.headers["content-encoding"]) == (False, "gzip")


@pytest.mark.parametrize("name", ["a" * 201 + ".js", "a//b.js", "a/./b.js", "", "x.exe"])
def test_a_name_that_cannot_be_a_file_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        assets.read(tmp_path, name)


def test_a_socket_needs_a_pass() -> None:
    text = MANIFEST.replace("public = true\nrate = 50\n", 'permission = "members.read"\n').replace("/{pass}", "")
    with pytest.raises(InvalidManifest, match="brings no key"):
        from_document(Document(text, "plugin.toml"), version="1")
