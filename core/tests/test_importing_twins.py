"""A file of events ends in the same books, row by row, as the same events over HTTP."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from tallystick import database, people, proofs, tables
from tallystick.importing import Importer, Refusal, open_events
from tallystick.ledger import member_name
from tallystick.mapping import load_mapping
from tests.town import START, Town, build_town


@pytest.fixture
def town(tmp_path: Path, database_url: str) -> Iterator[Town]:
    """Two tenants of equal settings: one is sent events, the other is given the file."""
    with build_town(tmp_path, database_url) as town:
        with town.house.db.begin() as conn:
            number = people.enrol(conn, town.house.secret, "elm", START, external_ids=["bob"])
        town.members["elm/bob"] = member_name(number)
        yield town


def day_of(town: Town, seed: int, count: int) -> list[dict[str, Any]]:
    """Purchases, returns, spends of which some cannot be paid, repeats, conflicts, strangers."""
    chance = random.Random(seed)
    events: list[dict[str, Any]] = []
    # a refusal may be sent again and judged anew, but not within a batch, where it is answered as before
    sales: list[dict[str, Any]] = []
    for n in range(count):
        member = chance.choice(["ann", "bob"])
        match chance.randrange(8):
            case 0 | 1 | 2:
                lines = [{"sku": "NUT", "amount": chance.randrange(5_000)} for _ in range(chance.randrange(1, 4))]
                sales.append(town.event(member=member, data={"order": f"R-{n}", "currency": "USD", "lines": lines}))
                events.append(sales[-1])
            case 3:
                data = {"order": f"R-{chance.randrange(n + 3)}", "amount": chance.randrange(1, 3_000)}
                events.append(town.event("purchase.refunded", member=None, data=data))
            case 4 | 5:
                events.append(town.event("acorns.spent", member=member, data={"acorns": chance.randrange(1, 60)}))
            case 6 if sales:
                events.append(chance.choice(sales))
            case _ if sales:
                events.append({**chance.choice(sales), "member": "nobody" if chance.random() < 0.3 else member})
    return events


def books(town: Town, tenant: str) -> list[dict[str, Any]]:
    """The tenant's records with the names of entries and members made comparable, and what follows from them."""
    names = {
        number: reference.partition("/")[2]
        for reference, number in town.members.items()
        if reference.startswith(tenant)
    }
    numbers = {str(int(number[2:])): name for number, name in names.items()}
    with database.reading(town.house.db) as conn:
        assert proofs.verify(conn).ok
        rows = conn.execute(
            sa.select(tables.record).where(tables.record.c.tenant == tenant).order_by(tables.record.c.entry)
        ).all()
        balances = conn.execute(sa.select(tables.balance).where(tables.balance.c.tenant == tenant)).all()
        lots = conn.execute(
            sa.select(tables.lot).where(tables.lot.c.tenant == tenant).order_by(tables.lot.c.entry)
        ).all()
    entries = {json.loads(row.body)["entry"]: f"entry {place}" for place, row in enumerate(rows)}
    found = []
    for row in rows:
        text = re.sub(r"m-\d{12}", lambda name: names[name[0]], bytes(row.body).decode())
        text = re.sub(rf"\b({'|'.join(numbers)})\b", lambda number: f'"{numbers[number[0]]}"', text)
        text = re.sub(r"\b\d+-\d+-\d+\b", lambda name: entries.get(name[0], name[0]), text)
        record = json.loads(text)
        for own in ("tenant", "facts", "actor", "programme", "generation"):
            record.pop(own, None)
        found.append(record)
    found.append(
        {"balances": sorted((names[member_name(row.member)], row.unit, row.posted, row.deficit) for row in balances)}
    )
    found.append(
        {"lots": [(names[member_name(row.member)], row.amount, row.remaining, row.expires_at) for row in lots]}
    )
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_a_file_ends_in_the_same_books_as_http(town: Town, tmp_path: Path, seed: int) -> None:
    events = day_of(town, seed, 150)
    refused = {}
    for place, event in enumerate(events, 1):
        answer = town.send(event)
        if answer.status_code >= 400:
            refused[place] = answer.json()["code"]
    file = tmp_path / "day.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    said: list[Refusal] = []
    importer = Importer(town.house, "elm", actor="oak-owner", on_refusal=said.append)
    tally = importer.run(open_events(file, None, history=False, workspace=tmp_path))
    assert {refusal.row: refusal.error.code for refusal in said} == refused
    assert len(refused) > 5
    assert tally.repeated > 2
    assert tally.recorded > 40
    assert books(town, "oak") == books(town, "elm")


MAPPING = """
type = "purchase.completed"
source = "till"
group = "receipt"
id = "receipt"
time = "when"
member = "card"

[data]
order = "receipt"
currency = { value = "USD" }

[rows.lines]
sku = "sku"
amount = "cents"
quantity = "n"
"""


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_ends_in_the_same_books_as_http(town: Town, tmp_path: Path, form: str) -> None:
    chance = random.Random(form)
    rows, refused = [], {}
    for n in range(40):
        member = chance.choice(["ann", "bob", "bob", "nobody"])
        lines = [
            {"sku": f"NUT-{k}", "amount": chance.randrange(3_000), "quantity": chance.randrange(1, 4)}
            for k in range(chance.randrange(1, 4))
        ]
        data = {"order": f"R-{n}", "currency": "USD", "lines": lines}
        event = town.event(member=member, id=f"R-{n}", source="till", data=data)
        answer = town.send(event)
        if answer.status_code >= 400:
            refused[len(rows) + 1] = answer.json()["code"]
        rows += [(f"R-{n}", event["time"], member, line["sku"], line["amount"], line["quantity"]) for line in lines]
    frame = pl.DataFrame(rows, schema=["receipt", "when", "card", "sku", "cents", "n"], orient="row")
    file = tmp_path / f"rows.{form}"
    frame.write_csv(file) if form == "csv" else frame.write_parquet(file)
    (tmp_path / "map.toml").write_text(MAPPING)
    mapping = load_mapping(tmp_path / "map.toml", town.house.kinds("elm"))
    said: list[Refusal] = []
    importer = Importer(town.house, "elm", mapping=mapping, actor="oak-owner", on_refusal=said.append)
    tally = importer.run(open_events(file, mapping, history=False, workspace=tmp_path))
    assert tally.recorded > 20
    assert {refusal.row: refusal.error.code for refusal in said} == refused
    assert books(town, "oak") == books(town, "elm")
