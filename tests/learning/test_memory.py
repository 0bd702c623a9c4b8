"""Memory and work of the learning as a run grows, in bytes and in counts."""

import ctypes
import dataclasses
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize

from curiosity_bluesky.learning import Explorer, Observation, Patches, Proposal, Strategy, Survey
from curiosity_bluesky.learning.gp import kernel as gp
from curiosity_bluesky.learning.threads import MAPPED, one_thread, return_free_memory
from sim_devices import SyntheticSample

SIDE = 44
CANDIDATES = 40 * 40


class _Mallinfo(ctypes.Structure):
    """What ``mallinfo2`` of the GNU C library returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs the GNU C library 2.33 or newer"
)
def test_a_large_array_gives_its_memory_back_whatever_was_freed_before():
    with one_thread():
        pass
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    np.empty(16 * MAPPED, np.uint8)  # freed at once: malloc would keep all smaller ones from now on
    # Some may lie in holes of the heap, and other threads take or give some meanwhile.
    arrays = [np.empty(2 * MAPPED, np.uint8) for _ in range(400)]
    mapped = mallinfo().hblks
    del arrays
    assert mapped - mallinfo().hblks > 200


@pytest.mark.skipif(
    not (hasattr(ctypes.CDLL(None), "malloc_trim") and Path("/proc/self/statm").exists()),
    reason="needs the GNU C library on Linux",
)
def test_holes_in_the_heap_are_given_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(MAPPED // 8) for _ in range(512)]
    for block in blocks:
        ctypes.memset(block, 1, MAPPED // 8)
    kept = blocks[::8]  # so that the others are holes, and not the end of the heap
    for block in set(blocks) - set(kept):
        libc.free(block)
    before = resident()
    return_free_memory()
    given_back = before - resident()
    for block in kept:
        libc.free(block)
    assert given_back > 256 * (MAPPED // 8)  # of 448


def resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(scope="module")
def film():
    film = SyntheticSample((SIDE, SIDE), points=16, seed=2)
    return Survey(film.images, film.x, film.y), film.target()


def told(film, n, **kwargs):
    """An explorer that knows `n` random pixels, and has not learned from them yet."""
    survey, truth = film
    wanted = {"patch_size": 5, "n_seeds": 30, "refit_every": 30, "references": 20}
    wanted["rim"] = "omit"  # as CANDIDATES are counted
    explorer = Explorer(survey, Strategy.named("curious", **wanted), 0, **kwargs)
    for number, index in enumerate(np.random.default_rng(0).permutation(CANDIDATES)[:n]):
        pixel = explorer.patches.pixel(index)
        explorer.record(Proposal(number, pixel, 0.0, 0.0, "seed"))
        explorer.observe(Observation(pixel, truth[pixel], decision_id=number))
    return explorer


@pytest.mark.slow
def test_a_spectrum_takes_two_numbers_for_each_candidate(film, monkeypatch):
    """The two covariances that grow are all; nothing as large is copied, or kept twice."""
    # Parts of a matrix are copied, and are small here as they are in a long run.
    monkeypatch.setattr(gp, "COPIED", 2**12)
    monkeypatch.setattr(gp, "BLOCK", 2**12)
    told(film, 40).propose()  # what is loaded and kept once
    peaks = []
    for n in (60, 180):  # with a search at each
        explorer = told(film, n)
        tracemalloc.start()
        explorer.propose(2)  # the first one counts as measured for the second
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert explorer.take_trainings()[-1].n_observed == n
    row = 8 * CANDIDATES
    # An eighth is room to grow; what does not grow with the candidates is about as much as one.
    assert (peaks[1] - peaks[0]) / 120 < 3.5 * row


def test_a_search_takes_a_bounded_number_of_evaluations(film, monkeypatch):
    monkeypatch.setattr(gp, "SETTLED", 40)
    monkeypatch.setattr(gp, "EVALUATIONS", 5)
    searches = []

    def on_epoch(model, epoch, epochs):
        if epoch == 1:
            searches.append(0)
        searches[-1] += 1

    explorer = told(film, 120, on_epoch=on_epoch)
    explorer.propose()
    at = [training.n_observed for training in explorer.take_trainings() if training.epochs]
    assert at == [30, 60, 90, 120] and len(searches) == 4
    assert searches[0] > 30
    # It ends with the step along which the last one falls: at most 20 evaluations more.
    assert max(searches[1:]) <= 5 + 20


@pytest.mark.parametrize(("n", "most"), [(30, [None, None]), (50, [7]), (60, [3]), (90, [3])])
def test_a_search_by_many_spectra_takes_fewer_evaluations(film, monkeypatch, n, most):
    monkeypatch.setattr(gp, "SETTLED", 40)
    monkeypatch.setattr(gp, "LARGE", 60)
    monkeypatch.setattr(gp, "EVALUATIONS", 7)
    monkeypatch.setattr(gp, "EVALUATIONS_OF_LARGE", 3)
    asked, minimize = [], scipy.optimize.minimize

    def noted(*args, **kwargs):
        asked.append(kwargs["options"].get("maxfun"))
        return minimize(*args, **kwargs)

    monkeypatch.setattr(scipy.optimize, "minimize", noted)
    survey, truth = film
    inputs = gp.KernelInputs(Patches(survey, 5, "omit"))
    some = np.random.default_rng(0).permutation(CANDIDATES)[:n]
    kernel = dataclasses.replace(gp.Kernel.start(1), logs=(0.1,) * len(gp.NAMES))
    kernel.fitted(
        inputs, some[gp.evenly_spread(n)], truth[2:-2, 2:-2].reshape(CANDIDATES, -1)[some, :3]
    )
    assert asked == most


def test_of_many_spectra_as_many_as_may_be_stand_for_all(monkeypatch):
    assert list(gp.evenly_spread(4)) == [0, 1, 2, 3] and gp.evenly_spread(gp.LARGE).size == gp.LARGE
    monkeypatch.setattr(gp, "LARGE", 100)
    for n in (100, 101, 150, 1234):
        some = gp.evenly_spread(n)
        assert some.size == 100 and some[0] == 0 and some[-1] == n - 1
        assert np.diff(some).min() >= n // 100 and np.diff(some).max() <= -(-n // 100) + 1
