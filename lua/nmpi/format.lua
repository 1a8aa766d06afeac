-- SPDX-License-Identifier: MIT
-- The text of an array, as NumPy's str() gives it (precision 8, threshold 1000, three edge items, 75 columns).

local ffi = require "ffi"
local bit = require "bit"

local type, tonumber, tostring = type, tonumber, tostring
local max, min, abs, huge, frexp = math.max, math.min, math.abs, math.huge, math.frexp
local concat = table.concat
local band, cast, typeof = bit.band, ffi.cast, ffi.typeof

local PRECISION, THRESHOLD, EDGE_ITEMS, LINE_WIDTH = 8, 1000, 3, 75
local EDGE_CHARACTERS = 30

local byte_pointer, float = typeof "const uint8_t *", typeof "float"

-- What the shortest digits of a number depend on: a decimal of `safe` digits survives the way to the type and back.
local DOUBLE = {
  safe = 15, exact = 17, normal = 2 ^ -1022, size = 8,
  round = function(x) return x end,
  pointer = typeof "const double *", bits = typeof "const uint64_t *",
  magnitude = 0x7fffffffffffffffULL, infinity = 0x7ff0000000000000ULL,
}
local SINGLE = {
  safe = 6, exact = 9, normal = 2 ^ -126, size = 4,
  round = function(x) return tonumber(float(x)) end,
  pointer = typeof "const float *", bits = typeof "const uint32_t *",
  magnitude = 0x7fffffff, infinity = 0x7f800000,
}

local WIDTHS = {
  float = SINGLE, double = DOUBLE, ["complex float"] = SINGLE, ["complex double"] = DOUBLE, float_int = SINGLE,
  double_int = DOUBLE,
}

local PAIRS = { float_int = true, double_int = true, long_int = true, short_int = true, ["2int"] = true }

-- ---- numbers ----

local function is_finite(x)
  return x - x == 0
end

local function is_negative(x)
  return x < 0 or 1 / x < 0
end

local function trim(digits)
  return (digits:gsub("0+$", ""))
end

-- The decimal digits of a number >= 0, more than a decision on rounding needs, and the exponent of the first.
local function expand(x)
  local first, rest, exponent = ("%.45e"):format(x):match "^(%d)%.(%d*)e(.*)$"
  return first .. rest, tonumber(exponent)
end

