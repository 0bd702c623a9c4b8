"""HTML of the page; values from runs are escaped by `display.html`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from curiosity_bluesky.utils.display import WHOLE, plain
from curiosity_bluesky.utils.display import html as escape
from curiosity_bluesky.views.explore.columns import Colours, Column, format_value
from curiosity_bluesky.views.explore.state import SharedState, ViewState

SHEET = """
:host { font: 13px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
        color: #1f2933; }
.bk-clearfix { display: block !important; width: 100%; }
h1 { font-size: 15px; font-weight: 600; margin: 0; display: inline; }
h2 { font-size: 11px; font-weight: 600; margin: 0 0 4px; color: #66727f;
     letter-spacing: .05em; text-transform: uppercase; }
a { color: #2b66a8; text-decoration: none; } a:hover { text-decoration: underline; }
.muted { color: #66727f; }
.number { font-variant-numeric: tabular-nums; }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
button:focus-visible, a:focus-visible { outline: 2px solid #2b66a8; outline-offset: 1px; }
.crumbs { font-size: 14px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.crumbs button { color: #2b66a8; } .crumbs button:hover { text-decoration: underline; }
.crumbs i { color: #a3adb7; font-style: normal; padding: 0 7px; }
.crumbs b { font-weight: 600; }
.notice { display: inline-block; max-width: 100%; box-sizing: border-box; padding: 3px 10px;
          border-radius: 4px; background: #eef3f9; overflow: hidden; text-overflow: ellipsis;
          white-space: nowrap; }
.notice.bad { background: #fbeeec; color: #8f2d20; }
.remark { display: inline-block; max-width: 60ch; vertical-align: bottom; overflow: hidden;
          text-overflow: ellipsis; }
.chips { display: flex; flex-wrap: wrap; gap: 5px; }
.chip { display: flex; max-width: 100%; background: #e6eef7; border-radius: 11px;
        padding: 1px 5px 1px 10px; }
.chip span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.chip button { padding: 0 5px; color: #4a6078; } .chip button:hover { color: #000; }
.legend { display: grid; grid-template-columns: 11px 1fr auto; gap: 2px 8px; align-items: center;
          max-height: 216px; overflow-y: auto; }
.legend s { width: 10px; height: 10px; border-radius: 5px; display: block; }
.legend button { text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.legend button:hover { text-decoration: underline; }
.bar { height: 10px; border-radius: 2px; }
.ends { display: flex; justify-content: space-between; }
.grid { display: grid; gap: 6px; }
.grid button { text-align: center; border-radius: 3px; min-width: 0; }
.grid img { display: block; width: 100%; aspect-ratio: 1; border-radius: 3px; background: #eef0f2; }
.grid button:hover img { box-shadow: 0 0 0 2px #2b66a8; }
.grid button.here img { box-shadow: 0 0 0 2px #1f2933; }
.grid small { display: block; font-size: 11px; color: #66727f; overflow: hidden;
              text-overflow: ellipsis; white-space: nowrap; }
.head { display: flex; justify-content: space-between; align-items: baseline; margin-bottom: 6px;
        gap: 12px; }
.head h2 { margin: 0; overflow: hidden; text-transform: none; letter-spacing: 0; font-size: 12px;
           text-overflow: ellipsis; white-space: nowrap; }
.head button, .link button { color: #2b66a8; white-space: nowrap; }
.head button[disabled] { color: #a3adb7; cursor: default; }
.detail { display: grid; grid-template-columns: 132px minmax(0, 1fr); gap: 14px;
          margin-bottom: 14px; }
.detail > img { width: 132px; height: 132px; border-radius: 4px; background: #eef0f2; }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 1px 10px; margin: 0;
     align-content: start; min-width: 0; }
dt { color: #66727f; } dd { margin: 0; overflow: hidden; text-overflow: ellipsis;
     white-space: nowrap; }
.more { grid-column: 1 / -1; max-height: 150px; overflow-y: auto; }
.link { display: flex; gap: 12px; flex-wrap: wrap; }
code { font: 12px ui-monospace, Menlo, Consolas, monospace; }
"""


def _n(count: int, what: str = "") -> str:
    return f"{count:,}" + (f" {what}{'' if count == 1 else 's'}" if what else "")


def header(room: SharedState) -> str:
    """Return the line at the top."""
    remark = escape(room.remark, WHOLE)
    return (
        f"<h1>Explorer</h1> <span class=muted>&ensp;{escape(room.where)} · "
        f"{_n(len(room.collection), 'image')}</span>"
        + (f'<span class="muted remark" title="{remark}">&ensp;{remark}</span>' if remark else "")
    )


def breadcrumbs(visit: ViewState) -> str:
    """Return the path from the first map to this one: ``All 1,000 > 214 > 37``."""
    parts = []
    for depth, level in enumerate(visit.levels):
        name = _n(len(level.rows)) if depth else f"All {_n(len(level.rows))}"
        last = depth == len(visit.levels) - 1
        parts.append(
            f"<b>{name}</b>" if last else f'<button data-action="back:{depth}">{name}</button>'
        )
    passing = int(visit.passing().sum())
    filtered = f" <span class=muted>{_n(passing)} pass the filters</span>" if visit.filters else ""
    return f"<div class=crumbs>{'<i>›</i>'.join(parts)}&ensp;{filtered}</div>"


def notice(text: str, bad: bool = False) -> str:
    """Return a message; nothing for no text."""
    shown = escape(text, WHOLE)
    kind = "notice bad" if bad else "notice"
    return f'<div class="{kind}" role=status title="{shown}">{shown}</div>' if text else ""


def filter_chips(visit: ViewState) -> str:
    """Return the filters, each with a cross that removes it."""
    each = "".join(
        f'<div class=chip title="{escape(text)}"><span>{escape(text)}</span>'
        f'<button data-action="unfilter:{escape(name)}" aria-label="remove">×</button></div>'
        for name, wanted in visit.filters.items()
        for text in [wanted.said(visit.room.table[name].kind)]
    )
    clear = '<button data-action="unfilter:" class=muted>clear all</button>'
    return f"<div class=chips>{each}{clear if len(visit.filters) > 1 else ''}</div>"


def legend(column: Column | None, colours: Colours) -> str:
    """Return the legend of the colours: words to click at, or a bar with its limits."""
    if column is None:
        return ""
    if column.kind != "words":
        low, high = column.range
        middle = format_value("number", (low + high) / 2) if column.kind == "number" else ""
        missing = int((column.numbers != column.numbers).sum())
        return (
            f'<div class=bar style="background:linear-gradient(90deg,{",".join(colours.palette)})">'
            f'</div><div class="ends muted number"><span>{format_value(column.kind, low)}</span>'
            f"<span>{middle}</span><span>{format_value(column.kind, high)}</span></div>"
            + (f"<span class=muted>{_n(missing)} without are grey</span>" if missing else "")
        )
    words = set(column.words)

    def named(word: str) -> str:
        if word not in words:  # it stands for several: there is nothing to filter by
            return f"<span>{escape(word)}</span>"
        shown = escape(word)
        return f'<button data-action="only:{shown}" title="only {shown}">{shown}</button>'

    rows = "".join(
        f'<s style="background:{colour}"></s>{named(word)}'
        f"<span class='muted number'>{_n(count)}</span>"
        for word, colour, count in colours.legend
    )
    return f"<div class=legend>{rows}</div>"


def _grid(
    room: SharedState, address: str, rows: Iterable[tuple[int, str]], across: int, here: int
) -> str:
    entries = room.collection.entries
    cells = "".join(
        f'<button data-action="click:{row}" title="{escape(_title(room, row))}"'
        f'{" class=here" * (row == here)}><img loading=lazy src="{address}/{row}.png" '
        f'alt="{escape(entries[row].channel)}"><small>{escape(text)}</small></button>'
        for row, text in rows
    )
    columns = f"grid-template-columns:repeat({across},minmax(0,1fr))"
    return f'<div class=grid style="{columns}">{cells}</div>'


def _title(room: SharedState, row: int) -> str:
    entry = room.collection.entries[row]
    sample = entry.metadata.get("sample")
    return f"{plain(sample, 80) if sample is not None else entry.uid[:8]} · {entry.channel}"


def neighbours(visit: ViewState, address: str) -> str:
    """Return the image in focus with its metadata and its neighbours."""
    found = visit.found
    if found is None:
        return ""
    here = -1 if found.row is None else found.row
    about = detail(visit.room, address, here) if here >= 0 else ""
    near = [(hit.row, f"{hit.distance:.3g}") for hit in found.hits]
    shown = _grid(visit.room, address, near, 6, here) if near else "nothing near it passes"
    return (
        f"{about}<div class=head><h2>Nearest to {escape(found.what)}</h2>"
        f"<button data-action=forget:>clear</button></div>{shown}"
    )


def detail(room: SharedState, address: str, row: int) -> str:
    """Return one image with its metadata and the ways to its run."""
    entry = room.collection.entries[row]
    link = room.run_link(entry.uid) if room.run_link is not None else None
    first = ("sample", "channel", "time", "exit_status", "symmetry", "operator")
    names = [name for name in room.table.names if name != "uid"]
    names.sort(key=lambda name: first.index(name) if name in first else len(first))
    known = [(name, room.table[name].said(row)) for name in names]
    size = " × ".join(map(str, entry.shape))
    if entry.um_per_pixel is not None:
        lengths = (f"{n * s:.3g}" for n, s in zip(entry.shape, entry.um_per_pixel, strict=True))
        size += f" px, {' × '.join(lengths)} µm"
    known.append(("size", size))
    pairs = [
        f'<dt>{escape(k)}</dt><dd title="{escape(v)}">{escape(v)}</dd>'
        for k, v in known
        if v != "(none)"
    ]
    href = (
        f'<a href="{escape(link, WHOLE)}" target=_blank rel=noopener>open in Tiled</a>'
        if link
        else ""
    )
    return (
        f'<div class=detail><img src="{address}/{row}.png" alt="{escape(entry.channel)}">'
        f"<dl>{''.join(pairs[:6])}</dl>"
        + (f"<dl class=more>{''.join(pairs[6:])}</dl>" if pairs[6:] else "")
        + f'<div class="link more"><code>{escape(entry.uid[:8])}</code>'
        f'<button data-copy="{escape(entry.uid)}">copy uid</button>{href}</div></div>'
    )


def gallery(
    visit: ViewState, address: str, rows: Sequence[int], page: int, per_page: int, what: str
) -> str:
    """Return a page of thumbnails, with the ways to the others."""
    here = visit.found.row if visit.found is not None and visit.found.row is not None else -1
    first = page * per_page
    shown = [(int(r), _title(visit.room, int(r))) for r in rows[first : first + per_page]]
    last = max(-(-len(rows) // per_page) - 1, 0)
    turn = (
        f"<span><button data-action=page:{page - 1}{' disabled' * (page == 0)}>‹ before</button>"
        f"<span class='muted number'>&ensp;{page + 1} / {last + 1}&ensp;</span>"
        f"<button data-action=page:{page + 1}{' disabled' * (page == last)}>next ›</button></span>"
        if last
        else ""
    )
    return (
        f"<div class=head><h2>{escape(what)} · {_n(len(rows))}</h2>{turn}</div>"
        f"{_grid(visit.room, address, shown, 5, here)}"
    )


def saved(link: str, name: str) -> str:
    """Return the link of a saved selection, to open and to copy."""
    address = escape(link, WHOLE)
    return (
        f'<div class=link><a href="{address}" title="{address}">{escape(name)}</a>'
        f'<button data-copy="{address}">copy link</button></div>'
    )


def tooltip(address: str, names: Sequence[str]) -> str:
    """Return what is shown of the image under the pointer, as a template of Bokeh's."""
    lines = "".join(f"<div>@{{{name}}}{{custom}}</div>" for name in names)
    return (
        '<div style="display:flex;gap:10px;font:12px/1.5 system-ui,sans-serif;color:#1f2933">'
        f'<img src="{address}/@{{row}}.png" width=96 height=96 style="border-radius:3px" alt="">'
        f"<div>{lines}</div></div>"
    )
