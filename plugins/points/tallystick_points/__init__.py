"""Points: earned on purchases, spent, given, and lost to refunds and to time."""
