import multiprocessing
import sqlite3
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tallystick import database, migrate, tables
from tallystick.errors import DatabaseNotReady, DatabaseTooNew, PluginBroken
from tallystick.migrate import CORE, Part


@pytest.fixture
def connect(make_database: Callable[[], str]) -> Iterator[Callable[[], sa.Engine]]:
    engines: list[sa.Engine] = []

    def connect() -> sa.Engine:
        engines.append(database.connect(make_database()))
        return engines[-1]

    yield connect
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(connect: Callable[[], sa.Engine]) -> sa.Engine:
    return connect()


class Plugin:
    """A plugin's package of revisions, written as the test goes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()
        self.part = Part(name, name)

    def step(self, number: int, body: str, after: str | None = None) -> None:
        down = after or (f"{number - 1:04}" if number > 1 else None)
        text = f'''
        """Step {number}."""
        import sqlalchemy as sa
        from alembic import op
        revision = "{number:04}"
        down_revision = {down!r}
        def upgrade():
        '''
        source = textwrap.dedent(text) + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"
        (self.folder / f"v{number:04}_step.py").write_text(source)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plugin]:
    (tmp_path / "packages").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a step rewritten within a second must be read again
    return lambda name: Plugin(tmp_path / "packages", name)


def schema(engine: sa.Engine) -> dict[str, str]:
    """Everything the database knows about its tables and indexes, in its own words."""
    if engine.dialect.name == "sqlite":
        rows = "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    else:
        rows = """
            SELECT 'column ' || table_name || '.' || column_name,
                concat_ws(' ', data_type, is_nullable, column_default, is_identity, character_maximum_length)
            FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL SELECT 'sequence ' || sequencename, '' FROM pg_sequences
        """
    with engine.connect() as conn:
        found = {name: " ".join(text.split()) for name, text in conn.exec_driver_sql(rows)}
    # a column may stand elsewhere in its table after later migrations; on SQLite the constraint's place is free, too
    return {
        name: " ".join(sorted(part.strip(" ()") for part in text.split(","))) if name.startswith("table") else text
        for name, text in found.items()
        if "schema_version" not in name
    }


def test_the_migrations_lead_to_the_tables(connect: Callable[[], sa.Engine]) -> None:
    """What differs is shown; before the first release `python .ci/baseline.py` writes the baseline anew."""
    from_tables, from_migrations = connect(), connect()
    (made,) = migrate.upgrade(from_tables, [CORE])  # a new database is made at once
    while migrate._step(from_migrations, CORE):
        pass

    assert migrate.status(from_migrations, [CORE]) == [made]
    assert len(schema(from_tables)) > 20
    assert schema(from_migrations) == schema(from_tables)
    assert migrate.differences(from_migrations, tables.metadata) == []


def test_every_table_is_strict_on_sqlite_and_lives_in_its_key_unless_it_says_otherwise(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    migrate.upgrade(engine, [CORE])
    with engine.connect() as conn:
        found = {
            row.name: row for row in conn.exec_driver_sql("PRAGMA table_list") if row.name in tables.metadata.tables
        }
    engine.dispose()
    assert found.keys() == tables.metadata.tables.keys()
    assert [name for name, row in found.items() if not row.strict] == []
    assert [name for name, row in found.items() if not row.wr] == ["record"]


def test_a_difference_is_named(engine: sa.Engine) -> None:
    migrate.upgrade(engine, [CORE])
    with engine.begin() as conn:
        conn.exec_driver_sql("ALTER TABLE tenant ADD COLUMN colour TEXT")
    (difference,) = migrate.differences(engine, tables.metadata)
    assert "colour" in difference


def test_an_empty_database_is_not_ready_and_says_what_is_missing(engine: sa.Engine) -> None:
    with pytest.raises(DatabaseNotReady, match=r"no books in .*tally db upgrade"):
        migrate.check(engine, [CORE])


def test_upgrading_twice_changes_nothing(engine: sa.Engine) -> None:
    migrate.upgrade(engine, [CORE])
    before = schema(engine)
    (status,) = migrate.upgrade(engine, [CORE])
    assert (status.current, status.pending) == ("0001", ())
    assert schema(engine) == before
    migrate.check(engine, [CORE])


def test_a_newer_database_is_refused_untouched(engine: sa.Engine, plugin: Callable[[str], Plugin]) -> None:
    """Even what other parts have pending does not run."""
    migrate.upgrade(engine, [CORE])
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE core_schema_version SET version_num = '9000'")
    shop = plugin("shop_a")
    shop.step(1, "op.create_table('shop_a_item', sa.Column('id', sa.Text, primary_key=True))")
    before = schema(engine)
    for act in (migrate.check, migrate.upgrade, migrate.plan):
        with pytest.raises(DatabaseTooNew, match="core is at 9000"):
            act(engine, [shop.part, CORE])
    assert schema(engine) == before


def test_each_plugin_has_its_own_line_of_revisions(engine: sa.Engine, plugin: Callable[[str], Plugin]) -> None:
    """Equal revision numbers do not meet, and a removed plugin's version stays behind without harm."""
    one, two = plugin("one"), plugin("two")
    for each in (one, two):
        each.step(1, f"op.create_table('{each.part.id}_a', sa.Column('id', sa.Text, primary_key=True))")
        each.step(2, f"op.add_column('{each.part.id}_a', sa.Column('b', sa.Text))")
    assert [s.current for s in migrate.upgrade(engine, [CORE, one.part, two.part])] == ["0001", "0002", "0002"]
    migrate.check(engine, [CORE, two.part])
    assert set(sa.inspect(engine).get_table_names()) >= {"one_a", "two_a", "one_schema_version"}


