"""Schema of a run: every stream and every data key, with dtype, units, dims and source.

One table, `STREAMS`: what is written (`curiosity_bluesky.documents.writing`) and what is read
(`translate`, `reading`) goes by it, and so does the table in docs/documents.md, which
``python -m curiosity_bluesky.documents.schema`` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Document = tuple[str, Mapping[str, Any]]
"""A document with its name, as the RunEngine emits it."""

SURVEY = "survey"
DECISIONS = "decisions"
PRIMARY = "primary"
LEARNING = "learning"
MAPS = "maps"
FLAGS = "flags"
PREDICTIONS = "predictions"
FAILURES = "failures"
STEERING = "steering"
DRIFT = "drift"

MASK = "mask"
"""Data key of the mask in the survey stream, (y, x), 1 where nothing may be measured."""

OUT_OF_REACH = "out_of_reach"
"""Data key of the drift stream, (y, x), 1 where the tip cannot be sent by now."""

LATENT = "latent"
"""Data key of the predictions stream, (y, x, component): the latent space of the model."""

PREDICTED = "_predicted"
"""``<channel>_predicted`` lies beside a measured channel: what was expected beforehand."""

DEVIATION = "_deviation"
"""``<channel>_deviation`` lies beside a predicted channel: standard deviation of a spectrum."""

CHANNELS = "curiosity_channels"
"""Configuration key of the survey and primary streams: the channels in their order."""

RESUMES = "curiosity_resumes"
"""Key of the start document: uid of the run that this one goes on with."""

LOOKAHEAD = "curiosity_lookahead"
"""Key of the start document, see `Explorer.propose`."""

TIME_BUDGET = "curiosity_time_budget"
"""Key of the start document: seconds that the run was allowed to take, where there is a limit."""

ESTIMATED = "curiosity_points_estimated"
"""Key of the start document: whether the number of points is only what the time seemed to allow."""

MAX_BIAS = "curiosity_max_bias"
"""Key of the start document: no detector may apply more volts, where there is a limit."""

TIP = "curiosity_tip"
"""Key of the start document: name of the tip that is lifted between two points, if any."""

RESURVEY_EVERY = "curiosity_resurvey_every"
RESURVEY_MINUTES = "curiosity_resurvey_minutes"
"""Keys of the start document: when the survey is taken again, in points and in minutes."""

AGENT = "curiosity_agent"
"""Key of the start document: address of the agent that decides, absent if it is in the plan."""

WARM_ASKED = "curiosity_warm_asked"
"""Key of the start document: ``similar`` or the uid that was asked for, absent for neither."""

WARM_START = "curiosity_warm_start"
"""Key of the start document: uid of the earlier run that the predictor started from, if any."""

WARM_SPECTRA = "curiosity_warm_spectra"
WARM_DISTANCE = "curiosity_warm_distance"
WARM_GATE = "curiosity_warm_gate"
WARM_REASON = "curiosity_warm_reason"
"""Keys of the start document: how many of its spectra, how far away it is by its images, beyond
which distance none is taken, and why this one, or none."""

WARM = (WARM_ASKED, WARM_START, WARM_SPECTRA, WARM_DISTANCE, WARM_GATE, WARM_REASON)
"""All that a start document says about the earlier run."""

DType = Literal["<i8", "<f8", "<f4", "|u1", "string", ""]
"""``dtype_numpy`` of a data key, ``string`` for text, "" for what the instrument decides."""


@dataclass(frozen=True)
class Key:
    """One data key of a stream.

    Parameters
    ----------
    name
        The key. Of a device it is a pattern: ``<imager>_<channel>``.
    dtype
        What its values are.
    help
        One line on its meaning.
    units
        "" for none, or where the device decides.
    dims
        Names of its dimensions, () for a scalar; ``<axis>`` is that of the spectra.
    of
        Device that it is read from, where that is not what the plan records.
    optional
        Whether runs of older versions lack it.
    """

    name: str
    dtype: DType
    help: str
    units: str = ""
    dims: tuple[str, ...] = ()
    of: str = ""
    optional: bool = False

    @property
    def from_device(self) -> bool:
        """Whether the instrument gives it, under a name of its own."""
        return bool(self.of)

    def value(self, value: Any) -> Any:
        """Return a scalar as the kind that the key declares."""
        if self.dtype == "string":
            return str(value)
        return int(value) if self.dtype == "<i8" else float(value)


@dataclass(frozen=True)
class Stream:
    """One stream of a run.

    Parameters
    ----------
    name
        The stream.
    event
        What one event is, in words.
    record
        Name under which the plan's own data keys are read: their ``source`` in the descriptor
        is ``curiosity:<record>``.
    keys
        Its data keys, in the order in which they are written.
    """

    name: str
    event: str
    record: str
    keys: tuple[Key, ...]

    @property
    def own(self) -> tuple[Key, ...]:
        """Data keys that the plan itself records."""
        return tuple(key for key in self.keys if not key.from_device)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the plan's own data keys that are numbers or text, in their order."""
        return tuple(key.name for key in self.own if not key.dims)

    def __getitem__(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name)


