"""``curiosity schema``: what the plan takes, for forms and for other programs."""

from __future__ import annotations

import json

import typer

app = typer.Typer()


@app.command()
def schema() -> None:
    """Print the JSON schema of the plan's parameters: options, safety, drift, strategies."""
    from curiosity_bluesky.learning import Strategy
    from curiosity_bluesky.plans.options import plan_schema

    print(json.dumps(plan_schema(Strategy.names()), indent=2))
