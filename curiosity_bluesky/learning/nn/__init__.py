"""Networks of the published algorithm."""