-- One more in the last place.
local function increment(digits, exponent)
  local head, last, nines = digits:match "^(.-)([0-8])(9*)$"
  if not head then return "1" .. ("0"):rep(#digits - 1), exponent + 1 end
  return head .. last + 1 .. ("0"):rep(#nines), exponent
end

-- Cuts digits to `count`, rounding half to even (string.format rounds half up in some versions of LuaJIT).
local function round(digits, exponent, count)
  local head, tail = digits:sub(1, count), digits:sub(count + 1)
  if tail:find "^[6-9]" or tail:find "^50*[1-9]" or tail:find "^5" and head:find "[13579]$" then
    return increment(head, exponent)
  end
  return head, exponent
end

-- The fewest digits that tell a number >= 0 from all others of its type, and the exponent of the first.
local function shortest(x, width)
  if x == 0 then return "0", 0 end
  -- Below a power of two the neighbours are closer: there the next decimal above may do where the nearest does not.
  local uneven = frexp(x) == 0.5
  local all, first = expand(x)
  local digits, exponent
  for count = x < width.normal and 1 or width.safe, width.exact do
    digits, exponent = round(all, first, count)
    if width.round(tonumber(digits .. "e" .. exponent - count + 1)) == x then break end
    local above, above_exponent = increment(digits, exponent)
    if uneven and width.round(tonumber(above .. "e" .. above_exponent - count + 1)) == x then
      digits, exponent = above, above_exponent
      break
    end
  end
  return trim(digits), exponent
end

-- The digits before and after the decimal point.
local function place_point(digits, exponent)
  if exponent < 0 then return "0", ("0"):rep(-exponent - 1) .. digits end
  digits = digits .. ("0"):rep(exponent + 1 - #digits)
  return digits:sub(1, exponent + 1), digits:sub(exponent + 2)
end

local function positional(x, width)
  local digits, exponent = shortest(x, width)
  -- Digits before the point are exact, also where fewer would do.
  local places = max(min(#digits - 1 - exponent, PRECISION), 0)
  if places ~= #digits - 1 - exponent then
    digits, exponent = expand(x)
    digits, exponent = round(digits, exponent, exponent + 1 + places)
  end
  local before, after = place_point(digits, exponent)
  return before, trim(after)
end

-- The digits with one before the decimal point, and the exponent; `precision` after it where that is given.
local function scientific(x, width, precision)
  local digits, exponent = shortest(x, width)
  local places = precision or min(#digits - 1, PRECISION)
  if places ~= #digits - 1 then
    digits, exponent = expand(x)
    digits, exponent = round(digits, exponent, places + 1)
    if not precision then digits = trim(digits) end
  end
  return digits:sub(1, 1), digits:sub(2), exponent
end

local function sign_of(x, plus)
  return is_negative(x) and "-" or plus
end

local function not_finite(x, plus)
  return x ~= x and plus .. "nan" or sign_of(x, plus) .. "inf"
end

local function exponent_text(exponent, digits)
  return (exponent < 0 and "-%s" or "+%s"):format(("%0" .. digits .. "d"):format(abs(exponent)))
end

-- One number by itself, its digits not cut.
local function scalar(x, width, plus, point)
  if not is_finite(x) then return not_finite(x, plus) end
  local size = abs(x)
  local digits, exponent = shortest(size, width)
  local text
  if size == 0 or size >= 1e-4 and size < 1e16 then
    local before, after = place_point(digits, exponent)
    text = before .. (after ~= "" and "." .. after or point)
  else
    text = digits:sub(1, 1) .. (#digits > 1 and "." .. digits:sub(2) or "") .. "e" .. exponent_text(exponent, 2)
  end
  return sign_of(x, plus) .. text
end

-- Whether the finite ones need exponents to be told apart.
local function need_exponents(values, width)
  local largest, smallest = 0, huge
  for i = 1, #values do
    local size = abs(values[i])
    if size > 0 and size < huge then largest, smallest = max(largest, size), min(smallest, size) end
  end
  return largest > 0 and (largest >= 1e8 or smallest < 1e-4 or width.round(largest / smallest) > 1000)
end

-- How wide the parts of the numbers are: `left` with the sign and `right` without the decimal point, and the digits of
-- exponents where there are any. `plus` is the sign of positive numbers.
local function measure(values, width, plus)
  local split = need_exponents(values, width) and scientific or positional
  local left, right, exponent_digits, longest = 0, 0, nil, 0
  for i = 1, #values do
    local x = values[i]
    if is_finite(x) then
      local before, after, exponent = split(abs(x), width)
      left, right = max(left, #before + #sign_of(x, plus)), max(right, #after)
      exponent_digits = exponent and max(exponent_digits or 2, #tostring(abs(exponent)))
    else
      -- Where positive numbers have a sign, room is kept for that of an infinity.
      longest = max(longest, #not_finite(x, plus), plus == "" and 0 or #"+inf")
    end
  end
  local whole_right = right + (exponent_digits and exponent_digits + 2 or 0)
  return max(left, longest - whole_right - 1), right, whole_right, exponent_digits
end

-- Replaces each number by its text, all of the same width.
local function format_reals(values, width, plus)
  local left, right, whole_right, exponent_digits = measure(values, width, plus)
  for i = 1, #values do
    local x = values[i]
    local before, after, exponent
    if not is_finite(x) then
      local text = not_finite(x, plus)
      values[i] = (" "):rep(left + whole_right + 1 - #text) .. text
    else
      if exponent_digits then
        before, after, exponent = scientific(abs(x), width, right)
        after = after .. "e" .. exponent_text(exponent, exponent_digits)
      else
        before, after = positional(abs(x), width)
      end
      before = sign_of(x, plus) .. before
      values[i] = (" "):rep(left - #before) .. before .. "." .. after .. (" "):rep(whole_right - #after)
    end
  end
  return values
end

local function format_integers(values)
  local longest = 0
  for i = 1, #values do
    values[i] = type(values[i]) == "number" and ("%d"):format(values[i]) or tostring(values[i]):match "^-?%d+"
    longest = max(longest, #values[i])
  end
  for i = 1, #values do values[i] = (" "):rep(longest - #values[i]) .. values[i] end
  return values
end

-- ---- text ----

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quote(text, unprintable)
  return '"' .. text:gsub(unprintable, function(c) return ESCAPES[c] or ("\\%03d"):format(c:byte()) end) .. '"'
end

local function text_of(a)
  local function part(from, count)
    return quote(a:slice { from, from + count }:tostring(), '[%c"\\]')
  end
  if a.size <= THRESHOLD then return part(0, a.size) end
  return part(0, EDGE_CHARACTERS) .. "..." .. part(a.size - EDGE_CHARACTERS, EDGE_CHARACTERS)
end

-- ---- elements ----

-- The real numbers `offset` numbers into the elements. NaNs are replaced by a plain one: LuaJIT takes a number from
-- memory as it is, and the bits of some NaNs, found where nothing was ever written, make it another type.
local function reals_of(a, positions, width, offset)
  local bytes, list = cast(byte_pointer, a.data) + offset * width.size, {}
  for i = 1, #positions do
    local address = bytes + positions[i] * a.itemsize
    local nan = band(cast(width.bits, address)[0], width.magnitude) > width.infinity
    list[i] = nan and 0 / 0 or cast(width.pointer, address)[0]
  end
  return list
end

-- Any other elements, or one field of them.
local function values_of(a, positions, field)
  local data, list = a.data, {}
  for i = 1, #positions do
    local value = data[positions[i]]
    list[i] = field and value[field] or value
  end
  return list
end

local function format_complex(re, im, width, alone)
  if alone then
    re, im = re[1], im[1]
    if re == 0 and not is_negative(re) then return { scalar(im, width, "", "") .. "j" } end
    return { "(" .. scalar(re, width, "", "") .. scalar(im, width, "+", "") .. "j)" }
  end
  re, im = format_reals(re, width, ""), format_reals(im, width, "+")
  for i = 1, #re do re[i] = re[i] .. im[i]:gsub("(%s*)$", "j%1", 1) end
  return re
end

-- The texts of the elements at some positions of memory; `alone` for a 0-d array.
local function format_elements(a, positions, alone)
  local dtype = a.dtype
  local width = WIDTHS[dtype]
  if dtype:find "^complex" then
    return format_complex(reals_of(a, positions, width, 0), reals_of(a, positions, width, 1), width, alone)
  elseif PAIRS[dtype] then
    local values = width and format_reals(reals_of(a, positions, width, 0), width, "")
      or format_integers(values_of(a, positions, "value"))
    local indices = format_integers(values_of(a, positions, "index"))
    for i = 1, #values do values[i] = ("(%s, %s)"):format(values[i], indices[i]) end
    return values
  elseif width then
    local values = reals_of(a, positions, width, 0)
    return alone and { scalar(values[1], width, "", ".0") } or format_reals(values, width, "")
  elseif dtype:find "^u?int%d+$" then
    return format_integers(values_of(a, positions))
  end
  local values = values_of(a, positions)
  for i = 1, #values do
    if dtype == "bool" then
      values[i] = values[i] and (alone and "true" or " true") or "false"
    elseif dtype == "char" then
      values[i] = quote(string.char(values[i] % 256), '[%c"\\\128-\255]')
    else
      values[i] = "<" .. dtype .. ">"
    end
  end
  return values
end

-- ---- brackets and lines ----

-- Appends the positions of the elements that are shown to a list, in row-major order.
local function gather(positions, shape, strides, d, position, summary)
  if d == shape.n then
    positions[#positions + 1] = position
    return
  end
  local extent = shape[d]
  local i = 0
  while i < extent do
    gather(positions, shape, strides, d + 1, position + i * strides[d], summary)
    i = i + 1
    if summary and i == EDGE_ITEMS and extent > 2 * EDGE_ITEMS then i = extent - EDGE_ITEMS end
  end
end

-- The innermost dimension: `count` words from `words[first]` on, in lines.
local function fold(words, first, count, skipping, indent, width)
  local lines, line = {}, indent
  local function add(word)
    if #line + #word > width and #line > #indent then
      lines[#lines + 1] = line:gsub("%s+$", "")
      line = indent
    end
    line = line .. word
  end
  for i = 0, count - 1 do
    if skipping and i == EDGE_ITEMS then
      add "..."
      line = line .. " "
    end
    add(words[first + i])
    if i < count - 1 then line = line .. " " end
  end
  lines[#lines + 1] = line
  return concat(lines, "\n"):sub(#indent + 1)
end

-- The text of dimension d and those within, and the position of the word that comes next.
local function nest(words, first, shape, d, summary, indent, width)
  local skipping = summary and shape[d] > 2 * EDGE_ITEMS
  local count = skipping and 2 * EDGE_ITEMS or shape[d]
  if d == shape.n - 1 then
    return "[" .. fold(words, first, count, skipping, indent, width - 1) .. "]", first + count
  end
  local rows = {}
  for i = 1, count do
    if skipping and i == EDGE_ITEMS + 1 then rows[i] = "..." end
    rows[#rows + 1], first = nest(words, first, shape, d + 1, summary, indent .. " ", width - 1)
  end
  return "[" .. concat(rows, ("\n"):rep(shape.n - 1 - d) .. indent) .. "]", first
end

return function(a)
  local shape = a.shape
  if a.dtype == "char" and a.ndim == 1 then return text_of(a) end
  if a.size == 0 then return "[]" end
  local summary, positions = a.size > THRESHOLD, {}
  gather(positions, shape, a.strides, 0, 0, summary)
  local words = format_elements(a, positions, a.ndim == 0)
  if a.ndim == 0 then return words[1] end
  return (nest(words, 1, shape, 0, summary, " ", LINE_WIDTH))
end
