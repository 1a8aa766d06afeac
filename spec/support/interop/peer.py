# SPDX-License-Identifier: MIT
"""The NumPy half of the jobs of spec/interop_spec.lua, which says what a plan is; peer.lua is the other half.

usage: peer.py PLAN
"""

import sys
import traceback

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()


def pair(value):
    return np.dtype([("value", value), ("index", "i4")], align=True)


PARTICLE, COLOUR, RECORD = "struct nmpi_spec_particle", "struct nmpi_spec_colour", "struct nmpi_interop_record"

# NumPy's and MPI's type for each dtype; structs travel as bytes.
TYPES = {
    "int8": (np.dtype("i1"), MPI.INT8_T),
    "int16": (np.dtype("i2"), MPI.INT16_T),
    "int32": (np.dtype("i4"), MPI.INT32_T),
    "int64": (np.dtype("i8"), MPI.INT64_T),
    "uint8": (np.dtype("u1"), MPI.UINT8_T),
    "uint16": (np.dtype("u2"), MPI.UINT16_T),
    "uint32": (np.dtype("u4"), MPI.UINT32_T),
    "uint64": (np.dtype("u8"), MPI.UINT64_T),
    "float": (np.dtype("f4"), MPI.FLOAT),
    "double": (np.dtype("f8"), MPI.DOUBLE),
    "complex float": (np.dtype("c8"), MPI.C_FLOAT_COMPLEX),
    "complex double": (np.dtype("c16"), MPI.C_DOUBLE_COMPLEX),
    "bool": (np.dtype("?"), MPI.C_BOOL),
    "char": (np.dtype("i1"), MPI.CHAR),
    "float_int": (pair("f4"), MPI.FLOAT_INT),
    "double_int": (pair("f8"), MPI.DOUBLE_INT),
    "long_int": (pair("i8"), MPI.LONG_INT),
    "short_int": (pair("i2"), MPI.SHORT_INT),
    "2int": (pair("i4"), MPI.TWOINT),
    PARTICLE: (np.dtype([("position", "f8", 3), ("id", "i4"), ("tag", "i1", 4)], align=True), None),
    COLOUR: (np.dtype([("r", "u1"), ("g", "u1"), ("b", "u1")], align=True), None),
    RECORD: (np.dtype([("kind", "i1"), ("mass", "f8"), ("speed", "f4", 2), ("id", "i2")], align=True), None),
}
assert TYPES[RECORD][0].itemsize == 32

# ---- values: the formulas of spec/support/data.lua, for arrays of k ----

GUARD = 2**29


def mixed(k, bits):
    return ((k * 2654435 + 12345) & 0xFFFFFFFF) >> (32 - bits)


def wide(k):
    return k.astype("u8") * np.uint64(0x9E3779B97F4A7C15)


def real(k):
    return (mixed(k, 24) - 2**23) / 16


def signed(bits):
    return lambda k: mixed(k, bits) - 2 ** (bits - 1)


FIELDS = {
    "float_int": {"value": real, "index": signed(32)},
    "double_int": {"value": lambda k: k / 7 - 1e5, "index": signed(32)},
    "long_int": {"value": wide, "index": signed(32)},
    "short_int": {"value": signed(16), "index": signed(32)},
    "2int": {"value": lambda k: signed(32)(k + 1), "index": signed(32)},
    PARTICLE: {
        "position": lambda k: np.stack([k / 3, k / 7, -k], axis=-1),
        "id": signed(32),
        "tag": lambda k: np.stack([signed(8)(k), 0 * k + 2, 0 * k + 3, signed(8)(k + 1)], axis=-1),
    },
    COLOUR: {"r": lambda k: mixed(k, 8), "g": lambda k: mixed(k + 1, 8), "b": lambda k: mixed(k + 2, 8)},
    RECORD: {
        "kind": signed(8),
        "mass": lambda k: k / 3,
        "speed": lambda k: np.stack([real(k), real(k + 1)], axis=-1),
        "id": signed(16),
    },
}

VALUES = {
    "int64": wide,
    "uint64": wide,
    "float": real,
    "double": lambda k: k / 7 - 1e5,
    "complex float": lambda k: real(k) + 1j * real(k + 1),
    "complex double": lambda k: k / 3 - 1j * (k / 7),
    "bool": lambda k: mixed(k, 1) == 1,
    "char": signed(8),
}
for name in ("8", "16", "32"):
    VALUES["int" + name] = signed(int(name))
    VALUES["uint" + name] = lambda k, bits=int(name): mixed(k, bits)


