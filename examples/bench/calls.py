# SPDX-License-Identifier: MIT
"""What calls.lua does, with mpi4py and with numba-mpi in compiled loops, as far as they have the routines.

usage: mpiexec -n 1 python3 calls.py [--quick]; prints a line of results for each case. numba-mpi, which knows
MPI_COMM_WORLD only, may be missing.
"""

import statistics
import sys
import time

import numpy as np
from mpi4py import MPI

try:
    import numba
    import numba_mpi as nm
except ImportError:
    nm = None

QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 9
SECONDS = 0.001 if QUICK else 0.01
SELF, TAG = MPI.COMM_SELF, 1
x, y = np.zeros(1), np.zeros(1)


def irecv_send_wait():
    request = SELF.Irecv(y, 0, TAG)
    SELF.Send(x, 0, TAG)
    request.Wait()


def isend_recv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Recv(y, 0, TAG)
    request.Wait()


def irecv_isend_wait():
    first = SELF.Irecv(y, 0, TAG)
    second = SELF.Isend(x, 0, TAG)
    second.Wait()
    first.Wait()


def irecv_isend_waitall():
    MPI.Request.Waitall([SELF.Irecv(y, 0, TAG), SELF.Isend(x, 0, TAG)])


def posted_then(send):
    def case():
        request = SELF.Irecv(y, 0, TAG)
        send(x, 0, TAG)
        request.Wait()

    return case


def irecv_isend_then(complete):
    def case():
        pair = [SELF.Irecv(y, 0, TAG), SELF.Isend(x, 0, TAG)]
        complete(pair)
        MPI.Request.Waitall(pair)

    return case


def isend_probe_recv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Probe(0, TAG)
    SELF.Recv(y, 0, TAG)
    request.Wait()


def isend_mprobe_mrecv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Mprobe(0, TAG).Recv(y)
    request.Wait()


persistent = [SELF.Recv_init(y, 0, TAG), SELF.Send_init(x, 0, TAG)]


def start_wait():
    for request in persistent:
        request.Start()
    for request in persistent:
        request.Wait()


def startall_waitall():
    MPI.Prequest.Startall(persistent)
    MPI.Request.Waitall(persistent)


def add(invec, inoutvec, _):
    np.frombuffer(inoutvec)[:] += np.frombuffer(invec)


group = SELF.Get_group()

mpi4py_cases = {
    "initialized": MPI.Is_initialized,
    "finalized": MPI.Is_finalized,
    "query_thread": MPI.Query_thread,
    "wtick": MPI.Wtick,
    "error_string": lambda: MPI.Get_error_string(MPI.ERR_TRUNCATE),
    "error_class": lambda: MPI.Get_error_class(MPI.ERR_TRUNCATE),
    "comm:compare": lambda: MPI.Comm.Compare(SELF, MPI.COMM_WORLD),
    "comm:name": SELF.Get_name,
    "comm:dup, free": lambda: SELF.Dup().Free(),
    "comm:split, free": lambda: SELF.Split(0).Free(),
    "comm:group, free": lambda: SELF.Get_group().Free(),
    "group:rank": group.Get_rank,
    "group:size": group.Get_size,
    "group:translate_ranks": lambda: group.Translate_ranks([0], group),
    "send to nobody": lambda: SELF.Send(x, MPI.PROC_NULL, TAG),
    "recv from nobody": lambda: SELF.Recv(y, MPI.PROC_NULL, TAG),
    "isend to nobody, wait": lambda: SELF.Isend(x, MPI.PROC_NULL, TAG).Wait(),
    "irecv, ssend, wait": posted_then(SELF.Ssend),
    "irecv, rsend, wait": posted_then(SELF.Rsend),
    "isend, probe, recv, wait": isend_probe_recv_wait,
    "isend, mprobe, mrecv, wait": isend_mprobe_mrecv_wait,
    "irecv, isend, testall, waitall": irecv_isend_then(MPI.Request.Testall),
    "irecv, isend, waitany, waitall": irecv_isend_then(MPI.Request.Waitany),
    "irecv, isend, testany, waitall": irecv_isend_then(MPI.Request.Testany),
    "irecv, isend, waitsome, waitall": irecv_isend_then(MPI.Request.Waitsome),
    "irecv, isend, testsome, waitall": irecv_isend_then(MPI.Request.Testsome),
    "2 start, 2 wait": start_wait,
    "startall, waitall": startall_waitall,
    "scatter in place": lambda: SELF.Scatter(x, MPI.IN_PLACE, 0),
    "gather in place": lambda: SELF.Gather(MPI.IN_PLACE, y, 0),
    "allgather in place": lambda: SELF.Allgather(MPI.IN_PLACE, y),
    "allreduce in place": lambda: SELF.Allreduce(MPI.IN_PLACE, y, MPI.SUM),
    "reduce in place": lambda: SELF.Reduce(MPI.IN_PLACE, y, MPI.SUM, 0),
    "allreduce of a number": lambda: SELF.allreduce(1.0, MPI.SUM),
    "ireduce, wait": lambda: SELF.Ireduce(x, y, MPI.SUM, 0).Wait(),
    "iallreduce, wait": lambda: SELF.Iallreduce(x, y, MPI.SUM).Wait(),
    "op, free": lambda: MPI.Op.Create(add, commute=True).Free(),
    "dims_create": lambda: MPI.Compute_dims(12, [0, 0]),
    "rank": SELF.Get_rank,
    "size": SELF.Get_size,
    "wtime": MPI.Wtime,
    "barrier": SELF.Barrier,
    "bcast": lambda: SELF.Bcast(x, 0),
    "scatter": lambda: SELF.Scatter(x, y, 0),
    "gather": lambda: SELF.Gather(x, y, 0),
    "allgather": lambda: SELF.Allgather(x, y),
    "reduce": lambda: SELF.Reduce(x, y, MPI.SUM, 0),
    "allreduce": lambda: SELF.Allreduce(x, y, MPI.SUM),
    "sendrecv": lambda: SELF.Sendrecv(x, 0, TAG, y, 0, TAG),
    "iprobe": lambda: SELF.Iprobe(0, TAG),
    "irecv, send, wait": irecv_send_wait,
    "isend, recv, wait": isend_recv_wait,
    "irecv, isend, 2 wait": irecv_isend_wait,
    "irecv, isend, waitall": irecv_isend_waitall,
}