@pytest.mark.parametrize("failure", ["raise RuntimeError('oh')", "op.execute('SELECT nothing FROM nowhere')"])
def test_an_interrupted_step_leaves_nothing_and_runs_again(
    engine: sa.Engine, plugin: Callable[[str], Plugin], failure: str
) -> None:
    shop = plugin("shop_b")
    shop.step(1, "op.create_table('shop_b_a', sa.Column('id', sa.Text, primary_key=True))")
    shop.step(2, f"op.create_table('shop_b_b', sa.Column('id', sa.Text, primary_key=True))\n{failure}")
    (status,) = migrate.upgrade(engine, [shop.part])
    assert "oh" in status.problem or "nowhere" in status.problem
    (status,) = migrate.status(engine, [shop.part])
    assert (status.current, status.pending) == ("0001", ("0002",))
    assert "shop_b_b" not in sa.inspect(engine).get_table_names()

    shop.step(2, "op.create_table('shop_b_b', sa.Column('id', sa.Text, primary_key=True))")
    (status,) = migrate.upgrade(engine, [shop.part])
    assert (status.current, status.problem) == ("0002", "")


def test_a_broken_plugin_does_not_stop_the_others(engine: sa.Engine, plugin: Callable[[str], Plugin]) -> None:
    broken, healthy = plugin("broken"), plugin("healthy")
    broken.step(1, "op.create_table('broken_a', sa.Column('id', sa.Text, primary_key=True))")
    (broken.folder / "v0001_step.py").write_text("import nothing_of_this_name\n")
    healthy.step(1, "op.create_table('healthy_a', sa.Column('id', sa.Text, primary_key=True))")
    missing = Part("missing", "tallystick_missing.migrations")
    first, second, third, fourth = migrate.upgrade(engine, [CORE, broken.part, missing, healthy.part])
    assert (first.current, fourth.current) == ("0001", "0001")
    assert "nothing_of_this_name" in second.problem
    assert "tallystick_missing" in third.problem


def test_two_heads_are_refused(engine: sa.Engine, plugin: Callable[[str], Plugin]) -> None:
    fork = plugin("fork")
    fork.step(1, "pass")
    fork.step(2, "pass", after="0001")
    fork.step(3, "pass", after="0001")
    (status,) = migrate.upgrade(engine, [fork.part])
    assert "one line" in status.problem
    assert status.current is None


