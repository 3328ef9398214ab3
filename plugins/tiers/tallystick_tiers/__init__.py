"""Tiers: ladders that members climb by what they do, and do not fall from all at once."""
