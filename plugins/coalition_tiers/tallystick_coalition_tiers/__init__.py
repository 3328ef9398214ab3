"""What a member spends at partners counts on the ladders of tiers, where the agreement says so."""
