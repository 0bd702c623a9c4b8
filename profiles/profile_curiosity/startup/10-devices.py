"""A recorded film under the simulated microscope; replace these by your own devices."""

from curiosity_bluesky.demo import simulated_instrument
from sim_devices import open_sample

_instrument = simulated_instrument(
    open_sample(os.environ.get("CURIOSITY_SAMPLE", "PTO_BEPS_1d3um"))
)
stage, imager = _instrument.stage, _instrument.imager
spectrometer = _instrument.spectrometer

RE.md["sample"] = _instrument.sample.name
