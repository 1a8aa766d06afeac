-- SPDX-License-Identifier: MIT
-- Views exchanged by two ranks, as a halo exchange does: sendrecv from view to view. By nmpi; in C with committed
-- derived datatypes; in C with loops that pack and unpack; in C the same bytes from contiguous memory to contiguous
-- memory; and large ones in C packed in pieces, each a message. Each row has the seconds of all, and the ratios of nmpi
-- to the first two.

package.path = arg[0]:gsub("[^/]*$", "?.lua;") .. package.path

local ffi = require "ffi"
local mpi = require "nmpi"
local harness = require "harness"

ffi.cdef [[
typedef struct exchange exchange;
exchange *bench_strided_open(void *send, int send_ndim, const int64_t *send_extent, const int64_t *send_stride,
  void *recv, int recv_ndim, const int64_t *recv_extent, const int64_t *recv_stride, int size);
void bench_strided_close(exchange *x);
void bench_strided_derived(int n, exchange *x);
void bench_strided_contiguous(int n, exchange *x);
void bench_strided_pack(int n, exchange *x);
void bench_strided_pieces(int n, exchange *x);
int bench_strided_arrived(exchange *x, void *sent);
]]

local c, rank = harness.c, mpi.rank()
local peer, TAG = 1 - rank, 1

harness.need(2)

-- What --quick leaves out, and what is sent in pieces too.
local QUICK_BYTES, PIECES_BYTES = 2 ^ 20, 2 ^ 20

-- ---- the cases ----

local cases = {}

-- A case: views of two fields of the given shape, the same on either side unless another function makes the one to
-- receive into, on a field of its own.
local function case(name, dtype, shape, view, recv_shape, recv_view)
  cases[#cases + 1] = {
    name = name,
    dtype = dtype,
    shape = shape,
    view = view,
    recv_shape = recv_shape or shape,
    recv_view = recv_view or view,
  }
end

local function column(field) return (field:col(1)) end
local function rest(field) return (field:slice({ 1, -1 }, { 1, -1 })) end
local function whole(field) return field end
local function transpose(field) return (field:transpose()) end

local function steps(field)
  local step = { nil, nil, 2 }
  return (field:slice(step, field.ndim > 1 and step or nil, field.ndim > 2 and step or nil))
end

-- A field with a halo: a column, a block within, n by m.
local function columns(n, width, dtype)
  case(("%d columns of %d, %s"):format(width, n, dtype), dtype, { n, n <= 512 and n + 2 or 514 },
    function(field) return (field:slice(nil, { 1, 1 + width })) end)
end

local function block(n, m, dtype)
  case(("block %d x %d, %s"):format(n, m, dtype), dtype, { n + 2, m + 2 }, rest)
end

local function transposed(n, m, dtype)
  case(("transpose %d x %d, %s"):format(n, m, dtype), dtype, { n, m }, transpose, { m, n }, whole)
end

-- The first cells within the halo, in one dimension, of all that lie within it in the others.
local function face(d, ...)
  local extent, ranges, shape = { ... }, { { 1, -1 }, { 1, -1 }, { 1, -1 } }, {}
  ranges[d] = 1
  for k = 1, 3 do shape[k] = extent[k] + 2 end
  case(("%s face of %s, double"):format(({ "first", "second", "last" })[d], table.concat(extent, " x ")), "double",
    shape, function(field) return (field:slice(unpack(ranges))) end)
end

for _, n in ipairs { 8, 64, 512, 4096 } do
  case(("column of %d, double"):format(n), "double", { n, n <= 512 and n + 2 or 514 }, column)
end
columns(512, 2, "double")
columns(512, 3, "double")
columns(4096, 16, "double")
case("row of 64, double", "double", { 4, 64 }, function(field) return (field:row(1)) end)
case("row of 4096, double", "double", { 4, 4096 }, function(field) return (field:row(1)) end)
case("every other row, 256 of 512, double", "double", { 512, 512 },
  function(field) return (field:slice { nil, nil, 2 }) end)
block(8, 8, "double")
block(64, 64, "double")
block(256, 256, "double")
block(512, 512, "double")
block(1024, 1024, "double")
block(2048, 2048, "double")
block(2048, 4096, "double")
for _, n in ipairs { 16, 64, 128 } do
  case(("block %d x %d x %d, double"):format(n, n, n), "double", { n + 2, n + 2, n + 2 },
    function(field) return (field:slice({ 1, -1 }, { 1, -1 }, { 1, -1 })) end)
end
for _, n in ipairs { 32, 128 } do
  for d = 1, 3 do face(d, n, n, n) end