def looped(call):
    def loop(n, *_):
        for _ in range(n):
            call()

    return loop


requests = None
ways = {name: {"mpi4py": looped(call)} for name, call in mpi4py_cases.items()}

if nm is not None:
    requests = np.zeros(2, dtype=nm.RequestType)

    # Arrays are arguments: numba takes global ones for constants.
    # pylint: disable=function-redefined,missing-function-docstring
    def compiled(name):
        return lambda loop: ways[name].update({"numba-mpi": numba.njit(loop)})

    @compiled("rank")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.rank()

    @compiled("size")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.size()

    @compiled("wtime")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.wtime()

    @compiled("barrier")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.barrier()

    @compiled("bcast")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.bcast(x, 0)

    @compiled("scatter")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.scatter(x, y, 1, 0)

    @compiled("gather")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.gather(x, y, 1, 0)

    @compiled("allgather")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.allgather(x, y, 1)

    @compiled("reduce")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.reduce(x, y, nm.Operator.SUM, 0)

    @compiled("allreduce")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.allreduce(x, y, nm.Operator.SUM)

    @compiled("sendrecv")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.sendrecv(x, 0, y, 0, TAG, TAG)

    @compiled("irecv, send, wait")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            nm.send(x, 0, TAG)
            nm.wait(reqs[0:1])

    @compiled("isend, recv, wait")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.isend(x, 0, TAG)
            nm.recv(y, 0, TAG)
            nm.wait(reqs[0:1])

    @compiled("initialized")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.initialized()

    @compiled("query_thread")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.query_thread()

    @compiled("irecv, isend, 2 wait")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            _, reqs[1:2] = nm.isend(x, 0, TAG)
            nm.wait(reqs[0:1])
            nm.wait(reqs[1:2])

    @compiled("irecv, isend, testall, waitall")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            _, reqs[1:2] = nm.isend(x, 0, TAG)
            nm.testall(reqs)
            nm.waitall(reqs)

    @compiled("irecv, isend, waitany, waitall")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            _, reqs[1:2] = nm.isend(x, 0, TAG)
            nm.waitany(reqs)
            nm.waitall(reqs)

    @compiled("irecv, isend, testany, waitall")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            _, reqs[1:2] = nm.isend(x, 0, TAG)
            nm.testany(reqs)
            nm.waitall(reqs)

    @compiled("irecv, isend, waitall")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            _, reqs[1:2] = nm.isend(x, 0, TAG)
            nm.waitall(reqs)


def seconds_of(loop, n):
    start = time.perf_counter()
    loop(n, x, y, requests)
    return time.perf_counter() - start


def median_of(loop):
    seconds_of(loop, 1)  # compiles
    n = 1
    while (took := seconds_of(loop, n)) < SECONDS:
        n = max(n + 1, int(n * min(10, 1.2 * SECONDS / max(took, 1e-7))))
    return statistics.median(seconds_of(loop, n) / n for _ in range(ROUNDS))


for name, loops in ways.items():
    figures = "\t".join(f"{way}={median_of(loop):.6g}" for way, loop in loops.items())
    print(f"@\tcase={name}\t{figures}", flush=True)
