"""Plans that are queued by name, and what may be asked of one that runs."""

from bluesky.utils import MsgGenerator
from bluesky_queueserver import parameter_annotation_decorator

from curiosity_bluesky import curiosity_plan, steer
from curiosity_bluesky.learning import Strategy
from curiosity_bluesky.plans import stubs
from curiosity_bluesky.plans.options import fields, groups

# Annotations say that a parameter is a device or a text; these say which, so that a name that
# there is not is refused when it is queued, and not when its turn has come.
_detector = {"Detector": ["__DETECTOR__:.*"]}
_motor = {"Motor": ["__MOTOR__:?.*:depth=2"]}
_strategies = [name for name in Strategy.names() if not Strategy.named(name).needs_truth]

curiosity_plan = parameter_annotation_decorator(
    {
        "parameters": {
            "detectors": {"annotation": "typing.List[Detector]", "devices": _detector},
            "x": {"annotation": "Motor", "devices": _motor},
            "y": {"annotation": "Motor", "devices": _motor},
            "imager": {"annotation": "Detector", "devices": _detector},
            "tip": {"annotation": "typing.Optional[Motor]", "devices": _motor},
            "strategy": {
                "annotation": "typing.Optional[Strategy]",
                "enums": {"Strategy": _strategies},
            },
            # The models themselves are not known where a plan is queued; a dict of their fields
            # does as well, and `curiosity schema` describes it.
            **{
                model.group: {
                    "annotation": "typing.Optional[dict]",
                    "description": f"{model.__doc__} Fields: "
                    + "; ".join(f"{name}: {f.description}" for name, f in fields(model).items()),
                }
                for model in groups()
            },
        }
    }
)(curiosity_plan)


@parameter_annotation_decorator(
    {"parameters": {"sample": {"annotation": "Sample", "enums": {"Sample": _samples}}}}
)
def load_sample(sample: str) -> MsgGenerator[None]:
    """Put another sample under the simulated tip.

    Parameters
    ----------
    sample : str
        Its name; runs that follow have it in their start documents.
    """
    yield from stubs.call_in_thread(lambda: _instrument.load(open_sample(sample)))
    RE.md["sample"] = _instrument.sample.name


# What `curiosity queue steer` calls while a plan runs.
steer_add, steer_mask, steer_veto = steer.add, steer.mask, steer.veto
steer_set, steer_budget, steer_strategy = steer.set, steer.budget, steer.strategy
steer_stop = steer.stop
