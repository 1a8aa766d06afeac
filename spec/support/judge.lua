-- SPDX-License-Identifier: MIT

--- Fails, at the caller's line, with the first of the problems that a test has noted, unless there are none.
return function(problems)
  if #problems == 0 then return end
  error(("%d problems:\n%s"):format(#problems, table.concat(problems, "\n", 1, math.min(#problems, 20))), 2)
end
