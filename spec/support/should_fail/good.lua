-- SPDX-License-Identifier: MIT
-- Nothing fails here: the run must say so once, and not once a rank.
it("passes", function() end)
it("skips", function() pending("not today") end)
