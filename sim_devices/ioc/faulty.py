"""Faults that a client can switch on."""

# caproto's types want methods where it takes functions.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from caproto.server import PVGroup, pvproperty

from sim_devices.faults import KINDS
from sim_devices.microscope import SimMicroscope


class FaultPVs(PVGroup):
    """``<kind>``: its probability; ``<kind>:Next``: how many of the next go wrong.

    Made by `fault_pvs`; a kind is one of `sim_devices.faults.KINDS`.
    """

    microscope: SimMicroscope


def fault_pvs(microscope: SimMicroscope, prefix: str) -> FaultPVs:
    """Return the PVs of all kinds of faults."""
    pvs: dict[str, Any] = {}
    for kind in KINDS:
        pvs |= _of(kind, microscope)
    made = type("Faulty", (FaultPVs,), pvs)(prefix=f"{prefix}Fault:")
    made.microscope = microscope
    return made


def _of(kind: str, microscope: SimMicroscope) -> dict[str, Any]:
    async def put_chance(group: FaultPVs, instance: Any, value: float) -> None:
        group.microscope.faults.set(kind, float(value))

    async def put_next(group: FaultPVs, instance: Any, value: int) -> int:
        if value:
            group.microscope.faults.next(kind, int(value))
        return 0

    async def get_happened(group: FaultPVs, instance: Any) -> int:
        return group.microscope.faults.happened[kind]

    chance = microscope.faults.probability(kind)
    return {
        kind: pvproperty(name=kind, value=float(chance), put=put_chance, doc="probability"),
        f"{kind}_next": pvproperty(
            name=f"{kind}:Next", value=0, put=put_next, doc="so many of the next go wrong"
        ),
        f"{kind}_happened": pvproperty(
            name=f"{kind}:Happened", value=0, get=get_happened, read_only=True, doc="how often"
        ),
    }
