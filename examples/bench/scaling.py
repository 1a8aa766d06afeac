# SPDX-License-Identifier: MIT
"""What scaling.lua and examples/cahn_hilliard.lua do, in Numba and with py-pde.

usage: mpiexec -n 2 python3 scaling.py FIELD.npy [T_END]; begins with the field in that file, and prints a line of
results for each case: how long Numba's right-hand side takes, on one rank; or, with T_END, how long py-pde's does, on
one rank, and how long py-pde takes to get so far.
"""

import sys
import time

import mpi4py.MPI as MPI
import numba
import numpy as np

try:
    import pde
except ImportError:
    pde = None

FIELD = np.load(sys.argv[1])
T_END = float(sys.argv[2]) if len(sys.argv) > 2 else None
RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
ROUNDS = 9
K, C0 = 0.01, 0.5
numba.set_num_threads(1)  # py-pde would take all cores in each rank


@numba.njit
def fill_halo(c):
    n, m = c.shape[0] - 2, c.shape[1] - 2
    for j in range(1, m + 1):
        c[0, j] = c[1, j]
        c[n + 1, j] = c[n, j]
    for i in range(1, n + 1):
        c[i, 0] = c[i, 1]
        c[i, m + 1] = c[i, m]


@numba.njit
def rhs(times, c, mu, rate):
    n, m = c.shape[0] - 2, c.shape[1] - 2
    for _ in range(times):
        fill_halo(c)
        for i in range(1, n + 1):
            for j in range(1, m + 1):
                mid = c[i, j]
                lap = (c[i - 1, j] - 2 * mid + c[i + 1, j]) + (c[i, j - 1] - 2 * mid + c[i, j + 1])
                mu[i, j] = mid * mid * mid - mid - lap
        fill_halo(mu)
        for i in range(1, n + 1):
            for j in range(1, m + 1):
                mid = mu[i, j]
                lap = (mu[i - 1, j] - 2 * mid + mu[i + 1, j]) + (mu[i, j - 1] - 2 * mid + mu[i, j + 1])
                rate[i, j] = lap - K * (c[i, j] - C0)


def median_seconds(work, times):
    seconds = []
    for repetition in range(ROUNDS + 1):
        start = time.perf_counter()
        work(times)
        if repetition > 0:  # the first call compiles
            seconds.append((time.perf_counter() - start) / times)
    return np.median(seconds)


def seconds_of_rhs():
    c = np.pad(FIELD, 1)
    mu, rate = np.zeros_like(c), np.zeros_like(c)
    return median_seconds(lambda times: rhs(times, c, mu, rate), max(1, 2_000_000 // FIELD.size))


def new_equation():
    return pde.PDE({"c": "laplace(c**3 - c - laplace(c)) - 0.01 * (c - 0.5)"})


def seconds_of_py_pde_rhs():
    state = pde.ScalarField(pde.UnitGrid(FIELD.shape), FIELD)
    compiled = new_equation().make_pde_rhs(state, backend="numba")

    def work(times):
        for _ in range(times):
            compiled(state.data, 0.0)

    return median_seconds(work, max(1, 1_000_000 // FIELD.size))


def run_py_pde():
    """Seconds, time steps and the sum of squares; a first run compiles."""
    equation = new_equation()
    options = {"adaptive": True, "tolerance": 1e-4}
    state = pde.ScalarField(pde.UnitGrid(FIELD.shape), FIELD)
    if SIZE > 1:
        solver = pde.ExplicitMPISolver(equation, decomposition=[SIZE, -1], backend="numba_mpi", **options)
    else:
        solver = pde.EulerSolver(equation, backend="numba", **options)
    stepper = solver.make_stepper(state, dt=1e-3)
    stepper(state.copy(), 0, 1e-3)
    steps = solver.info["steps"]
    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    stepper(state, 0, T_END)
    MPI.COMM_WORLD.Barrier()
    return time.perf_counter() - start, solver.info["steps"] - steps, (state.data**2).sum()


if T_END is None:
    print(f"@\tcase=rhs\tcells={FIELD.shape[0]}\tnumba={seconds_of_rhs():.6g}", flush=True)
elif pde is not None:
    if SIZE == 1:
        print(f"@\tcase=rhs\tcells={FIELD.shape[0]}\tpy-pde={seconds_of_py_pde_rhs():.6g}", flush=True)
    seconds, steps, squares = run_py_pde()
    if RANK == 0:
        print(f"@\tcase=run\tranks={SIZE}\tpy-pde={seconds:.6g}\tsteps={steps}\tsquares={squares:.15g}", flush=True)
