"""What becomes of noise on the way from band excitation to a loop's numbers; with a picture.

``python benchmarks/band_excitation.py --json FILE --image FILE``. Every fourth pixel of a generated
film without noise of its own, several cycles and noises of the spectrogram; errors are those of
what is reduced, against the same numbers of the film's own loop.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from machine import about
from numpy.typing import NDArray

from curiosity_bluesky.devices.pfm import (
    ReducedSpectrogram,
    Steps,
    fit_sho,
    loop_fields,
    reduce_spectrogram,
    sho_response,
)
from sim_devices import (
    Clock,
    RecordedSample,
    SimBandExcitation,
    SimMicroscope,
    SyntheticSample,
)
from sim_devices.loops import bias_cycle

FILM = SyntheticSample((64, 64), seed=0, points=64, noise=0.0)
NAMES = ("coercive_positive", "coercive_negative", "imprint", "remanence_positive", "area")


def measured(
    noise: float, cycles: int, row: int, col: int
) -> tuple[SimBandExcitation, NDArray, ReducedSpectrogram]:
    """Take a spectrogram at a pixel; return the driver, the spectrogram and its loops."""
    microscope = SimMicroscope(FILM, Clock(math.inf), speed_um_per_s=math.inf)
    driver = SimBandExcitation(microscope, noise=noise, cycles=cycles)
    microscope.move("x", float(FILM.x[col]))
    microscope.move("y", float(FILM.y[row]))
    spectrogram = driver.acquire()
    steps = Steps.of(driver.bias, driver.in_field, driver.cycles)
    return driver, spectrogram, reduce_spectrogram(driver.frequencies, spectrogram, steps)


def errors(noise: float, cycles: int) -> dict[str, Any]:
    """Return errors over the film, of the polarisation relative to the spread of its loops."""
    spread = FILM.noiseless.std()
    of_loops, of_numbers, offsets = [], [], []
    for row in range(0, 64, 8):
        for col in range(0, 64, 8):
            _, _, reduced = measured(noise, cycles, row, col)
            assert reduced.off is not None
            of_loops.append((reduced.off.polarisation - FILM.noiseless[row, col]) / spread)
            found = asdict(loop_fields(FILM.axis, reduced.off.polarisation))
            truth = asdict(loop_fields(FILM.axis, FILM.noiseless[row, col]))
            of_numbers.append([found[name] - truth[name] for name in NAMES])
            offsets.append(reduced.phase_offset - 0.6)
    loops, numbers = np.array(of_loops), np.array(of_numbers)
    rms = np.sqrt(np.nanmean(numbers**2, axis=0))
    return {
        "noise": noise,
        "cycles": cycles,
        "polarisation_rms": round(float(np.sqrt(np.mean(loops**2))), 4),
        "polarisation_mean": round(float(loops.mean()), 5),
        "polarisation_worst": round(float(np.abs(loops).max()), 3),
        "phase_offset_rms_rad": round(float(np.sqrt(np.mean(np.square(offsets)))), 4),
        **{f"{name}_rms": round(float(v), 3) for name, v in zip(NAMES, rms, strict=True)},
        "no_imprint": int(np.isnan(numbers[:, NAMES.index("imprint")]).sum()),
    }


def of_noise(points: int, draws: int = 4000) -> float:
    """Return the share of loops of nothing but noise, every second on a slope, that switch."""
    rng, bias = np.random.default_rng(0), bias_cycle(points, 10.0)
    noise = rng.standard_normal((draws, points)) + 0.3 * bias * (np.arange(draws) % 2)[:, None]
    return float(np.mean([loop_fields(bias, loop).switches for loop in noise]))


def share(which: Any) -> float:
    """Return the share of True."""
    return round(float(np.mean(which)), 3)


def recorded(name: str) -> dict[str, Any]:
    """Return how recorded loops lie, every fifth pixel, the first cycle left out."""
    sample = RecordedSample.from_mexpsimu(name)
    driver = SimBandExcitation(SimMicroscope(sample, Clock(math.inf)))
    cube = sample.spectra["response"][:64:5, :64:5]
    loops = cube.reshape(-1, driver.cycles, len(sample.axis) // driver.cycles)[:, 1:].mean(axis=1)
    bias = sample.axis[: loops.shape[1]]
    return {
        "recording": name,
        "loops": len(loops),
        "no_imprint_at_zero": share(
            [np.isnan(loop_fields(bias, one, level=0.0).imprint) for one in loops]
        ),
        "no_imprint_at_the_middle": share(
            [np.isnan(loop_fields(bias, one).imprint) for one in loops]
        ),
        "negative_sum_of_bias_times_polarisation": share(loops @ bias < 0),
    }


def picture(path: Path, row: int = 20, col: int = 30, noise: float = 0.05) -> None:
    """Draw one measurement from the spectrogram to the loop."""
    driver, spectrogram, reduced = measured(noise, 1, row, col)
    assert reduced.on is not None and reduced.off is not None
    f, fit = driver.frequencies, fit_sho(driver.frequencies, spectrogram.T)
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    off = np.flatnonzero(~driver.in_field)
    image = axes[0, 0].pcolormesh(np.arange(len(off)), f / 1e3, np.abs(spectrogram[:, off]))
    axes[0, 0].set(title="|spectrogram|, field off", xlabel="step", ylabel="frequency (kHz)")
    figure.colorbar(image, ax=axes[0, 0], label=driver.spectrogram_units)
    k = off[int(np.abs(driver.bias[off] + 5).argmin())]
    fine = np.linspace(f[0], f[-1], 500)
    p = (fit.amplitude[k], fit.frequency[k], fit.quality_factor[k], fit.phase[k])
    for part, colour in (("real", "C0"), ("imag", "C1")):
        axes[0, 1].plot(f / 1e3, getattr(spectrogram[:, k], part), ".", color=colour, label=part)
        axes[0, 1].plot(fine / 1e3, getattr(sho_response(fine, *p), part), color=colour)
    axes[0, 1].set(
        title=f"one step, {driver.bias[k]:.1f} V: Q = {p[2]:.0f}, R² = {fit.r_squared[k]:.3f}",
        xlabel="frequency (kHz)",
        ylabel=f"response ({driver.spectrogram_units})",
    )
    axes[0, 1].legend()
    found = loop_fields(reduced.bias, reduced.off.polarisation)
    left = axes[1, 0]
    left.plot(reduced.bias, reduced.on.polarisation, ".-", color="0.7", label="field on")
    left.plot(reduced.bias, reduced.off.polarisation, ".-", color="C0", label="field off")
    left.plot(FILM.axis, FILM.noiseless[row, col], color="k", lw=0.8, label="the film's own")
    left.axhline(found.middle, color="0.5", lw=0.6)
    for v in (found.coercive_positive, found.coercive_negative):
        left.plot(v, found.middle, "o", color="C3")
    for v in (found.remanence_positive, found.remanence_negative):
        left.plot(0, v, "s", color="C2")
    left.set(
        title=f"imprint {found.imprint:.2f} V, area {found.area:.0f} pm V",
        xlabel="bias (V)",
        ylabel="polarisation (pm)",
    )
    left.legend(loc="lower right")
    right = axes[1, 1]
    right.plot(reduced.off.resonance / 1e3, label="resonance (kHz)")
    right.set(title="oscillator, field off", xlabel="step", ylabel="resonance (kHz)")
    other = right.twinx()
    other.plot(reduced.off.quality_factor, color="C1")
    other.set(ylabel="quality factor", ylim=(0, 2 * np.nanmedian(reduced.off.quality_factor)))
    other.yaxis.label.set_color("C1")
    right.yaxis.label.set_color("C0")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure at several noises, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--image", type=Path, help="where the picture goes")
    given = parser.parse_args()
    figures = []
    for noise in (0.0, 0.01, 0.05, 0.2):
        for cycles in (1, 3):
            figures.append(errors(noise, cycles))
            print(figures[-1], flush=True)
    noise = {points: of_noise(points) for points in (16, 32, 64)}
    print("noise that passes for switching, by points:", noise, flush=True)
    recordings = [recorded(f"PTO_BEPS_{size}um") for size in ("1d3", "1d7", "3")]
    print(*recordings, sep="\n", flush=True)
    if given.json:
        given.json.write_text(
            json.dumps(
                {"about": about(), "errors": figures, "of_noise": noise, "recorded": recordings},
                indent=1,
            )
            + "\n"
        )
    if given.image:
        picture(given.image)


if __name__ == "__main__":
    main()
