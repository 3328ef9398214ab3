"""How a house ends when not everything is as it should be."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tallystick import config, tables
from tallystick.document import Document
from tallystick.errors import DatabaseNotReady
from tallystick.house import build_house
from tallystick.testing import make_stage

SETTINGS = '[house]\ndatabase = "{url}"\n[tenants.shop]\nzone = "UTC"\ncurrency = "USD"\n'


def test_a_house_closes_also_when_its_row_cannot_be_given_back(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody holds the file: the lease ends by itself, and nothing stays open."""
    with make_stage("", sqlite_url, tmp_path) as stage:
        house = stage.house
        with house.db.connect() as conn:
            conn.exec_driver_sql("PRAGMA busy_timeout = 1")  # the one connection that there is
        with sqlite3.connect(tmp_path / "tallystick.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            house.close()
            other.execute("ROLLBACK")
        other.close()
        assert "its lease ends by itself" in caplog.text
        with house.reading() as conn:
            assert conn.scalar(sa.select(tables.writer.c.holder)) != ""


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_a_house_that_cannot_be_built_leaves_no_connection(postgresql: psycopg.Connection, database_url: str) -> None:
    checked = config.check(Document(SETTINGS.format(url=database_url)), installed={})
    with pytest.raises(DatabaseNotReady):
        build_house(checked, installed={})
    name, deadline = sa.make_url(database_url).database, time.monotonic() + 60
    while postgresql.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone():
        assert time.monotonic() < deadline, "a connection stays open"