def value(dtype, k):
    if dtype not in FIELDS:
        return VALUES[dtype](k).astype(TYPES[dtype][0])
    made = np.zeros(k.shape, TYPES[dtype][0])  # with padding of zeros
    for field, formula in FIELDS[dtype].items():
        made[field] = formula(k)
    return made


def values_from(seed):
    return lambda dtype, k: value(dtype, seed + k)


# ---- buffers ----

# Derived datatypes of the current case.
derived = []


def keep(datatype):
    derived.append(datatype.Commit())
    return datatype


def rows_and_columns(n):
    rows = max((d for d in range(1, int(n**0.5) + 1) if n % d == 0), default=1)
    return rows, n // rows


# Each returns how many elements the memory has, the positions of the n elements in the order of the message, the
# position at which the buffer starts, and a derived datatype for the whole of it or, of contiguous ones, None.
def contiguous(n, element):
    return n + 6, 3 + np.arange(n), 3, None


def vector(n, element):
    return 3 * n + 2, 1 + 3 * np.arange(n), 1, element.Create_vector(n, 1, 3)


def block(n, element):
    rows, columns = rows_and_columns(n)
    shape = [rows + 2, columns + 2]
    positions = np.arange(shape[0] * shape[1]).reshape(shape)[1:-1, 1:-1].ravel()
    return shape[0] * shape[1], positions, 0, element.Create_subarray(shape, [rows, columns], [1, 1])


def fortran(n, element):
    rows, columns = rows_and_columns(n)
    positions = rows + np.arange(n).reshape(columns, rows).T.ravel()
    column = keep(element.Create_vector(columns, 1, rows))
    row = keep(column.Create_resized(0, element.Get_extent()[1]))
    return n + 2 * rows, positions, rows, row.Create_contiguous(rows)


def backwards(n, element):
    positions = 2 * n - 2 * np.arange(n)
    return 2 * n + 2, positions, 0, element.Create_indexed_block(1, positions.tolist())


LAYOUTS = {
    "contiguous": contiguous,
    "Fortran memory": contiguous,
    "vector": vector,
    "block": block,
    "fortran": fortran,
    "backwards": backwards,
}


