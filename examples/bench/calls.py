# SPDX-License-Identifier: MIT
"""What calls.lua does, with mpi4py and with numba-mpi in compiled loops, as far as they have the routines.

usage: mpiexec -n 1 python3 calls.py [--quick]; prints a line of results for each case. numba-mpi, which knows
MPI_COMM_WORLD only, may be missing.
"""

import statistics
import sys
import time
from functools import partial

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
SELF, TAG = MPI.COMM_SELF, 1
x, y = np.zeros(1), np.zeros(1)
group, status = SELF.Get_group(), MPI.Status()
grid = SELF.Create_cart([1, 1], [True, True], False)


def posted_then(send):
    def case():
        request = SELF.Irecv(y, 0, TAG)
        send(x, 0, TAG)
        request.Wait()

    return case


def posted_both(isend):
    def case():
        first = SELF.Irecv(y, 0, TAG)
        second = isend(x, 0, TAG)
        first.Wait()
        second.Wait()

    return case


def irecv_isend_test_wait():
    first = SELF.Irecv(y, 0, TAG)
    second = SELF.Isend(x, 0, TAG)
    first.Test()
    second.Test()
    first.Wait()
    second.Wait()


def irecv_isend_waitall():
    MPI.Request.Waitall([SELF.Irecv(y, 0, TAG), SELF.Isend(x, 0, TAG)])


def irecv_isend_then(complete):
    def case():
        pair = [SELF.Irecv(y, 0, TAG), SELF.Isend(x, 0, TAG)]
        complete(pair)
        MPI.Request.Waitall(pair)

    return case


def irecv_cancel_wait():
    request = SELF.Irecv(y, 0, TAG)
    request.Cancel()
    request.Wait(status)


def isend_recv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Recv(y, 0, TAG)
    request.Wait()


def isend_recv_count_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Recv(y, 0, TAG, status)
    status.Get_count(MPI.DOUBLE)
    request.Wait()


def isend_probe_recv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Probe(0, TAG)
    SELF.Recv(y, 0, TAG)
    request.Wait()


def isend_mprobe_mrecv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Mprobe(0, TAG).Recv(y)
    request.Wait()


def isend_improbe_imrecv_wait():
    request = SELF.Isend(x, 0, TAG)
    SELF.Improbe(0, TAG).Irecv(y).Wait()
    request.Wait()


def buffer_attach_detach():
    MPI.Attach_buffer(bytearray(1024))
    MPI.Detach_buffer()


def start_wait(pair):
    for request in pair:
        request.Start()
    for request in pair:
        request.Wait()


def startall_waitall(pair):
    MPI.Prequest.Startall(pair)
    MPI.Request.Waitall(pair)


def add(invec, inoutvec, _):
    np.frombuffer(inoutvec)[:] += np.frombuffer(invec)


