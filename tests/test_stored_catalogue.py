"""A catalogue that an earlier version wrote is listed, read, searched and resumed as then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stored import (
    EXPECTED,
    check_rebuilt,
    dataset_of,
    found_in,
    rebuilt,
    resumed,
    table_of,
    unpacked,
)

from curiosity_bluesky import connect
from curiosity_bluesky.catalog import Catalog
from curiosity_bluesky.similarity.index import Index


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archived catalogue, elsewhere than it was written."""
    return unpacked(tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def catalog(directory: Path) -> Any:
    with connect(directory) as catalog:
        yield catalog


def test_a_catalogue_lists_reads_and_finds_what_it_did_then(catalog: Catalog) -> None:
    expected = EXPECTED["catalogue"]
    assert table_of(catalog) == expected["runs"]  # one of them from the journal of a killed run
    catalog.recover()
    assert table_of(catalog) == expected["runs"]
    for row in expected["runs"]:
        assert dataset_of(catalog[row[0]]) == expected["datasets"][row[0]]
        check_rebuilt(rebuilt(catalog.documents(row[0])), expected["rebuilt"][row[0]])
    found = found_in(catalog, expected["runs"][0][0])
    assert [hit[:2] for hit in found] == [hit[:2] for hit in expected["similar"]]
    assert [one["id"] for one in Index(catalog).selections()] == expected["selections"]


def test_the_run_that_was_killed_is_resumed_as_it_would_have_been_then(
    catalog: Catalog, directory: Path
) -> None:
    killed = EXPECTED["catalogue"]["runs"][-1][0]
    assert resumed(directory, killed) == EXPECTED["catalogue"]["resumed"]
