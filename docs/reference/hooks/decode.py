"""A scanner sends `SKU CENTS`; what it does not send so is left to others."""

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.hookspecs import impl


class Scanner:
    @impl.decode
    def decode(self, frame: bytes, device: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        sku, _, cents = frame.decode("ascii", "replace").partition(" ")
        if not cents.isdecimal():
            return None
        data = {"order": f"{device['id']}/{sku}", "currency": "USD", "lines": [{"sku": sku, "amount": int(cents)}]}
        return [{"type": "purchase.completed", "data": data}]


(document,) = Scanner().decode(b"TEA 250", {"id": "d-1"}) or ()
assert document["data"]["lines"] == [{"sku": "TEA", "amount": 250}]
assert Scanner().decode(b"\x00", {"id": "d-1"}) is None
