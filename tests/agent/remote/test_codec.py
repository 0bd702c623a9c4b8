"""What travels between processes comes out as it went in, and nothing else does."""

from __future__ import annotations

import pickle

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from curiosity_bluesky.agent.remote.codec import (
    decode,
    deserializer,
    encode,
    serializer,
    sign,
    verify,
)
from curiosity_bluesky.errors import InputError

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(plain)
def test_plain_values_come_back(value):
    assert decode(encode(value)) == value


@given(
    arrays.arrays(
        st.one_of(
            arrays.floating_dtypes(), arrays.integer_dtypes(), arrays.boolean_dtypes(),
            arrays.unicode_string_dtypes(max_len=5),
        ),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    )
)  # fmt: skip
def test_arrays_come_back_with_shape_and_every_bit(value):
    [back] = decode(encode([value]))
    assert back.dtype == value.dtype and back.shape == value.shape
    assert back.tobytes() == value.tobytes()
    assert back.flags.writeable


def test_numpy_scalars_become_numbers():
    assert decode(encode({"n": np.int64(3), "x": np.float64(0.1), "yes": np.bool_(True)})) == {
        "n": 3, "x": 0.1, "yes": True,
    }  # fmt: skip


@pytest.mark.parametrize("value", [object(), np.array([object()]), lambda: 0])
def test_objects_are_not_sent(value):
    with pytest.raises(InputError, match=r"cannot be sent to another process; expected numbers"):
        encode({"value": value})


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"a": 1}),
        b"",
        b"\xc1",
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["|O", [1]]) + bytes(8))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["<f8", [3]]) + bytes(8))),
        msgpack.packb(msgpack.ExtType(9, b"x")),
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(InputError, match="cannot be read"):
        decode(data)


def test_a_seal_holds():
    assert verify(sign(b"data", "token"), "token") == b"data"
    for broken in (sign(b"data", "other"), sign(b"data", "token")[:-1], b"", b"data"):
        with pytest.raises(InputError, match="seal of the token"):
            verify(broken, "token")


def test_documents_pass_as_bluesky_passes_them():
    doc = {"uid": "a", "data": {"spectrum": np.arange(3.0), "n": np.int32(2)}}
    back = deserializer("t")(serializer("t")(doc))
    assert back["uid"] == "a" and back["data"]["n"] == 2
    np.testing.assert_array_equal(back["data"]["spectrum"], np.arange(3.0))
