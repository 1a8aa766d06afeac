# SPDX-License-Identifier: MIT
"""What mpdata.lua does, with PyMPDATA-MPI.

usage: mpiexec -n 2 python3 mpdata.py [--quick]; prints a line of results for each case and size.
"""

import sys
import time

import numba
import numba_mpi
import numpy as np
from PyMPDATA import Options, ScalarField, Solver, Stepper, VectorField
from PyMPDATA.boundary_conditions import Periodic
from PyMPDATA.impl.enumerations import OUTER
from PyMPDATA_MPI.domain_decomposition import mpi_indices
from PyMPDATA_MPI.mpi_periodic import MPIPeriodic

QUICK = "--quick" in sys.argv
CASES = {
    "upwind": {"n_iters": 1},
    "two passes": {"n_iters": 2},
    "infinite gauge, nonoscillatory": {"n_iters": 2, "infinite_gauge": True, "nonoscillatory": True},
}
SIDES, CELLS, ROUNDS = ([64], 1e5, 2) if QUICK else ([64, 256, 512], 1e7, 5)
numba.set_num_threads(1)  # it would wait for the messages of others
RANK, SIZE = numba_mpi.rank(), numba_mpi.size()


def stepper_of(options):
    return Stepper(
        options=options,
        n_dims=2,
        n_threads=1,
        left_first=(RANK % 2 == 0, RANK % 2 == 0),
        buffer_size=8 * max(SIDES) * options.n_halo,
    )


def solver_of(stepper, options, n):
    x, y = mpi_indices(grid=(n, n), rank=RANK, size=SIZE, mpi_dim=OUTER)
    nx, ny = x.shape
    halo = options.n_halo
    boundaries = (MPIPeriodic(size=SIZE, mpi_dim=OUTER), Periodic())
    bell = np.exp(-((x + 0.5 - n / 2) ** 2 + (y + 0.5 - n / 2) ** 2) / (2 * (n / 10) ** 2))
    psi = ScalarField(data=bell, halo=halo, boundary_conditions=boundaries)
    courant = VectorField(
        data=(np.full((nx + 1, ny), 0.5), np.full((nx, ny + 1), 0.25)), halo=halo, boundary_conditions=boundaries
    )
    return Solver(stepper=stepper, advectee=psi, advector=courant)


for name, chosen in CASES.items():
    options = Options(**chosen)
    stepper = stepper_of(options)  # one for all sizes, for it takes most of a minute to compile
    for n in SIDES:
        steps = int(np.ceil(CELLS / n**2))
        solver = solver_of(stepper, options, n)
        solver.advance(1)
        least = np.inf
        for _ in range(ROUNDS):
            numba_mpi.barrier()
            start = time.perf_counter()
            solver.advance(steps)
            numba_mpi.barrier()
            least = min(least, (time.perf_counter() - start) / steps)
        if RANK == 0:
            print(f"@\tcase={name}\tside={n}\tPyMPDATA-MPI={least:.6g}", flush=True)
