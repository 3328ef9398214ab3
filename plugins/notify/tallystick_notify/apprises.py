"""Services that Apprise knows (WeCom, DingTalk, Slack, Matrix and many more): for the people of the shop, not for members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import attrs

from .channels import Parcel, Result, read_secret

MISSING = 'an apprise channel needs the package "apprise": pip install "tallystick-notify[apprise]"'


def is_installed() -> bool:
    """Whether the optional package is there."""
    return find_spec("apprise") is not None


@attrs.frozen(kw_only=True)
class Apprise:
    """Addresses as Apprise writes them, each a secret: most carry a token."""

    urls: Sequence[Mapping[str, str]]
    words: bool = True
    address: str = ""
    templates: None = None

    def send(self, parcel: Parcel) -> Result:
        """Tell all of them; the package says only whether everything went well."""
        import apprise

        assert parcel.wording is not None
        told = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Tallystick", secure_logging=True))
        for url in self.urls:
            if not told.add(read_secret(url)):
                return Result("dead", "bad_address")
        body = f"{parcel.wording.text}\n({parcel.member or parcel.template})"
        done = told.notify(title=parcel.wording.subject, body=body, body_format=apprise.NotifyFormat.TEXT)
        return Result("sent") if done else Result("again", "refused")
