"""Descriptors: an image in, a vector out."""

from curiosity_bluesky.similarity.descriptors.registry import DEFAULT, known, named, names

__all__ = ["DEFAULT", "known", "named", "names"]