class Buffer:
    """n elements of a dtype in a layout, with guards around and between them; `values` fills the first `count`.

    Where a rank has a part of it, of which there are `parts`, MPI is told of one.
    """

    def __init__(self, layout, n, dtype, values=None, count=None, parts=1):
        self.layout, self.n, self.dtype = layout, n, dtype
        numpy_type, mpi_type = TYPES[dtype]
        element = mpi_type or keep(MPI.BYTE.Create_contiguous(numpy_type.itemsize))
        length, self.positions, start, whole = LAYOUTS[layout](n, element)
        self.memory = np.zeros(length, numpy_type)
        self.memory[:] = value(dtype, np.array([GUARD]))
        if values is not None:
            k = np.arange(n if count is None else count)
            self.memory[self.positions[: len(k)]] = values(dtype, k)
        if n == 0:
            whole = None  # Open MPI's collectives leave out empty messages where the count is 0, and only there
        if whole is not None and parts > 1:
            assert layout == "vector"
            part = keep(element.Create_vector(n // parts, 1, 3))
            self.spec = [self.memory[start:], 1, keep(part.Create_resized(0, 3 * n // parts * element.Get_extent()[1]))]
            return
        if whole is not None:
            self.spec = [self.memory[start:], 1, keep(whole)]
            return
        data = self.memory[start : start + n]
        if layout == "Fortran memory":
            data = data.reshape(rows_and_columns(n)[::-1]).T
            assert data.flags.f_contiguous
        if mpi_type is None:
            self.spec = [data, n // parts * numpy_type.itemsize, MPI.BYTE]
        elif number % 2 == 1 and dtype != "char" and dtype not in FIELDS:
            self.spec = data  # mpi4py finds the datatype
        else:
            self.spec = [data, n // parts, mpi_type]

    def received(self, status):
        """The elements that a status counts."""
        mpi_type = TYPES[self.dtype][1]
        return status.Get_count(mpi_type) if mpi_type else status.Get_count(MPI.BYTE) / self.memory.itemsize

    def difference(self, expected):
        got, expected = self.memory, expected.memory
        if TYPES[self.dtype][1] is not None and self.dtype in FIELDS:
            same = got == expected  # the padding of pairs does not travel
        else:
            rows = (len(got), got.itemsize)
            same = (got.view("u1").reshape(rows) == expected.view("u1").reshape(rows)).all(axis=1)
        if same.all():
            return None
        i = int(np.flatnonzero(~same)[0])
        return f"element {i} of the memory is {got[i]}, expected {expected[i]}"


# ---- reductions: what a rank contributes at the indices k, and the result ----

WEIGHT = {
    "int8": 3,
    "uint8": 6,
    "int16": 700,
    "uint16": 1500,
    "int32": 50000017,
    "uint32": 100000007,
    "int64": 2**57 + 1,
    "uint64": 2**58 + 1,
    "float": 0.375,
    "double": 2**40 + 0.125,
}


def part(op, dtype, r, k):
    numpy_type = TYPES[dtype][0]
    if op in ("MAXLOC", "MINLOC"):
        made = np.zeros(k.shape, numpy_type)
        kind = {"short_int": "int16", "2int": "int32", "long_int": "int64"}.get(dtype, dtype.split("_")[0])
        made["value"] = (k % 5 + k * r % 3 - 3).astype(numpy_type["value"]) * numpy_type["value"].type(WEIGHT[kind])
        made["index"] = 1000 * (3 - r) + k % 100
        return made
    if op in ("LAND", "LOR", "LXOR"):
        on = k // 2**r % 2 == 1
        full = value(dtype, seed_of(r) + k)
        return np.where(on, np.where(full == 0, 1, full), 0).astype(numpy_type)
    if op not in ("SUM", "PROD"):
        return value(dtype, seed_of(r) + k)
    kind = dtype.replace("complex ", "")
    scalar = TYPES[kind][0].type
    unsigned = dtype.startswith("u")
    is_complex = numpy_type.kind == "c"
    if op == "SUM":
        sign = 1 if unsigned else 1 - 2 * (k % 2)
        re = (sign * (k % 7 + 3 * r)).astype(scalar) * scalar(WEIGHT[kind])
        im = -(k % 5 + r) * WEIGHT[kind] if is_complex else 0
    else:
        sign = 1 if unsigned else 1 - 2 * (k * r % 2)
        # Small angles, so that no part of a product is 0, whose sign would depend on the order.
        re, im = sign * ((k + r) % 3 + (4 if is_complex else 1)), sign * ((k // 3 + r) % 2 + 1)
    return (re + 1j * im).astype(numpy_type) if is_complex else re.astype(numpy_type)


UFUNCS = {
    "SUM": np.add,
    "PROD": np.multiply,
    "MAX": np.maximum,
    "MIN": np.minimum,
    "BAND": np.bitwise_and,
    "BOR": np.bitwise_or,
    "BXOR": np.bitwise_xor,
    "LAND": np.logical_and,
    "LOR": np.logical_or,
    "LXOR": np.logical_xor,
}


def total(op, dtype, k):
    parts = [part(op, dtype, r, k) for r in range(size)]
    if op in UFUNCS:
        result = parts[0]
        for other in parts[1:]:
            result = UFUNCS[op](result, other)
        return result.astype(TYPES[dtype][0])
    result = parts[0].copy()
    for other in parts[1:]:
        a, b = result["value"], other["value"]
        better = b > a if op == "MAXLOC" else b < a
        better |= (a == b) & (other["index"] < result["index"])
        result[better] = other[better]
    return result


# ---- the cases ----

number = 0  # of the current case
case = {}
problems = checked = 0


def seed_of(r):
    return (r + 1) * 1000003 + 7919 * number


def complain(what):
    global problems
    problems += 1
    if problems <= 20:
        text = " ".join(f"{field}={content}" for field, content in case.items())
        sys.stderr.write(f"[rank {rank} of {size}] peer.py: case {number} ({text}): {what}\n")
        sys.stderr.flush()


def note(label, got, expected):
    if got != expected:
        complain(f"{label} is {got}, expected {expected}")


def layout(field="layouts"):
    return case[field].split(",")[rank]


def sent_buffer(values, n=None, field="layouts", parts=1):
    """What this rank sends; a lie is in the last element."""
    n = case["n"] if n is None else n

    def lie(dtype, k):
        return values(dtype, k + (k == n - 1))

    return Buffer(layout(field), n, case["dtype"], lie if case.get("liar") == "python" else values, parts=parts)


def room(n=None, field="layouts", parts=1):
    return Buffer(layout(field), case["n"] if n is None else n, case["dtype"], parts=parts)


def check(got, values, count=None):
    global checked
    difference = got.difference(Buffer(got.layout, got.n, got.dtype, values, count))
    if difference:
        complain(difference)
    checked += 1


def check_status(status, source, tag, got, count):
    note("source", status.Get_source(), source)
    note("tag", status.Get_tag(), tag)
    note("count", got.received(status), count)


def from_rank(r):
    return values_from(seed_of(r))


calls = {}


def call(function):
    calls[function.__name__] = function
    return function


@call
def send():
    """From one rank to another; the buffer may be larger than the message."""
    nonblocking = case["python"] == "nonblocking"
    if rank == case["from"]:
        sent = sent_buffer(from_rank(rank))
        if nonblocking:
            comm.Isend(sent.spec, case["to"], case["tag"]).Wait()
        else:
            comm.Send(sent.spec, case["to"], case["tag"])
    elif rank == case["to"]:
        status, got = MPI.Status(), room(case["room"])
        if nonblocking:
            comm.Irecv(got.spec, case["from"], case["tag"]).Wait(status)
        else:
            comm.Recv(got.spec, case["from"], case["tag"], status)
        check_status(status, case["from"], case["tag"], got, case["n"])
        check(got, from_rank(case["from"]), case["n"])


@call
def sendrecv():
    """Each rank sends to the one `step` after it."""
    to, source = (rank + case["step"]) % size, (rank - case["step"]) % size
    sent, got, status = sent_buffer(from_rank(rank), field="sources"), room(), MPI.Status()
    comm.Sendrecv(sent.spec, to, case["tag"], got.spec, source, case["tag"], status)
    check_status(status, source, case["tag"], got, case["n"])
    check(got, from_rank(source))


def exchange_blocking(other, offset_from):
    for i in (0, 1):
        comm.Send(sent_buffer(offset_from(rank, i)).spec, other, case["tag"] + i)
    for i in (1, 0):
        got, status = room(), MPI.Status()
        comm.Recv(got.spec, other, case["tag"] + i, status)
        check_status(status, other, case["tag"] + i, got, case["n"])
        check(got, offset_from(other, i))


def exchange_nonblocking(others, offset_from):
    gots = {(r, i): room() for r in others for i in (1, 0)}
    sents = [sent_buffer(offset_from(rank, i)) for i in (0, 1)]
    requests = [comm.Irecv(got.spec, r, case["tag"] + i) for (r, i), got in gots.items()]
    requests += [comm.Isend(sents[i].spec, r, case["tag"] + i) for r in others for i in (0, 1)]
    statuses = [MPI.Status() for _ in requests]
    MPI.Request.Waitall(requests, statuses)
    for ((r, i), got), status in zip(gots.items(), statuses):
        check_status(status, r, case["tag"] + i, got, case["n"])
        check(got, offset_from(r, i))


@call
def exchange():
    """Each rank of one half sends two messages to each of the other half, which come in the other order."""
    others = [int(r) for r in case["lua_ranks"].split(",")]

    def offset_from(r, i):
        return values_from(seed_of(r) + 10**6 * i)

    if case["python"] == "nonblocking":
        exchange_nonblocking(others, offset_from)
    else:
        for other in others:
            exchange_blocking(other, offset_from)


@call
def collect():
    """One rank receives from everyone, in any order."""
    if rank != case["root"]:
        sent = sent_buffer(from_rank(rank), case["n"] + rank)
        comm.Send(sent.spec, case["root"], case["tag"] + 7 * rank)
    else:
        status, sources = MPI.Status(), []
        for _ in range(size - 1):
            got = room(case["n"] + size)
            comm.Recv(got.spec, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
            source = status.Get_source()
            check_status(status, source, case["tag"] + 7 * source, got, case["n"] + source)
            check(got, from_rank(source), case["n"] + source)
            sources.append(source)
        note("set of sources", sorted(sources), [r for r in range(size) if r != rank])
    comm.Barrier()


@call
def text():
    """UTF-8 from one rank to another."""
    global checked
    content = (case["text"] * case["times"]).encode()
    if rank == case["from"]:
        comm.Send([content, MPI.CHAR], case["to"], case["tag"])
    elif rank == case["to"]:
        status, got = MPI.Status(), bytearray(len(content) + 10)
        comm.Recv([got, MPI.CHAR], case["from"], case["tag"], status)
        count = status.Get_count(MPI.CHAR)
        note("bytes", bytes(got[:count]), content)
        note("text", got[:count].decode(), case["text"] * case["times"])
        note("rest", bytes(got[count:]), bytes(10))
        checked += 1


@call
def bcast():
    here = sent_buffer(from_rank(rank)) if rank == case["root"] else room()
    comm.Bcast(here.spec, case["root"])
    check(here, from_rank(case["root"]))


def gathered(dtype, k):
    """A part for each rank, of which element k is element k % n of the rank's own."""
    n = case["n"]
    return value(dtype, k // n * (seed_of(1) - seed_of(0)) + seed_of(0) + k % n)


def my_place(dtype, k):
    """The same, of this rank's part only."""
    made = gathered(dtype, k)
    made[k // case["n"] != rank] = value(dtype, np.array([GUARD]))[0]
    return made


@call
def scatter():
    whole, spec = None, None
    if rank == case["root"]:
        whole = sent_buffer(from_rank(rank), size * case["n"], "wholes", size)
        spec = whole.spec
    if rank == case["root"] and "in_place" in case:
        comm.Scatter(spec, MPI.IN_PLACE, case["root"])
        check(whole, from_rank(rank))
    else:
        got = room()
        comm.Scatter(spec, got.spec, case["root"])
        check(got, values_from(seed_of(case["root"]) + rank * case["n"]))


def gathering():
    """This rank's part, as MPI takes it, and the buffer for all of them."""
    if "in_place" in case:
        return MPI.IN_PLACE, sent_buffer(my_place, size * case["n"], "wholes", size)
    return sent_buffer(from_rank(rank)).spec, room(size * case["n"], "wholes", size)


@call
def gather():
    if rank == case["root"]:
        sent, got = gathering()
        comm.Gather(sent, got.spec, case["root"])
        check(got, gathered)
    else:
        comm.Gather(sent_buffer(from_rank(rank)).spec, None, case["root"])


@call
def allgather():
    sent, got = gathering()
    comm.Allgather(sent, got.spec)
    check(got, gathered)


def my_part(dtype, k):
    return part(case["op"], dtype, rank, k)


def the_total(dtype, k):
    return total(case["op"], dtype, k)


def reduction():
    """The two sides of a reduction: what MPI takes, and the buffer of the result."""
    if "in_place" in case:
        return MPI.IN_PLACE, sent_buffer(my_part)
    return sent_buffer(my_part, field="sources").spec, room()


@call
def reduce():
    if rank == case["root"]:
        sent, got = reduction()
        comm.Reduce(sent, got.spec, getattr(MPI, case["op"]), case["root"])
        check(got, the_total)
    else:
        comm.Reduce(sent_buffer(my_part, field="sources").spec, None, getattr(MPI, case["op"]), case["root"])


@call
def allreduce():
    sent, got = reduction()
    comm.Allreduce(sent, got.spec, getattr(MPI, case["op"]))
    check(got, the_total)


@call
def allreduce_number():
    global checked
    parts, got = [1.5 * r - 2.25 for r in range(size)], np.zeros(1)
    comm.Allreduce(np.array([parts[rank]]), got, getattr(MPI, case["op"]))
    note("result", got[0], {"SUM": sum, "PROD": np.prod, "MAX": max, "MIN": min}[case["op"]](parts))
    checked += 1


# ---- the plan ----

WHOLE = ("n", "room", "from", "to", "root", "step", "tag", "times")


def run(path):
    global number, case
    with open(path, encoding="utf-8", newline="\n") as plan:
        lines = plan.read().split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        case = dict(field.split("=", 1) for field in line.split("\t"))
        for field in WHOLE:
            if field in case:
                case[field] = int(case[field])
        calls[case["call"]]()
        while derived:
            derived.pop().Free()
    comm.Barrier()  # an exit code other than 0 ends the others, who may have something to say
    sys.stdout.write(f"python {rank} checked {checked}\n")
    sys.stdout.flush()
    if problems > 0:
        comm.Abort(1)


try:
    run(sys.argv[1])
except BaseException:
    sys.stderr.write(f"[rank {rank} of {size}] peer.py: case {number} ({case}): {traceback.format_exc()}")
    sys.stderr.flush()
    comm.Abort(1)
