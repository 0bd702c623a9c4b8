"""Figure of a run: measured points, predictions and errors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from curiosity_bluesky import documents
from curiosity_bluesky.documents import (
    Anomaly,
    Failure,
    Observation,
    Proposal,
    SteeringRequest,
    Survey,
)
from curiosity_bluesky.utils.display import figure as text

SEED_COLOUR = "white"
SURVEY_AXES = "survey"
"""Label of the axes that show the survey, by which a click is known to be in it."""
WINDOW = 10
"""Points over which the error curve is smoothed (running median)."""


MAPS = {
    "error": ("Predicted error of the spectrum", "error / mean error"),
    "uncertainty": ("Uncertainty of the prediction", "standard deviation"),
    "acquisition": ("What was maximised", "acquisition"),
}
"""Title and label of the maps, the most telling one first."""


@dataclass
class RunPicture:
    """Picture of a run, built from its documents.

    Parameters
    ----------
    scores
        Where the truth is known: name of a score to ``(n_observed, value)`` pairs, drawn
        beside the error that the documents hold.
    """

    scores: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._translate = documents.Translator()
        self._descriptors: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self.count = documents.PointCount()
        self._descriptors.clear()
        self.survey: Survey | None = None
        self.decisions: dict[int, Proposal] = {}
        self.spectra: dict[int, tuple[NDArray, NDArray]] = {}
        self._attempts: dict[int, int] = {}
        self.axis: tuple[str, str, NDArray] = ("point of the spectrum", "", np.empty(0))
        self.units = ""
        self.map: tuple[str, NDArray] | None = None
        self.failed: set[int] = set()
        self.masked: NDArray[np.bool_] | None = None
        self.flags: list[Anomaly] = []
        self.drift: list[tuple[float, float]] = []
        self.ended = False

    def copy(self) -> RunPicture:
        """Return the picture as it is now, to be drawn while documents come in."""
        twin = copy.copy(self)
        twin.decisions, twin.spectra = dict(self.decisions), dict(self.spectra)
        twin.flags, twin.failed = list(self.flags), set(self.failed)
        twin.drift = list(self.drift)
        twin.count = copy.deepcopy(self.count)
        return twin

    @property
    def start(self) -> Mapping[str, Any]:
        """The start document of the run, empty before there is one."""
        return self._translate.start

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Process one document."""
        if name == "start" and not self._translate.goes_on(doc):
            self._clear()
        self.count(name, doc)
        self.ended = name == "stop"
        if name == "descriptor":
            self._descriptors[doc["uid"]] = doc
        for item in self._translate(name, doc):
            if isinstance(item, Survey):
                self.survey = item
            elif isinstance(item, Proposal):
                self.decisions[item.decision_id] = item
            elif isinstance(item, Failure) and item.given_up:
                self.failed.add(item.decision_id)
            elif isinstance(item, SteeringRequest):
                self._steered(item)
            elif isinstance(item, Observation):
                self._spectrum(self._descriptors[doc["descriptor"]], item, doc["data"])
        if name == "event":
            stream = self._descriptors.get(doc["descriptor"], {}).get("name")
            if stream == documents.MAPS:
                self._take_map(doc["data"])
            elif stream == documents.FLAGS:
                self.flags.append(documents.flag_from(doc["data"]))
            elif stream == documents.DRIFT and doc["data"]["trusted"]:
                self.drift.append((doc["data"]["drift_x"], doc["data"]["drift_y"]))

    def _steered(self, act: SteeringRequest) -> None:
        if act.kind == "veto":
            self.failed.add(act.arguments["decision_id"])
        elif act.kind == "mask":
            mask = documents.decode_mask(act.arguments)
            self.masked = mask if self.masked is None else self.masked | mask

    def _take_map(self, data: Mapping[str, Any]) -> None:
        """Keep the map that says most about the choice: not every strategy has an error model."""
        for name in MAPS:
            if name in data and np.isfinite(data[name]).any():
                self.map = name, np.asarray(data[name], float)
                return

    def _spectrum(
        self, descriptor: Mapping[str, Any], observation: Observation, data: Mapping[str, Any]
    ) -> None:
        if observation.decision_id is None:
            return
        keys = documents.channel_keys(descriptor)
        self.axis = documents.axis_of(descriptor, keys[0])
        self.units = descriptor["data_keys"][keys[0]].get("units") or ""
        expected = [
            data.get(key + documents.PREDICTED, np.full(np.shape(data[key]), np.nan))
            for key in keys
        ]
        pair = (observation.spectrum, np.concatenate(expected))
        number = observation.decision_id
        # The first counts if a pause repeats the event, here as for the explorer; but another
        # attempt takes the place of one that failed.
        if observation.repeat > self._attempts.get(number, -1):
            self.spectra[number], self._attempts[number] = pair, observation.repeat

    def errors(self) -> tuple[NDArray, NDArray]:
        """Return how wrong the prediction made before each measurement was.

        Returns
        -------
        n, errors
            ``(points,)`` each: spectra known before, and the mean squared error divided by
            the mean squared deviation of all measured spectra from their mean (1: no better
            than the mean spectrum). Points without a prediction are left out.
        """
        numbers = np.array(sorted(set(self.spectra) - self.failed))
        if len(numbers) < 2:
            return np.empty(0), np.empty(0)
        measured = np.array([self.spectra[i][0] for i in numbers])
        expected = np.array([self.spectra[i][1] for i in numbers])
        deviation = np.nanmean((measured - np.nanmean(measured, axis=0)) ** 2)
        known = np.isfinite(expected).any(axis=1) & (deviation > 0)
        errors = np.nanmean((expected[known] - measured[known]) ** 2, axis=1) / deviation
        return np.flatnonzero(known), errors

    # ---- drawing

    def draw(self, figure: Figure) -> None:
        """Draw the run as it is now; what was on the figure is removed."""
        figure.clear()
        axes = figure.subplots(2, 2)
        start = self.start
        figure.suptitle(
            f"{text(start.get('sample', 'sample not named'), 60)} · "
            f"{text(start.get('curiosity_strategy'), 40)} · "
            f"{self.count.n} of {text(self.count.budget, 20) or '?'} spectra · "
            f"{text(start.get('uid'))[:8]}",
            fontsize=11,
        )
        self._draw_path(axes[0, 0])
        self._draw_map(axes[0, 1])
        self._draw_spectrum(axes[1, 0])
        self._draw_curve(axes[1, 1])

    def _image(self, axes: Axes, image: NDArray, colours: str, label: str) -> None:
        assert self.survey is not None
        x, y = self.survey.x, self.survey.y
        half_x, half_y = (abs(a[-1] - a[0]) / max(1, len(a) - 1) / 2 for a in (x, y))
        extent = (x[0] - half_x, x[-1] + half_x, y[-1] + half_y, y[0] - half_y)
        # Colours between the 1st and 99th percentile: a single hot pixel must not hide the rest.
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, [1, 99]) if finite.size else (0, 1)
        shown = axes.imshow(image, cmap=colours, extent=extent, vmin=low, vmax=high)
        colorbar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
        colorbar.set_label(label, fontsize=8)
        colorbar.ax.tick_params(labelsize=7)
        axes.set_xlabel("x (µm)", fontsize=9)
        axes.set_ylabel("y (µm)", fontsize=9)

    def _draw_path(self, axes: Axes) -> None:
        axes.set_title("Survey and measured points", fontsize=10)
        axes.set_label(SURVEY_AXES)
        if self.survey is None:
            axes.text(0.5, 0.5, "waiting for the survey", ha="center", transform=axes.transAxes)
            return
        channel, image = next(iter(self.survey.channels.items()))
        self._image(axes, image, "gray", text(channel, 60))
        good = sorted(set(self.spectra) - self.failed)
        done = [self.decisions[i] for i in good if i in self.decisions]
        seeds = [p for p in done if p.reason == "seed"]
        later = [p for p in done if p.reason != "seed"]
        by_hand = [p for p in done if p.reason == "manual"]
        failed = [self.decisions[i] for i in sorted(self.failed) if i in self.decisions]
        axes.plot(
            [p.x for p in seeds], [p.y for p in seeds], "o", ms=4, mfc="none",
            mec=SEED_COLOUR, mew=1, label=f"{len(seeds)} seeds",
        )  # fmt: skip
        if later:
            axes.plot([p.x for p in later], [p.y for p in later], "-", color="tab:orange",
                      lw=0.6, alpha=0.7)  # fmt: skip
            axes.scatter(
                [p.x for p in later], [p.y for p in later], c=range(len(later)), s=16,
                cmap="plasma", edgecolors="black", linewidths=0.3, zorder=3,
                label=f"{len(later)} chosen (bright: latest)",
            )  # fmt: skip
        if by_hand:
            axes.plot([p.x for p in by_hand], [p.y for p in by_hand], "s", ms=7, mfc="none",
                      mec="lime", mew=1.2, label=f"{len(by_hand)} by hand")  # fmt: skip
        if failed:
            axes.plot([p.x for p in failed], [p.y for p in failed], "x", ms=6, mec="red",
                      mew=1.4, label=f"{len(failed)} given up")  # fmt: skip
        axes.autoscale(False)
        if self.drift:
            self._draw_drift(axes)
        if self.masked is not None:
            x, y = self.survey.x, self.survey.y
            masked = axes.contourf(x, y, self.masked.astype(float), levels=[0.5, 1.5],
                                   colors="none", hatches=["///"])  # fmt: skip
            masked.set_edgecolor("red")
            masked.set_linewidth(0.0)
        for k, flag in enumerate(self.flags):
            axes.add_patch(
                Circle((flag.x, flag.y), flag.radius, fill=False, ec="cyan", ls="--", lw=1.5,
                       zorder=4, label=None if k else "look closer")
            )  # fmt: skip
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3,
                    facecolor="gray")  # fmt: skip

    def _draw_drift(self, axes: Axes) -> None:
        """Draw the drift path of the sample, from the middle."""
        assert self.survey is not None
        middle = [(axis[0] + axis[-1]) / 2 for axis in (self.survey.x, self.survey.y)]
        x, y = np.vstack([(0.0, 0.0), self.drift]).T
        far = 1e3 * np.hypot(x[-1], y[-1])
        axes.plot(middle[0] + x, middle[1] + y, "-", color="cyan", lw=1.5, marker=".", ms=4,
                  zorder=4, label=f"drift, {far:.0f} nm")  # fmt: skip

    def _draw_map(self, axes: Axes) -> None:
        name, values = self.map or ("error", None)
        title, label = MAPS[name]
        axes.set_title(f"{title} (none at the rim: no patch fits)", fontsize=9)
        if self.survey is None or values is None:
            why = "nothing is predicted for the choice" if self.ended else "after the seeds"
            axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes, color="gray")
            axes.set_xticks([])
            axes.set_yticks([])
            return
        mean = np.nanmean(values)
        if name == "error" and mean > 0:  # some strategies give it in units of the spectra
            values = values / mean
        self._image(axes, values, "magma", label)
        points = list(self.decisions.values())
        axes.plot([p.x for p in points], [p.y for p in points], ".", ms=2, color="white", alpha=0.7)

    def _draw_spectrum(self, axes: Axes) -> None:
        axes.set_title("Last spectrum", fontsize=10)
        if not self.spectra:
            return
        number = max(self.spectra)
        measured, expected = self.spectra[number]
        values = self.axis[2]
        name, units = (text(each, 60) for each in self.axis[:2])
        size = len(values)
        axes.plot(values, measured[:size], color="tab:blue", lw=1.5, label="measured")
        if np.isfinite(expected[:size]).any():
            axes.plot(values, expected[:size], color="tab:red", ls="--", lw=1.2,
                      label="predicted beforehand")  # fmt: skip
        if (decision := self.decisions.get(number)) is not None:
            axes.set_title(
                "Last spectrum: row {}, col {}, {}".format(
                    *decision.pixel, text(decision.reason, 60)
                ),
                fontsize=10,
            )
        axes.set_xlabel(f"{name} ({units})" if units else name, fontsize=9)
        units = text(self.units, 60)
        axes.set_ylabel(f"response ({units})" if units else "response", fontsize=9)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
        axes.legend(fontsize=7)

    def _draw_curve(self, axes: Axes) -> None:
        axes.set_title("Error against number of points", fontsize=10)
        n, errors = self.errors()
        if len(n):
            axes.plot(n, errors, ".", color="lightgray", ms=5, label="next pixel, before measuring")
            axes.plot(n, running_median(errors), color="tab:gray", lw=1.2,
                      label=f"its running median of {WINDOW}")  # fmt: skip
        for (name, pairs), colour in zip(self.scores.items(), ("tab:blue", "tab:green", "tab:red"),
                                         strict=False):  # fmt: skip
            known = [(count, value) for count, value in pairs if np.isfinite(value)]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, lw=1.8, label=name)
        axes.axhline(1, color="black", lw=0.6, ls=":")
        budget = self.count.budget
        axes.set_xlim(0, max(2, budget if isinstance(budget, int | float) else len(self.spectra)))
        axes.set_ylim(0, max(1.3, *np.percentile(errors, [90])) if len(errors) else 1.3)
        axes.set_xlabel("measured spectra", fontsize=9)
        axes.set_ylabel("error / that of the mean spectrum", fontsize=9)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            axes.legend(fontsize=7)
        else:
            axes.text(0.5, 0.5, "nothing predicted yet", ha="center", transform=axes.transAxes,
                      color="gray")  # fmt: skip


def running_median(values: NDArray) -> NDArray:
    """Median of each value and the up to `WINDOW` - 1 before it, ``(n,)``."""
    return np.array([np.median(values[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(values))])