_YX = ("y", "x")
_CHANNEL = "as the instrument gives it, one key for each channel"

SQUARED: dict[str, dict[str, int]] = {
    "curious": {"error": 2, "acquisition": 2, "uncertainty": 1},
    "theory": {"error": 2, "acquisition": 2},
}
"""Powers of the unit of the spectra that the maps of a strategy have; of others they have none."""

STREAMS: dict[str, Stream] = {
    stream.name: stream
    for stream in (
        Stream(
            SURVEY,
            "the overview image",
            "limits",
            (
                Key("<imager>_<channel>", "", _CHANNEL, dims=_YX, of="imager"),
                Key(MASK, "|u1", "1 where nothing may be measured, withheld pixels included",
                    dims=_YX),
            ),
        ),
        Stream(
            DECISIONS,
            "one decision, written before the tip moves",
            "decision",
            (
                Key("decision_id", "<i8", "number of the decision, from 0"),
                Key("row", "<i8", "row of the pixel"),
                Key("col", "<i8", "column of the pixel"),
                Key("x", "<f8", "where the tip is sent", "um"),
                Key("y", "<f8", "where the tip is sent", "um"),
                Key("reason", "string", "`seed`, `curious`, `random`, `design` (planned before "
                    "the first spectrum); `manual` (asked for by `steer.add`), `repeat` for "
                    "decisions made elsewhere"),
                Key("predicted_error", "<f8", "the error map at this pixel: relative to the mean "
                    "error, or with `curious` and `theory` the mean squared error that is "
                    "expected, in the units of the spectra squared"),
                Key("novelty", "<f8", "the novelty map at this pixel"),
                Key("uncertainty", "<f8", "standard deviation: of the predicted error over "
                    "dropout, or with a Gaussian process of the spectrum"),
                Key("acquisition", "<f8", "the map that was maximised"),
                Key("exploration_weight", "<f8", "share of the novelty in it"),
                Key("n_observed", "<i8", "spectra measured before"),
                Key("model_version", "<i8", "trainings behind the model, 0 for none"),
                Key("seconds", "<f8", "time the decision took, training included", "s"),
                Key("to_come", "<i8", "how many more were decided together with it, after it"),
                Key("decided_by", "string", "name of the strategy; where another one took the "
                    "place of an agent that was away, `farthest, in place of curious at "
                    "tcp://127.0.0.1:5577`", optional=True),
                Key("dwell", "<f8", "dwell setting to measure with, such as the cycles of a loop; "
                    "where the detector has one", optional=True),
            ),
        ),
        Stream(
            PRIMARY,
            "one measured spectrum",
            "expectation",
            (
                Key("<spectrometer>_<channel>", "", _CHANNEL, dims=("<axis>",), of="spectrometer"),
                Key("<spectrometer>_quality", "<f8", "quality of the spectrum, 0 to 1, and other "
                    "scalars such as `<spectrometer>_area`", of="spectrometer"),
                Key("<stage>_x", "<f8", "position that was read back after the spectrum; "
                    "`<stage>_y` too", "um", of="stage"),
                Key("decision_id", "<i8", "the decision that led here"),
                Key("attempt", "<i8", "which attempt it was, from 0", optional=True),
                Key("doses", "<i8", "how often the sample was measured in it", optional=True),
                Key("remaining", "<f8", "how long the run was expected to go on after this point",
                    "s", optional=True),
                Key(f"<channel>{PREDICTED}", "<f4", "what was expected before measuring; NaN "
                    "without a model", dims=("<axis>",)),
            ),
        ),
        Stream(
            LEARNING,
            "one training; the autoencoder, then one at the seeds and one for each spectrum",
            "training",
            (
                Key("model", "string", "`autoencoder` or `im2spec`, for two"),
                Key("architecture", "string", "the model in words"),
                Key("epochs", "<i8", "how many there were"),
                Key("loss", "<f8", "at the end, in scaled units"),
                Key("error_model_loss", "<f8", "NaN for the autoencoder"),
                Key("held_out_error", "<f8", "error on the new spectrum *before* training on it, "
                    "over the spread of the earlier spectra; 1 is no better than their mean"),
                Key("n_observed", "<i8", "spectra trained on"),
                Key("model_version", "<i8", "from 1; 0 for the autoencoder"),
                Key("seconds", "<f8", "time the training took", "s"),
            ),
        ),
        Stream(
            MAPS,
            "the maps, every `maps_every` decisions once there is a model, and at the end",
            "maps",
            tuple(
                Key(name, "<f4", f"{what}; NaN where the strategy leaves out the rim", dims=_YX)
                for name, what in (
                    ("error", "predicted error"),
                    ("novelty", "novelty"),
                    ("uncertainty", "uncertainty"),
                    ("acquisition", "what is maximised"),
                )
            ),
        ),
        Stream(
            FLAGS,
            "one region that structure does not explain, at the end (`curious`, `theory`)",
            "flag",
            (
                Key("x", "<f8", "centre of the region", "um"),
                Key("y", "<f8", "centre of the region", "um"),
                Key("radius", "<f8", "radius of the region", "um"),
                Key("n_observed", "<i8", "spectra that speak for it"),
                Key("excess", "<f8", "their squared error by structure alone, in units of what is "
                    "typical"),
                Key("learnable", "<f8", "1: neighbours help as much as expected; 0: not at all"),
                Key("remark", "string", "the finding in words"),
            ),
        ),
        Stream(
            PREDICTIONS,
            "the predicted spectra of a block of rows of the survey, at the end",
            "prediction",
            (
                Key("first_row", "<i8", "first row of the survey in the block"),
                Key(f"<channel>{PREDICTED}", "<f4", "expected spectrum; NaN where there is none, "
                    "and beyond the last row", dims=("y", "x", "<axis>")),
                Key(f"<channel>{DEVIATION}", "<f4", "standard deviation of a measured spectrum "
                    "about it; absent where the model has none", dims=("y", "x", "<axis>")),
                Key(LATENT, "<f4", "each pixel in the latent space of the model; absent where the "
                    "model has none", dims=("y", "x", "component"), optional=True),
            ),
        ),
        Stream(
            FAILURES,
            "one attempt to measure that failed",
            "failure",
            (
                Key("decision_id", "<i8", "the decision that could not be measured"),
                Key("row", "<i8", "row of the pixel"),
                Key("col", "<i8", "column of the pixel"),
                Key("attempt", "<i8", "which attempt it was, from 0"),
                Key("reason", "string", "what the device said, or what was wrong with the "
                    "spectrum"),
                Key("given_up", "<i8", "1: the last attempt"),
                Key("barred", "<i8", "1: the pixel is not proposed again"),
                Key("seconds", "<f8", "time that the attempt took", "s"),
                Key("doses", "<i8", "how often the sample was measured in it", optional=True),
            ),
        ),
        Stream(
            STEERING,
            "one request of the scientist",
            "steering",
            (
                Key("act_id", "<i8", "number of the request, from 0"),
                Key("kind", "string", "`add`, `mask`, `veto`, `set` or `stop`"),
                Key("arguments", "string", "the arguments, JSON"),
                Key("n_decisions", "<i8", "how many decisions there were before"),
            ),
        ),
        Stream(
            DRIFT,
            "one re-survey",
            "drift",
            (
                Key("<imager>_<channel>", "", "the image as it was taken, each channel", dims=_YX,
                    of="imager"),
                Key("resurvey", "<i8", "its number, from 1; goes on in a resumed run"),
                Key("seconds", "<f8", "since the first survey, both at the middle of the image",
                    "s"),
                Key("drift_x", "<f8", "how far the surface has moved, by registration", "um"),
                Key("drift_y", "<f8", "how far the surface has moved, by registration", "um"),
                Key("expected_x", "<f8", "how far it was expected; it counts where the re-survey "
                    "is not trusted", "um"),
                Key("expected_y", "<f8", "as `expected_x`", "um"),
                Key("rate_x", "<f8", "how fast it drifts, as the targets that follow have it",
                    "um/s"),
                Key("rate_y", "<f8", "as `rate_x`", "um/s"),
                Key("residual", "<f8", "1 - normalised correlation after alignment; NaN where "
                    "nothing could be compared"),
                Key("overlap", "<f8", "share of the area that both images show"),
                Key("trusted", "<i8", "1 if it corrects the targets"),
                Key("n_decisions", "<i8", "how many decisions there were before"),
                Key(OUT_OF_REACH, "|u1", "1 where the tip cannot be sent now, or before the next "
                    "re-survey", dims=_YX),
            ),
        ),
    )
}  # fmt: skip
"""Every stream that `curiosity_plan` writes, by name."""

_UNITS = {
    (stream.record, key.name): key.units
    for stream in STREAMS.values()
    for key in stream.own
    if key.units
}


def units_of(record: str, key: str) -> str:
    """Return the units of a data key that the plan records, "" for none.

    Parameters
    ----------
    record
        Name of the record, see `Stream`.
    key
        The data key.
    """
    return _UNITS.get((record, key), "")


def markdown() -> str:
    """Return the streams and their data keys as the tables of docs/documents.md."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield from ("| stream | one event is | source |", "|---|---|---|")
    for stream in STREAMS.values():
        yield f"| `{stream.name}` | {stream.event} | `curiosity:{stream.record}` |"
    for stream in STREAMS.values():
        yield from ("", f"**`{stream.name}`**", "")
        yield from ("| key | dtype | dims | units | |", "|---|---|---|---|---|")
        for key in stream.keys:
            dtype = key.dtype.replace("|", r"\|")
            dtype = f"`{dtype}`" if dtype and dtype != "string" else dtype
            optional = "; older runs lack it" if key.optional else ""
            cells = (f"`{key.name}`", dtype, " ".join(key.dims), key.units, key.help + optional)
            yield f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    print(markdown())
