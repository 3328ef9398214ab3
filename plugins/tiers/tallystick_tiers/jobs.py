"""By the clock: reviews in the night, warnings in the morning."""

from __future__ import annotations

from .review import Errand, Work, record_review, record_warnings, today


def review(errand: Work) -> int:
    """Review the tiers whose day has come; how many changed."""
    return len(record_review(errand, today(errand)))


def warn(errand: Errand) -> int:
    """Tell members who would fall at a review that is near; how many were told."""
    return record_warnings(errand, today(errand))
