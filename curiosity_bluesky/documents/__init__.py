"""Documents of a run: schema, writing, reading.

`curiosity_bluesky.documents.schema` is the one table of streams and data keys. The plan writes
with `PlanReadable`; the agent reads with `Translator`; a scientist reads a whole run with `read`.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.documents.counts import PointCount as PointCount
    from curiosity_bluesky.documents.files import ExternalFiles as ExternalFiles
    from curiosity_bluesky.documents.files import in_order as in_order
    from curiosity_bluesky.documents.predictions import PredictionReader as PredictionReader
    from curiosity_bluesky.documents.predictions import SpectrumAxis as SpectrumAxis
    from curiosity_bluesky.documents.predictions import prediction_records as prediction_records
    from curiosity_bluesky.documents.predictions import spectrum_axes as spectrum_axes
    from curiosity_bluesky.documents.prior_runs import Channel as Channel
    from curiosity_bluesky.documents.prior_runs import channels_of as channels_of
    from curiosity_bluesky.documents.prior_runs import check_channels as check_channels
    from curiosity_bluesky.documents.prior_runs import prior_run_from as prior_run_from
    from curiosity_bluesky.documents.reading import Incomplete as Incomplete
    from curiosity_bluesky.documents.reading import error_curve as error_curve
    from curiosity_bluesky.documents.reading import flags_of as flags_of
    from curiosity_bluesky.documents.reading import flat_attributes as flat_attributes
    from curiosity_bluesky.documents.reading import read as read
    from curiosity_bluesky.documents.reading import read_stream as read_stream
    from curiosity_bluesky.documents.reading import split_cycles as split_cycles
    from curiosity_bluesky.documents.replay import ReplayedRun as ReplayedRun
    from curiosity_bluesky.documents.replay import replay_run as replay_run
    from curiosity_bluesky.documents.replay import tell as tell
    from curiosity_bluesky.documents.schema import AGENT as AGENT
    from curiosity_bluesky.documents.schema import DECISIONS as DECISIONS
    from curiosity_bluesky.documents.schema import DEVIATION as DEVIATION
    from curiosity_bluesky.documents.schema import DRIFT as DRIFT
    from curiosity_bluesky.documents.schema import ESTIMATED as ESTIMATED
    from curiosity_bluesky.documents.schema import FAILURES as FAILURES
    from curiosity_bluesky.documents.schema import FLAGS as FLAGS
    from curiosity_bluesky.documents.schema import LEARNING as LEARNING
    from curiosity_bluesky.documents.schema import LOOKAHEAD as LOOKAHEAD
    from curiosity_bluesky.documents.schema import MAPS as MAPS
    from curiosity_bluesky.documents.schema import MASK as MASK
    from curiosity_bluesky.documents.schema import MAX_BIAS as MAX_BIAS
    from curiosity_bluesky.documents.schema import OUT_OF_REACH as OUT_OF_REACH
    from curiosity_bluesky.documents.schema import PREDICTED as PREDICTED
    from curiosity_bluesky.documents.schema import PREDICTIONS as PREDICTIONS
    from curiosity_bluesky.documents.schema import PRIMARY as PRIMARY
    from curiosity_bluesky.documents.schema import RESUMES as RESUMES
    from curiosity_bluesky.documents.schema import RESURVEY_EVERY as RESURVEY_EVERY
    from curiosity_bluesky.documents.schema import RESURVEY_MINUTES as RESURVEY_MINUTES
    from curiosity_bluesky.documents.schema import SQUARED as SQUARED
    from curiosity_bluesky.documents.schema import STEERING as STEERING
    from curiosity_bluesky.documents.schema import STREAMS as STREAMS
    from curiosity_bluesky.documents.schema import SURVEY as SURVEY
    from curiosity_bluesky.documents.schema import TIME_BUDGET as TIME_BUDGET
    from curiosity_bluesky.documents.schema import TIP as TIP
    from curiosity_bluesky.documents.schema import WARM as WARM
    from curiosity_bluesky.documents.schema import WARM_ASKED as WARM_ASKED
    from curiosity_bluesky.documents.schema import WARM_DISTANCE as WARM_DISTANCE
    from curiosity_bluesky.documents.schema import WARM_GATE as WARM_GATE
    from curiosity_bluesky.documents.schema import WARM_REASON as WARM_REASON
    from curiosity_bluesky.documents.schema import WARM_SPECTRA as WARM_SPECTRA
    from curiosity_bluesky.documents.schema import WARM_START as WARM_START
    from curiosity_bluesky.documents.schema import Document as Document
    from curiosity_bluesky.documents.spectra import Spectrum as Spectrum
    from curiosity_bluesky.documents.spectra import quality_of as quality_of
    from curiosity_bluesky.documents.spectra import spectrum_of as spectrum_of
    from curiosity_bluesky.documents.translate import Item as Item
    from curiosity_bluesky.documents.translate import Translator as Translator
    from curiosity_bluesky.documents.translate import axis_of as axis_of
    from curiosity_bluesky.documents.translate import channel_keys as channel_keys
    from curiosity_bluesky.documents.translate import decision_from as decision_from
    from curiosity_bluesky.documents.translate import events_in as events_in
    from curiosity_bluesky.documents.translate import flag_from as flag_from
    from curiosity_bluesky.documents.translate import holds_image as holds_image
    from curiosity_bluesky.documents.translate import strategy_from as strategy_from
    from curiosity_bluesky.documents.translate import survey_from as survey_from
    from curiosity_bluesky.documents.writing import PlanReadable as PlanReadable
    from curiosity_bluesky.documents.writing import decision_values as decision_values
    from curiosity_bluesky.documents.writing import drift_record as drift_record
    from curiosity_bluesky.documents.writing import failure_values as failure_values
    from curiosity_bluesky.documents.writing import flag_values as flag_values
    from curiosity_bluesky.documents.writing import prediction_values as prediction_values
    from curiosity_bluesky.documents.writing import start_keys as start_keys
    from curiosity_bluesky.documents.writing import steering_values as steering_values
    from curiosity_bluesky.documents.writing import survey_record as survey_record
    from curiosity_bluesky.documents.writing import training_values as training_values
    from curiosity_bluesky.learning import BEGUN as BEGUN
    from curiosity_bluesky.learning import Anomaly as Anomaly
    from curiosity_bluesky.learning import Failure as Failure
    from curiosity_bluesky.learning import Observation as Observation
    from curiosity_bluesky.learning import Proposal as Proposal
    from curiosity_bluesky.learning import SteeringRequest as SteeringRequest
    from curiosity_bluesky.learning import Survey as Survey
    from curiosity_bluesky.learning.masks import decode_mask as decode_mask
    from curiosity_bluesky.learning.masks import encode_mask as encode_mask
    from curiosity_bluesky.utils.run_end import RunEnd as RunEnd

_MODULES = {
    "AGENT": "schema",
    "Anomaly": "curiosity_bluesky.learning",
    "BEGUN": "curiosity_bluesky.learning",
    "Channel": "prior_runs",
    "DECISIONS": "schema",
    "DRIFT": "schema",
    "Document": "schema",
    "ESTIMATED": "schema",
    "ExternalFiles": "files",
    "FAILURES": "schema",
    "DEVIATION": "schema",
    "FLAGS": "schema",
    "Failure": "curiosity_bluesky.learning",
    "Incomplete": "reading",
    "Item": "translate",
    "LEARNING": "schema",
    "LOOKAHEAD": "schema",
    "MAPS": "schema",
    "MASK": "schema",
    "MAX_BIAS": "schema",
    "OUT_OF_REACH": "schema",
    "Observation": "curiosity_bluesky.learning",
    "PREDICTED": "schema",
    "PREDICTIONS": "schema",
    "PRIMARY": "schema",
    "PlanReadable": "writing",
    "PointCount": "counts",
    "PredictionReader": "predictions",
    "Proposal": "curiosity_bluesky.learning",
    "RESUMES": "schema",
    "RESURVEY_EVERY": "schema",
    "RESURVEY_MINUTES": "schema",
    "ReplayedRun": "replay",
    "RunEnd": "curiosity_bluesky.utils.run_end",
    "SQUARED": "schema",
    "STEERING": "schema",
    "STREAMS": "schema",
    "SURVEY": "schema",
    "Spectrum": "spectra",
    "SteeringRequest": "curiosity_bluesky.learning",
    "Survey": "curiosity_bluesky.learning",
    "TIME_BUDGET": "schema",
    "TIP": "schema",
    "Translator": "translate",
    "WARM": "schema",
    "WARM_ASKED": "schema",
    "WARM_DISTANCE": "schema",
    "WARM_GATE": "schema",
    "WARM_REASON": "schema",
    "WARM_SPECTRA": "schema",
    "WARM_START": "schema",
    "axis_of": "translate",
    "error_curve": "reading",
    "split_cycles": "reading",
    "events_in": "translate",
    "channel_keys": "translate",
    "channels_of": "prior_runs",
    "check_channels": "prior_runs",
    "decision_from": "translate",
    "decision_values": "writing",
    "decode_mask": "curiosity_bluesky.learning.masks",
    "drift_record": "writing",
    "encode_mask": "curiosity_bluesky.learning.masks",
    "failure_values": "writing",
    "flag_from": "translate",
    "flag_values": "writing",
    "flags_of": "reading",
    "flat_attributes": "reading",
    "holds_image": "translate",
    "in_order": "files",
    "SpectrumAxis": "predictions",
    "prediction_records": "predictions",
    "spectrum_axes": "predictions",
    "prediction_values": "writing",
    "prior_run_from": "prior_runs",
    "quality_of": "spectra",
    "read": "reading",
    "read_stream": "reading",
    "replay_run": "replay",
    "spectrum_of": "spectra",
    "start_keys": "writing",
    "steering_values": "writing",
    "strategy_from": "translate",
    "survey_from": "translate",
    "survey_record": "writing",
    "tell": "replay",
    "training_values": "writing",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
