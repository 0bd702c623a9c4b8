"""Messages between processes: msgpack, signed with a token; never pickle.

What comes over a network must not be able to run code here, so nothing is unpacked but
numbers, words, lists, mappings and arrays of numbers. A seal (HMAC-SHA256, as Jupyter's
kernels have it) says that the sender knows the token; it does not hide what is sent.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np

from curiosity_bluesky.errors import InputError

_ARRAY = 1
"""Type of msgpack's extension for arrays."""
_SEAL = hashlib.sha256().digest_size
_KINDS = "biufcSU"
"""Kinds of dtypes that arrays may have: those that hold no objects."""


def encode(value: Any) -> bytes:
    """Encode values of documents: JSON's types, bytes, numpy's scalars and arrays.

    Raises
    ------
    InputError
        If there is something else in it.
    """
    return bytes(msgpack.packb(value, default=_extension, use_bin_type=True) or b"")


def decode(data: bytes) -> Any:
    """Decode the bytes of `encode`; a tuple comes back as a list.

    Raises
    ------
    InputError
        If `encode` did not make them.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_array, raw=False, strict_map_key=False)
    except Exception as error:  # msgpack has a good many, numpy some more
        raise InputError(f"a message cannot be read ({type(error).__name__}: {error})") from error


def sign(data: bytes, token: str) -> bytes:
    """Prepend the signature of a token to bytes."""
    return _seal(data, token) + data


def verify(data: bytes, token: str) -> bytes:
    """Return the bytes after the signature.

    Raises
    ------
    InputError
        If it is not the seal of this token.
    """
    seal, rest = data[:_SEAL], data[_SEAL:]
    if not hmac.compare_digest(seal, _seal(rest, token)):
        raise InputError("a message does not bear the seal of the token; both sides need the same")
    return rest


def serializer(token: str) -> Callable[[Mapping[str, Any]], bytes]:
    """Return the function for bluesky's ``Publisher(serializer=...)``."""
    return lambda doc: sign(encode(doc), token)


def deserializer(token: str) -> Callable[[bytes], Any]:
    """Return the function for bluesky's ``RemoteDispatcher(deserializer=...)``.

    The dispatcher drops a document whose seal is not right, and says so.
    """
    return lambda data: decode(verify(data, token))


def _seal(data: bytes, token: str) -> bytes:
    return hmac.digest(token.encode(), data, "sha256")


def _extension(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        about = encode([value.dtype.str, list(value.shape)])
        return msgpack.ExtType(_ARRAY, about + np.ascontiguousarray(value).tobytes())
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        return value.item()
    if isinstance(value, Mapping):  # such as the descriptors of event-model
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise InputError(
        f"{type(value).__name__} cannot be sent to another process; expected numbers, words, "
        "lists, mappings and arrays of numbers"
    )


def _array(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"extension {code} is not known")
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    dtype, shape = unpacker.unpack()
    kind = np.dtype(dtype)
    if kind.kind not in _KINDS:
        raise ValueError(f"an array of {kind} is not taken")
    # A copy, which is writable as any other array is.
    return np.frombuffer(data[unpacker.tell() :], kind).reshape(shape).copy()