end
case("step 2, 64, double", "double", { 128 }, steps)
case("step 2, 4096, double", "double", { 8192 }, steps)
case("step 2, 1048576, double", "double", { 2097152 }, steps)
case("step 2 in 2-d, 32 x 32, double", "double", { 64, 64 }, steps)
case("step 2 in 2-d, 256 x 256, double", "double", { 512, 512 }, steps)
case("step 2 in 2-d, 1024 x 1024, double", "double", { 2048, 2048 }, steps)
transposed(8, 8, "double")
transposed(64, 64, "double")
transposed(256, 256, "double")
transposed(500, 300, "double")
transposed(1024, 1024, "double")
transposed(2048, 2048, "double")
case("transpose 64 x 64 x 64, double", "double", { 64, 64, 64 }, transpose, { 64, 64, 64 }, whole)
case("column of 8388608, double", "double", { 2 ^ 23, 4 }, column)
case("16 columns of 524288, double", "double", { 2 ^ 19, 32 }, function(field) return (field:slice(nil, { 1, 17 })) end)
face(1, 2, 1448, 1448)
face(2, 1448, 2, 1448)
face(3, 1448, 1448, 2)
case("step 2, 8388608, double", "double", { 2 ^ 24 }, steps)
case("step 2 in 3-d, 64 x 128 x 128, double", "double", { 128, 256, 256 }, steps)
transposed(4096, 2048, "double")
block(2048, 2048, "complex double")
block(8192, 8192, "int8")
transposed(1024, 1024, "complex double")
case("step 2, 16777216, int8", "int8", { 2 ^ 25 }, steps)
transposed(4096, 4096, "int8")
case("step 2, 4096, complex float", "complex float", { 8192 }, steps)
case("column of 512, complex double", "complex double", { 512, 514 }, column)
block(256, 256, "complex double")
transposed(256, 256, "complex double")
case("column of 512, float", "float", { 512, 514 }, column)
block(256, 256, "float")
case("step 2, 4096, float", "float", { 8192 }, steps)
transposed(512, 512, "float")
case("column of 512, int8", "int8", { 512, 514 }, column)
block(512, 512, "int8")
case("step 2, 4096, int8", "int8", { 8192 }, steps)
transposed(512, 512, "int8")

-- ---- what arrived ----

-- Every byte depends on its place and on the rank.
local function fill(field, of_rank)
  local bytes = ffi.cast("uint8_t *", field.data)
  for i = 0, field.size * field.itemsize - 1 do bytes[i] = (i * 31 + i / 251 + of_rank * 101) % 251 end
  return field
end

local function verify(name, exchange, recv_field, recv_view, sent, way, label)
  local outside = fill(recv_field, 2):copy()
  mpi.barrier()
  way(1)
  if c.bench_strided_arrived(exchange, sent.data) == 0 then
    error(("%s: %s has not delivered what was sent"):format(name, label), 0)
  end
  -- With the view as it was, the whole field must be.
  local a, b = ffi.cast("uint8_t *", recv_field.data), ffi.cast("uint8_t *", outside.data)
  local view = recv_view(outside)
  recv_view(recv_field):assign(view)
  for i = 0, recv_field.size * recv_field.itemsize - 1 do
    if a[i] ~= b[i] then error(("%s: %s has written outside the view"):format(name, label), 0) end
  end
end

-- ---- running them ----

local function list_of(tuple, n)
  local list = ffi.new("int64_t[?]", n)
  for d = 1, n do list[d - 1] = tuple[d - 1] end
  return list
end

-- A loop of its own for each case, so that it compiles for this case.
local function sender(send, recv)
  return loadstring([[
    local mpi, send, recv, peer, TAG = ...
    return function(n)
      for _ = 1, n do mpi.sendrecv(send, peer, recv, peer, TAG, TAG) end
    end
  ]])(mpi, send, recv, peer, TAG)
end

local function run(one)
  local field, recv_field = mpi.empty(one.shape, one.dtype), mpi.empty(one.recv_shape, one.dtype)
  local send, recv = one.view(field), one.recv_view(recv_field)
  local bytes = send.size * send.itemsize
  if harness.quick and bytes > QUICK_BYTES then return end
  -- Nothing has been touched yet. Four fields, the buffers of nmpi and C, and what is not collected, in both processes.
  if not harness.fits(one.name, 2 * 8 * field.size * field.itemsize) then return end
  fill(field, rank)
  local exchange = c.bench_strided_open(send.data, send.ndim, list_of(send.shape, send.ndim),
    list_of(send.strides, send.ndim), recv.data, recv.ndim, list_of(recv.shape, recv.ndim),
    list_of(recv.strides, recv.ndim), send.itemsize)
  local ways = {
    sender(send, recv),
    function(n) c.bench_strided_derived(n, exchange) end,
    function(n) c.bench_strided_pack(n, exchange) end,
    function(n) c.bench_strided_contiguous(n, exchange) end,
    bytes >= PIECES_BYTES and function(n) c.bench_strided_pieces(n, exchange) end or nil,
  }
  do
    local sent = one.view(fill(mpi.empty(one.shape, one.dtype), peer))
    -- As contiguous bytes nothing of the views is sent.
    for i, label in ipairs { "nmpi", "the derived datatype", "packing", false, "packing in pieces" } do
      if label and ways[i] then verify(one.name, exchange, recv_field, one.recv_view, sent, ways[i], label) end
    end
  end
  collectgarbage()
  local seconds, ratios = harness.compare(ways)
  c.bench_strided_close(exchange)
  harness.row("case", one.name, "bytes", bytes, "nmpi", seconds[1], "derived", seconds[2], "pack", seconds[3],
    "contiguous", seconds[4], "pieces", seconds[5], "derived_ratio", ratios[2], "pack_ratio", ratios[3])
  field:free()
  recv_field:free()
  return ratios
end

local derived, best = {}, {}
for _, one in ipairs(cases) do
  local ratios = harness.wanted(one.name) and run(one)
  if ratios then
    derived[#derived + 1] = 1 / ratios[2]
    best[#best + 1] = math.max(ratios[2], ratios[3])
  end
end
if #derived > 0 then
  harness.row("case", "median", "rows", #derived, "derived_speedup", harness.median(derived), "best_ratio",
    harness.median(best))
end
