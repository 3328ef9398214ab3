"""Risk: what is unusual is seen, held for a while, explained and decided by people."""