def test_the_plan_prints_sql_and_changes_nothing(engine: sa.Engine) -> None:
    sql = migrate.plan(engine, [CORE])
    assert "CREATE TABLE record" in sql
    assert ("STRICT" in sql) == (engine.dialect.name == "sqlite")
    assert sa.inspect(engine).get_table_names() == []


def test_the_plan_of_a_step_that_looks_at_rows_says_so(engine: sa.Engine, plugin: Callable[[str], Plugin]) -> None:
    shop = plugin("shop_plan")
    shop.step(
        1,
        """
        op.create_table("shop_sum", sa.Column("amount", sa.Integer))
        for row in op.get_bind().execute(sa.text("SELECT amount FROM shop_sale")):
            op.execute("INSERT INTO shop_sum VALUES (1)")
        """,
    )
    shop.step(2, 'op.create_table("shop_more", sa.Column("amount", sa.Integer))', after="0001")
    sql = migrate.plan(engine, [shop.part])
    assert sql.index("CREATE TABLE shop_sum") < sql.index("-- what it does next depends on the data")
    assert sql.index("-- what it does next depends on the data") < sql.index("CREATE TABLE shop_more")
    assert sa.inspect(engine).get_table_names() == []


def test_rows_that_point_at_a_rebuilt_table_survive_on_sqlite(sqlite_url: str, plugin: Callable[[str], Plugin]) -> None:
    """SQLite changes a column by copying and dropping the table; with foreign keys on, the drop would cascade."""
    shop = plugin("shop_c")
    shop.step(
        1,
        """
        op.create_table("parent", sa.Column("id", sa.Text, primary_key=True), sa.Column("name", sa.Text))
        op.create_table("child", sa.Column("parent", sa.Text, sa.ForeignKey("parent.id", ondelete="CASCADE")))
        op.execute("INSERT INTO parent VALUES ('p', 'x')")
        op.execute("INSERT INTO child VALUES ('p')")
        """,
    )
    shop.step(
        2,
        """
        with op.batch_alter_table("parent") as batch:
            batch.alter_column("name", nullable=False)
        """,
    )
    engine = database.connect(sqlite_url)
    (status,) = migrate.upgrade(engine, [shop.part])
    assert status.current == "0002", status.problem
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT count(*) FROM child")) == 1
        assert conn.scalar(sa.text("PRAGMA foreign_keys")) == 1
    engine.dispose()


def _upgrade(url: str, path: list[str], part: Part) -> None:
    sys.path[:] = path
    engine = database.connect(url)
    for _ in range(3):
        migrate.upgrade(engine, [CORE, part])
    engine.dispose()


def test_two_processes_at_once_do_each_step_once(database_url: str, plugin: Callable[[str], Plugin]) -> None:
    shop = plugin("shop_d")
    shop.step(1, "op.create_table('shop_d_log', sa.Column('step', sa.Integer))")
    for number in range(2, 6):
        shop.step(number, f"op.execute('INSERT INTO shop_d_log VALUES ({number})')")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_upgrade, args=(database_url, sys.path, shop.part)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    engine = database.connect(database_url)
    with engine.connect() as conn:
        assert conn.scalars(sa.text("SELECT step FROM shop_d_log ORDER BY step")).all() == [2, 3, 4, 5]
    engine.dispose()


def test_a_core_that_cannot_be_read_is_no_plugins_matter(engine: sa.Engine) -> None:
    with pytest.raises(PluginBroken):
        migrate.upgrade(engine, [Part("core", "tallystick.nowhere")])


def test_the_sqlite_file_is_opened_for_durability_and_forgetting(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 5000}
    with engine.connect() as conn:
        found = {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted}
    engine.dispose()
    assert found == wanted


def test_a_reader_cannot_write_and_the_connection_can_again_afterwards(engine: sa.Engine) -> None:
    migrate.upgrade(engine, [CORE])
    insert = tables.consumer.insert().values(name="a", writer=1, batch=1)
    for _ in range(2):
        with database.reading(engine) as conn, pytest.raises(sa.exc.DBAPIError, match=r"(?i)read-?only"):
            conn.execute(insert)
    with engine.begin() as conn:
        conn.execute(insert)


