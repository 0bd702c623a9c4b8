"""How fast spectra are fitted: by `fit_sho`, all at once, and by scipy, one after the other.

``python benchmarks/sho.py --json FILE``. Random oscillators with noise; rounds of both take
turns, so that a busy machine is busy for both; beside the seconds on the wall there are those of
the processor, which other programs do not stretch. scipy begins where a user would have it begin:
at the bin with the largest magnitude, with the true quality factor's order of magnitude.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import about
from numpy.typing import NDArray
from scipy.optimize import least_squares

from curiosity_bluesky.devices.pfm import fit_sho, sho_response


def oscillators(n: int, bins: int, noise: float, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return frequencies (bins,), spectra (n, bins) and the truth (4, n): A, f0, Q, phase."""
    rng = np.random.default_rng(seed)
    f = np.linspace(300e3, 380e3, bins)
    q = np.exp(rng.uniform(np.log(30), np.log(300), n))
    truth = np.stack([np.ones(n), rng.uniform(315e3, 365e3, n), q, rng.uniform(-3, 3, n)])
    parts = rng.standard_normal((2, n, bins)) * noise * q[:, None] / np.sqrt(2)
    return f, sho_response(f, *truth) + parts[0] + 1j * parts[1], truth


def with_scipy(f: NDArray, spectra: NDArray) -> NDArray:
    """Fit one spectrum after the other; (4, n)."""
    centre, found = f.mean(), []
    for spectrum in spectra:
        top = int(np.abs(spectrum).argmax())
        height = np.abs(spectrum[top])

        def misfit(p: NDArray, spectrum: NDArray = spectrum, height: float = height) -> NDArray:
            model = sho_response(f, p[0] * height / 100, p[1] * centre, p[2] * 100, p[3])
            r = (model - spectrum) / height
            return np.concatenate([r.real, r.imag])

        start = [1.0, f[top] / centre, 1.0, float(np.angle(spectrum[top])) - np.pi / 2]
        p = least_squares(misfit, start, method="lm").x
        found.append([p[0] * height / 100, p[1] * centre, p[2] * 100, p[3]])
    return np.array(found).T


def with_ours(f: NDArray, spectra: NDArray) -> NDArray:
    """Fit all; (4, n)."""
    fit = fit_sho(f, spectra)
    return np.stack([fit.amplitude, fit.frequency, fit.quality_factor, fit.phase])


def timed(
    fit: Callable[..., NDArray], f: NDArray, spectra: NDArray
) -> tuple[tuple[float, float], NDArray]:
    """Return spectra a second, on the wall and of the processor, and what was found."""
    begun, spent = time.perf_counter(), time.process_time()
    found = fit(f, spectra)
    wall, processor = time.perf_counter() - begun, time.process_time() - spent
    return (len(spectra) / wall, len(spectra) / processor), found


def main() -> None:
    """Measure at several numbers of bins."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spectra", type=int, default=4000, help="of a round, all at once")
    parser.add_argument("--one-by-one", type=int, default=200, help="of a round, with scipy")
    parser.add_argument("--noise", type=float, default=0.05, help="of a bin, relative to the top")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    figures: dict[str, Any] = {"about": about(), "spectra": given.spectra, "noise": given.noise}
    for bins in (32, 64, 128, 256):
        speeds: dict[str, list[tuple[float, float]]] = {"ours": [], "scipy": []}
        errors: dict[str, list[NDArray]] = {"ours": [], "scipy": []}
        for seed in range(given.rounds):
            f, spectra, truth = oscillators(given.spectra, bins, given.noise, seed)
            few = given.one_by_one
            ways = (("ours", with_ours, given.spectra), ("scipy", with_scipy, few))
            for name, fit, n in ways:
                speed, found = timed(fit, f, spectra[:n])
                speeds[name].append(speed)
                errors[name].append(np.abs(found[:, :few] / truth[:, :few] - 1)[1:3])
        figures[f"{bins} bins"] = {
            name: {
                "spectra_per_s": round(statistics.median(wall for wall, _ in speeds[name])),
                "slowest_round": round(min(wall for wall, _ in speeds[name])),
                "per_processor_s": round(statistics.median(cpu for _, cpu in speeds[name])),
                "median_error_resonance_ppm": round(
                    1e6 * float(np.median(np.concatenate(errors[name], axis=1)[0])), 2
                ),
                "median_error_q_percent": round(
                    1e2 * float(np.median(np.concatenate(errors[name], axis=1)[1])), 3
                ),
                "far_off_percent": round(
                    1e2 * float(np.mean(np.concatenate(errors[name], axis=1)[1] > 0.5)), 2
                ),
            }
            for name in speeds
        }
        print(bins, "bins", json.dumps(figures[f"{bins} bins"]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(given.json)


if __name__ == "__main__":
    main()
