"""The pictures of a benchmark's report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from curiosity_bluesky.benchmark import published
from curiosity_bluesky.benchmark.arms import Arm
from curiosity_bluesky.benchmark.statistics import Curves, Frame, curves
from curiosity_bluesky.benchmark.trial import Truth
from curiosity_bluesky.utils.display import figure as text

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
METRICS = {
    "test_nmse": "test nMSE (withheld pixels)",
    "hidden_nmse": "hidden nMSE (all not measured)",
}


def draw_curves(table: Frame, arms: Sequence[Arm], title: str, file: Path) -> None:
    """Draw test and hidden nMSE of all arms with their bands; published ones left, baselines right.

    Parameters
    ----------
    table
        Scores of one sample and protocol.
    arms
        In the order of the legend.
    title, file
        Of the picture.
    """
    published_ones = [arm for arm in arms if arm.strategy.name.startswith("vatsavai2025")]
    twins = {arm.twin for arm in published_ones}
    groups = [
        [arm for arm in arms if arm in published_ones or arm.label in twins],
        [arm for arm in arms if arm not in published_ones and arm.label not in twins],
    ]
    groups = [group for group in groups if group]
    figure = Figure(
        figsize=(6 * len(groups), 8 + 0.2 * max(map(len, groups))), layout="constrained"
    )
    panels = figure.subplots(2, len(groups), squeeze=False, sharex=True, sharey="row")
    for row, (metric, words) in zip(panels, METRICS.items(), strict=True):
        found = curves(table, metric)
        top = 1.15
        for panel, group in zip(row, groups, strict=True):
            for k, arm in enumerate(group):
                if arm.label in found:
                    _band(panel, found[arm.label], arm, k)
            panel.axhline(1.0, color="0.6", linewidth=0.8, linestyle=":")
        row[0].set_ylabel(words)
        lowest = min(float(curve.mean.min()) for curve in found.values())
        row[0].set_ylim(max(0.0, 0.9 * lowest), top)
    for panel in panels[-1]:
        panel.set_xlabel("spectra measured")
        # Below: ten curves leave no room inside.
        panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.suptitle(text(title))
    _save(figure, file)


def _band(panel: Axes, curve: Curves, arm: Arm, k: int) -> None:
    colour = COLOURS[k % len(COLOURS)]
    style = ("-", "--", "-.")[k // len(COLOURS) % 3]
    if arm.strategy.name == "random":
        colour, style = "0.35", "--"
    low, high = curve.band()
    panel.fill_between(curve.n, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(curve.n, curve.mean, color=colour, linestyle=style, linewidth=1.4,
               label=text(arm.label))  # fmt: skip


def draw_smallest(
    table: Frame,
    metric: str,
    arms: Sequence[str],
    printed: Mapping[str, tuple[float, float]],
    words: str,
    file: Path,
) -> None:
    """Draw the distribution over the trials of the smallest value along each run.

    The paper's Figs. 6 and 7, with what the authors' notebooks print beside.
    """
    smallest = table.groupby(["arm", "seed"])[metric].min()
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    panel = figure.subplots()
    values = [smallest[arm].to_numpy() for arm in arms]
    edges = np.histogram_bin_edges(np.concatenate(values), bins=14).tolist()
    for k, (arm, trials) in enumerate(zip(arms, values, strict=True)):
        label = f"{arm}: {trials.mean():.4g} ± {trials.std():.2g}"
        panel.hist(trials, edges, alpha=0.55, color=COLOURS[k % len(COLOURS)], label=label)
    top = panel.get_ylim()[1]
    for k, (name, (mean, spread)) in enumerate(printed.items()):
        height = top * (1.06 + 0.07 * k)
        panel.errorbar(mean, height, xerr=spread, fmt="s", color="0.3", markersize=4, capsize=3)
        panel.annotate(f"  {name}: {mean:g} ± {spread:g}", (mean + spread, height), fontsize=6.5,
                       verticalalignment="center")  # fmt: skip
    panel.set_ylim(0, top * (1.12 + 0.07 * len(printed)))
    left, right = panel.get_xlim()
    panel.set_xlim(left, right + 0.45 * (right - left))  # room for the words
    panel.set_xlabel(words)
    panel.set_ylabel("trials")
    panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.15), frameon=False)
    _save(figure, file)


def draw_beta(
    table: Frame,
    decisions: Frame,
    truth: Truth,
    deviation: float,
    arms: Mapping[str, str],
    file: Path,
) -> None:
    """Draw the paper's Fig. 2: errors where it measures, what is learned, and where.

    Parameters
    ----------
    table, decisions
        Scores and decisions of one sample and protocol.
    truth
        The sample.
    deviation
        Mean squared deviation of the spectra from their mean.
    arms
        Name in the picture to label, such as ``beta = 1``.
    file
        Of the picture.
    """
    figure = Figure(figsize=(4 * max(3, len(arms)), 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1)  # pyright: ignore[reportGeneralTypeIssues]
    errors, learned = above.subplots(1, 2)
    found = curves(table, "test_nmse")
    image = next(iter(truth.channels.values()))
    for k, (name, label) in enumerate(arms.items()):
        rows = decisions[(decisions["arm"] == label) & (decisions["reason"] != "seed")]
        mean = rows.groupby("decision_id")["error_before"].mean()
        smooth = mean.rolling(10, min_periods=1).mean()
        errors.plot(smooth.index + 1, smooth / deviation, color=COLOURS[k], label=name)
        curve = found[label]
        low, high = curve.band()
        learned.fill_between(curve.n, low, high, color=COLOURS[k], alpha=0.2, linewidth=0)
        learned.plot(curve.n, curve.mean, color=COLOURS[k], label=name)
    errors.set(xlabel="spectrum", ylabel="error where it measures (nMSE)", title="(a)")
    learned.set(xlabel="spectra measured", ylabel="test nMSE", title="(b)")
    errors.legend(fontsize=8)
    panels = below.subplots(1, len(arms), squeeze=False)[0]
    for panel, (name, label), letter in zip(panels, arms.items(), "cdefgh", strict=False):
        rows = decisions[(decisions["arm"] == label) & (decisions["seed"] == 0)]
        panel.imshow(image, cmap="gray")
        for reason, colour in (("seed", COLOURS[5]), ("other", COLOURS[1])):
            seeds = rows["reason"] == "seed"
            chosen = rows[seeds if reason == "seed" else ~seeds]
            panel.plot(chosen["col"], chosen["row"], ".", color=colour, markersize=5)
        panel.set(xticks=[], yticks=[], title=f"({letter}) {name}, seed 0")
    _save(figure, file)


def betas(table: Frame) -> dict[str, str]:
    """Find the arms of the first workflow: random, beta = 0 and beta = 1, as far as there."""
    found: dict[str, str] = {}
    rows = table[table["strategy"] == "vatsavai2025-ensemble"].drop_duplicates("arm")
    for label, given in zip(rows["arm"], rows["parameters"], strict=True):
        parameters = json.loads(given)
        name = "random" if parameters["random"] else f"beta = {parameters['beta']:g}"
        found.setdefault(name, label)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "random", item[0])))


def draw_patch_sizes(
    sizes: Sequence[int], training: NDArray, validation: NDArray, title: str, file: Path
) -> None:
    """Draw training and validation loss against patch size (the paper's Fig. S1).

    Parameters
    ----------
    sizes
        ``(sizes,)``.
    training, validation
        ``(seeds, sizes)``.
    title, file
        Of the picture.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    panel = figure.subplots()
    for k, (name, losses) in enumerate({"training": training, "validation": validation}.items()):
        panel.errorbar(
            sizes, losses.mean(axis=0), yerr=losses.std(axis=0), color=COLOURS[k],
            marker="o", markersize=4, capsize=3, label=name,
        )  # fmt: skip
    panel.axhline(1.0, color="0.6", linewidth=0.8, linestyle=":")
    panel.set(
        xlabel="patch size (pixels)", ylabel="loss (nMSE; 1: the mean spectrum)", title=text(title)
    )
    panel.legend()
    _save(figure, file)


def draw_published(table: Frame, out: Path, stem: str) -> list[str]:
    """Draw Figs. 6 and 7 on the authors' data, as far as their arms are there."""
    present = list(dict.fromkeys(table["arm"]))
    wanted = {
        "fig6": ("published_score", "vatsavai2025-latent", published.SMALLEST_SCORE,
                 "smallest published score along the run"),
        "fig7": ("worst_ten", "vatsavai2025-mcd", published.WORST_TEN,
                 "smallest mean of the ten largest errors along the run"),
    }  # fmt: skip
    drawn = []
    for name, (metric, arm, printed, words) in wanted.items():
        # With whatever parameters it was run.
        label = next((a for a in present if a.split("[")[0] == arm), None)
        others = [a for a in ("random[predictor=im2spec]", "random") if a in present]
        if label is not None and others:
            arms = [label, *others]
            draw_smallest(table, metric, arms, printed, words, out / f"{stem}-{name}.png")
            drawn.append(f"{stem}-{name}.png")
    return drawn


def _save(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(file, dpi=110)
