"""``curiosity why``: why a decision was made, in words and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curiosity_bluesky.cli.options import CatalogOption, JsonOption, UidArgument, check_run
from curiosity_bluesky.cli.output import check_new_file, print_line
from curiosity_bluesky.utils.display import WHOLE, plain
from curiosity_bluesky.utils.validation import FEW, whole_number

app = typer.Typer()


@app.command()
def why(
    uid: UidArgument,
    number: Annotated[
        int, typer.Argument(help="Number of the decision, from 0, as `curiosity show` lists them.")
    ],
    picture: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.png", help="Draw the maps of the decision."),
    ] = None,
    without: Annotated[
        list[int] | None,
        typer.Option(metavar="K", help="What if the spectrum of decision K had not been measured?"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a decision was made, rebuilt from the documents of the run."""
    whole_number("NUMBER", number, most=FEW)  # what follows takes seconds to import
    for spectrum in without or []:
        whole_number("--without", spectrum, most=FEW)
    if picture is not None:
        check_new_file(picture, (".png",), force)
    check_run(uid, catalog)
    from curiosity_bluesky.analysis import explain_in_catalog
    from curiosity_bluesky.catalog import connect

    with connect(catalog, create=False) as opened:
        explanation = explain_in_catalog(opened, uid, number, without=without or ())
    if picture is not None:
        from curiosity_bluesky.views import save_decision_picture

        save_decision_picture(explanation, picture)
    if as_json:
        print(json.dumps({**explanation.to_dict(), "picture": picture and str(picture)}))
        return
    print_line(plain_paragraphs(explanation.paragraphs))
    if picture is not None:
        print_line(f"\n{picture}")


def plain_paragraphs(paragraphs: tuple[str, ...]) -> str:
    """Return paragraphs for a terminal, without what would steer it."""
    return "\n\n".join(plain(paragraph, WHOLE) for paragraph in paragraphs)
