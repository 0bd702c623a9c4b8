"""``curiosity index``, ``similar`` and ``import``: what images look like."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from curiosity_bluesky.cli.options import (
    CatalogOption,
    JsonOption,
    MetadataOption,
    parameters,
)
from curiosity_bluesky.cli.output import console
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import WHOLE, Console, Table, lines, plain
from curiosity_bluesky.utils.display import moment as local
from curiosity_bluesky.utils.validation import PROCESSES, whole_number
from curiosity_bluesky.utils.wording import plural

app = typer.Typer()


@app.command()
def index(
    catalog: CatalogOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes. [default: one for each core]")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Discard the index, and make it again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Index the images of all runs for `similar`; an interrupted index goes on."""
    if workers is not None:
        whole_number("--workers", workers, 1, PROCESSES)  # what follows takes seconds to import
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.similarity.index import Index

    columns = (
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.completed} images", markup=False),
    )
    with connect(catalog, create=False) as opened, Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as progress:  # fmt: skip
        task = progress.add_task("indexing", total=None)
        images = Index(opened)
        done = images.update(
            workers=os.cpu_count() or 1 if workers is None else workers,
            rebuild=rebuild,
            progress=lambda count: progress.update(task, completed=count),
        )
        state = images.state()
        where = opened.where
    if as_json:
        print(json.dumps({**done.to_dict(), "state": state}))
    else:
        _say_indexed(where, done, state)
    if done.failures:
        raise typer.Exit(1)


def _say_indexed(where: str, done: Any, state: dict[str, Any]) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    n = state["images"]
    say(
        f"{where}: {n} {plural(n, 'image')} of {state['runs']} {plural(state['runs'], 'run')} "
        f"{plural(n, 'is', 'are')} indexed, "
        f"{done.images} of them now, in {done.seconds:.1f} s"
    )
    say("kinds: " + ", ".join(f"{kind} ({number})" for kind, number in state["kinds"].items()))
    if state["other_versions"]:
        say(f"of other versions, and left alone: {', '.join(state['other_versions'])}")
    for one in state["refused"]:
        say(f"not described: {one['uid'][:8]} {one['key']}[{one['event']}]: {one['reason']}")
    for uid, reason in done.failures:
        say(f"not read, tried again the next time: {uid[:8]}: {reason}")


@app.command()
def similar(
    what: Annotated[
        str, typer.Argument(metavar="UID|FILE", help="A run (5 or more characters) or an image.")
    ],
    channel: Annotated[
        str | None, typer.Option(help="Of the run or the file. [default: its first]")
    ] = None,
    by: Annotated[str, typer.Option(help="Descriptor that is compared.")] = "texture",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only these; >= and <= too, and since=TIME."),
    ] = None,
    top: Annotated[int, typer.Option(help="Number of images.")] = 12,
    own: Annotated[bool, typer.Option("--own", help="Include the run's own images.")] = False,
    verify: Annotated[
        bool | None,
        typer.Option(help="Put images of the same place first. [default: with OpenCV]"),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write thumbnails of the images there.")
    ] = None,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the images most similar to a run's or a file's."""
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.similarity import descriptors

    descriptors.check(by)
    whole_number("--top", top, 1)
    if picture is not None:
        from curiosity_bluesky.views.report import check_picture

        check_picture(picture)
    from curiosity_bluesky.similarity.index import Index
    from curiosity_bluesky.similarity.keypoints import available
    from curiosity_bluesky.similarity.search import similar as search

    with connect(catalog, create=False) as opened:
        found = search(
            Index(opened, [by]), what, by=by, channel=channel, where=where or (), top=top, own=own,
            verify=available() if verify is None else verify,
        )  # fmt: skip
        place = opened.where
    if picture is not None:
        _save_picture(picture, found)
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    if not found.hits:
        asked = f" of which {', '.join(where)} holds" if where else ""
        console.print(
            f"{found.query}: there is no image in {place}{asked} that could be like it",
            highlight=False,
            markup=False,
        )
        return
    table = Table(
        title=f"{found.query}: the nearest of {found.among} images in {place}, by {found.by}",
        title_justify="left",
    )
    narrow = ("distance", "uid", "date", "status")
    for column in ("distance", "place", "uid", "sample", "channel", "date", "status", "group"):
        table.add_column(column, overflow="fold", no_wrap=column in narrow)
    for hit in found.hits:
        entry = hit.entry
        # An imported file is known by its name.
        called = [entry.metadata.get(key) for key in ("sample", "file")]
        table.add_row(
            f"{hit.distance:.3f}",
            "same" if found.same_place(hit) else "",
            entry.uid[:8],
            lines(*(word for word in called if word)),
            plain(entry.channel) + (f"[{entry.event}]" if entry.event else ""),
            _date(entry.metadata.get("time")),
            plain(entry.metadata.get("exit_status")),
            plain(entry.labels.get("symmetry")),
        )
    console.print(table)
    if picture is not None:
        console.print(f"picture: {picture}", highlight=False, markup=False)


def _date(moment: Any) -> str:
    return "" if moment is None else local(moment, "%Y-%m-%d")


def _save_picture(path: Path, found: Any) -> None:
    from curiosity_bluesky.views.hits import save_hits

    pictures = found.collection.thumbnails
    hits = [
        (
            pictures[hit.row],
            (
                f"{hit.distance:.3f}  {hit.entry.uid[:8]}",
                f"{plain(hit.entry.metadata.get('file') or hit.entry.metadata.get('sample'), 40)} "
                f"{plain(hit.entry.channel, 40)}",
            ),
        )
        for hit in found.hits
    ]
    try:
        save_hits(path, (found.thumbnail, (Path(found.query).name,)), hits)
    except OSError as error:
        raise InputError(f"the picture {path} cannot be written ({error})") from None


@app.command("import")
def import_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Images of scans.")],
    sample: Annotated[str | None, typer.Option(help="Name of the sample.")] = None,
    md: MetadataOption = None,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import image files as runs, so that an archive can be searched."""
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.similarity.archive import import_files

    metadata = parameters(md or [], "--md", "operator=anna")
    if sample is not None:
        metadata["sample"] = sample
    with connect(catalog) as opened:
        found = list(import_files(opened, files, metadata))
        where = opened.where
    if as_json:
        print(json.dumps([one.to_dict() for one in found]))
    else:
        words = {"imported": "imported as", "present": "is there already:", "refused": "refused:"}
        for one in found:
            if one.status != "refused":
                line = f"{one.file}: {words[one.status]} {str(one.uid)[:8]}"
                console.print(f"{line} ({', '.join(one.channels)})", highlight=False, markup=False)
                if one.detail:
                    console.print(f"  {one.detail}", highlight=False, markup=False)
        if any(one.status == "imported" for one in found):
            console.print(f"`curiosity index --catalog {where}` indexes them", highlight=False)
    refused = [one for one in found if one.status == "refused"]
    for one in refused:
        print(f"curiosity: {plain(' '.join(one.detail.split()), WHOLE)}", file=sys.stderr)
    if refused:
        raise typer.Exit(2)
