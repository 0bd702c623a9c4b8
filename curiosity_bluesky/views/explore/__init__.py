"""The explorer page: maps of everything that was measured, in the browser."""
