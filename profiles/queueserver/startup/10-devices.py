"""A recorded film under the simulated microscope; replace these by your own devices."""

from curiosity_bluesky.demo import simulated_instrument
from curiosity_bluesky.demo.samples import default_sample
from sim_devices import list_samples, open_sample

_given = os.environ.get("CURIOSITY_SAMPLE") or default_sample()
_instrument = simulated_instrument(open_sample(_given))
stage, tip, imager = _instrument.stage, _instrument.stage.tip, _instrument.imager
spectrometer = _instrument.spectrometer

RE.md["sample"] = _instrument.sample.name
_samples = sorted({_given, *(info.name for info in list_samples())})
