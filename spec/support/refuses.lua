-- SPDX-License-Identifier: MIT
-- The call, a function of the spec, must raise a message with all of these texts, at its line in that file. Returns it.
return function(call, ...)
  local here = debug.getinfo(call, "S").short_src
  local fine, message = pcall(call)
  assert(not fine, "not refused")
  assert(type(message) == "string" and message:sub(1, #here) == here, tostring(message))
  for _, text in ipairs { ... } do
    assert(message:find(text, 1, true), ("expected %q in: %s"):format(text, message))
  end
  return message
end
