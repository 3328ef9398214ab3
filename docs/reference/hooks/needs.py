"""Before purchases are judged, the core reads how many points the member has and the birthday."""

from tallystick.hookspecs import impl
from tallystick.situation import Needs


class Gifts:
    @impl.needs
    def needs(self, kind: str) -> Needs | None:
        return Needs(balances=frozenset({"points"}), profile=True) if kind == "purchase.completed" else None


assert Gifts().needs("purchase.completed") == Needs(balances=frozenset({"points"}), profile=True)
assert Gifts().needs("member.enrolled") is None
