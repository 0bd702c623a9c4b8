"""``curiosity queue``: plans by name, on a Queue Server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from curiosity_bluesky.cli.options import (
    POINTS,
    SEED,
    STRATEGY,
    AddressOption,
    JsonOption,
    MetadataOption,
    SettingsOption,
    TimeBudgetOption,
    parameters,
)
from curiosity_bluesky.cli.output import console, print_line
from curiosity_bluesky.errors import InputError
from curiosity_bluesky.utils.display import Table
from curiosity_bluesky.utils.validation import FEW, number, whole_number
from curiosity_bluesky.utils.wording import did_you_mean, plural

app = typer.Typer(help="Queue runs on a Queue Server, and steer the one that runs.")


@app.command()
def add(
    plan: Annotated[str, typer.Argument(help="Name of the plan, see `plans`.")] = "curiosity_plan",
    strategy: Annotated[str | None, STRATEGY] = None,
    points: Annotated[int | None, POINTS] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="What is measured; the simulated microscope loads it before."),
    ] = None,
    seed: Annotated[int | None, SEED] = None,
    agent: Annotated[
        str | None,
        typer.Option(metavar="TCP", help="The `curiosity agent` that decides. [default: worker]"),
    ] = None,
    time_budget: TimeBudgetOption = None,
    resume: Annotated[
        str | None, typer.Option(metavar="UID", help="Resume an interrupted run.")
    ] = None,
    settings: SettingsOption = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="A parameter of the plan, as tip=tip."),
    ] = None,
    md: MetadataOption = None,
    start: Annotated[bool, typer.Option("--start", help="Start the queue as well.")] = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a plan by its name, `curiosity_plan` if none is given."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient, describe_item

    _check_numbers(points, seed, time_budget, agent)
    named = parameters(md or [], "--md", "operator=anna")
    given = {
        "strategy": strategy,
        "num_points": points,
        "seed": seed,
        "agent": agent,
        "time_budget": time_budget,
        "resume": resume,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    wanted |= parameters(arguments or [], "--arg", "tip=tip")
    if settings:
        chosen = parameters(settings)
        if resume is None:
            _check_strategy(strategy, chosen)
        known = wanted.get("options", {})
        if not isinstance(known, Mapping):
            raise InputError(f"--arg options is {known!r}; expected values by name, as a dict")
        wanted["options"] = {**known, "parameters": {**known.get("parameters", {}), **chosen}}
    with QueueClient(address) as opened:
        before = []
        if sample is not None:
            if "load_sample" in opened.plans():  # which says its name to the runs that follow
                before.append(opened.item("load_sample", sample=sample))
            else:
                named["sample"] = sample
        if named:
            wanted["md"] = named
        items = opened.add(plan, *before, **wanted)
        if start:
            opened.ask("queue_start")
    if as_json:
        print(json.dumps(items))
    for item in [] if as_json else items:
        print_line(f"queued {describe_item(item)}")


def _check_numbers(
    points: int | None, seed: int | None, time_budget: float | None, agent: str | None
) -> None:
    """Refuse bad numbers now, before the plan's turn comes."""
    if points is not None:
        whole_number("--points", points, 1, FEW)
    if seed is not None:
        whole_number("--seed", seed)
    if time_budget is not None:
        number("--time-budget", time_budget, open_low=True, what="seconds")
    if agent is not None:
        from curiosity_bluesky.agent.remote.tokens import endpoint

        endpoint(agent)


def _check_strategy(name: str | None, settings: dict[str, Any]) -> None:
    """Refuse an unknown parameter of a strategy now, before the plan's turn comes."""
    from curiosity_bluesky.learning import Strategy

    if (name or "curious") in Strategy.names():  # the worker may know more
        Strategy.named(name or "curious", **settings)


