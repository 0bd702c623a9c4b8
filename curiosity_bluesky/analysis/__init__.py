"""What a run has taught: predictions, property maps, clusters, comparisons, and reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curiosity_bluesky.utils.lazy import lazy_names

if TYPE_CHECKING:
    from curiosity_bluesky.analysis.clusters import cluster as cluster
    from curiosity_bluesky.analysis.clusters import cluster_documents as cluster_documents
    from curiosity_bluesky.analysis.comparison import compare as compare
    from curiosity_bluesky.analysis.comparison import describe_comparison as describe_comparison
    from curiosity_bluesky.analysis.prediction import predict as predict
    from curiosity_bluesky.analysis.prediction import (
        predict_from_documents as predict_from_documents,
    )
    from curiosity_bluesky.analysis.prediction import summarize as summarize
    from curiosity_bluesky.analysis.properties import properties_in as properties_in
    from curiosity_bluesky.analysis.properties import property_map as property_map
    from curiosity_bluesky.analysis.spectrum_properties import (
        register_property as register_property,
    )
    from curiosity_bluesky.analysis.spectrum_properties import vectorised as vectorised
    from curiosity_bluesky.analysis.why import Explanation as Explanation
    from curiosity_bluesky.analysis.why import explain as explain
    from curiosity_bluesky.analysis.why import explain_from_documents as explain_from_documents
    from curiosity_bluesky.analysis.why import explain_in_catalog as explain_in_catalog

_MODULES = {
    "Explanation": "why",
    "cluster": "clusters",
    "cluster_documents": "clusters",
    "compare": "comparison",
    "describe_comparison": "comparison",
    "explain": "why",
    "explain_from_documents": "why",
    "explain_in_catalog": "why",
    "predict": "prediction",
    "predict_from_documents": "prediction",
    "properties_in": "properties",
    "property_map": "properties",
    "register_property": "spectrum_properties",
    "summarize": "prediction",
    "vectorised": "spectrum_properties",
}
__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
