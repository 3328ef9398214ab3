"""Coalition: points travel between brands, and the books of the brands settle to the cent."""