@app.command("list")
def list_items(
    history: Annotated[int, typer.Option(help="Number of finished items to show.")] = 10,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the queue, the running plan and the history."""
    from curiosity_bluesky.adapters.queueserver.manager import (
        QueueClient,
        describe_error,
        describe_item,
    )

    with QueueClient(address) as opened:
        found = opened.listing()
    if as_json:
        print(json.dumps(found))
        return
    table = Table()
    for column in ("item", "state", "plan", "runs", "remark"):
        table.add_column(column, overflow="fold")
    for item in found["history"][-history:] if history else []:
        result = item["result"]
        uids = " ".join(uid[:8] for uid in result["run_uids"])
        table.add_row("", result["exit_status"], describe_item(item), uids, describe_error(result))
    if found["running"]:
        state = "paused" if found["state"] == "paused" else "running"
        table.add_row("", state, describe_item(found["running"]), "", "")
    for item in found["queue"]:
        again = "put back, from its beginning" if "result" in item else ""  # it failed
        table.add_row(item["item_uid"][:8], "queued", describe_item(item), "", again)
    console.print(table)


@app.command()
def status(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Show the state of the Queue Server."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        state = opened.status()
        runs = opened.ask("re_runs", reload=True)["run_list"]
        where = opened.address
    state["runs"] = runs
    if as_json:
        print(json.dumps(state))
        return
    environment = "open" if state["worker_environment_exists"] else "closed"
    print_line(f"queue server  {where}, {state['manager_state'].replace('_', ' ')}")
    print_line(f"environment   {environment}, RunEngine {state['re_state'] or 'none'}")
    waiting, done = state["items_in_queue"], state["items_in_history"]
    print_line(
        f"queue         {waiting} {plural(waiting, 'item waits', 'items wait')}, {done} "
        f"{plural(done, 'is', 'are')} done"
    )
    for run in runs:
        print_line(
            f"run           {run['uid']}, {'open' if run['is_open'] else run['exit_status']}"
        )


@app.command()
def plans(
    name: Annotated[str | None, typer.Argument(help="Show the parameters of this one.")] = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the plans that can be queued, or the parameters of one."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        found = opened.plans() if name is None else opened.plan(name)
    if as_json:
        print(json.dumps(found))
        return
    table = Table()
    if name is None:
        for column in ("plan", "what it does"):
            table.add_column(column, no_wrap=column == "plan")
        for each, about in found.items():
            table.add_row(each, about.get("description", "").split("\n")[0])
    else:
        for column in ("parameter", "type", "default", "meaning"):
            table.add_column(column, no_wrap=column == "parameter", overflow="fold")
        for parameter in found["parameters"]:
            default = parameter.get("default", "needed")
            about = " ".join(parameter.get("description", "").split())
            table.add_row(parameter["name"], _kind(parameter), default, about)
    console.print(table)


def _kind(parameter: Mapping[str, Any]) -> str:
    annotation = parameter.get("annotation", {})
    names: list[str] = []
    for group in ("devices", "enums"):
        for each in annotation.get(group, {}).values():
            names += each
    kind = str(annotation.get("type", "")).replace("typing.", "")
    return kind + (f": {', '.join(names)}" if names else "")


@app.command("open")
def open_environment(address: AddressOption = None) -> None:
    """Open the environment: the worker runs the startup files of its profile."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        opened.open()
    print_line("the environment is open")


@app.command("close")
def close_environment(
    force: Annotated[
        bool, typer.Option("--force", help="Kill the worker, where it hangs or has died.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Close the environment."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        opened.shut(force=force)
    print_line("the environment is closed")


@app.command()
def start(
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the queue is done, or a plan pauses.")
    ] = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the queue."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        done = len(opened.listing()["history"])
        opened.ask("queue_start")
        if not wait:
            return
        state = opened.wait("idle", "paused")["manager_state"]
        items = opened.listing()["history"][done:]
    _show_done(items, as_json)
    if state == "paused":
        print_line("a plan is paused: `curiosity queue resume`, `stop` or `abort`")
        raise typer.Exit(1)


@app.command()
def pause(
    now: Annotated[
        bool, typer.Option("--now", help="At once; the spectrum under way is taken again.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Pause the run, after the event that is under way."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        state = opened.pause(now)["manager_state"]
    print_line(
        "paused; `curiosity queue resume`, `stop` or `abort`" if state == "paused" else "it ended"
    )


@app.command()
def resume(address: AddressOption = None) -> None:
    """Resume the paused run."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        opened.resume()
    print_line("it goes on")


@app.command()
def stop(
    after: Annotated[
        bool, typer.Option("--after", help="Let the run finish, and start no other.")
    ] = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the running plan, keep its data, and start no other."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        if after:
            opened.ask("queue_stop")
            print_line("no other plan will be started")
            return
        ended = opened.end("stop")
    _show_done([ended], as_json)


@app.command()
def abort(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Abort the running plan as failed; it goes back into the queue."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        ended = opened.end("abort")
    _show_done([ended], as_json, failed_is_bad=False)


@app.command()
def remove(
    item: Annotated[str, typer.Argument(help="As `list` shows it.")], address: AddressOption = None
) -> None:
    """Remove one item from the queue."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient, describe_item

    with QueueClient(address) as opened:
        print_line(f"removed {describe_item(opened.remove(item))}")


@app.command()
def clear(address: AddressOption = None) -> None:
    """Clear the queue."""
    from curiosity_bluesky.adapters.queueserver.manager import QueueClient

    with QueueClient(address) as opened:
        opened.ask("queue_clear")
    print_line("nothing is queued")


@app.command(context_settings={"ignore_unknown_options": True})  # numbers may be negative
def steer(
    wish: Annotated[str, typer.Argument(help="add, mask, veto, set, budget, strategy or stop.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="As of `steer` in Python: 12 30, or x=0.42 y=0.10.")
    ] = None,
    address: AddressOption = None,
) -> None:
    """Steer the run that goes on: `budget 200`, `add x=0.4 y=0.1`, `stop`."""
    from curiosity_bluesky.adapters.queueserver.manager import WISHES, QueueClient

    if wish not in WISHES:
        near = did_you_mean(wish, WISHES)
        raise InputError(f"steer {wish!r} is not known; expected one of {', '.join(WISHES)}.{near}")
    args = [_value(value) for value in values or [] if "=" not in value]
    named = parameters([value for value in values or [] if "=" in value], "steer", "x=0.42")
    kwargs = {
        name: _value(value) if isinstance(value, str) else value for name, value in named.items()
    }
    with QueueClient(address) as opened:
        opened.steer(wish, *args, **kwargs)
    print_line(f"asked: {wish} {' '.join(values or [])}".rstrip())


def _value(text: str) -> Any:
    """Return the value of a word: JSON, numbers separated by commas, or text."""
    for candidate in (text, f"[{text}]" if "," in text else text):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            continue
    return text


def _show_done(items: list[dict[str, Any]], as_json: bool, failed_is_bad: bool = True) -> None:
    from curiosity_bluesky.adapters.queueserver.manager import describe_error, describe_item

    if as_json:
        print(json.dumps(items))
    for item in [] if as_json else items:
        result = item["result"]
        runs = " ".join(["run", *result["run_uids"]]) if result["run_uids"] else ""
        print_line(
            f"{result['exit_status']}: {describe_item(item)} {runs} "
            f"{describe_error(result)}".rstrip()
        )
    bad = any(item["result"]["exit_status"] not in ("completed", "stopped") for item in items)
    if bad and failed_is_bad:
        raise typer.Exit(1)
