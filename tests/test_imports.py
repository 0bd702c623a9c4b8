"""What is imported when: most commands only read, and torch takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stored import unpacked

from curiosity_bluesky import connect

NEVER = {
    "bluesky_tiled_plugins",
    "dask",
    "matplotlib",
    "numba",
    "sklearn",
    "skimage",
    "tiled.client",
    "tiled.server",
    "torch",
}
"""What no command imports that lists, shows, explains or refuses."""

NO_INSTRUMENT = {"bluesky.run_engine", "ophyd"}
NO_TABLES = {"pandas", "pyarrow", "xarray", "zarr"}

COMMANDS = {
    "--help": {"numpy", "scipy", "httpx", *NO_TABLES},
    "agent --follow": {"numpy", "scipy", "httpx", *NO_TABLES},
    "runs": {"httpx", "scipy", *NO_TABLES},
    "runs --sample nope --since 2001-01-01 --last 2": {"httpx", "scipy", *NO_TABLES},
    "runs --since nope": {"httpx", "scipy", *NO_TABLES},
    "runs --last 0": {"httpx", "scipy", *NO_TABLES},
    "show nopenope": {"httpx", *NO_TABLES},
    "samples": NO_TABLES,
    "strategies": NO_TABLES,
    "demo --sample nope": NO_TABLES,
    "demo --strategy nope": NO_TABLES,
    "demo --set nope=1": NO_TABLES,
    "demo --set patch_size=0": NO_TABLES,
    "demo --points -1": NO_TABLES,
    "demo --withhold 2": NO_TABLES,
    "demo --speed 0": NO_TABLES,
    "demo --fault nope=1": NO_TABLES,
    "demo --picture no.jpg": NO_TABLES,
    "show UID": {"httpx"},
    "show UID --json": {"httpx"},
}
"""Commands, and what none of them imports besides; what comes first forbids most."""

RUN = """
import contextlib, io, json, sys
from curiosity_bluesky.cli import main

for words, forbidden in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(words)
    found = sorted(set(forbidden) & set(sys.modules))
    assert not found, f"{' '.join(words)} imports {', '.join(found)}"
"""


def in_a_new_process(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_no_command_imports_what_it_does_not_need(tmp_path: Path) -> None:
    directory = unpacked(tmp_path)
    with connect(directory, create=False) as catalog:  # which puts its paths right
        uid = catalog.runs()[0].uid
    jobs = []
    for command, forbidden in COMMANDS.items():
        words = command.replace("UID", uid).split()
        there = ["--catalog", str(directory)] if words[0] in ("runs", "show") else []
        jobs.append([[*words, *there], sorted(NEVER | NO_INSTRUMENT | forbidden)])
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(jobs)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_connect_and_the_plan_need_no_tables_no_client_and_no_learning() -> None:
    forbidden = sorted(NEVER | NO_TABLES | {"ophyd", "httpx"})
    in_a_new_process(
        "from curiosity_bluesky import connect, curiosity_plan\n"
        f"import sys; found = set({forbidden}) & set(sys.modules); assert not found, found"
    )


def test_what_only_reads_does_not_wait_for_the_learning():
    in_a_new_process(
        "from curiosity_bluesky import connect, read\n"
        "import sys; assert not {'torch', 'sklearn', 'ophyd', 'matplotlib'} & set(sys.modules)"
    )


def test_the_names_of_strategies_do_not_wait_for_the_learning():
    in_a_new_process(
        "from curiosity_bluesky.errors import InputError\n"
        "from curiosity_bluesky.learning import Strategy\n"
        "assert 'curious' in Strategy.names()\n"
        "try:\n"
        "    Strategy.named('curius')\n"
        "except InputError as error:\n"
        "    assert 'curious' in str(error)\n"
        "import sys; assert not {'torch', 'sklearn'} & set(sys.modules)"
    )


def test_a_strategy_of_ones_own_keeps_its_name_when_ours_are_loaded_after_it():
    in_a_new_process(
        "from dataclasses import dataclass\n"
        "from curiosity_bluesky.learning import Strategy, register\n"
        "class Mine(Strategy):\n"
        "    name = 'random'\n"
        "register(dataclass(frozen=True)(Mine))\n"
        "assert 'curious' in Strategy.names()\n"
        "assert type(Strategy.named('random')) is Mine"
    )


@pytest.mark.slow
def test_the_one_thread_of_the_learning_is_that_of_every_library_that_it_loads():
    in_a_new_process(
        "from threadpoolctl import ThreadpoolController\n"
        "from curiosity_bluesky.learning import Strategy, threads\n"
        "limited = {found['filepath'] for found in threads._controller().info()}\n"
        "assert all(map(Strategy.named, Strategy.names()))\n"
        "assert limited == {found['filepath'] for found in ThreadpoolController().info()}"
    )
