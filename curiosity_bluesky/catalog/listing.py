"""Tree of a catalogue that lists runs alone; the index beside them is found by its name."""

from __future__ import annotations

from typing import Any

from curiosity_bluesky.catalog._tiled_compat import CatalogContainerAdapter, Node, from_uri
from curiosity_bluesky.catalog.directory import INDEX


class RunsOnlyContainer(CatalogContainerAdapter):
    """The root of a catalogue, without the index where its children are listed or counted.

    Clients of Bluesky catalogues take every child for a run: ``client[-1]`` would be the index
    if it was made after the last run.
    """

    def apply_conditions(self, statement: Any) -> Any:
        """Leave the index out of what is listed, counted or searched."""
        # Paths into a run are looked up through this too: what lies deeper may have any name.
        return (
            super()
            .apply_conditions(statement)
            .filter((Node.key != INDEX) | (Node.parent != self.node.id))
        )

    async def lookup_adapter(self, segments: list[str]) -> Any:
        """Return what lies at a path, the index too."""
        if segments[:1] == [INDEX]:
            whole = CatalogContainerAdapter(self.context, self.node)
            return await whole.lookup_adapter(segments)
        return await super().lookup_adapter(segments)


def runs_only(uri: str, **kwargs: Any) -> RunsOnlyContainer:
    """Return the tree for Tiled's configuration; the arguments are those of its ``catalog``."""
    plain = from_uri(uri, **kwargs)
    return RunsOnlyContainer(plain.context, plain.node)
