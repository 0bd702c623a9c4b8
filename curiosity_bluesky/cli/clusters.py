"""``curiosity clusters``: clusters of behaviour, in latent and in real space."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Annotated

import typer

from curiosity_bluesky.cli.options import CatalogOption, JsonOption, check_run
from curiosity_bluesky.cli.output import check_new_file, console, print_line
from curiosity_bluesky.utils.display import Table
from curiosity_bluesky.utils.validation import whole_number

app = typer.Typer()

SUFFIXES = (".png", ".pdf", ".svg")
"""Suffixes of pictures."""


@app.command()
def clusters(
    uids: Annotated[
        list[str], typer.Argument(metavar="UID...", help="Runs, a row of the figure each.")
    ],
    number: Annotated[
        int | None,
        typer.Option("-k", metavar="K", help="Clusters. [default: 2 to 6, by silhouette]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the k-means.")] = 0,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.png", help="Figure to write."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cluster the pixels by the spectra that a run predicts there."""
    if number is not None:
        whole_number("-k", number, 2, 50)
    whole_number("--seed", seed, 0, 2**32 - 1)
    if file is not None:
        check_new_file(file, SUFFIXES, force)
    for uid in uids:
        check_run(uid, catalog)
    from curiosity_bluesky.analysis import cluster
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.views.cluster_figure import draw_clusters

    with connect(catalog, create=False) as opened:
        found = [opened.read(uid, lambda run: cluster(run, number, seed=seed)) for uid in uids]
    if file is not None:
        draw_clusters(found).savefig(file, dpi=150)
    if as_json:
        said = [
            {
                "run": each.attrs["uid"],
                "latent_space": each.attrs["latent_space"],
                "silhouette": each.attrs["silhouette"],
                "share": each["share"].values.tolist(),
                "n_measured": each["n_measured"].values.tolist(),
                "n_seeds": each["n_seeds"].values.tolist(),
                "density": None if isnan(each.attrs["density"]) else each.attrs["density"],
            }
            for each in found
        ]
        print(json.dumps(said))
        return
    for each in found:
        words = f"{each.attrs['latent_space']}; mean silhouette {each.attrs['silhouette']:.2f}"
        table = Table(title=f"{each.attrs['uid'][:8]}: {words}", title_justify="left")
        for column in ("cluster", "share of the pixels", "spectra measured", "seeds among them"):
            table.add_column(column)
        for k in range(each.sizes["number"]):
            share, taken = float(each["share"][k]), int(each["n_measured"][k])
            table.add_row(str(k), f"{share:.0%}", str(taken), str(int(each["n_seeds"][k])))
        console.print(table)
    print_line(f"figure: {file}" if file is not None else "-o FILE.png draws them")
