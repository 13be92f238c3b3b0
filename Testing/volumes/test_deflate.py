"""gzip, packed and unpacked by each of the three libraries: the same bytes whatever the steps, every damage seen."""

from __future__ import annotations

import gzip
import io
import random
import zlib

import numpy as np
import pytest
from isal import isal_zlib
from zlib_ng import zlib_ng

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes import deflate
from SRGAN3DLib.volumes.deflate import ZLIB_OR_GZIP, Deflated, Inflated, engine_name, finish

ENGINES = [("isal", isal_zlib, 2), ("zlib-ng", zlib_ng, 2), ("zlib", zlib, 1)]
DIGITS = np.random.default_rng(0).integers(0, 9, 100_000, dtype=np.uint8).tobytes()


@pytest.fixture(params=ENGINES, ids=lambda one: one[0], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "_engine", lambda: request.param)


def packed(data: bytes) -> bytes:
    file = io.BytesIO()
    packer = Deflated(file)
    for start in range(0, len(data), 30_000):
        packer.write(memoryview(data)[start : start + 30_000])
    packer.close()
    return file.getvalue()


def test_packed_is_gzip_and_always_the_same() -> None:
    assert gzip.decompress(packed(DIGITS)) == DIGITS and packed(DIGITS) == packed(DIGITS)
    assert engine_name().split(" level ")[0] in ("isal", "zlib-ng", "zlib")


@pytest.mark.parametrize("seed", range(12))
def test_any_steps_any_members(seed: int) -> None:
    rng = random.Random(seed)
    parts = [bytes(rng.randrange(3_000_000)), rng.randbytes(rng.randrange(500_000)), DIGITS * rng.randrange(1, 5), b""]
    rng.shuffle(parts)
    tail = rng.choice([b"", bytes(10), b"more", bytes(5) + b"xx"])
    source = Inflated(io.BytesIO(b"".join(gzip.compress(part, rng.choice([1, 6, 9])) for part in parts) + tail))
    out = []
    while True:
        count = rng.choice([1, 7, 100, 65_536, 2**20, 2**22])
        out.append(source.read(count))
        if len(out[-1]) < count:
            break
    assert b"".join(out) == b"".join(parts)
    assert source.extra == bool(tail.strip(b"\0"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-3],
        lambda data: data[:-6] + bytes([data[-6] ^ 1]) + data[-5:],
        lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
        lambda data: data[:5000] + bytes([data[5000] ^ 64]) + data[5001:],
        lambda data: data[:2] + b"\x48" + data[3:],
    ],
    ids=["cut", "checksum", "length", "flipped", "method"],
)
def test_damage_is_seen(damage) -> None:
    source = Inflated(io.BytesIO(damage(gzip.compress(DIGITS))))
    with pytest.raises(VolumeError, match="truncated or damaged gzip data"):
        finish(source)


def test_zlib_frames_and_what_lies_behind() -> None:
    assert Inflated(io.BytesIO(zlib.compress(DIGITS)), ZLIB_OR_GZIP).read(10**6) == DIGITS
    assert finish(Inflated(io.BytesIO(gzip.compress(DIGITS) + b"more")))[0].startswith("bytes that are no gzip data")
    assert "were not read" in finish(Inflated(io.BytesIO(gzip.compress(bytes(3 * 2**20)))), limit=2**20)[0]
