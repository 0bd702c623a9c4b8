"""Options and arguments that several commands share."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from curiosity_bluesky.errors import InputError

CatalogOption = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="DIR|URI",
        help="Directory, Tiled URI or Tiled profile. [default: $CURIOSITY_CATALOG or runs]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
UidArgument = Annotated[
    str, typer.Argument(help="uid of a run, or its first characters (5 or more).")
]
HostNameOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Another name of it, such as behind a reverse proxy."),
]
LoadOption = Annotated[
    list[Path] | None,
    typer.Option("--load", metavar="FILE.py", help="A file with a strategy of your own."),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the token. [default: $CURIOSITY_AGENT_TOKEN]"),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="TCP",
        help="Of the Queue Server. [default: $QSERVER_ZMQ_CONTROL_ADDRESS or 127.0.0.1:60615]",
    ),
]

# What a run is asked for; a command says whether it has a default: Annotated[str | None, STRATEGY].
STRATEGY = typer.Option("--strategy", help="How to choose.")
POINTS = typer.Option("--points", help="Spectra to measure, seeds included.")
PLOT = typer.Option("--plot/--no-plot", help="Draw the live view and the summary.")
SEED = typer.Option("--seed", help="Seed of every random choice.")
TimeBudgetOption = Annotated[
    float | None,
    typer.Option("--time-budget", metavar="S", help="Seconds that the run may take."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the strategy."),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--md", metavar="NAME=VALUE", help="For the start documents: operator=anna."),
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Where the summary picture goes.")
]

# Of the simulated microscope.
SampleOption = Annotated[
    str | None,
    typer.Option(
        "--sample",
        metavar="NAME|FILE",
        help="See `curiosity samples`, or .npz, .npy, .h5, ... [default: a recorded film, or "
        "synthetic without the extra `recordings`]",
    ),
]
FaultOption = Annotated[
    list[str] | None,
    typer.Option("--fault", metavar="KIND=SHARE", help="Let the microscope fail: nan=0.1."),
]
DriftOption = Annotated[
    float,
    typer.Option("--drift", metavar="NM/MIN", help="Let the sample drift, nm a simulated minute."),
]


def parameters(
    settings: list[str], option: str = "--set", such: str = "patch_size=5"
) -> dict[str, Any]:
    """Return the values of a repeated option, NAME=VALUE each.

    Parameters
    ----------
    settings
        A value is JSON, or else a text.
    option, such
        The option and an example, for an error.

    Raises
    ------
    InputError
        If one is not NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {setting!r} is not NAME=VALUE, such as {option} {such}")
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value
    return found


def load_strategies(files: list[Path] | None) -> None:
    """Run files that register strategies; workers get their classes with the trials.

    Parameters
    ----------
    files
        Python files.

    Raises
    ------
    InputError
        If one is not there, or raises.
    """
    import importlib.util

    for file in files or []:
        # A name of its own, so that a random.py does not take the place of Python's.
        spec = importlib.util.spec_from_file_location(f"curiosity_own_{file.stem}", file)
        if spec is None or spec.loader is None or not file.is_file():
            raise InputError(f"--load {file}: there is no such Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"--load {file}: {type(error).__name__}: {error}") from error
        with contextlib.suppress(ImportError):
            import cloudpickle

            cloudpickle.register_pickle_by_value(module)


def check_run(uid: str, catalog: str | None) -> None:
    """Refuse a run that a directory does not hold, before what would use it is imported.

    The directory's files are read, which takes no server; another server is asked later.

    Parameters
    ----------
    uid
        Of the run, or its first characters.
    catalog
        As for `connect`.

    Raises
    ------
    InputError
        If there is no such run, or no catalogue.
    """
    from curiosity_bluesky.catalog import connect
    from curiosity_bluesky.catalog.locations import place_of

    if place_of(catalog)[1]:
        return
    with connect(catalog, create=False, serve=False) as opened:
        # One that was just interrupted may be in the journal alone.
        waits = len(uid) >= 5 and any(
            path.stem.startswith(uid) for path in opened.journal.glob("*.jsonl")
        )
        if opened.reads_files and not waits:
            opened.check(uid)
