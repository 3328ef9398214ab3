"""`tally demo --coalition`: a second brand over the demo's data, with the numbers that the data alone gives."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tallystick.cli import cli
from tallystick.demo import data_folder

pl = pytest.importorskip("polars")
BASKETS = 2_500


def play(folder: Path, *args: str, **more: Any) -> str:
    told = CliRunner(**more).invoke(
        cli, ["demo", "--coalition", "--folder", str(folder), "--no-serve", "--limit", str(BASKETS), *args]
    )
    assert told.exit_code == 0, told.output
    return told.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coalition") / "demo"


@pytest.fixture(scope="module")
def told(folder: Path) -> Any:
    return json.loads(play(folder, "--json"))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """Counted from the files with none of our code: visits at the pump, and what hundreds of points could pay there."""
    rows = pl.read_parquet(data_folder() / "transactions.parquet").join(
        pl.read_parquet(data_folder() / "products.parquet"), on="product_id", how="left"
    )
    first = rows.get_column("basket_id").unique(maintain_order=True).head(BASKETS).implode()
    rows = rows.filter(pl.col("basket_id").is_in(first)).with_columns(
        cents=(pl.col("sales_value") * 100).round().cast(pl.Int64), fuel=pl.col("department").eq("FUEL").fill_null(value=False)
    )  # fmt: skip
    coupon = pl.col("product_category").eq("COUPON/MISC ITEMS").fill_null(value=False)
    visits = rows.group_by("basket_id", "household_id").agg(
        pl.col("transaction_timestamp").min().alias("at"), pl.col("cents").filter(pl.col("fuel")).sum().alias("fuel"),
        pl.col("cents").filter(~pl.col("fuel") & ~coupon).sum().alias("earning"),
    ).sort("at", "basket_id")  # fmt: skip
    had: Counter[int] = Counter()
    last: dict[int, tuple[Any, int]] = defaultdict(lambda: (None, 0))
    times = points = 0
    for _, household, at, fuel, earning in visits.iter_rows():
        before = had[household] - (last[household][1] if last[household][0] == at else 0)
        had[household] += earning // 100
        last[household] = at, earning // 100
        pays = min(before, fuel) // 100 * 100
        if pays > 0:
            times, points = times + 1, points + pays
            had[household] -= pays
    fuelled = visits.filter(pl.col("fuel") > 0)
    return {
        "households": fuelled.get_column("household_id").n_unique(), "visits": len(fuelled),
        "cents": fuelled.get_column("fuel").sum(), "times": times, "points": points,
    }  # fmt: skip


def test_the_second_brand_has_the_numbers_of_the_data(told: Any, expected: dict[str, Any]) -> None:
    shown = told["shows"]["coalition"]
    (pump,) = [paid for paid in shown["paid"] if paid["target"] == "fuel"]
    assert {
        **{name: shown[name] for name in ("households", "visits", "cents")},
        "times": pump["times"],
        "points": pump["points"],
    } == expected
    assert expected["times"] > 0
    assert [paid["refused"] for paid in shown["paid"]] == [0, 0]


def test_the_month_is_settled_and_everything_adds_up(told: Any) -> None:
    shown = told["shows"]["coalition"]
    assert told["verify"]["ok"] is True
    (month,) = shown["months"]
    (pair,) = month["pairs"]
    paid = {each["source"]: each for each in shown["paid"]}
    assert (pair["state"], pair["signed"], len(pair["root"])) == ("agreed", True, 64)
    assert pair["owed"] == [paid["fuel"]["points"] * 9 // 10, paid["grocer"]["points"] * 4 // 5]
    assert sum(shown["positions"].values()) == 0
    assert shown["positions"]["fuel"] == pair["owed"][1] - pair["owed"][0]


@pytest.mark.parametrize(
    "language, words",
    [("en", ["Paid at fuel", "both books agree", "Proof"]), ("zh_CN", ["账期", "双方账目一致", "证明"])],
)
def test_played_again_it_says_the_same_to_people(
    folder: Path, told: Any, language: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_LANG", language)
    said = play(folder)
    assert [word for word in words if word not in said] == []
    assert told["shows"]["coalition"]["months"][0]["pairs"][0]["root"] in said
