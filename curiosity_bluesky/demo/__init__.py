"""The demo, and the simulated instrument that it and the profiles stand on."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.demo.instrument import EpicsInstrument as EpicsInstrument
    from curiosity_bluesky.demo.instrument import Instrument as Instrument
    from curiosity_bluesky.demo.instrument import SimulatedInstrument as SimulatedInstrument
    from curiosity_bluesky.demo.instrument import served_instrument as served_instrument
    from curiosity_bluesky.demo.instrument import simulated_instrument as simulated_instrument
    from curiosity_bluesky.demo.survey_of_sample import SPEED as SPEED

_MODULES = {
    "EpicsInstrument": "instrument",
    "Instrument": "instrument",
    "SPEED": "survey_of_sample",
    "SimulatedInstrument": "instrument",
    "served_instrument": "instrument",
    "simulated_instrument": "instrument",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
