"""The simulator: a whole life of a shop in one seeded process."""
