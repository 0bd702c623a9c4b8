"""The strategies; importing this package makes all of them available by name."""

from curiosity_bluesky.learning.strategies.random import Random
from curiosity_bluesky.learning.strategies.vatsavai2025_latent import Vatsavai2025Latent

__all__ = ["Random", "Vatsavai2025Latent"]
