"""Tokens that an agent shares with its clients, and their files."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from pathlib import Path

import platformdirs

from curiosity_bluesky.errors import InputError

ENVIRONMENT = "CURIOSITY_AGENT_TOKEN"
"""Environment variable of the token, for both sides."""

_SHORTEST = 16


def endpoint(address: str) -> tuple[str, int]:
    """Return host and port of an address such as ``tcp://127.0.0.1:5577``.

    Raises
    ------
    InputError
        If it is none.
    """
    found = re.fullmatch(r"tcp://([^\s:/\[\]]+):(\d{1,5})", address)
    if found is None or int(found[2]) > 65535:
        raise InputError(
            f"{address!r} is no address of an agent; expected tcp://HOST:PORT, such as "
            "tcp://127.0.0.1:5577"
        )
    return found[1], int(found[2])


def is_loopback(address: str) -> bool:
    """Say whether an address can be reached from this machine alone."""
    host, _ = endpoint(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or * for every interface
        return False


def given_token(file: str | os.PathLike[str] | None = None) -> str | None:
    """Return the token of a file, or of ``$CURIOSITY_AGENT_TOKEN``; None if there is neither.

    Raises
    ------
    InputError
        If the file cannot be read, or the token is too short to be one.
    """
    if file is not None:
        try:
            return check_token(Path(file).expanduser().read_text().strip(), f"the file {file}")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the token file {file} cannot be read: {error}") from None
    token = os.environ.get(ENVIRONMENT, "").strip()
    return check_token(token, f"${ENVIRONMENT}") if token else None


def check_token(token: str, source: str) -> str:
    """Return a token after a check of its length.

    Raises
    ------
    InputError
        If it is not.
    """
    if len(token) < _SHORTEST:
        raise InputError(
            f"the token of {source} has {len(token)} characters; expected {_SHORTEST} or more, "
            'such as python -c "import secrets; print(secrets.token_hex(16))" makes'
        )
    return token


def token_for(address: str, token: str | None = None) -> str:
    """Return the token for an agent.

    Parameters
    ----------
    address
        Of the agent.
    token
        What was given; None: ``$CURIOSITY_AGENT_TOKEN``, or what an agent on this machine has
        left for its owner.

    Raises
    ------
    InputError
        If there is none.
    """
    if token is not None:
        return check_token(token, "the agent")
    if (found := given_token()) is not None:
        return found
    if is_loopback(address):
        with contextlib.suppress(OSError):
            return token_file(endpoint(address)[1]).read_text().strip()
    raise NoToken(
        f"there is no token for the agent at {address}: set {ENVIRONMENT} to that of the agent"
        + ("; no agent of yours runs at this port here" if is_loopback(address) else "")
    )


class NoToken(InputError):
    """The token of an agent is not known."""


def token_file(port: int) -> Path:
    """Return the file in which an agent on this machine leaves its token for its owner."""
    data = Path(platformdirs.user_data_dir("curiosity-bluesky"))
    return data / "agents" / f"{port}.token"


def write_token_file(port: int, token: str) -> str:
    """Write a token into a file that only its owner can read; return the file."""
    write_secret(token_file(port), token)
    return token


def remove_token_file(port: int, token: str) -> None:
    """Delete the file with a token, unless another agent has left its own there since."""
    remove_secret(token_file(port), token)


def queue_key_of(port: int) -> Path:
    """Return the file in which a Queue Server on this machine leaves its key for its owner."""
    data = Path(platformdirs.user_data_dir("curiosity-bluesky"))
    return data / "queue-servers" / f"{port}.key"


def write_secret(path: Path, secret: str) -> None:
    """Write a secret into a file that its owner alone can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secret)
    new.replace(path)  # a reader gets the old one or this one, not half of it


def remove_secret(path: Path, secret: str) -> None:
    """Delete a file with a secret, unless another one is there by now."""
    with contextlib.suppress(OSError):
        if path.read_text() == secret:
            path.unlink()
