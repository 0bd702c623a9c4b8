"""Samples of the simulated instrument by name or by file, for the commands."""

from sim_devices import SampleInfo, list_samples, open_sample

__all__ = ["SampleInfo", "list_samples", "open_sample"]
