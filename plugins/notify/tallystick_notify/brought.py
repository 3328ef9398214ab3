"""A channel that another plugin brings: its ``notify`` hook is asked."""

from __future__ import annotations

import asyncio

import attrs

from .channels import Parcel, Result


@attrs.frozen(kw_only=True)
class Brought:
    """Every plugin of the tenant that has the hook is asked in turn until one says True or False."""

    name: str
    address: str = ""
    words: bool = True
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Ask; True is a delivery, False an end, None means "not my channel"."""
        wording = parcel.wording
        message = {
            "key": parcel.id, "channel": self.name, "template": parcel.template, "purpose": parcel.purpose,
            "member": parcel.member, "language": parcel.language, "address": parcel.addresses[0] if parcel.addresses else "",
            "subject": wording.subject if wording else "", "text": wording.text if wording else "", "facts": parcel.facts,
        }  # fmt: skip
        for hook in parcel.hooks:
            said = asyncio.run(asyncio.wait_for(hook(message=message), PATIENCE))
            if said is not None:
                return Result("sent") if said else Result("dead", "refused")
        return Result("dead", "no_plugin")


#: Seconds a hook may take.
PATIENCE = 20.0
