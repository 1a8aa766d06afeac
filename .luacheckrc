-- SPDX-License-Identifier: MIT
std = "luajit"
max_line_length = 120
-- A non-zero os.exit must abort the job.
files["lua/nmpi"].globals = { "os.exit" }
files["spec"].std = "luajit+busted"
exclude_files = {
  "build*",
  "docs/reference",
  -- Does not compile, on purpose.
  "spec/support/should_fail/syntax.lua",
}
