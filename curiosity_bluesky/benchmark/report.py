"""The report of a campaign: what is better than what, in words, tables and pictures."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from curiosity_bluesky.benchmark import figures, published
from curiosity_bluesky.benchmark.arms import Arm
from curiosity_bluesky.benchmark.campaign import Campaign
from curiosity_bluesky.benchmark.statistics import (
    Curves,
    Frame,
    compare,
    curves,
    mean_with_interval,
    saving,
)
from curiosity_bluesky.benchmark.trial import Truth
from curiosity_bluesky.learning.scoring import mean_deviation
from curiosity_bluesky.utils.display import code, markdown

FEWEST = 6
"""Seeds below which a Wilcoxon test cannot reach p < 0.05."""
MARKS = (50, 100, 150, 200, 300)


def write_report(table: Frame, campaign: Campaign, out: Path, command: str) -> list[str]:
    """Write ``report.md`` and its pictures.

    Parameters
    ----------
    table
        ``trials.parquet``.
    campaign
        What was compared.
    out
        Directory of the report.
    command
        What to type to get it again.

    Returns
    -------
    list of str
        The verdicts: for each sample and protocol the answer, then one for each strategy.
    """
    decisions: Frame = pd.read_parquet(out / "decisions.parquet")
    timings: Frame = pd.read_parquet(out / "timings.parquet")
    lines = [
        "# Benchmark",
        "",
        f"{datetime.now(UTC).date()}, {os.cpu_count()} {platform.machine()} cores, "
        f"Python {platform.python_version()}, torch {version('torch')}, "
        f"curiosity-bluesky {version('curiosity-bluesky')}, {campaign.seeds} seeds. "
        "Run again with",
        "",
        f"    {command}",
        "",
        *_legend(campaign),
    ]
    verdicts: list[str] = []
    for truth in campaign.samples:
        for protocol in campaign.protocols:
            rows = table[(table["sample"] == truth.name) & (table["protocol"] == protocol)]
            if rows.empty:
                continue
            part = _Part(truth, protocol, rows, campaign)
            said = part.verdicts()
            verdicts += said
            lines += [f"## {markdown(truth.name)}, {_PROTOCOLS[protocol]}", "", *said, ""]
            lines += part.table(timings)
            lines += part.pictures(decisions, out)
            lines += part.beside_the_paper()
    lines += _parameters(campaign.arms)
    (out / "report.md").write_text("\n".join(lines) + "\n")
    return verdicts


_PROTOCOLS = {
    "shared": "shared seeds (every strategy starts from the same random pixels)",
    "own": "own seeding (each strategy chooses its own seeds)",
}


def _legend(campaign: Campaign) -> list[str]:
    return [
        f"- **test nMSE**: error over the {100 * campaign.withhold:g} % of the pixels that were "
        "never offered, divided by the spread of all spectra; 1 is the mean spectrum, 0 perfect. "
        "What was *learned*.",
        "- **hidden nMSE**: the same over all pixels not measured yet. The quality of the *map*; "
        "a strategy that measures the unpredictable pixels itself is flattered by it.",
        "- **ten worst**: mean of the ten largest errors of all pixels, divided by the same.",
        "- **saving**: how many measurements the other one needs for the same test nMSE, divided "
        "by ours. Above 1 is a gain.",
        "- **twin**: random pixels with the same predictor. Intervals: 95 %, bootstrap over the "
        "seeds. p: two-sided Wilcoxon signed-rank test on the paired seeds, not corrected for the "
        "number of comparisons; a difference counts where p < 0.05 and mean and ranks agree.",
        "- **best baseline**: the one with the smallest mean on the same seeds. That choice "
        "favours it a little, so being worse than it is said too easily, being better is not.",
        "",
    ]


class _Part:
    """One sample under one protocol."""

    def __init__(self, truth: Truth, protocol: str, rows: Frame, campaign: Campaign) -> None:
        self.truth = truth
        self.protocol = protocol
        self.rows = rows
        self.test = curves(rows, "test_nmse")
        self.hidden = curves(rows, "hidden_nmse")
        self.worst = curves(rows, "worst_ten")
        self.arms = [arm for arm in campaign.arms if arm.label in self.test]
        steps = [set(curve.n.tolist()) for curve in self.test.values()]
        self.steps = sorted(set.intersection(*steps))
        self.last = self.steps[-1]
        # Half-way, the other one has as many measurements again to catch up.
        self.half = min(self.steps, key=lambda n: abs(n - self.last / 2))
        area = campaign.area(truth)
        self.candidates = int(area.sum())
        self.deviation = mean_deviation(truth.spectra[area])

    def best_baseline(self, n: int) -> Arm | None:
        """Return the baseline with the smallest mean test nMSE after `n` spectra."""
        baselines = [arm for arm in self.arms if arm.is_baseline]
        return min(baselines, key=lambda arm: self.test[arm.label].at(n).mean(), default=None)

    def verdicts(self) -> list[str]:
        """Say whether curiosity pays here: the answer, then one sentence for each strategy."""
        best = self.best_baseline(self.last)
        judged = [arm for arm in self.arms if self._is_judged(arm)]
        sentences = [self._verdict(arm, best) for arm in judged]
        lead = f"**{markdown(self.truth.name)}** ({self.protocol}, {self.last} spectra): "
        for what, group in (
            ("Curiosity", [arm for arm in judged if not arm.is_baseline]),
            ("Of the baselines, choosing", [arm for arm in judged if arm.is_baseline]),
        ):
            lead += self._answers(what, group)
        fair = [arm for arm in self.arms if not arm.strategy.needs_truth]
        winner = min(fair, key=lambda arm: self.test[arm.label].at(self.last).mean())
        value = self.test[winner.label].at(self.last).mean()
        lead += f"The smallest test nMSE has {code(winner.label)}: {value:.3f}."
        return [lead, *sentences]

    def _answers(self, what: str, arms: Sequence[Arm]) -> str:
        words = {
            "better": "pays",
            "no different": "does not pay",
            "worse": "does harm",
            "": f"cannot be judged yet (fewer than {FEWEST} seeds)",
        }
        found: dict[str, list[str]] = {}
        for arm in arms:
            mine, twin = self.test[arm.label].common(self.test[arm.twin or ""])
            result = compare(mine.at(self.last), twin.at(self.last))
            verdict = result.verdict if result.seeds >= FEWEST else ""
            found.setdefault(verdict, []).append(code(arm.label))
        parts = [f"{words[v]} with {', '.join(found[v])}" for v in words if v in found]
        return f"{what} {'; '.join(parts)}. " if parts else ""

    def _is_judged(self, arm: Arm) -> bool:
        """Whether it chooses by something, and there is something to hold against it."""
        known = arm.twin is not None and arm.twin != arm.label
        return known and self._beside(arm, arm.twin) and not arm.strategy.needs_truth

    def _beside(self, arm: Arm, label: str | None) -> bool:
        """Whether the two have a seed in common: in a campaign that is not done, maybe not."""
        other = None if label is None else self.test.get(label)
        return other is not None and len(self.test[arm.label].common(other)[0].seeds) > 0

    def _verdict(self, arm: Arm, best: Arm | None) -> str:
        n, ours = self.last, self.test[arm.label]
        mine, twin = ours.common(self.test[arm.twin or ""])
        result = compare(mine.at(n), twin.at(n))
        answer = {
            "better": "it pays",
            "worse": "it does harm",
            "no different": "no difference shown",
        }
        words = (
            f"- {code(arm.label)} has test nMSE {mine.at(n).mean():.3f}, random pixels with "
            f"the same predictor {twin.at(n).mean():.3f} (p = {result.p:.2g}, "
            f"{result.seeds} seeds): {answer[result.verdict]}"
        )
        if best is None or best.label == arm.label or not self._beside(arm, best.label):
            return words + "."
        mine, other = ours.common(self.test[best.label])
        result = compare(mine.at(n), other.at(n))
        return (
            f"{words}; {result.verdict} than the best baseline, {code(best.label)}, "
            f"{other.at(n).mean():.3f} (p = {result.p:.2g})."
        ).replace("no different than", "no different from")

    def table(self, timings: Frame) -> list[str]:
        marks = [n for n in MARKS if n in self.steps and n < self.last]
        marks.append(self.last)
        half, best = self.half, self.best_baseline(self.half)
        against = "no baseline" if best is None else code(best.label)
        head = [
            "strategy",
            "seeds",
            *(f"test nMSE at {n}" for n in marks),
            f"hidden nMSE at {self.last}",
            f"ten worst at {self.last}",
            f"saving({half}) against its twin",
            "the same for the hidden nMSE",
            f"saving({half}) against {against}",
            f"p against its twin at {self.last}",
            "s a decision",
        ]
        lines = [_row(head), _row(["---"] * len(head))]
        own = timings[
            (timings["sample"] == self.truth.name) & (timings["protocol"] == self.protocol)
        ]
        seconds = own[own["reason"] != "seed"].groupby("arm")["seconds"].median()
        for arm in self.arms:
            label = arm.label
            cells = [code(label), str(len(self.test[label].seeds))]
            cells += [_with_interval(self.test[label].at(n)) for n in marks]
            cells.append(_with_interval(self.hidden[label].at(self.last)))
            cells.append(_with_interval(self.worst[label].at(self.last) / self.deviation, 2))
            known = arm.twin != label and self._beside(arm, arm.twin)
            twin = self.test[arm.twin or ""] if known else None
            cells.append(_saving(self.test[label], twin, half))
            twin_hidden = self.hidden[arm.twin or ""] if known else None
            cells.append(_saving(self.hidden[label], twin_hidden, half))
            known = best is not None and best.label != label and self._beside(arm, best.label)
            other = self.test[best.label] if best is not None and known else None
            cells.append(_saving(self.test[label], other, half))
            if twin is None:
                cells.append("")
            else:
                mine, twin = self.test[label].common(twin)
                cells.append(f"{compare(mine.at(self.last), twin.at(self.last)).p:.2g}")
            cells.append(f"{seconds.get(label, np.nan):.2g}")
            lines.append(_row(cells))
        return [*lines, ""]

    def pictures(self, decisions: Frame, out: Path) -> list[str]:
        stem = f"{self.truth.name}-{self.protocol}"
        title = f"{self.truth.name}, {self.protocol} seeds" if self.protocol == "shared" else stem
        figures.draw_curves(self.rows, self.arms, title, out / f"{stem}.png")
        drawn = [f"{stem}.png"]
        betas = figures.betas(self.rows)
        if len(betas) >= 2:
            chosen = decisions[
                (decisions["sample"] == self.truth.name) & (decisions["protocol"] == self.protocol)
            ]
            file = out / f"{stem}-fig2.png"
            figures.draw_beta(self.rows, chosen, self.truth, self.deviation, betas, file)
            drawn.append(file.name)
        if self._like_the_paper():
            drawn += figures.draw_published(self._hundred(), out, stem)
        return [line for name in drawn for line in (f"![{markdown(name)}]({quote(name)})", "")]

    def beside_the_paper(self) -> list[str]:
        """Put the published figures of merit beside ours, where they can be compared."""
        if self.truth.name != published.SAMPLE:
            return []
        if not self._like_the_paper():
            return [
                f"The figures of the paper are over {published.CANDIDATES} candidates and "
                f"{published.POINTS} points; here are {self.candidates} candidates and "
                f"{self.last} points, so they do not stand beside ours.",
                "",
            ]
        rows = self._hundred()
        lines = [
            "The paper looks at its score after every epoch on the seeds and after every point, "
            "this benchmark less often, so that our smallest values are a little larger.",
            "",
        ]
        for metric, words, printed in (
            ("published_score", "sum of the MSE over all pixels", published.SMALLEST_SCORE),
            ("worst_ten", "mean of the ten largest MSE", published.WORST_TEN),
        ):
            smallest = rows.groupby(["arm", "seed"])[metric].min()
            lines += [
                f"### Beside the paper: {words}, smallest along the run",
                "",
                _row(["", "mean ± standard deviation"]),
                _row(["---", "---"]),
            ]
            lines += [_row([name, f"{m:g} ± {s:g}"]) for name, (m, s) in printed.items()]
            for arm in self.arms:
                values = smallest[arm.label].to_numpy()
                cell = f"{values.mean():.4g} ± {values.std():.2g} ({len(values)} trials)"
                lines.append(_row([code(arm.label), cell]))
            lines.append("")
        lines += [
            f"The mean spectrum at every pixel has the score {published.MEAN_SPECTRUM_SCORE}.",
            "",
        ]
        return lines

    def _like_the_paper(self) -> bool:
        return (
            self.truth.name == published.SAMPLE
            and self.candidates == published.CANDIDATES
            and published.POINTS in self.steps
        )

    def _hundred(self) -> Frame:
        return self.rows[self.rows["n_observed"] <= published.POINTS]


def _saving(arm: Curves, reference: Curves | None, n: int) -> str:
    found = None if reference is None else saving(arm, reference, n)
    return "" if found is None else str(found)


def _with_interval(values: np.ndarray, digits: int = 3) -> str:
    mean, low, high = mean_with_interval(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _parameters(arms: Sequence[Arm]) -> list[str]:
    lines = ["## Parameters", ""]
    for arm in arms:
        given = ", ".join(
            f"{k}={markdown(v)}" for k, v in arm.strategy.parameters.items() if v is not None
        )
        lines.append(f"- {code(arm.label)}: {given}")
    return lines
