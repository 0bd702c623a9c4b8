"""Figures of merit from the authors' notebooks.

From ``Notebooks/curiosity_sampling.ipynb`` of the authors' repository: mean and standard
deviation over 50 trials, 100 points of ``norm_polarization.npy``. Its random arm starts
from 31 copies of one pixel. The older run, of 30 trials, is the one in its
``.ipynb_checkpoints``, where random draws its own distinct pixels.
"""

SAMPLE = "norm_polarization"
CANDIDATES = 1681
POINTS = 100
"""41 x 41 pixels have a whole patch of 9 x 9."""

SMALLEST_SCORE = {
    "curiosity (notebook, 50 trials)": (13.470, 0.294),
    "random (notebook, 50 trials, 31 copies of one pixel)": (14.456, 0.754),
    "curiosity (older run, 30 trials)": (13.210, 0.368),
    "random (older run, 30 trials, distinct pixels)": (13.279, 0.098),
    "MCD (older run, 30 trials)": (13.808, 0.331),
}
"""Smallest sum of the mean squared errors along the run."""

WORST_TEN = {
    "curiosity (older run, 30 trials)": (0.08077, 0.00297),
    "random (older run, 30 trials, distinct pixels)": (0.08225, 0.00471),
    "MCD (older run, 30 trials)": (0.08544, 0.00797),
}
"""Smallest mean of the ten largest errors along the run."""

MEAN_SPECTRUM_SCORE = 14.49
"""The score of the mean spectrum of the recording at every pixel, by our own arithmetic."""
