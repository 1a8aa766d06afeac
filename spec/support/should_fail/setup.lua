-- SPDX-License-Identifier: MIT
-- The error lies outside of any test.
describe("a setup", function()
  setup(function() error("no setup today") end)
  it("is needed", function() end)
end)
