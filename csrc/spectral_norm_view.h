// How csrc/spectral_norm.cpp sees a weight: rows in memory, and the pieces of it that are one task.
#pragma once

#include "element.h"
#include "sizes.h"
#include "spectral_norm.h"

namespace fastgan {
namespace {

constexpr int64_t kTaskElements = 1 << 16;  // of a weight: enough to be worth a task, few enough to share out
constexpr int64_t kMostSlabs = 16;          // whose partial products are kept apart

// A weight as a matrix of `rows` rows in memory order. With B = 1 that is the transpose of M, where u and v
// and the order of the iteration change places.
template <typename E>
struct View {
  const E* weight;
  int64_t rows, cols, A, B;  // element (j, a B + b) at (a rows + j) B + b
  const E *u, *v;
  E *u_out, *v_out;
  bool v_first;
  int64_t slabs, rows_per_slab;

  View() = default;
  View(const SpectralMatrix& m, bool v_first_of_m) {
    const bool transposed = m.B == 1 && m.A != 1;
    weight = (const E*)m.weight;
    rows = transposed ? m.A : m.h;
    cols = transposed ? m.h : m.A * m.B;
    A = transposed ? 1 : m.A;
    B = transposed ? m.h : m.B;
    u = (const E*)(transposed ? m.v : m.u);
    v = (const E*)(transposed ? m.u : m.v);
    u_out = (E*)(transposed ? m.v_out : m.u_out);
    v_out = (E*)(transposed ? m.u_out : m.v_out);
    v_first = v_first_of_m != transposed;
    slabs = smaller(smaller(kMostSlabs, ceil_div(rows, 4)), 1 + size() / kTaskElements);
    rows_per_slab = slabs ? ceil_div(ceil_div(rows, slabs), 4) * 4 : 0;
    slabs = rows_per_slab ? ceil_div(rows, rows_per_slab) : 0;
  }

  int64_t size() const { return rows * cols; }
  bool empty() const { return size() == 0; }
};

// A weight, its derivatives and u v' as runs of neighbours: run r is multiplied by factor(r) along run(r).
template <typename E>
struct Runs {
  const E *u, *v;
  int64_t h, A, B;

  explicit Runs(const SpectralMatrix& m) : u((const E*)m.u), v((const E*)m.v), h(m.h), A(m.A), B(m.B) {}

  bool along_u() const { return B == 1; }
  int64_t count() const { return along_u() ? A : A * h; }
  int64_t length() const { return along_u() ? h : B; }
  int64_t size() const { return A * h * B; }
  // (u v')[run r][i] = factor(r) * along(r)[i]
  auto factor(int64_t r) const { return along_u() ? load(v + r) : load(u + r % h); }
  const E* along(int64_t r) const { return along_u() ? u : v + r / h * B; }
  int64_t tasks() const { return size() ? smaller(count(), 1 + size() / kTaskElements) : 0; }
  // The first run of a task; that of the next is where it ends.
  int64_t start(int64_t task) const { return smaller(task * ceil_div(count(), tasks()), count()); }
};

// The tasks of all matrices, one after the other.
template <typename Count>
struct Shared {
  const Count& tasks_of;
  int matrices;

  int64_t total() const {
    int64_t n = 0;
    for (int m = 0; m < matrices; ++m) n += tasks_of(m);
    return n;
  }
  // Calls body(matrix, task of that matrix).
  template <typename Body>
  void visit(int64_t task, const Body& body) const {
    for (int m = 0; m < matrices; ++m) {
      const int64_t n = tasks_of(m);
      if (task < n) return body(m, task);
      task -= n;
    }
  }
};

// Runs body(matrix, task) for every task of every matrix; more threads where there is more than one task's
// work.
template <typename Count, typename Body>
void for_each_task(int matrices, const Count& tasks_of, int threads, const Body& body) {
  const Shared<Count> tasks{tasks_of, matrices};
  const int64_t total = tasks.total();
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1 && total > 1)
  for (int64_t task = 0; task < total; ++task) tasks.visit(task, body);
}

}  // namespace
}  // namespace fastgan
