"""Test by keypoints whether two images show the same place: one motion maps them.

Descriptors compare what images have all over. Of a part of an image that is taken again, turned,
mirrored or at another scale, they find the kin, and not for sure the image itself. Here SIFT
keypoints (Lowe, IJCV 60, 91, 2004) with the square roots of their normalised descriptors
(Arandjelovic and Zisserman, CVPR 2012) are matched by the ratio test, and RANSAC looks for the
similarity transform that most of them agree on. A mirrored image is looked for by mirroring the
descriptors, which is exact, and one of the other sign likewise. It needs OpenCV, the extra
``similarity``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.preprocess import along_one_axis, preprocess

SURE = 8
"""Keypoints that have to agree. Two recordings of different places have 2 as a rule and 4 in one
case of a hundred (docs/descriptors.md)."""

SHORTLIST = 24
"""Images that are tested: the nearest by a descriptor."""

_BLUR = 1.5
"""Pixels: noise is no keypoint."""
_KEYPOINTS = 500
_RATIO = 0.85
"""Maximum ratio of the distances of the best and the second match (Lowe, section 7.1)."""
_OFF = 4.0
"""Pixels by which a keypoint may miss its place."""
_SCALES = 0.4, 2.5
"""Factor between the scales of two images of one place, from and to."""


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of an image.

    Parameters
    ----------
    at
        Where, (n, 2), x and y in pixels.
    descriptors
        What it looks like there, (n, 128), of length 1.
    """

    at: NDArray[np.float32]
    descriptors: NDArray[np.float32]

    def mirrored(self) -> Keypoints:
        """Return those of the image with x turned round."""
        # 4 x 4 cells about a keypoint with 8 directions of the gradient in each: its orientation
        # stays, what lay on its left lies on its right, and directions turn the other way round.
        cells = self.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
        return Keypoints(self.at * np.array([-1, 1], np.float32), cells.reshape(-1, 128))

    def inverted(self) -> Keypoints:
        """Return those of the image with its sign turned round."""
        # All gradients turn by half a circle, the orientation of a keypoint with them.
        cells = self.descriptors.reshape(-1, 4, 4, 8)[:, ::-1, ::-1]
        return Keypoints(self.at, cells.reshape(-1, 128))


def available() -> bool:
    """Whether OpenCV is installed."""
    return find_spec("cv2") is not None


def keypoints(image: Image) -> Keypoints:
    """Return the keypoints of an image, at most some 500.

    Parameters
    ----------
    image
        The image.

    Raises
    ------
    InputError
        If OpenCV is not installed.
    """
    cv2, sift = _opencv()
    field = along_one_axis(preprocess(image).values)
    smooth = cv2.GaussianBlur(np.ascontiguousarray(field, np.float32), (0, 0), _BLUR)
    low, high = np.quantile(smooth, [0.01, 0.99])
    grey = np.clip((smooth - low) / max(float(high - low), 1e-9) * 255, 0, 255).astype(np.uint8)
    found, raw = sift.detectAndCompute(grey, None)
    if raw is None:
        return Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    at = np.array([point.pt for point in found], np.float32)
    return Keypoints(at, np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9)))


def agreeing(one: Keypoints, other: Keypoints) -> int:
    """Return how many keypoints agree on one motion from an image to another.

    Mirrored or not, with the same sign or the other: which way round a phase or an amplitude
    counts is up to the instrument.

    Parameters
    ----------
    one, other
        Of the two images.
    """
    ways = [one, one.mirrored()]
    return max(_agreeing(way, other) for way in [*ways, *(way.inverted() for way in ways)])


def _agreeing(one: Keypoints, other: Keypoints) -> int:
    cv2, _ = _opencv()
    if min(len(one.at), len(other.at)) < 3:
        return 0
    likeness = one.descriptors @ other.descriptors.T  # cosines, of vectors of length 1
    two = np.argpartition(-likeness, 1, axis=1)[:, :2]
    best, second = np.take_along_axis(likeness, two, axis=1).T
    clear = 1 - best < _RATIO**2 * (1 - second)
    if clear.sum() < 3:
        return 0
    cv2.setRNGSeed(0)
    motion, inside = cv2.estimateAffinePartial2D(
        one.at[clear], other.at[two[clear, 0]], ransacReprojThreshold=_OFF, maxIters=500
    )
    if motion is None or not _SCALES[0] < np.hypot(motion[0, 0], motion[0, 1]) < _SCALES[1]:
        return 0
    return int(inside.sum())


@cache
def _opencv() -> tuple[Any, Any]:
    if not available():
        raise InputError(
            "OpenCV is not installed, which looks whether two images show the same place: "
            'pip install "curiosity-bluesky[similarity]", or search without it: --no-verify'
        )
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    return cv2, cv2.SIFT_create(_KEYPOINTS, contrastThreshold=0.003, edgeThreshold=15)
