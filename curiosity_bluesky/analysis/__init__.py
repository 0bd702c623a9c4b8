"""What a run has taught: predictions, property maps, kinds of behaviour, and reasons."""

from __future__ import annotations

from curiosity_bluesky.analysis.clusters import cluster, cluster_documents
from curiosity_bluesky.analysis.prediction import predict, predict_from_documents, summarize

__all__ = [
    "cluster",
    "cluster_documents",
    "predict",
    "predict_from_documents",
    "summarize",
]
