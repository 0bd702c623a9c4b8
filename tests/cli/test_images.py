"""The commands index, similar and import, with a catalogue of imported files."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from scans import put, scan
from skimage.io import imread, imsave
from support import slowly
from synthetic.augmentation import Reacquisition, reacquire
from synthetic.wallpaper import random_image

from curiosity_bluesky import connect
from curiosity_bluesky.cli import main
from curiosity_bluesky.similarity.archive import import_files
from curiosity_bluesky.similarity.index import Index


@pytest.fixture
def curiosity(capsys):
    """Return what runs a command in this process: exit code, standard output and error."""

    def run(*arguments):
        saved, sys.argv = sys.argv, ["curiosity", *map(str, arguments)]
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv = saved
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return pictures: stripes, the same turned, textures; and one that shows nothing."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    stripes = np.sin(np.arange(64) / 3)[None] + 0.1 * rng.normal(size=(64, 64))
    images = {"stripes": stripes, "turned": np.rot90(stripes)}
    images |= {f"texture{n}": random_image(None, rng, 64) for n in range(3)}
    for name, values in images.items():
        scaled = (values - values.min()) / np.ptp(values) * 65535
        imsave(folder / f"{name}.png", scaled.astype(np.uint16), check_contrast=False)
    np.save(folder / "flat.npy", np.ones((20, 20)))
    return folder


@pytest.mark.slow
def test_the_same_place_comes_first_whatever_else_is_nearer(curiosity, files, runs, tmp_path):
    rng = np.random.default_rng(3)
    values = imread(files / "texture1.png").astype(float)
    again = tmp_path / "again.npy"
    np.save(again, reacquire(values, rng, Reacquisition(scales=(1.5, 1.5), noise=(0.02, 0.02))))
    arguments = ("similar", again, "--catalog", runs, "--json")
    code, out, err = curiosity(*arguments)
    assert code == 0, err
    hits = json.loads(out)["hits"]
    assert hits[0]["metadata"]["file"] == "texture1.png"
    assert [hit["same_place"] for hit in hits] == [True] + [False] * (len(hits) - 1)
    code, out, err = curiosity(*arguments, "--no-verify")
    assert {hit["same_place"] for hit in json.loads(out)["hits"]} == {None}
    code, out, err = curiosity("similar", again, "--catalog", runs)
    assert len(re.findall(r"│ same +│", out)) == 1


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory):
    """Return an indexed catalogue of the pictures, and of a run with two channels."""
    where = tmp_path_factory.mktemp("archive") / "runs"
    with connect(where) as catalog:
        pictures = sorted(files.glob("*.png"))
        imported = list(import_files(catalog, pictures, {"operator": "anna", "sample": "PZT"}))
        assert [one.status for one in imported] == ["imported"] * 5
        put(catalog, scan(0, 64), scan(1, 64), sample="other")
        Index(catalog, ["texture"]).update()
        yield where  # open all the while, so that each command joins its server


def test_what_looks_like_a_file_is_found_and_drawn(curiosity, files, runs, tmp_path):
    picture = tmp_path / "hits.png"
    code, out, err = curiosity(
        "similar", files / "stripes.png", "--catalog", runs, "--top", 3, "--picture", picture
    )
    assert code == 0, err
    for word in ("distance", "PZT", "success", "7 images", "texture"):
        assert word in " ".join(out.split())  # a long path may break the line anywhere
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = curiosity("similar", files / "stripes.png", "--catalog", runs, "--json")
    hits = json.loads(out)["hits"]
    assert [hit["metadata"]["file"] for hit in hits[:2]] == ["stripes.png", "turned.png"]
    assert hits[0]["distance"] < 1e-3 and hits[0]["metadata"]["operator"] == "anna"
    distances = [hit["distance"] for hit in hits]
    assert distances == sorted(distances) and len(hits) == 7

    uid = hits[0]["uid"]
    _, out, _ = curiosity("similar", uid[:8], "--catalog", runs, "--json", "--where", "sample=PZT")
    others = json.loads(out)["hits"]
    assert uid not in {hit["uid"] for hit in others} and len(others) == 4
    assert others[0]["metadata"]["file"] == "turned.png"
    _, out, _ = curiosity("similar", uid, "--catalog", runs, "--json", "--own", "--top", 1)
    assert json.loads(out)["hits"][0]["uid"] == uid


@pytest.mark.slow
def test_an_archive_comes_in_once_and_is_indexed(curiosity, files, tmp_path):
    runs = tmp_path / "runs"
    some = [files / "stripes.png", files / "flat.npy", files / "texture0.png"]
    code, out, err = curiosity(
        "import", *some, "--sample", "PZT", "--md", "operator=anna", "--catalog", runs, "--json"
    )
    imported = json.loads(out)
    assert code == 2 and "1 everywhere" in err
    assert [one["status"] for one in imported] == ["imported", "refused", "imported"]
    # Under another name it is the same file.
    again = tmp_path / "copy.png"
    again.write_bytes((files / "stripes.png").read_bytes())
    code, out, _ = curiosity("import", again, "--catalog", runs, "--json")
    assert code == 0
    [present] = json.loads(out)
    assert present["status"] == "present" and present["uid"] == imported[0]["uid"]
    with connect(runs) as catalog:
        assert len(catalog) == 2
        start = catalog[imported[0]["uid"]].start
        assert start["plan_name"] == "import" and start["file"] == "stripes.png"
        assert start["operator"] == "anna" and start["sample"] == "PZT"
        [image] = [doc for name, doc in catalog.documents(start["uid"]) if name == "event"]
        assert np.shape(image["data"]["file_image"]) == (64, 64)


def test_a_run_that_was_deleted_is_compared_as_it_was_indexed(curiosity, files, tmp_path):
    with connect(tmp_path / "runs") as catalog:
        imported = list(import_files(catalog, [files / "stripes.png", files / "turned.png"], {}))
        Index(catalog, ["texture"]).update()
        gone, kept = (one.uid for one in imported)
        catalog[gone].delete(recursive=True, external_only=False)
        code, out, err = curiosity("similar", gone[:8], "--catalog", catalog.where, "--json")
    assert code == 0, err
    assert [hit["uid"] for hit in json.loads(out)["hits"]] == [kept]


@pytest.mark.slow
def test_a_channel_that_shows_nothing_keeps_no_other_out(curiosity, tmp_path):
    height = np.random.default_rng(0).normal(size=(20, 20))
    np.savez(tmp_path / "scan.npz", height=height, flat=np.ones((20, 20)), matrix=np.eye(2))
    np.savez(tmp_path / "empty.npz", flat=np.ones((20, 20)), zero=np.zeros((20, 20)))
    files = tmp_path / "scan.npz", tmp_path / "empty.npz"
    code, out, err = curiosity("import", *files, "--catalog", tmp_path / "runs", "--json")
    scan, empty = json.loads(out)
    assert code == 2 and "empty.npz: flat is 1 everywhere" in err
    assert scan["status"] == "imported" and scan["channels"] == ["height"]
    assert "flat is 1 everywhere" in scan["detail"] and "matrix has the shape" in scan["detail"]
    assert empty["status"] == "refused" and "zero is 0 everywhere" in empty["detail"]
    code, out, _ = curiosity("import", files[0], "--catalog", tmp_path / "runs")
    assert code == 0 and "left out: flat is 1 everywhere" in " ".join(out.split())


@pytest.mark.parametrize("step", [4, *slowly(1)])
def test_bad_input_is_said_in_one_line_and_harms_nothing(curiosity, files, runs, tmp_path, step):
    where = ("--catalog", runs)
    png = files / "stripes.png"
    with connect(runs) as catalog:
        uid = next(run.uid for run in catalog.runs() if run.sample == "other")
    empty = tmp_path / "empty"
    connect(empty).close()
    cases = [
        (("similar", files / "flat.npy", *where), "1 everywhere"),
        (("similar", tmp_path / "none.png", *where), "there is no file"),
        (("similar", tmp_path / "notes.txt", *where), "is no image file"),
        (("similar", png, "--channel", "phase", *where), "no channel 'phase'"),
        (("similar", uid, "--channel", "phase", *where), "no channel 'phase'; it has a, b"),
        (("similar", png, "--by", "smell", *where), "there is no descriptor 'smell'"),
        (("similar", png, "--where", "sample", *where), "the condition 'sample' cannot be used"),
        (("similar", png, "--top", 0, *where), "top is 0"),
        (("similar", "abcdef12", *where), "no run 'abcdef12'"),
        (("similar", "abc", *where), "is too short"),
        (("similar", png, "--catalog", empty), "`curiosity index`"),
        (("similar", png, "--catalog", tmp_path / "nowhere"), "no catalogue at"),
        (("index", "--catalog", tmp_path / "nowhere"), "no catalogue at"),
        (("import", png, "--md", "operator", *where), "is not NAME=VALUE"),
        (("import", png, "--md", "uid=x", *where), "give uid, which the import itself writes"),
        (("import", png, "--md", "time=5", *where), "give time, which the import itself writes"),
        (("import", png, "--md", "a.b=1", *where), "cannot be in a start document"),
        (("import", png, "--md", "scan_id=q", *where), "(scan_id: 'q' is not of type 'integer')"),
        (("import", png, "--md", "sample=null", *where), "(sample: None is not valid"),
    ]
    for arguments, said in cases[::step]:
        code, out, err = curiosity(*arguments)
        lines = err.strip().splitlines()
        assert (code, out, len(lines)) == (2, "", 1) and said in lines[0], (arguments, err)
    _, out, _ = curiosity("similar", png, *where, "--json")
    assert len(json.loads(out)["hits"]) == 7


@pytest.mark.slow
def test_the_command_index_says_what_it_did(curiosity, tmp_path, monkeypatch):
    from scans import Crude

    monkeypatch.setattr(
        "curiosity_bluesky.similarity.index.index.known", lambda: {"crude": Crude()}
    )
    where = ("--catalog", tmp_path / "runs", "--workers", 1)
    with connect(tmp_path / "runs") as catalog:  # open, so that each command joins its server
        put(catalog, scan(0), np.zeros((20, 20)))
        code, out, _ = curiosity("index", *where)
        said = " ".join(out.split())
        assert code == 0 and "2 images of 1 run are indexed, 2 of them now" in said
        assert "not described" in out and "0 everywhere" in said
        code, out, _ = curiosity("index", *where, "--json")
        said = json.loads(out)
        assert code == 0 and said["images"] == 0 and said["state"]["images"] == 2
        assert "crude-1" in said["state"]["kinds"]
        code, out, _ = curiosity("index", *where, "--json", "--rebuild")
        assert json.loads(out)["images"] == 2