# A partial makes no Python call of its own, as a lambda would. Before mpi4py 4 the methods of groups that take another
# group are the class's.
mpi4py_cases = {
    "initialized": MPI.Is_initialized,
    "finalized": MPI.Is_finalized,
    "query_thread": MPI.Query_thread,
    "wtick": MPI.Wtick,
    "error_string": partial(MPI.Get_error_string, MPI.ERR_TRUNCATE),
    "error_class": partial(MPI.Get_error_class, MPI.ERR_TRUNCATE),
    "comm:compare": partial(MPI.Comm.Compare, SELF, MPI.COMM_WORLD),
    "comm:rank": SELF.Get_rank,
    "comm:size": SELF.Get_size,
    "comm:name": SELF.Get_name,
    "comm:dup, free": lambda: SELF.Dup().Free(),
    "comm:split, free": lambda: SELF.Split(0).Free(),
    "comm:split_type, free": lambda: SELF.Split_type(MPI.COMM_TYPE_SHARED).Free(),
    "comm:create, free": lambda: SELF.Create(group).Free(),
    "comm:create_group, free": lambda: SELF.Create_group(group).Free(),
    "comm:group, free": lambda: SELF.Get_group().Free(),
    "group:rank": group.Get_rank,
    "group:size": group.Get_size,
    "group:incl, free": lambda: group.Incl([0]).Free(),
    "group:excl, free": lambda: group.Excl([0]).Free(),
    "group:union, free": lambda: MPI.Group.Union(group, group).Free(),
    "group:intersection, free": lambda: MPI.Group.Intersection(group, group).Free(),
    "group:difference, free": lambda: MPI.Group.Difference(group, group).Free(),
    "group:translate_ranks": partial(MPI.Group.Translate_ranks, group, [0], group),
    "group:compare": partial(MPI.Group.Compare, group, group),
    "send to nobody": partial(SELF.Send, x, MPI.PROC_NULL, TAG),
    "recv from nobody": partial(SELF.Recv, y, MPI.PROC_NULL, TAG),
    "isend to nobody, wait": lambda: SELF.Isend(x, MPI.PROC_NULL, TAG).Wait(),
    "irecv, send, wait": posted_then(SELF.Send),
    "irecv, ssend, wait": posted_then(SELF.Ssend),
    "irecv, rsend, wait": posted_then(SELF.Rsend),
    "buffer_attach, buffer_detach": buffer_attach_detach,
    "isend, recv, wait": isend_recv_wait,
    "isend, recv, count, wait": isend_recv_count_wait,
    "isend, probe, recv, wait": isend_probe_recv_wait,
    "isend, mprobe, mrecv, wait": isend_mprobe_mrecv_wait,
    "isend, improbe, imrecv, 2 wait": isend_improbe_imrecv_wait,
    "irecv, isend, 2 wait": posted_both(SELF.Isend),
    "irecv, issend, 2 wait": posted_both(SELF.Issend),
    "irecv, irsend, 2 wait": posted_both(SELF.Irsend),
    "status": MPI.Status,
    "wait for null": MPI.REQUEST_NULL.Wait,
    "irecv, isend, 2 test, 2 wait": irecv_isend_test_wait,
    "irecv, cancel, wait": irecv_cancel_wait,
    "irecv, isend, waitall": irecv_isend_waitall,
    "irecv, isend, testall, waitall": irecv_isend_then(MPI.Request.Testall),
    "irecv, isend, waitany, waitall": irecv_isend_then(MPI.Request.Waitany),
    "irecv, isend, testany, waitall": irecv_isend_then(MPI.Request.Testany),
    "irecv, isend, waitsome, waitall": irecv_isend_then(MPI.Request.Waitsome),
    "irecv, isend, testsome, waitall": irecv_isend_then(MPI.Request.Testsome),
    "send_init, request_free": lambda: SELF.Send_init(x, 0, TAG).Free(),
    "recv_init, request_free": lambda: SELF.Recv_init(x, 0, TAG).Free(),
    "scatter in place": partial(SELF.Scatter, x, MPI.IN_PLACE, 0),
    "gather in place": partial(SELF.Gather, MPI.IN_PLACE, y, 0),
    "allgather in place": partial(SELF.Allgather, MPI.IN_PLACE, y),
    "allreduce in place": partial(SELF.Allreduce, MPI.IN_PLACE, y, MPI.MAX),
    "reduce in place": partial(SELF.Reduce, MPI.IN_PLACE, y, MPI.SUM, 0),
    "allreduce of a number": partial(SELF.allreduce, 1.0, MPI.SUM),
    "ireduce, wait": lambda: SELF.Ireduce(x, y, MPI.SUM, 0).Wait(),
    "iallreduce, wait": lambda: SELF.Iallreduce(x, y, MPI.SUM).Wait(),
    "op, free": lambda: MPI.Op.Create(add, commute=True).Free(),
    "dims_create": partial(MPI.Compute_dims, 12, [0, 0]),
    "cart_create, free": lambda: SELF.Create_cart([1, 1], [True, True], False).Free(),
    "cart_sub, free": lambda: grid.Sub([False, True]).Free(),
    "cart_get": grid.Get_topo,
    "cart_coords": partial(grid.Get_coords, 0),
    "cart_rank": partial(grid.Get_cart_rank, [0, 0]),
    "cart_shift": partial(grid.Shift, 0, 1),
    "rank": SELF.Get_rank,
    "size": SELF.Get_size,
    "wtime": MPI.Wtime,
    "barrier": SELF.Barrier,
    "bcast": partial(SELF.Bcast, x, 0),
    "scatter": partial(SELF.Scatter, x, y, 0),
    "gather": partial(SELF.Gather, x, y, 0),
    "allgather": partial(SELF.Allgather, x, y),
    "reduce": partial(SELF.Reduce, x, y, MPI.SUM, 0),
    "allreduce": partial(SELF.Allreduce, x, y, MPI.SUM),
    "sendrecv": partial(SELF.Sendrecv, x, 0, TAG, y, 0, TAG),
    "sendrecv_replace": partial(SELF.Sendrecv_replace, x, 0, TAG, 0, TAG),
    "iprobe": partial(SELF.Iprobe, 0, TAG),
    "improbe": partial(SELF.Improbe, 0, TAG),
}


