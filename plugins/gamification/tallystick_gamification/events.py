"""What can happen to gamification beside purchases: check-ins, draws, answers, invitations that pay, rewards given."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tallystick.events import Facts, Name, Text

Piece = Annotated[int, Meta(ge=0, le=10**9)]


class CheckedIn(Facts, frozen=True):
    """The member was here today: in the app, at the counter."""

    store: Text = ""


class Drawn(Facts, frozen=True):
    """The member turns the wheel.  The salt goes into the drawing of lots; whoever doubts the house chooses it."""

    draw: Name
    salt: Text = ""


class DrawOpened(Facts, frozen=True):
    """A round of a draw begins: its seed is made, and the record of this event holds the seed's SHA-256."""

    draw: Name


class DrawClosed(Facts, frozen=True):
    """The round ends: from now on its seed may be told to everybody."""

    draw: Name


class Stocked(Facts, frozen=True):
    """Pieces of a prize were put behind the counter, or counted."""

    draw: Name
    prize: Name
    pieces: Piece
    counted: bool = False  #: whether this is all there is, not what is added


class Answered(Facts, frozen=True):
    """The member answered a survey, solved a quiz or voted."""

    form: Name
    answers: Annotated[dict[Name, Text], Meta(max_length=100)] = {}


class Referred(Facts, frozen=True):
    """The friend's qualifying purchase has stood long enough: both sides are paid."""

    inviter: Name


class Rewarded(Facts, frozen=True):
    """A badge was reached or a coupon is due; for whoever delivers coupons, writes messages or counts rewards."""

    source: Name  #: the task, quest, draw, form or calendar
    reward: Name  #: "badge" or "coupon"
    name: Name
    level: Annotated[int, Meta(ge=0, le=10_000)] = 1


class NameShown(Facts, frozen=True):
    """What others see of the member on leaderboards: a name of their choice, or nothing at all."""

    name: Text = ""
    hidden: bool = False
