# SPDX-License-Identifier: MIT
"""What transfer.lua does, with mpi4py and with numba-mpi in compiled loops.

usage: mpiexec -n 2 python3 transfer.py [--quick]; prints a line of results for each case and size. numba-mpi may be
missing.
"""

import re
import statistics
import sys
import time

import numpy as np
from mpi4py import MPI

try:
    import numba
    import numba_mpi as nm
except (ImportError, OSError, RuntimeError):  # it may find no MPI
    nm = None

QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 9
SECONDS = 0.001 if QUICK else 0.01
WORLD, TAG = MPI.COMM_WORLD, 1
RANK = WORLD.Get_rank()
PEER = 1 - RANK

if WORLD.Get_size() != 2:
    sys.exit(f"transfer: this needs 2 ranks, and was started on {WORLD.Get_size()}")


def pingpong(n, send, *_):
    for _ in range(n):
        if RANK == 0:
            WORLD.Send(send, PEER, TAG)
            WORLD.Recv(send, PEER, TAG)
        else:
            WORLD.Recv(send, PEER, TAG)
            WORLD.Send(send, PEER, TAG)


def bidirectional(n, send, recv, *_):
    for _ in range(n):
        MPI.Request.Waitall([WORLD.Irecv(recv, PEER, TAG), WORLD.Isend(send, PEER, TAG)])


def allreduce(n, send, recv, *_):
    for _ in range(n):
        WORLD.Allreduce(send, recv, MPI.SUM)


def bcast(n, send, *_):
    for _ in range(n):
        WORLD.Bcast(send, 0)


def allgather(n, send, recv, *_):
    for _ in range(n):
        WORLD.Allgather(send, recv)


# For each: dtype, the size of what is received to that of what is sent, the messages in one time, the loops.
cases = {
    "ping-pong": (np.uint8, 0, 2, {"mpi4py": pingpong}),
    "bidirectional": (np.uint8, 1, 1, {"mpi4py": bidirectional}),
    "allreduce": (np.int32, 1, 1, {"mpi4py": allreduce}),
    "bcast": (np.uint8, 0, 1, {"mpi4py": bcast}),
    "allgather": (np.uint8, 2, 1, {"mpi4py": allgather}),
}
requests = None

if nm is not None:
    requests = np.zeros(2, dtype=nm.RequestType)

    # Arrays are arguments: numba takes global ones for constants.
    # pylint: disable=function-redefined,missing-function-docstring
    def compiled(name):
        return lambda loop: cases[name][3].update({"numba-mpi": numba.njit(loop)})

    @compiled("ping-pong")
    def _(n, send, recv, reqs):
        for _ in range(n):
            if RANK == 0:
                nm.send(send, PEER, TAG)
                nm.recv(send, PEER, TAG)
            else:
                nm.recv(send, PEER, TAG)
                nm.send(send, PEER, TAG)

    @compiled("bidirectional")
    def _(n, send, recv, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(recv, PEER, TAG)
            _, reqs[1:2] = nm.isend(send, PEER, TAG)
            nm.waitall(reqs)

    @compiled("allreduce")
    def _(n, send, recv, reqs):
        for _ in range(n):
            nm.allreduce(send, recv, nm.Operator.SUM)

    @compiled("bcast")
    def _(n, send, recv, reqs):
        for _ in range(n):
            nm.bcast(send, 0)

    @compiled("allgather")
    def _(n, send, recv, reqs):
        for _ in range(n):
            nm.allgather(send, recv, send.size)


def content(path):
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def available():
    """In bytes, as in harness.lua."""

    def number(pattern, text):
        found = re.search(pattern, text, re.MULTILINE)
        return int(found[1]) if found else None

    kib = number(r"^MemAvailable:\s*(\d+) kB", content("/proc/meminfo"))
    group = re.search(r"^0::(.*)", content("/proc/self/cgroup"), re.MULTILINE)
    memory = "/sys/fs/cgroup" + (group[1] if group else "") + "/memory."
    most, used = (number(r"^(\d+)", content(memory + name)) for name in ("max", "current"))
    cached = number(r"^inactive_file (\d+)", content(memory + "stat")) or 0
    return min(
        float("inf") if kib is None else 1024 * kib,
        float("inf") if most is None or used is None else most - used + cached,
    )


def seconds_of(loop, n, *arrays):
    WORLD.Barrier()
    start = time.perf_counter()
    loop(n, *arrays, requests)
    return time.perf_counter() - start


def calibrate(loop, *arrays):
    """How many times fill a round: the same on every rank."""
    seconds_of(loop, 1, *arrays)  # compiles
    n = 1
    while (took := WORLD.bcast(seconds_of(loop, n, *arrays))) < SECONDS:
        n = max(n + 1, int(n * min(10, 1.2 * SECONDS / took)))
    return n


for name, (dtype, received, messages, loops) in cases.items():
    for exponent in range(0, 27, 8 if QUICK else 1):
        count, rest = divmod(2**exponent, np.dtype(dtype).itemsize)
        if rest:
            continue
        if not WORLD.bcast(8 * 2**exponent <= available()):
            if RANK == 0:
                print(f"transfer: {name} of {2**exponent} B is left out: it does not fit in memory", file=sys.stderr)
            continue
        buffers = np.zeros(count, dtype), np.zeros(received * count, dtype)
        times = {way: calibrate(loop, *buffers) for way, loop in loops.items()}
        seconds = {way: [] for way in loops}
        for _ in range(ROUNDS):
            for way, loop in loops.items():
                seconds[way].append(seconds_of(loop, times[way], *buffers) / times[way] / messages)
        if RANK == 0:
            figures = "\t".join(f"{way}={statistics.median(took):.6g}" for way, took in seconds.items())
            print(f"@\tcase={name}\tbytes={2**exponent}\t{figures}", flush=True)
