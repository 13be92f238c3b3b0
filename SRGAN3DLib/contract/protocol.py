"""The facts of the worker's protocol that both sides must share (docs/worker-protocol.md)."""

from __future__ import annotations

WORKER_PROTOCOL = 2  # what this library speaks when it is asked to (`srgan3d worker --protocol 2`)
WORKER_PROTOCOLS = (1, 2)  # what it can speak; 1 is what a client gets that asks for nothing
LONGEST_LINE = 1 << 20  # bytes of one request, its line end included
LONGEST_ID = 200  # characters of a request's id
