"""What several harnesses stand on."""

from tests.reliability.cluster import cluster

__all__ = ["cluster"]
