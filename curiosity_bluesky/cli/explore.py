"""``curiosity explore``: the index of a catalogue, and the page that shows it."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from curiosity_bluesky.cli.options import CatalogOption, HostNameOption
from curiosity_bluesky.cli.output import print_line
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.wording import plural

if TYPE_CHECKING:
    from curiosity_bluesky.catalog import Catalog
    from curiosity_bluesky.similarity.index import Index

app = typer.Typer()


@app.command()
def explore(
    catalog: CatalogOption = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes one that is free.")] = 5010,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Descriptor of the first map, like texture.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
    selection: Annotated[
        str | None, typer.Option(metavar="ID", help="Open a selection that was saved.")
    ] = None,
    host_name: HostNameOption = None,
) -> None:
    """Explore all images of a catalogue on maps, in the browser."""
    run_explore(
        catalog,
        port=port,
        by=by,
        browser=browser,
        selection=selection,
        host_names=host_name or (),
        say=print_line,
    )


def run_explore(
    catalog: str | None = None,
    *,
    port: int = 5010,
    by: str | None = None,
    browser: bool = True,
    selection: str | None = None,
    host_names: Sequence[str] = (),
    say: Callable[[str], Any] = print,
) -> None:
    """Serve the explorer page until Ctrl-C.

    Parameters
    ----------
    catalog
        As for `curiosity_bluesky.catalog.connect`; nothing is made that is not there.
    port
        On 127.0.0.1; 0 takes one that is free.
    by
        Name of the descriptor that the first map is made of; default: the first of those that
        most images have.
    browser
        Whether to open the page in a browser.
    selection
        The key of a saved selection to open first.
    host_names
        Names that the page is reached by besides 127.0.0.1 and localhost.
    say
        Prints a line of progress.

    Raises
    ------
    InputError
        If there is no catalogue, no index, no such descriptor or selection, the port cannot be
        used, or Bokeh is missing.
    """
    try:
        import bokeh  # noqa: F401
    except ImportError:
        raise InputError(
            'the explorer page needs Bokeh: pip install "curiosity-bluesky[explore]"'
        ) from None
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.utils.hosts import Hosts
    from curiosity_bluesky.views.explore.server import PageServer
    from curiosity_bluesky.views.explore.state import SharedState

    Hosts.of(extra=host_names)  # its error before anything is served
    with ExitStack() as stack:
        serve_directory(catalog, stack)
        opened = stack.enter_context(connect(catalog, create=False))
        index, by, remark = descriptors_offered(opened, by)
        collection = index.collection()
        if selection is not None:
            index.selection(selection)
        room = SharedState(
            collection,
            index.descriptors,
            index,
            where=opened.where,
            run_link=run_links(opened),
            remark=remark,
        )
        server = PageServer(room, port, descriptor=by, host_names=host_names)
        link = server.link + (f"?selection={quote(selection)}" if selection else "")

        def ready() -> None:
            n = len(collection)
            say(f"exploring {n:,} {plural(n, 'image')} at {link}  (Ctrl-C ends it)")
            if remark:
                say(remark)
            if browser:
                webbrowser.open(link)

        server.run(ready)


def descriptors_offered(catalog: Catalog, by: str | None = None) -> tuple[Index, str, str]:
    """Return the index by complete descriptors, the first descriptor, and a remark.

    Images of an older index may lack the descriptors that are new since. Asking for all would
    leave these images out, and they may be nearly all.

    Parameters
    ----------
    catalog
        Where the index is.
    by
        The descriptor whose images are wanted; default: the first of those that most have.

    Raises
    ------
    InputError
        If nothing is indexed by it.
    """
    from curiosity_bluesky.similarity.index import Index
    from curiosity_bluesky.similarity.index.workers import kind_of

    every = Index(catalog)
    state = every.state()
    have = {name: state["kinds"].get(kind_of(one), 0) for name, one in every.descriptors.items()}
    first = max(have, key=have.__getitem__) if by is None else by
    index = Index(catalog, [name for name, n in have.items() if n >= have.get(first, n)])
    images = state["images"] - len(state["refused"])
    shown = len(index.collection())
    remarks = []
    if shown < images:
        remarks.append(f"{images - shown:,} of {images:,} images are left out: they lack {first}")
    for name in have:
        if name not in index.descriptors:
            remarks.append(f"{state['images'] - have[name]:,} lack {name}, which is not offered")
    return index, first, "; ".join([*remarks, "`curiosity index` adds it"]) if remarks else ""


def serve_directory(catalog: str | None, stack: ExitStack) -> None:
    """Serve a catalogue's directory unless it is served, so that links into Tiled need no key.

    As with ``curiosity serve``: any user of this machine may read, as with the page.

    Parameters
    ----------
    catalog
        As for `connect`; what is no directory with a catalogue is left alone.
    stack
        Ends the server.
    """
    from curiosity_bluesky.catalog import DEFAULT
    from curiosity_bluesky.catalog.embedded_server import DirectoryTaken, EmbeddedServer

    where = Path(catalog or os.environ.get("CURIOSITY_CATALOG") or DEFAULT).expanduser()
    if not (where / "catalog.db").exists():
        return
    try:
        stack.callback(EmbeddedServer(where, anonymous_read=True).close)
    except DirectoryTaken:
        return  # that server is used, with the access that it allows


def run_links(catalog: Catalog) -> Callable[[str], str | None]:
    """Return the function from a uid to its page in Tiled; to None where that needs a key.

    The server is asked for each link: another one, elsewhere, may have taken the place of the last.

    Parameters
    ----------
    catalog
        Where the runs are.
    """
    roots: dict[str, str] = {}

    def link(uid: str) -> str | None:
        try:
            client = catalog.client
        except InputError:  # no server answers
            return None
        api = str(client.context.api_uri).rstrip("/")
        root = roots.get(api) or _open_to_readers(api)
        if root is None:
            return None
        roots[api] = root
        _, _, path = str(client.uri).partition("/metadata/")
        below = f"{path.strip('/')}/" if path.strip("/") else ""
        return f"{root}/ui/browse/{below}{quote(uid, safe='')}"

    return link


def _open_to_readers(api: str) -> str | None:
    """Return the address of a server's pages; None if there are none, or they need a key."""
    import httpx

    root = api.removesuffix("/api/v1")
    try:
        # The key stays here: readers of the page must not get it.
        answers = [httpx.get(url, timeout=5) for url in (f"{api}/metadata/", f"{root}/ui/")]
    except httpx.HTTPError:
        return None
    return root if all(answer.status_code == httpx.codes.OK for answer in answers) else None
