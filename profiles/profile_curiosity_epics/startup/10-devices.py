"""A microscope over EPICS Channel Access; its prefix is in $CURIOSITY_PREFIX.

Channel Access finds it by EPICS_CA_ADDR_LIST, which has to be set before IPython starts.
"""

from curiosity_bluesky.demo import EpicsInstrument

_instrument = EpicsInstrument(os.environ.get("CURIOSITY_PREFIX", "SPM:"))
stage, imager = _instrument.stage, _instrument.imager
spectrometer = _instrument.spectrometer

_settings = spectrometer.read_configuration()
RE.md["sample"] = str(_settings.get("spectrometer_sample", {}).get("value", "unknown"))
