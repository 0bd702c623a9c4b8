"""Processes that are killed at any moment lose nothing, and their runs go on as they would have.

How it is done, and more of it, is in killing.py; ``python tests/killing.py`` is the command.
"""

import pytest
from killing import SETTINGS, campaign, undisturbed
from support import events


def check(counts, kills):
    print(counts.table())
    assert counts.kills == kills
    assert counts.trouble == []
    assert counts.documents_lost == counts.spectra_lost == counts.journals_left == 0
    assert counts.resumed == counts.resumed_identical > 0
    assert counts.read == counts.read_whole > 0
    assert counts.good
    # Some were killed when there was something to lose.
    assert counts.spectra_acknowledged > kills


def test_four_killed(tmp_path):
    check(campaign(4, 0, tmp_path, faulty=False, at_once=2), 4)


@pytest.mark.timeout(900)  # on a machine that is busy with other things
@pytest.mark.slow
def test_eight_killed(tmp_path):
    # Over two catalogues, so that of one the runs are recovered, and resumed after that.
    check(campaign(8, 0, tmp_path, faulty=False, at_once=4), 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_killed(tmp_path):
    check(campaign(20, 0, tmp_path, faulty=False), 20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_killed(tmp_path):
    check(campaign(200, 1, tmp_path, thorough=True, faulty=False), 200)


def test_what_is_measured_has_faults_to_go_on_after():
    faulty = [settings for settings in SETTINGS if settings.faulty]
    failures = [events(undisturbed(settings), "failures") for settings in faulty]
    assert all(failures)
    assert any(failure["given_up"] for run in failures for failure in run)
