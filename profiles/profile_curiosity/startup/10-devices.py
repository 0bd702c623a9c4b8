"""A recorded film under the simulated microscope; replace these by your own devices."""

from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.demo.samples import default_sample
from sim_devices import open_sample

_instrument = simulated_instrument(
    open_sample(os.environ.get("CURIOSITY_SAMPLE") or default_sample())
)
stage, imager = _instrument.stage, _instrument.imager
spectrometer = _instrument.spectrometer

RE.md["sample"] = _instrument.sample.name
