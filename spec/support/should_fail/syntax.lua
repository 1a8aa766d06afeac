-- SPDX-License-Identifier: MIT
it("does not compile", function(
