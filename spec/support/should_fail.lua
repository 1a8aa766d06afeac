-- SPDX-License-Identifier: MIT
-- Tests the harness, without busted: runs the specs in should_fail/ and checks what comes of them.

local root = assert(os.getenv("NMPI_TEST_SOURCE"), "run this through `meson test`")
package.path = root .. "/?.lua;" .. package.path
local job = require "spec.support.job"

-- Seconds in which a failure must have ended the job; far above what it takes, far below any time limit.
local SOON = 20

-- `code` is the exit code (any but 0 where absent), `out` and `err` are Lua patterns that must be found, `absent` one
-- that must not be. They are not anchored, because MPI libraries print warnings of their own, some to stdout.
local cases = {
  { "good", n = 3, code = 0, out = "PASS passes\nSKIP skips: not today\n1 passed, 0 failed, 1 skipped\n" },
  { "mixed", n = 1, out = "\n1 passed, 2 failed, 2 skipped\n",
    err = "%[rank 0 of 1%] spec/support/should_fail/mixed%.lua:5: kinds fail: Expected objects to be equal" },
  { "mixed", serial = true, code = 1, out = "\n1 passed, 2 failed, 2 skipped\n",
    err = "\nspec/support/should_fail/mixed%.lua:6: kinds raise: oops\nstack traceback:\n" },
  { "last_rank", n = 3, absent = "passed",
    err = "%[rank 2 of 3%] spec/support/should_fail/last_rank%.lua:7: a failure on one rank ends the job: " },
  { "raise", n = 2, absent = "passed",
    err = "%[rank 0 of 2%] spec/support/should_fail/raise%.lua:6: raises: raised on purpose\nstack traceback:\n"
      .. "[^[]*raise%.lua:6: in function 'raise'" },
  { "setup", n = 1, out = "0 passed, 1 failed\n",
    err = "%[rank 0 of 1%] spec/support/should_fail/setup%.lua:4: a setup setup: no setup today\n" },
  { "syntax", n = 2, absent = "passed", err = "%[rank %d of 2%] spec/support/should_fail/syntax%.lua:%d+: " },
  { "syntax", n = 1, out = "0 passed, 1 failed\n", err = "spec/support/should_fail/syntax%.lua:%d+: " },
  { "empty", n = 1, out = "0 passed, 1 failed\n", err = "no tests found" },
  { "missing", n = 1, out = "0 passed, %d failed\n", err = "spec/support/should_fail/missing%.lua" },
  { "crash", n = 2, absent = "passed" },
  { "hang", n = 2, limit = 10, code = 124, absent = "passed", err = "timed out after 10 s: " },
}

local function problems(case, code, out, err, seconds)
  local list = {}
  local function check(ok, text)
    if not ok then list[#list + 1] = text end
  end
  if case.code then
    check(code == case.code, "exit code " .. case.code)
  else
    check(code ~= 0, "an exit code other than 0")
  end
  if case.out then
    check(out:find(case.out), "stdout " .. case.out)
    check(select(2, out:gsub(" passed, ", "")) == 1, "one closing line")
  end
  check(not case.err or err:find(case.err), "stderr " .. tostring(case.err))
  check(not case.absent or not out:find(case.absent), "stdout without " .. tostring(case.absent))
  check(seconds < SOON, "an end within " .. SOON .. " s")
  return list
end

-- The closing lines of the runs must not look like our own.
local function indent(text)
  return (text:gsub("\n", "\n  "))
end

io.stdout:setvbuf "line"
local passed, failed = 0, 0
for _, case in ipairs(cases) do
  local name = case[1]
  local args = { "spec/support/run.lua", "spec/support/should_fail/" .. name .. ".lua" }
  if case.serial then table.insert(args, 2, "--serial") end
  local code, out, err, seconds = job.run {
    program = case.serial and "luajit" or "nmpi", n = case.n, args = args, timeout = case.limit
  }
  local wrong = problems(case, code, out, err, seconds)
  if #wrong == 0 then
    passed = passed + 1
    print(("PASS %s (%s), %.1f s"):format(name, case.n or "serial", seconds))
  else
    failed = failed + 1
    print(("FAIL %s (%s), %.1f s, exit code %d; expected %s"):format(
      name, case.n or "serial", seconds, code, indent(table.concat(wrong, "; "))))
    print(("  stdout: %s\n  stderr: %s"):format(indent(out), indent(err)))
  end
end

print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
