"""What the documents of a run hold: the one place that knows streams and data keys.

The plan writes with `PlanReadable`; the agent reads with `Translator`; a scientist reads a whole
run with `read`. Whoever wants to know what a data key means finds it here.
"""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.documents.counts import PointCount as PointCount
    from curiosity_bluesky.documents.files import ExternalFiles as ExternalFiles
    from curiosity_bluesky.documents.files import in_order as in_order
    from curiosity_bluesky.documents.keys import AGENT as AGENT
    from curiosity_bluesky.documents.keys import DECISION_KEYS as DECISION_KEYS
    from curiosity_bluesky.documents.keys import DECISIONS as DECISIONS
    from curiosity_bluesky.documents.keys import DRIFT as DRIFT
    from curiosity_bluesky.documents.keys import DRIFT_KEYS as DRIFT_KEYS
    from curiosity_bluesky.documents.keys import ESTIMATED as ESTIMATED
    from curiosity_bluesky.documents.keys import FAILURE_KEYS as FAILURE_KEYS
    from curiosity_bluesky.documents.keys import FAILURES as FAILURES
    from curiosity_bluesky.documents.keys import FLAG_KEYS as FLAG_KEYS
    from curiosity_bluesky.documents.keys import FLAGS as FLAGS
    from curiosity_bluesky.documents.keys import LEARNING as LEARNING
    from curiosity_bluesky.documents.keys import LEARNING_KEYS as LEARNING_KEYS
    from curiosity_bluesky.documents.keys import LOOKAHEAD as LOOKAHEAD
    from curiosity_bluesky.documents.keys import MAPS as MAPS
    from curiosity_bluesky.documents.keys import MASK as MASK
    from curiosity_bluesky.documents.keys import MAX_BIAS as MAX_BIAS
    from curiosity_bluesky.documents.keys import OUT_OF_REACH as OUT_OF_REACH
    from curiosity_bluesky.documents.keys import PREDICTED as PREDICTED
    from curiosity_bluesky.documents.keys import PRIMARY as PRIMARY
    from curiosity_bluesky.documents.keys import RESUMES as RESUMES
    from curiosity_bluesky.documents.keys import RESURVEY_EVERY as RESURVEY_EVERY
    from curiosity_bluesky.documents.keys import RESURVEY_MINUTES as RESURVEY_MINUTES
    from curiosity_bluesky.documents.keys import STEERING as STEERING
    from curiosity_bluesky.documents.keys import STEERING_KEYS as STEERING_KEYS
    from curiosity_bluesky.documents.keys import SURVEY as SURVEY
    from curiosity_bluesky.documents.keys import TIME_BUDGET as TIME_BUDGET
    from curiosity_bluesky.documents.keys import TIP as TIP
    from curiosity_bluesky.documents.keys import WARM as WARM
    from curiosity_bluesky.documents.keys import WARM_ASKED as WARM_ASKED
    from curiosity_bluesky.documents.keys import WARM_DISTANCE as WARM_DISTANCE
    from curiosity_bluesky.documents.keys import WARM_GATE as WARM_GATE
    from curiosity_bluesky.documents.keys import WARM_REASON as WARM_REASON
    from curiosity_bluesky.documents.keys import WARM_SPECTRA as WARM_SPECTRA
    from curiosity_bluesky.documents.keys import WARM_START as WARM_START
    from curiosity_bluesky.documents.prior_runs import Channel as Channel
    from curiosity_bluesky.documents.prior_runs import channels_of as channels_of
    from curiosity_bluesky.documents.prior_runs import check_channels as check_channels
    from curiosity_bluesky.documents.prior_runs import prior_run_from as prior_run_from
    from curiosity_bluesky.documents.reading import Incomplete as Incomplete
    from curiosity_bluesky.documents.reading import flags_of as flags_of
    from curiosity_bluesky.documents.reading import read as read
    from curiosity_bluesky.documents.reading import read_stream as read_stream
    from curiosity_bluesky.documents.spectra import Spectrum as Spectrum
    from curiosity_bluesky.documents.spectra import quality_of as quality_of
    from curiosity_bluesky.documents.spectra import spectrum_of as spectrum_of
    from curiosity_bluesky.documents.translate import Item as Item
    from curiosity_bluesky.documents.translate import Translator as Translator
    from curiosity_bluesky.documents.translate import axis_of as axis_of
    from curiosity_bluesky.documents.translate import channel_keys as channel_keys
    from curiosity_bluesky.documents.translate import decision_from as decision_from
    from curiosity_bluesky.documents.translate import flag_from as flag_from
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
    "AGENT": "keys",
    "Anomaly": "curiosity_bluesky.learning",
    "Channel": "prior_runs",
    "DECISIONS": "keys",
    "DECISION_KEYS": "keys",
    "DRIFT": "keys",
    "DRIFT_KEYS": "keys",
    "ESTIMATED": "keys",
    "ExternalFiles": "files",
    "FAILURES": "keys",
    "FAILURE_KEYS": "keys",
    "FLAGS": "keys",
    "FLAG_KEYS": "keys",
    "Failure": "curiosity_bluesky.learning",
    "Incomplete": "reading",
    "Item": "translate",
    "LEARNING": "keys",
    "LEARNING_KEYS": "keys",
    "LOOKAHEAD": "keys",
    "MAPS": "keys",
    "MASK": "keys",
    "MAX_BIAS": "keys",
    "OUT_OF_REACH": "keys",
    "Observation": "curiosity_bluesky.learning",
    "PREDICTED": "keys",
    "PRIMARY": "keys",
    "PlanReadable": "writing",
    "PointCount": "counts",
    "Proposal": "curiosity_bluesky.learning",
    "RESUMES": "keys",
    "RESURVEY_EVERY": "keys",
    "RESURVEY_MINUTES": "keys",
    "RunEnd": "curiosity_bluesky.utils.run_end",
    "STEERING": "keys",
    "STEERING_KEYS": "keys",
    "SURVEY": "keys",
    "Spectrum": "spectra",
    "SteeringRequest": "curiosity_bluesky.learning",
    "Survey": "curiosity_bluesky.learning",
    "TIME_BUDGET": "keys",
    "TIP": "keys",
    "Translator": "translate",
    "WARM": "keys",
    "WARM_ASKED": "keys",
    "WARM_DISTANCE": "keys",
    "WARM_GATE": "keys",
    "WARM_REASON": "keys",
    "WARM_SPECTRA": "keys",
    "WARM_START": "keys",
    "axis_of": "translate",
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
    "in_order": "files",
    "prediction_values": "writing",
    "prior_run_from": "prior_runs",
    "quality_of": "spectra",
    "read": "reading",
    "read_stream": "reading",
    "spectrum_of": "spectra",
    "start_keys": "writing",
    "steering_values": "writing",
    "strategy_from": "translate",
    "survey_from": "translate",
    "survey_record": "writing",
    "training_values": "writing",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
