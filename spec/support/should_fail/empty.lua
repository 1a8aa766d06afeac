-- SPDX-License-Identifier: MIT
describe("nothing", function() end)
