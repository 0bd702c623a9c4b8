"""Documents that an earlier version wrote are understood as they were then."""

from __future__ import annotations

import pytest
from stored import EXPECTED, STORED, check_rebuilt, documents_in, rebuilt


@pytest.mark.parametrize("name", sorted(EXPECTED["documents"]))
def test_an_agent_knows_and_proposes_what_it_did_then(name: str) -> None:
    check_rebuilt(rebuilt(documents_in(STORED / f"{name}.jsonl.gz")), EXPECTED["documents"][name])
