"""Descriptors: an image in, a vector out."""

from curiosity_bluesky.similarity.descriptors.registry import DEFAULT, check, known, named, names

__all__ = ["DEFAULT", "check", "known", "named", "names"]
