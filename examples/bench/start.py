# SPDX-License-Identifier: MIT
"""start.lua with mpi4py, or (the argument numba-mpi) with numba-mpi in a compiled function."""

import os
import re
import sys

import numpy as np

one, total = np.ones(1), np.zeros(1)

if "numba-mpi" in sys.argv:
    import numba
    import numba_mpi

    @numba.njit
    def main(one, total):
        numba_mpi.allreduce(one, total, numba_mpi.Operator.SUM)
        return numba_mpi.size()

    assert main(one, total) == total[0]
else:
    from mpi4py import MPI

    MPI.COMM_WORLD.Allreduce(one, total, op=MPI.SUM)
    assert MPI.COMM_WORLD.size == total[0]

if "--memory" in sys.argv and os.path.exists("/proc/self/status"):
    with open("/proc/self/status", encoding="ascii") as status:
        kib = re.search(r"VmHWM:\s*(\d+) kB", status.read())[1]
    sys.stdout.write(f"{kib} KiB\n")
