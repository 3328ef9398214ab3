"""How many events each kind had, counted after they were committed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tallystick.hookspecs import impl


class Statistics:
    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()  # a real plugin writes into its own tables, with `store`

    @impl.committed
    def committed(self, batch: Sequence[Any], store: Any) -> None:
        for committed in batch:
            self.kinds.update(record.kind for record in committed.records)


class Page:
    kind = "purchase.completed"


class Batch:
    records = (Page, Page)


statistics = Statistics()
statistics.committed([Batch], store=None)
assert statistics.kinds == {"purchase.completed": 2}
