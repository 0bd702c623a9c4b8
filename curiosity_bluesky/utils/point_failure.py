"""Why a point failed: made by the plan, kept as the reason in a document, read back here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """What made an attempt at a point fail; the value is how its reason in a document begins."""

    BEGUN = "attempt begun"
    """None: the attempt begins, and no end of it is on record yet."""
    OUT_OF_REACH = "out of reach"
    """The drift has taken the pixel where a motor may not go."""
    MASKED = "masked by hand"
    VETOED = "vetoed by hand"
    CROWDED = "max_per_area"
    """There are as many spectra around it as are allowed."""
    NOT_GOOD = "its spectrum is not of the quality that is asked for, and it is taken no more"
    """After a change of the quality that is asked for."""
    QUALITY = "quality"
    """The spectrum was taken, and its quality is too low. Read back from a document, it counts
    as one of the instrument."""
    INSTRUMENT = ""
    """A device raised, did not answer in time, or did not reach its target."""

    @property
    def is_fault(self) -> bool:
        """Whether the instrument, or what it measured, is to blame."""
        return self in (FailureKind.QUALITY, FailureKind.INSTRUMENT)


_WORDS = (FailureKind.QUALITY, FailureKind.INSTRUMENT)
"""Kinds whose text is the whole reason."""


@dataclass(frozen=True)
class PointFailure:
    """One failure.

    Parameters
    ----------
    kind
        What made the attempt fail.
    text
        The particulars, for people.
    """

    kind: FailureKind
    text: str = ""

    def __str__(self) -> str:
        """Return the reason as it is kept in a document."""
        if self.kind in _WORDS:
            return self.text
        return f"{self.kind.value}: {self.text}" if self.text else self.kind.value

    @staticmethod
    def read(reason: str) -> PointFailure:
        """Understand the reason in a document."""
        head, _, text = reason.partition(": ")
        known = {kind.value: kind for kind in FailureKind if kind not in _WORDS}
        if head in known:
            return PointFailure(known[head], text)
        return PointFailure(FailureKind.INSTRUMENT, reason)