def test_a_reader_sees_one_instant_while_a_writer_commits(engine: sa.Engine) -> None:
    migrate.upgrade(engine, [CORE])
    count = sa.select(sa.func.count()).select_from(tables.consumer)
    with database.reading(engine) as early:
        assert early.scalar(count) == 0
        with engine.begin() as conn:
            conn.execute(tables.consumer.insert().values(name="a", writer=1, batch=1))
        assert early.scalar(count) == 0
    with database.reading(engine) as late:
        assert late.scalar(count) == 1


def test_a_busy_sqlite_is_worth_a_retry_and_a_mistake_is_not(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PRAGMAS", ("PRAGMA busy_timeout = 10",))
    engine = database.connect(sqlite_url)
    with engine.begin(), pytest.raises(sa.exc.OperationalError) as busy, engine.begin():
        pass
    assert database.retryable(busy.value)
    with engine.begin() as conn, pytest.raises(sa.exc.OperationalError) as mistake:
        conn.exec_driver_sql("SELECT nothing FROM nowhere")
    assert not database.retryable(mistake.value)
    assert database.refusal(mistake.value) is None
    engine.dispose()


def test_a_full_disk_is_unavailable_and_passes(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE heap (body BLOB) STRICT")
    with engine.begin() as conn:
        conn.exec_driver_sql("PRAGMA max_page_count = 4")
        with pytest.raises(sa.exc.DBAPIError) as full:
            conn.exec_driver_sql("INSERT INTO heap VALUES (zeroblob(1000000))")
    with engine.begin() as conn:
        conn.exec_driver_sql("INSERT INTO heap VALUES (zeroblob(10))")
    refusal = database.refusal(full.value)
    assert refusal is not None
    assert refusal.code == "unavailable"
    assert not database.retryable(full.value)
    engine.dispose()


@pytest.mark.parametrize("sqlstate, again", [("40P01", True), ("40001", True), ("55P03", True), ("23505", False)])
def test_postgresql_says_which_errors_pass(postgresql: object, sqlstate: str, again: bool) -> None:
    engine = _of(postgresql)
    with engine.connect() as conn, pytest.raises(sa.exc.DBAPIError) as raised:
        conn.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{sqlstate}'; END $$")
    assert database.retryable(raised.value) is again
    engine.dispose()


def test_a_lost_postgresql_is_worth_a_retry(postgresql: object) -> None:
    engine = _of(postgresql)
    with engine.connect() as conn:
        pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        postgresql.execute(f"SELECT pg_terminate_backend({pid}, 5000)")  # type: ignore[attr-defined]
        with pytest.raises(sa.exc.DBAPIError) as lost:
            conn.exec_driver_sql("SELECT 1")
    assert database.retryable(lost.value)
    with engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


def test_nobody_there_is_unavailable() -> None:
    engine = database.connect("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(sa.exc.DBAPIError) as gone:
        engine.connect()
    assert database.refusal(gone.value) is not None


def test_bounds_on_waiting_hold_on_postgresql(postgresql: object) -> None:
    engine = _of(postgresql)
    with engine.connect() as conn:
        found = [conn.exec_driver_sql(f"SHOW {name}").scalar() for name in ("statement_timeout", "lock_timeout")]
    assert found == ["10s", "5s"]
    engine.dispose()


def _of(connection: object) -> sa.Engine:
    info = connection.info  # type: ignore[attr-defined]
    url = sa.URL.create("postgresql", info.user, database=info.dbname, query={"host": info.host})
    return database.connect(url.render_as_string())


def test_the_log_is_empty_after_a_truncating_checkpoint(sqlite_url: str) -> None:
    engine = database.connect(sqlite_url)
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE heap (body TEXT) STRICT")
    file = database.database_file(engine)
    assert file is not None
    assert file.with_name(file.name + "-wal").stat().st_size > 0
    assert database.checkpoint(engine, truncate=True)
    assert file.with_name(file.name + "-wal").stat().st_size == 0
    with sqlite3.connect(file) as raw:
        assert raw.execute("SELECT count(*) FROM heap").fetchone() == (0,)
    raw.close()
    engine.dispose()