def looped(call):
    def loop(n, *_):
        for _ in range(n):
            call()

    return loop


def attached(call):
    def loop(n, *_):
        MPI.Attach_buffer(bytearray(2**16))
        looped(call)(n)
        MPI.Detach_buffer()

    return loop


def persistent(step):
    def loop(n, *_):
        pair = [SELF.Recv_init(y, 0, TAG), SELF.Send_init(x, 0, TAG)]
        looped(partial(step, pair))(n)
        for request in pair:
            request.Free()

    return loop


def set_name(n, *_):
    made = SELF.Dup()
    looped(lambda: made.Set_name("bench"))(n)
    made.Free()


def count(n, *_):
    SELF.Sendrecv(x, 0, TAG, y, 0, TAG, status)
    looped(lambda: status.Get_count(MPI.DOUBLE))(n)


def test(n, *_):
    request = SELF.Irecv(y, 0, TAG)
    looped(request.Test)(n)
    SELF.Send(x, 0, TAG)
    request.Wait()


# Cases with something to do before and after the loop.
mpi4py_loops = {
    "comm:set_name": set_name,
    "irecv, bsend, wait": attached(posted_then(SELF.Bsend)),
    "irecv, ibsend, 2 wait": attached(posted_both(SELF.Ibsend)),
    "status:count": count,
    "test": test,
    "2 start, 2 wait": persistent(start_wait),
    "startall, waitall": persistent(startall_waitall),
}

requests = None
ways = {name: {"mpi4py": looped(call)} for name, call in mpi4py_cases.items()}
ways.update({name: {"mpi4py": loop} for name, loop in mpi4py_loops.items()})

if nm is not None:
    requests = np.zeros(2, dtype=nm.RequestType)

    # Arrays are arguments: numba takes global ones for constants.
    # pylint: disable=function-redefined,missing-function-docstring
    def compiled(*names):
        def add_to_ways(loop):
            jitted = numba.njit(loop)
            for name in names:
                ways[name]["numba-mpi"] = jitted

        return add_to_ways

    @compiled("rank", "comm:rank")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.rank()

    @compiled("size", "comm:size")
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

    @compiled("send to nobody")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.send(x, MPI.PROC_NULL, TAG)

    @compiled("recv from nobody")
    def _(n, x, y, reqs):
        for _ in range(n):
            nm.recv(y, MPI.PROC_NULL, TAG)

    @compiled("isend to nobody, wait")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.isend(x, MPI.PROC_NULL, TAG)
            nm.wait(reqs[0:1])

    @compiled("wait for null")
    def _(n, x, y, reqs):
        _, reqs[0:1] = nm.isend(x, MPI.PROC_NULL, TAG)
        nm.wait(reqs[0:1])  # makes it null
        for _ in range(n):
            nm.wait(reqs[0:1])

    @compiled("irecv, isend, 2 test, 2 wait")
    def _(n, x, y, reqs):
        for _ in range(n):
            _, reqs[0:1] = nm.irecv(y, 0, TAG)
            _, reqs[1:2] = nm.isend(x, 0, TAG)
            nm.test(reqs[0:1])
            nm.test(reqs[1:2])
            nm.wait(reqs[0:1])
            nm.wait(reqs[1:2])

    @compiled("test")
    def _(n, x, y, reqs):
        _, reqs[0:1] = nm.irecv(y, 0, TAG)
        for _ in range(n):
            nm.test(reqs[0:1])
        nm.send(x, 0, TAG)
        nm.wait(reqs[0:1])

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

grid.Free()
group.Free()
