"""A generated ferroelectric film whose truth is known."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.exchange.sample import Sample, pixel_centres
from sim_devices.loops import bias_cycle, switching_loop

PIXEL_UM = 0.02
WALL_WIDTH_PX = 1.3
RESPONSE_PM = 20.0


class SyntheticSample(Sample):
    """A ferroelectric film with up and down domains and a switching loop at every pixel.

    The image channel "amplitude" (pm) is what a microscope would see before any
    switching; "phase" (deg) comes with it on request. The spectral channel "response"
    (pm) is the piezoresponse A cos(phase) along one bias cycle 0, +max, -max, 0.

    What depends on what; lengths are pixels, and nothing reaches further than about four
    of them. All numbers are plausible, none is fitted to a material.

    ================  ===================================================================
    domain            +1 (up) or -1 (down): the sign of a smooth random field with one
                      dominant length, as many up as down
    image amplitude   |s p + b|, with p = tanh(signed wall distance / wall width): zero
                      close to the walls, and a little larger in up domains because the
                      electrostatic offset b adds to the signal there [1]_; plus
                      roughness that has nothing to do with switching, and noise
    saturation s      varies slowly across the film (thickness, clamping), lower at walls
                      where the tip averages both domains, lower at defects
    coercive bias     bulk value, up to 45 % lower at a wall: there a wall moves, while
                      the bulk needs a new nucleus [2]_; lower again where walls are dense
    imprint           shifts the loop so that the as-grown domain is the stable one: an
                      internal field at the interfaces made it grow [3]_. Proportional to
                      the mean domain around, so it changes sign across walls and is weak
                      in small domains
    nucleation step   part of the polarisation that switches abruptly before the coercive
                      bias: large at point defects, which are nucleation centres [4]_
                      (dark spots in the image), small elsewhere
    width             switching is abrupt far from walls, gradual near them, where it
                      goes by wall motion [2]_
    initial state     down everywhere: as usual in switching spectroscopy [5]_ the recorded
                      cycle is not the first, and the one before it ended at negative bias;
                      of the as-grown domain only the imprint is left
    ================  ===================================================================

    Coercive biases are 2 to 4.5 V and the imprint is up to 1.2 V: below a `max_bias` of
    about 6 V not all loops open.

    Parameters
    ----------
    shape
        (rows, cols), each at least 4.
    seed
        Same seed and parameters, same arrays.
    points
        Points of the bias cycle, at least 8.
    max_bias
        Largest bias, V.
    extent_um
        (width, height), um. Default: pixels of 0.02 um.
    noise
        Standard deviation of the noise of spectra and images, relative to the typical
        saturation (20 pm).
    phase
        Whether the image has the channel "phase" too.

    Attributes
    ----------
    truth : dict of str to (rows, cols) float64
        ``domain`` (+1, -1), ``wall_distance`` (signed, pixels), ``coercive_bias`` (V, half
        the width of the loop), ``imprint`` (V), ``nucleation_bias`` (V, where the positive
        nucleation step happens), ``nucleation_step`` (0 to 1), ``switching_width`` (V),
        ``saturation`` (pm), ``defect`` (0 to 1).
    noiseless : (rows, cols, points) float64
        The target without noise, pm.

    Raises
    ------
    InputError
        If a parameter is out of its range.

    References
    ----------
    .. [1] S. V. Kalinin and D. A. Bonnell, Phys. Rev. B 65, 125408 (2002).
    .. [2] V. R. Aravind et al., Phys. Rev. B 82, 024111 (2010).
    .. [3] A. K. Tagantsev and G. Gerra, J. Appl. Phys. 100, 051607 (2006).
    .. [4] S. Jesse et al., Nature Materials 7, 209 (2008).
    .. [5] S. Jesse, A. P. Baddorf and S. V. Kalinin, Appl. Phys. Lett. 88, 062908 (2006).
    """

    truth: dict[str, NDArray[np.float64]]
    noiseless: NDArray[np.float64]

    def __init__(
        self,
        shape: tuple[int, int] = (64, 64),
        seed: int = 0,
        points: int = 64,
        max_bias: float = 10.0,
        extent_um: tuple[float, float] | None = None,
        noise: float = 0.03,
        *,
        phase: bool = False,
    ) -> None:
        rows, cols = _checked(shape, seed, points, max_bias, noise)
        if extent_um is None:
            extent_um = (round((cols - 1) * PIXEL_UM, 6), round((rows - 1) * PIXEL_UM, 6))
        x, y = pixel_centres((rows, cols), extent_um)
        rng = np.random.default_rng(seed)
        truth = _film((rows, cols), rng)
        bias = bias_cycle(points, max_bias)
        polarisation = np.tanh(truth["wall_distance"] / WALL_WIDTH_PX)
        offset = 0.18 * RESPONSE_PM
        noiseless = switching_loop(
            bias,
            truth["coercive_bias"],
            -truth["coercive_bias"],
            truth["saturation"],
            imprint=truth["imprint"],
            nucleation_width=truth["switching_width"],
            nucleation_step=truth["nucleation_step"],
            nucleation_lead=truth["coercive_bias"] + truth["imprint"] - truth["nucleation_bias"],
            initial=-1.0,
            offset=offset,
            slope=0.01 * RESPONSE_PM,
        )
        sigma = noise * RESPONSE_PM
        signal = truth["saturation"] * polarisation + offset
        roughness = 0.04 * RESPONSE_PM * _smooth(rng, (rows, cols), 1.0)
        seen = signal + roughness + sigma * rng.standard_normal((rows, cols))
        images = {"amplitude": np.abs(seen)}
        image_units = {"amplitude": "pm"}
        if phase:
            images["phase"] = np.where(seen > 0, 0.0, 180.0)
            image_units["phase"] = "deg"
        spectra = noiseless + sigma * rng.standard_normal(noiseless.shape)
        super().__init__(
            name="synthetic",
            images={name: image.astype(np.float32) for name, image in images.items()},
            spectra={"response": spectra.astype(np.float32)},
            axis=bias,
            x=x,
            y=y,
            image_units=image_units,
            spectrum_units={"response": "pm"},
            source=f"generated: SyntheticSample(shape={(rows, cols)}, seed={seed}, "
            f"points={points}, max_bias={max_bias:g}, extent_um={extent_um}, "
            f"noise={noise:g}, phase={phase})",
        )
        for array in (*truth.values(), noiseless):
            array.flags.writeable = False
        self.truth = truth
        self.noiseless = noiseless


def _checked(
    shape: tuple[int, int], seed: int, points: int, max_bias: float, noise: float
) -> tuple[int, int]:
    """Refuse parameters out of range; return (rows, cols)."""
    whole = (int, np.integer)
    if np.size(shape) != 2 or not all(isinstance(n, whole) and n >= 4 for n in shape):
        raise InputError(
            f"shape is {shape!r}; expected (rows, cols), whole numbers of at least 4: "
            "for example (64, 64)."
        )
    if not isinstance(seed, whole) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected a whole number >= 0: for example seed=0.")
    if not isinstance(points, whole) or points < 8:
        raise InputError(
            f"points is {points!r}; expected a whole number of at least 8: a loop needs several "
            "points on each of its four quarters."
        )
    if not math.isfinite(max_bias) or max_bias <= 0:
        raise InputError(
            f"max_bias is {max_bias!r} V; expected a positive bias: 10 opens all loops."
        )
    if not math.isfinite(noise) or noise < 0:
        raise InputError(
            f"noise is {noise!r}; expected a number >= 0, relative to the saturation: "
            "0.03 is typical."
        )
    return int(shape[0]), int(shape[1])


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NDArray[np.float64]:
    """Make a smooth random field of mean 0 and standard deviation 1."""
    margin = int(4 * sigma) + 1
    noise = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin))
    field = gaussian_filter(noise, sigma)
    # Scaled by the expected, not the observed deviation: small maps stay comparable.
    field *= 2.0 * math.sqrt(math.pi) * sigma
    return field[margin:-margin, margin:-margin]


def _film(shape: tuple[int, int], rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Make the local properties of the film, each (rows, cols)."""
    # The difference of two smoothings has one dominant length: labyrinth domains.
    margin = 24
    noise = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin))
    field = gaussian_filter(noise, 2.6) - gaussian_filter(noise, 6.0)
    field = field[margin:-margin, margin:-margin]
    up = field > np.median(field)
    # A pixel next to a wall is half a pixel away from it.
    distance = np.asarray(distance_transform_edt(up)) - np.asarray(distance_transform_edt(~up))
    distance -= np.where(up, 0.5, -0.5)
    distance = gaussian_filter(distance, 0.6)
    domain = np.where(up, 1.0, -1.0)

    near_wall = np.exp(-np.abs(distance) / 2.0)
    wall_density = gaussian_filter((np.abs(distance) < 1.0).astype(float), 1.5)
    surroundings = gaussian_filter(domain, 1.5)

    defect = np.zeros(shape)
    count = max(1, round(up.size / 350))
    defect.flat[rng.choice(up.size, size=count, replace=False)] = 1.0
    defect = np.minimum(gaussian_filter(defect, 1.2) * 2 * math.pi * 1.2**2, 1.0)

    film = np.clip(1.0 + 0.1 * _smooth(rng, shape, 6.0), 0.6, 1.4)
    saturation = RESPONSE_PM * film * (1 - 0.3 * near_wall) * (1 - 0.35 * defect)
    coercive = 4.5 * (1 - 0.45 * near_wall) * (1 - 0.25 * np.minimum(wall_density, 1.0))
    imprint = -1.2 * surroundings
    lead = 0.4 * coercive
    return {
        "domain": domain,
        "wall_distance": distance,
        "coercive_bias": coercive,
        "imprint": imprint,
        "nucleation_bias": coercive + imprint - lead,
        "nucleation_step": 0.05 + 0.4 * defect,
        "switching_width": 0.6 + 1.2 * near_wall,
        "saturation": saturation,
        "defect": defect,
    }
