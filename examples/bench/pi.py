# SPDX-License-Identifier: MIT
"""Listings 2 to 4 of the numba-mpi paper: what pi.lua does, with mpi4py and with numba-mpi.

usage: mpiexec -n 2 python3 pi.py [--quick]; prints a line of results for each x and implementation. numba-mpi may be
missing.
"""

import sys
import timeit

import mpi4py.MPI as MPI
import numba
import numpy as np

try:
    import numba_mpi
except (ImportError, OSError, RuntimeError):  # it may find no MPI
    numba_mpi = None

QUICK = "--quick" in sys.argv
N_TIMES = 2000 if QUICK else 10000
REPETITIONS = 3 if QUICK else 10
RTOL = 1e-3


@numba.njit
def get_pi_part(n_intervals, rank, size):
    h = 1 / n_intervals
    partial_sum = 0.0
    for i in range(rank + 1, n_intervals + 1, size):
        x = h * (i - 0.5)
        partial_sum += 4 / (1 + x**2)
    return h * partial_sum


def pi_mpi4py(n_intervals):
    pi = np.array([0.0])
    part = np.empty_like(pi)
    for _ in range(N_TIMES):
        part[0] = get_pi_part(n_intervals, MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)
        MPI.COMM_WORLD.Allreduce(part, (pi, MPI.DOUBLE), op=MPI.SUM)
        assert abs(pi[0] - np.pi) / np.pi < RTOL


implementations = {"mpi4py": pi_mpi4py}

if numba_mpi is not None:

    @numba.njit
    def pi_numba_mpi(n_intervals):
        pi = np.array([0.0])
        part = np.empty_like(pi)
        for _ in range(N_TIMES):
            part[0] = get_pi_part(n_intervals, numba_mpi.rank(), numba_mpi.size())
            numba_mpi.allreduce(part, pi, numba_mpi.Operator.SUM)
            assert abs(pi[0] - np.pi) / np.pi < RTOL

    implementations["numba-mpi"] = pi_numba_mpi

for x in range(1, 11):
    seconds = {name: [] for name in implementations}
    for repetition in range(REPETITIONS + 1):
        for name, function in implementations.items():
            MPI.COMM_WORLD.Barrier()
            took = timeit.timeit(lambda: function(N_TIMES // x), number=1)
            if repetition > 0:  # the first call compiles
                seconds[name].append(took)
    if MPI.COMM_WORLD.rank == 0:
        figures = "\t".join(f"{name}={min(times):.6g}" for name, times in seconds.items())
        print(f"@\tx={x}\t{figures}", flush=True)
