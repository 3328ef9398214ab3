"""A plugin leaves and returns: what it kept is in a file meanwhile, and afterwards everything is as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from tallystick import database, discovery, migrate, removal, tables
from tallystick.cli import cli
from tallystick.manifest import Manifest

#: Every plugin of this repository that keeps rows or tables of its own, or none.
FIRST_PARTY = sorted(folder.name for folder in (Path(__file__).parents[2] / "plugins").iterdir() if folder.is_dir())


def declared(plugin: str) -> Manifest:
    found = discovery.discover()
    if plugin not in found:
        pytest.skip(f"{plugin} is not installed here")
    return found[plugin].manifest


def fill(conn: sa.Connection, manifest: Manifest) -> int:
    """Use: rows in every table of the plugin, in its own rows, and how far it has read."""
    count = 0
    for table in removal._tables(manifest):
        for n in (1, 2, 3):
            conn.execute(sa.insert(table).values({c.name: _value(c, n) for c in table.columns}))
            count += 1
    for n in (1, 2):
        row = {
            "tenant": "shop",
            "plugin": manifest.id,
            "key": f"m:{n}",
            "name": "n",
            "member": n,
            "value": f'{{"a": {n}}}',
        }
        conn.execute(sa.insert(tables.own).values(row))
    conn.execute(sa.insert(tables.consumer).values(name=f"{manifest.id}.committed", writer=7, batch=42))
    row = {
        "tenant": "shop",
        "name": f"{manifest.id}.daily",
        "due_at": 5,
        "leased_until": 0,
        "holder": "",
        "progress": "x",
    }
    conn.execute(sa.insert(tables.job).values(row))
    return count + 4


def _value(column: sa.Column[Any], n: int) -> Any:
    if column.foreign_keys:
        ((key,),) = [[each.column for each in column.foreign_keys]]
        return _value(key, n)
    kind = column.type
    if isinstance(kind, sa.LargeBinary):
        return bytes([0, 255, n])
    if isinstance(kind, sa.Boolean):
        return n == 1
    if isinstance(kind, sa.DateTime):
        return datetime(2025, 1, n, tzinfo=UTC)
    return n if isinstance(kind, sa.Integer) else f"{column.name}-{n}"


def _shape(engine: sa.Engine, manifest: Manifest) -> list[Any]:
    """Columns and indexes of its tables, as the database has them."""
    look = sa.inspect(engine)
    return [
        (
            [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name)],
            sorted(
                str(
                    {
                        **index,
                        "dialect_options": {key: str(said) for key, said in index.get("dialect_options", {}).items()},
                    }
                )
                for index in look.get_indexes(name)
            ),
        )
        for name in sorted(manifest.tables)
    ]


def everything(engine: sa.Engine, manifest: Manifest) -> dict[str, Any]:
    with database.reading(engine) as conn:
        return {
            "rows": [json.loads(line) for line in removal.export(conn, manifest)],
            "others": conn.scalar(sa.select(sa.func.count()).select_from(tables.own)),
        }


@pytest.mark.parametrize("plugin", FIRST_PARTY)
def test_install_use_export_purge_reinstall_and_import_end_in_the_same_state(plugin: str, database_url: str) -> None:
    manifest = declared(plugin)
    engine = database.connect(database_url)
    parts = [migrate.CORE]
    if manifest.migrations is not None:
        parts.append(migrate.Part(plugin, manifest.migrations))
    migrate.upgrade(engine, parts)
    with engine.begin() as conn:
        count = fill(conn, manifest)
        conn.execute(
            sa.insert(tables.own).values(tenant="shop", plugin=f"{plugin}x", key="k", name="n", member=0, value="1")
        )
        conn.execute(sa.insert(tables.consumer).values(name=f"{plugin}x.committed", writer=7, batch=1))
    before, shape = everything(engine, manifest), _shape(engine, manifest)
    with database.reading(engine) as conn:
        lines = [*removal.export(conn, manifest)]
    assert len(lines) == count + 2
    with engine.begin() as conn:
        gone = removal.purge(conn, manifest)
    assert sum(gone.values()) == count
    with database.reading(engine) as conn:
        there = set(sa.inspect(conn).get_table_names())
        assert not there & {*manifest.tables, f"{plugin}_schema_version"}
        assert conn.scalar(sa.select(sa.func.count()).select_from(tables.own)) == 1, "others' rows stay"
        assert conn.scalar(sa.select(sa.func.count()).select_from(tables.consumer)) == 1
    if manifest.tables:
        with (
            engine.begin() as conn,
            pytest.raises(removal.InvalidRequest, match=f"`tally plugins enable {plugin}` makes"),
        ):
            removal.put_back(conn, manifest, removal.check(lines, manifest))
    migrate.upgrade(engine, parts)
    with engine.begin() as conn:
        assert removal.put_back(conn, manifest, removal.check(lines, manifest)) == count
    assert everything(engine, manifest) == before
    assert _shape(engine, manifest) == shape
    with engine.begin() as conn, pytest.raises(removal.InvalidRequest, match=r"already|not empty"):
        removal.put_back(conn, manifest, removal.check(lines, manifest))
    engine.dispose()


@pytest.mark.parametrize(
    "spoil",
    [lambda x: x[:-1], lambda x: x[1:], lambda x: [*x[:-2], x[-1]], lambda x: [x[0].replace("points", "pints"), *x[1:]],
     lambda x: [*x, "{}\n"], lambda _: ["nonsense"], lambda _: []],
    ids=range(7),
)  # fmt: skip
def test_an_export_that_is_not_whole_is_refused(spoil: Any, sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    migrate.upgrade(engine, [migrate.CORE])
    with engine.begin() as conn:
        fill(conn, declared("points"))
        lines = [*removal.export(conn, declared("points"))]
    removal.check(lines, declared("points"))
    with pytest.raises((removal.ProofFailed, removal.InvalidRequest)):
        removal.check(spoil(lines), declared("points"))
    with pytest.raises(removal.InvalidRequest, match="an export of points, not of tiers"):
        removal.check(lines, declared("tiers"))
    engine.dispose()


# --- tally plugins uninstall -----------------------------------------------------------------------------------------


def run(*words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def shop(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_LANG", "en")
    monkeypatch.setenv("TALLY__HOUSE__DATABASE", database_url)
    run("init")
    run("member", "add", "ann")
    return tmp_path


def sells(shop: Path, name: str, kind: str = "purchase.completed", **data: Any) -> None:
    at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    event = {"id": name, "source": "till", "type": kind, "time": at, "member": "ann", "data": data}
    (shop / "events.jsonl").write_text(json.dumps(event) + "\n")
    run("import", "events.jsonl")


def test_a_plugin_leaves_the_house_and_comes_back(shop: Path) -> None:
    sells(shop, "e1", order="R-1", currency="USD", lines=[{"sku": "tea", "amount": 1_000}])
    run("plugins", "uninstall", "points", status=1)
    said = run("plugins", "uninstall", "points", "--export", "points.jsonl").stdout
    assert said.startswith("points runs for nobody.")
    assert json.loads(run("plugins", "--json").stdout)["tenants"]["shop"]["runs"] == {}
    refused = run("plugins", "uninstall", "points", "--purge", "points.jsonl", status=1).stderr
    assert "shop: 1 lot of points with something left" in refused
    sells(shop, "e2", "purchase.refunded", order="R-1")
    run("plugins", "enable", "points")
    run("plugins", "uninstall", "points", "--keep")
    gone = json.loads(run("plugins", "uninstall", "points", "--purge", "points.jsonl", "--json").stdout)
    assert gone["plugin"] == "points"
    run("plugins", "enable", "points")
    assert "points.jsonl:" in run("plugins", "import", "points", "points.jsonl").stdout
    run("verify")


def test_what_changed_since_the_export_is_not_purged(shop: Path, database_url: str) -> None:
    run("plugins", "uninstall", "points", "--export", "points.jsonl")
    engine = database.connect(database_url)
    with engine.begin() as conn:
        row = {"tenant": "shop", "plugin": "points", "key": "k", "name": "n", "member": 0, "value": "1"}
        conn.execute(sa.insert(tables.own).values(row))
    engine.dispose()
    refused = run("plugins", "uninstall", "points", "--purge", "points.jsonl", status=1).stderr
    assert "points keeps something else by now than the export says" in refused
