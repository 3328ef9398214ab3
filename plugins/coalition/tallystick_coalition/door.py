"""The door for partners in other deployments: no key of the house opens it, the signature of the message does."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from tallystick.ledger import instant

from . import agreement, calls, signing
from .desk import PLUGIN, Desk
from .errors import NotHeard
from .exchange import Message, receive
from .hooks import TOLERANCE
from .line import private_key
from .settings import Partner

log = logging.getLogger("tallystick")


def hear(knock: Any) -> tuple[str, bytes, dict[str, str]]:
    """Do what a partner asks and sign the answer.

    Whatever is not authentic, fresh and new has one and the same answer, which is not signed; the log says why.
    """
    (name,) = knock.words
    desk = Desk(knock.house.errand(PLUGIN, knock.tenant, "coalition.hear"))
    try:
        partner, message = _read(knock, desk, name)
    except NotHeard as refusal:
        log.warning("coalition: a message to %s in the name of %s was not heard: %s", knock.tenant, name, refusal)
        raise NotHeard from None
    answer = receive(desk, message)
    if answer.state == "refused":
        log.warning(
            "coalition: %s refused %s of %s, transfer %s: %s", knock.tenant, message.action, name, message.transfer or "-", answer.code
        )  # fmt: skip
    body = msgspec.json.encode(answer)
    private = private_key(desk.errand, name, partner.our_key)
    headers = signing.sign_answer(
        private, agreement.public_key(private), instant(desk.now) // 1_000_000, body, knock.headers["signature"]
    )
    return "application/json", body, headers


def _read(knock: Any, desk: Desk, name: str) -> tuple[Partner, Message]:
    """Who speaks, and what is said.  Raises NotHeard with the reason, which is for the log."""
    partner = desk.errand.plugin.settings.partners.get(name)
    if partner is None or not partner.url:
        raise NotHeard("it is no partner in another deployment")
    if knock.query:
        raise NotHeard("there is a query, which no signature covers")
    stamp = signing.read_request(partner.prints, knock.method, knock.path, knock.headers, knock.body)
    if abs(stamp.created - desk.now.timestamp()) > TOLERANCE.total_seconds():
        raise NotHeard(f"it was signed at {stamp.created}, which is too far from our time")
    try:
        message = msgspec.json.decode(knock.body, type=Message)
    except msgspec.MsgspecError as error:
        raise NotHeard(f"it is no message: {error}") from None
    if message.sender != name:
        raise NotHeard(f"it speaks in the name of {message.sender}")
    with desk.errand.house.db.begin() as conn:
        why = calls.hear_once(conn, knock.tenant, name, stamp.sequence, stamp.nonce)
    if why:
        raise NotHeard(why)
    return partner, message
