-- SPDX-License-Identifier: MIT
-- One of each kind.
describe("kinds", function()
  it("pass", function() end)
  it("fail", function() assert.are.equal(1, 2) end)
  it("raise", function() error("oops") end)
  it("skip", function() pending("not today") end)
  pending("wait")
end)
