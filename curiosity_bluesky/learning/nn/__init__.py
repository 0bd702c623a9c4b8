"""Networks of the published algorithm."""

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.learning.nn.architectures import TABLE_1 as TABLE_1
    from curiosity_bluesky.learning.nn.architectures import Encoder as Encoder
    from curiosity_bluesky.learning.nn.autoencoder import AutoencoderFeatures as AutoencoderFeatures
    from curiosity_bluesky.learning.nn.curiosity import LearnedError as LearnedError
    from curiosity_bluesky.learning.nn.ensemble import EnsemblePredictor as EnsemblePredictor
    from curiosity_bluesky.learning.nn.error_models import ErrorNetwork as ErrorNetwork
    from curiosity_bluesky.learning.nn.error_models import LatentErrorDecoder as LatentErrorDecoder
    from curiosity_bluesky.learning.nn.im2spec import Im2SpecPredictor as Im2SpecPredictor
    from curiosity_bluesky.learning.nn.spec2im import Spec2ImPredictor as Spec2ImPredictor

_MODULES = {
    "AutoencoderFeatures": "autoencoder",
    "Encoder": "architectures",
    "EnsemblePredictor": "ensemble",
    "ErrorNetwork": "error_models",
    "Im2SpecPredictor": "im2spec",
    "LatentErrorDecoder": "error_models",
    "LearnedError": "curiosity",
    "Spec2ImPredictor": "spec2im",
    "TABLE_1": "architectures",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
