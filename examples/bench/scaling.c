// SPDX-License-Identifier: MIT
// The right-hand side of numerics/cahn_hilliard.lua in C, for scaling.lua: row by row, without SIMD instructions, which
// LuaJIT does not use either.

#pragma GCC optimize "no-tree-vectorize"

static const double K = 0.01, C0 = 0.5;

// No flux through the edges: a cell beyond one has the value of its neighbour inside.
static void fill_halo(int n, int m, double *c) {
  int w = m + 2;
  for (int j = 1; j <= m; j++) {
    c[j] = c[w + j];
    c[(n + 1) * w + j] = c[n * w + j];
  }
  for (int i = 1; i <= n; i++) {
    c[i * w] = c[i * w + 1];
    c[i * w + m + 1] = c[i * w + m];
  }
}

static double lap(const double *c, int w) {
  return (c[-w] - 2 * c[0] + c[w]) + (c[-1] - 2 * c[0] + c[1]);
}

void bench_scaling_rhs(int times, int n, int m, double *c, double *mu, double *rate) {
  int w = m + 2;
  while (times-- > 0) {
    fill_halo(n, m, c);
    for (int i = 1; i <= n; i++)
      for (int k = i * w + 1; k <= i * w + m; k++)
        mu[k] = c[k] * c[k] * c[k] - c[k] - lap(c + k, w);
    fill_halo(n, m, mu);
    for (int i = 1; i <= n; i++)
      for (int k = i * w + 1; k <= i * w + m; k++) rate[k] = lap(mu + k, w) - K * (c[k] - C0);
  }
}
