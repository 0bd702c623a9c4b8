"""What a run has taught: predictions, property maps, kinds of behaviour, and reasons."""

from __future__ import annotations

from curiosity_bluesky.analysis.clusters import cluster, cluster_documents
from curiosity_bluesky.analysis.comparison import compare, describe_comparison
from curiosity_bluesky.analysis.prediction import predict, predict_from_documents, summarize
from curiosity_bluesky.analysis.properties import properties_in, property_map
from curiosity_bluesky.analysis.spectrum_properties import register_property, vectorised
from curiosity_bluesky.analysis.why import (
    Explanation,
    explain,
    explain_from_documents,
    explain_in_catalog,
)

__all__ = [
    "Explanation",
    "cluster",
    "cluster_documents",
    "compare",
    "describe_comparison",
    "explain",
    "explain_from_documents",
    "explain_in_catalog",
    "predict",
    "predict_from_documents",
    "properties_in",
    "property_map",
    "register_property",
    "summarize",
    "vectorised",
]
