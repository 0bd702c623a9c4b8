"""Panels of a run's figure, each drawn from the picture of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from curiosity_bluesky.documents import Proposal
from curiosity_bluesky.utils.display import figure as text
from curiosity_bluesky.views import colours
from curiosity_bluesky.views.extent import extent_of

if TYPE_CHECKING:
    from curiosity_bluesky.views.run_figure import RunPicture

SURVEY_AXES = "survey"
"""Label of the axes that show the surface, by which a click is known to be on it."""
WINDOW = 10
"""Points over which the error curve is smoothed (running median)."""
LAST = 20
"""Newest points that a line joins."""
NUMBERED = 12
"""Chosen points up to which each has its number; of more, the last `FEW_NUMBERS` have."""
FEW_NUMBERS = 3

MAPS = {
    "error": ("Expected error", "error / mean error"),
    "uncertainty": ("Expected error", "standard deviation (as the model has it)"),
}
"""Title and label of the maps in the documents that say where the prediction is bad."""


def draw(picture: RunPicture, figure: Figure) -> None:
    """Draw a run; what was on the figure is removed."""
    figure.clear()
    others = [] if picture.survey is None else list(picture.survey.channels)[1:]
    grid = figure.add_gridspec(2, 6, height_ratios=(1.15, 1))
    wide = 2 if others else 3
    places = [grid[0, 4:], grid[0, :2], grid[0, 2:4], grid[1, :wide], grid[1, wide : 2 * wide]]
    path, expected, error, spectrum, curve = (figure.add_subplot(place) for place in places)
    columns = int(np.ceil(np.sqrt(len(others)))) or 1
    small = grid[1, 4:].subgridspec(-(-len(others) // columns) or 1, columns)
    start = picture.start
    figure.suptitle(
        f"{text(start.get('sample', 'sample not named'), 60)} · "
        f"{text(start.get('curiosity_strategy'), 40)} · "
        f"{picture.count.n} of {text(picture.count.budget, 20) or '?'} spectra · "
        f"{text(start.get('uid'))[:8]}",
        fontsize=11,
    )
    _draw_path(picture, path)
    _draw_expected(picture, expected)
    _draw_error(picture, error)
    _draw_spectrum(picture, spectrum)
    _draw_curve(picture, curve)
    for k, channel in enumerate(others):
        assert picture.survey is not None
        axes = figure.add_subplot(small[k // columns, k % columns])
        _image(picture, axes, picture.survey.channels[channel], colours.SURVEY_MAP,
               _units(picture, channel), small=True)  # fmt: skip
        axes.set_title(text(channel, 40), fontsize=8)


def _image(
    picture: RunPicture,
    axes: Axes,
    image: NDArray,
    colour_map: str,
    label: str,
    small: bool = False,
) -> None:
    assert picture.survey is not None
    x, y = picture.survey.x, picture.survey.y
    # Colours between the 1st and 99th percentile: a single hot pixel must not hide the rest.
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0, 1)
    shown = axes.imshow(image, cmap=colour_map, extent=extent_of(x, y), vmin=low, vmax=high)
    axes.set_label(SURVEY_AXES)
    colorbar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    colorbar.set_label(label, fontsize=6 if small else 8)
    colorbar.ax.tick_params(labelsize=6 if small else 7)
    if small:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.tick_params(labelsize=8)
    axes.set_xlabel("x (µm)", fontsize=9)
    axes.set_ylabel("y (µm)", fontsize=9)


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="dimgray")
    axes.set_xticks([])
    axes.set_yticks([])


def _units(picture: RunPicture, channel: str) -> str:
    return text(picture.survey_units.get(channel) or "as recorded", 40)


def _outlined(width: float) -> list[Any]:
    """Return the effect that draws a wider outline under a mark of this line width."""
    return [withStroke(linewidth=width + 1.6, foreground=colours.OUTLINE)]


def _at(points: list[Proposal]) -> tuple[list[float], list[float]]:
    return [p.x for p in points], [p.y for p in points]


def _draw_path(picture: RunPicture, axes: Axes) -> None:
    axes.set_title("Survey and measured points", fontsize=10)
    if picture.survey is None:
        _nothing(axes, "waiting for the survey")
        return
    channel, image = next(iter(picture.survey.channels.items()))
    label = f"{text(channel, 60)} ({_units(picture, channel)})"
    _image(picture, axes, image, colours.SURVEY_MAP, label)
    done = [picture.decisions[i] for i in picture.good if i in picture.decisions]
    seeds = [p for p in done if p.reason == "seed"]
    by_hand = [p for p in done if p.reason == "manual"]
    chosen = [p for p in done if p.reason not in ("seed", "manual")]
    given_up = picture.failed.difference(picture.good)
    failed = [picture.decisions[i] for i in sorted(given_up) if i in picture.decisions]
    size = 5.5 if len(done) <= 60 else 4.0 if len(done) <= 300 else 2.5
    axes.plot(*_at(seeds), "o", ms=size, mfc="none", mec=colours.MARK, mew=1.1,
              path_effects=_outlined(1.1), label=f"{len(seeds)} seeds")  # fmt: skip
    if chosen:
        axes.plot(*_at(chosen[-LAST:]), "-", color=colours.MARK, lw=0.6,
                  path_effects=_outlined(0.2), label=f"path, last {LAST}"
                  if len(chosen) > LAST else "path")  # fmt: skip
        axes.scatter(
            *_at(chosen), c=range(len(chosen)), s=size**2, cmap=colours.ORDER_MAP, zorder=3,
            edgecolors=colours.MARK, linewidths=0.6, path_effects=_outlined(0.2),
            label=f"{len(chosen)} chosen (bright: latest)",
        )  # fmt: skip
        outline = [withStroke(linewidth=1.8, foreground=colours.MARK)]
        for p in chosen if len(chosen) <= NUMBERED else chosen[-FEW_NUMBERS:]:
            axes.annotate(str(p.decision_id), (p.x, p.y), (3, 3), textcoords="offset points",
                          fontsize=7, color=colours.OUTLINE, zorder=5,
                          path_effects=outline)  # fmt: skip
    for points, marker, colour, what in (
        (by_hand, "s", colours.MANUAL, "by hand"),
        (failed, "x", colours.FAILED, "given up"),
    ):
        if points:
            axes.plot(*_at(points), marker, ms=size + 2, mfc="none", mec=colour, mew=1.4,
                      path_effects=_outlined(1.4), zorder=4,
                      label=f"{len(points)} {what}")  # fmt: skip
    axes.autoscale(False)
    _draw_areas(picture, axes)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=2,
                facecolor="darkgray")  # fmt: skip


def _draw_areas(picture: RunPicture, axes: Axes) -> None:
    """Draw drift path, masks and anomalies."""
    assert picture.survey is not None
    if picture.drift:
        middle = [(axis[0] + axis[-1]) / 2 for axis in (picture.survey.x, picture.survey.y)]
        x, y = np.vstack([(0.0, 0.0), picture.drift]).T
        far = 1e3 * np.hypot(x[-1], y[-1])
        axes.plot(middle[0] + x, middle[1] + y, "-", color=colours.DRIFT, lw=1.5, marker=".",
                  ms=4, zorder=4, path_effects=_outlined(1.5),
                  label=f"drift, {far:.0f} nm")  # fmt: skip
    if picture.masked is not None:
        masked = axes.contourf(picture.survey.x, picture.survey.y, picture.masked.astype(float),
                               levels=[0.5, 1.5], colors="none", hatches=["///"])  # fmt: skip
        masked.set_edgecolor(colours.FAILED)
        masked.set_linewidth(0.0)
    for k, flag in enumerate(picture.flags):
        axes.add_patch(
            Circle((flag.x, flag.y), flag.radius, fill=False, ec=colours.FLAG, ls="--", lw=1.5,
                   zorder=4, path_effects=_outlined(1.5), label=None if k else "look closer")
        )  # fmt: skip


def _why_nothing(picture: RunPicture) -> str:
    return "nothing was predicted" if picture.ended else "predictions begin after the seeds"


def _draw_expected(picture: RunPicture, axes: Axes) -> None:
    expected, goal = picture.expected, picture.maps.get("acquisition")
    if picture.survey is not None and expected is not None:
        axes.set_title(f"Expected after {expected.n_observed} spectra", fontsize=10)
        values = expected.values
        label = "\n".join(text(line, 80) for line in expected.label.splitlines())
    elif picture.survey is not None and goal is not None:
        axes.set_title("Where the next spectrum is worth most", fontsize=10)
        values, label = goal, "acquisition (as the strategy has it)"
    else:
        axes.set_title("Expected", fontsize=10)
        _nothing(axes, _why_nothing(picture))
        return
    _image(picture, axes, values, colours.EXPECTED_MAP, label)
    points = [picture.decisions[i] for i in picture.good if i in picture.decisions]
    axes.plot(*_at(points), ".", ms=2.5, color=colours.MARK, mew=0, path_effects=_outlined(0))


def _draw_error(picture: RunPicture, axes: Axes) -> None:
    expected = picture.expected
    name = next((name for name in MAPS if name in picture.maps), None)
    if picture.survey is not None and expected is not None and expected.error is not None:
        axes.set_title("Expected error", fontsize=10)
        values, label = expected.error, text(expected.error_label, 120)
    elif picture.survey is not None and name is not None:
        title, label = MAPS[name]
        axes.set_title(title, fontsize=10)
        values, mean = picture.maps[name], np.nanmean(picture.maps[name])
        if name == "error" and mean > 0:  # some strategies give it in units of the spectra
            values = values / mean
    else:
        axes.set_title("Expected error", fontsize=10)
        _nothing(axes, _why_nothing(picture))
        return
    _image(picture, axes, values, colours.ERROR_MAP, label)


def _draw_spectrum(picture: RunPicture, axes: Axes) -> None:
    axes.set_title("Last spectrum", fontsize=10)
    if not picture.spectra:
        _nothing(axes, "nothing measured yet")
        return
    number = max(picture.spectra)
    measured, expected = picture.spectra[number]
    values = picture.axis[2]
    name, units = (text(each, 60) for each in picture.axis[:2])
    size = len(values)
    axes.plot(values, measured[:size], color=colours.MEASURED, lw=1.5, label="measured")
    if np.isfinite(expected[:size]).any():
        axes.plot(values, expected[:size], color=colours.PREDICTED, ls="--", lw=1.2,
                  label="predicted beforehand")  # fmt: skip
    if (decision := picture.decisions.get(number)) is not None:
        row, col = decision.pixel
        axes.set_title(
            f"Last spectrum: number {number}, row {row}, col {col}, {text(decision.reason, 60)}",
            fontsize=10,
        )
    axes.set_xlabel(f"{name} ({units})" if units else name, fontsize=9)
    channel, units = (text(each, 60) for each in picture.channels[0])
    axes.set_ylabel(f"{channel} ({units})" if units else channel, fontsize=9)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    axes.legend(fontsize=7)


def _draw_curve(picture: RunPicture, axes: Axes) -> None:
    axes.set_title("Error against number of points", fontsize=10)
    n, errors = picture.errors()
    if len(n):
        axes.plot(n, errors, ".", color=colours.NEXT, ms=5, label="next pixel, before measuring")
        axes.plot(n, running_median(errors), color=colours.OUTLINE, lw=1.2,
                  label=f"its running median of {WINDOW}")  # fmt: skip
    styles = zip(colours.SCORES, ("-", "--", "-."), strict=True)
    for (name, pairs), (colour, style) in zip(picture.scores.items(), styles, strict=False):
        known = [(count, value) for count, value in pairs if np.isfinite(value)]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, ls=style, lw=1.8, label=name)
    axes.axhline(1, color=colours.OUTLINE, lw=0.6, ls=":")
    budget = picture.count.budget
    axes.set_xlim(0, max(2, budget if isinstance(budget, int | float) else 0, picture.count.n))
    axes.set_ylim(0, max(1.3, *np.percentile(errors, [90])) if len(errors) else 1.3)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("measured spectra", fontsize=9)
    axes.set_ylabel("squared error / that of the mean spectrum", fontsize=9)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(fontsize=7)
    else:
        axes.text(0.5, 0.5, _why_nothing(picture), ha="center", transform=axes.transAxes,
                  color="dimgray")  # fmt: skip


def running_median(values: NDArray) -> NDArray:
    """Median of each value and the up to `WINDOW` - 1 before it, ``(n,)``."""
    return np.array([np.median(values[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(values))])
