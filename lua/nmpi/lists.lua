-- SPDX-License-Identifier: MIT
-- Lua's lists: a check, and the way to and from the core's arrays. A loop within a script's hot loop would be compiled
-- apart from it, so for up to three entries there is none.

local check = require "nmpi.check"

local next, pairs, type = next, pairs, type
local mismatch = check.mismatch

local lists = {}

-- Whether a table of at most three entries has the keys 1 to n, no others, and in this order.
local function in_order(list, n)
  local key = next(list)
  if n > 0 then
    if key ~= 1 then return false end
    key = next(list, 1)
  end
  if n > 1 then
    if key ~= 2 then return false end
    key = next(list, 2)
  end
  if n > 2 then
    if key ~= 3 then return false end
    key = next(list, 3)
  end
  return type(key) == "nil"
end

--- Raises an error unless a value is a list, from index 1 and without holes; returns its length.
function lists.length(value, where, argument, expected)
  if type(value) ~= "table" then mismatch(where, argument, expected, value) end
  local n = #value
  if in_order(value, n) then return n end
  for key in pairs(value) do
    if type(key) ~= "number" or key % 1 ~= 0 or key < 1 or key > n then
      mismatch(where, argument, expected .. ", from index 1 and without holes", value)
    end
  end
  return n
end

--- Fills a C array with n entries of a list, as entry(value, where, argument) makes them.
function lists.fill(to, list, n, entry, where, argument)
  if n > 0 then to[0] = entry(list[1], where, argument) end
  if n > 1 then to[1] = entry(list[2], where, argument) end
  if n > 2 then to[2] = entry(list[3], where, argument) end
  for i = 4, n do to[i - 1] = entry(list[i], where, argument) end
end

--- A list of n entries of a C array, as entry(value) makes them.
function lists.of(from, n, entry)
  if n == 1 then return { (entry(from[0])) } end
  if n == 2 then return { entry(from[0]), (entry(from[1])) } end
  if n == 3 then return { entry(from[0]), entry(from[1]), (entry(from[2])) } end
  local list = {}
  for i = 1, n do list[i] = entry(from[i - 1]) end
  return list
end

return lists
