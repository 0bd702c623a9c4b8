"""Implementation of ``curiosity show A B``: two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curiosity_bluesky.cli.options import check_run
from curiosity_bluesky.cli.output import check_new_file, console, print_line
from curiosity_bluesky.utils.display import Table, plain


def compare_runs(
    first: str,
    second: str,
    name: str | None,
    catalog: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show two runs side by side, and a property of the spectrum in both.

    Parameters
    ----------
    first, second
        uids, or their first characters.
    name
        Property; None: the first that both have.
    catalog
        As for `connect`.
    picture
        Where the maps, their difference and the error curves are drawn; None: nowhere.
    as_json
        Whether to print JSON.
    """
    if picture is not None:
        check_new_file(picture, (".png",), force=True)
    for uid in (first, second):
        check_run(uid, catalog)
    from curiosity_bluesky.analysis import compare, describe_comparison
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.views import draw_comparison
    from curiosity_bluesky.views.report import show_run

    with connect(catalog, create=False) as opened:
        shown = [show_run(opened, uid) for uid in (first, second)]
        compared = opened.read(
            first, lambda one: opened.read(second, lambda two: compare(one, two, name))
        )
    numbers = describe_comparison(compared)
    if picture is not None:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        draw_comparison(compared, figure)
        figure.savefig(picture, dpi=150)
    if as_json:
        runs = [dict(report.start) for report in shown]
        print(json.dumps({"runs": runs, "comparison": numbers}))
        return
    rows = [dict(report.rows()) for report in shown]
    table = Table("", *(plain(report.start["uid"])[:8] for report in shown))
    for key in dict.fromkeys([*rows[0], *rows[1]]):
        cells = [row.get(key, "") for row in rows]
        if key != "uid" and any(cells):
            table.add_row(key, *cells)
    console.print(table)
    for line in _in_words(numbers):
        print_line(line)
    print_line(f"picture: {picture}" if picture is not None else "--picture FILE.png draws both")


def _in_words(numbers: dict[str, Any]) -> list[str]:
    units = f" {numbers['units']}" if numbers["units"] else ""
    name = numbers["name"].replace("_", " ")
    if numbers["rms_difference"] is None:
        return [f"{name}: no pixel where both runs predict one"]
    said = [
        f"{name}, second less first, at {numbers['pixels']} pixels: "
        f"mean {numbers['mean_difference']:.3g}{units}, rms {numbers['rms_difference']:.3g}{units}"
    ]
    if numbers["correlation"] is not None:
        said[0] += f", correlation {numbers['correlation']:.2f}"
    if numbers["beyond_two_deviations"] is not None:
        share = numbers["beyond_two_deviations"]
        said.append(
            f"{share:.0%} of the pixels differ by more than two standard deviations of what is "
            "measured there"
        )
    return said
