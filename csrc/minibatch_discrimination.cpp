// Minibatch discrimination on the CPU (minibatch_discrimination.h has the formulas).
//
// The eager composition writes B x B x K x C differences to memory, several times over; here they live in
// registers. For one k the features are transposed to [C, B], so that a vector register holds one feature of
// several samples j. A tile is kRows samples i against kVectors registers of samples j: a load of m_j serves
// kRows rows, and the cost per (i, j, c) is a subtraction, a mask and an addition on the way forward. The
// derivatives keep the tile's weights in registers and pass over the features a second time. Distances are
// computed again in every derivative: storing them would take B x B x K numbers.
//
// Each pair is taken once, above the diagonal, and counts for both samples: for i in lanes that are summed at
// the end of the row, for j in the columns of the tile, after the tile's rows have been added up. A task has
// all pairs of one k, so that sums have one order whatever the number of threads.

#include "minibatch_discrimination.h"

#include <type_traits>

#include "dtype_switch.h"
#include "scratch.h"
#include "simd.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

// A tile's kRows x kVectors accumulators fill half of the registers, of which AVX-512 has 32 and the
// others 16.
constexpr int kRows = kVectorBytes == 64 ? 4 : 2;
constexpr int kVectors = 4;

// Samples, rounded up to whole tiles. Those past the end are zeros; their results are not stored.
template <typename T>
int64_t padded(int64_t B) {
  constexpr int64_t tile = int64_t(Simd<T>::kLanes) * kVectors;
  return (B + tile - 1) / tile * tile;
}

// out[c, j] = in[j, k, c] for one k, zero for j >= B.
template <typename E, typename T>
void transpose_features(const E* in, int64_t k, int64_t B, int64_t K, int64_t C, T* out) {
  const int64_t width = padded<T>(B);
  for (int64_t c = 0; c < C; ++c)
    for (int64_t j = B; j < width; ++j) out[c * width + j] = T(0);
  for (int64_t j = 0; j < B; ++j)
    for (int64_t c = 0; c < C; ++c) out[c * width + j] = load(in + (j * K + k) * C + c);
}

// Sums over rows i for every column j of several quantities. They are taken in blocks of rows, so that
// rounding errors grow with the square root of the number of rows.
template <typename T>
struct Columns {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  Vec *block, *total;  // [quantities, vectors]
  int64_t quantities, vectors;

  static constexpr int64_t size(int64_t quantities, int64_t vectors) { return 2 * quantities * vectors; }
  Columns(Vec* memory, int64_t quantities, int64_t vectors)
      : block(memory), total(memory + quantities * vectors), quantities(quantities), vectors(vectors) {
    for (int64_t n = 0; n < size(quantities, vectors); ++n) memory[n] = Vec{};
  }

  void add(int64_t quantity, int64_t vector, Vec x) const { block[quantity * vectors + vector] += x; }

  T at(int64_t quantity, int64_t j) const {
    const int64_t n = quantity * vectors + j / S::kLanes, lane = j % S::kLanes;
    return total[n][lane] + block[n][lane];
  }

  // To be called after the rows i ... i + kRows - 1.
  void end_of_rows(int64_t i) const {
    if ((i + kRows) % (16 * kRows) != 0) return;
    for (int64_t n = 0; n < quantities * vectors; ++n) {
      total[n] += block[n];
      block[n] = Vec{};
    }
  }
};

// The sum of a tile's rows, in pairs.
template <typename Vec>
inline Vec sum_of_rows(const Vec x[kRows]) {
  Vec sum = x[0] + x[1];
  for (int r = 2; r < kRows; r += 2) sum += x[r] + x[r + 1];
  return sum;
}

// The pairs of one k, tile by tile: rows i ... i + kRows - 1 against V vectors of columns from j.
template <typename T>
struct Pairs {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  using Int = typename S::Int;
  const T* m;  // [C, width]
  int64_t B, C, width;

  // Calls tile(V, j) for the tiles on and to the right of the diagonal; V is an integral_constant.
  template <typename Body>
  void for_each_tile(int64_t i, const Body& tile) const {
    const int64_t end = (B + S::kLanes - 1) / S::kLanes * S::kLanes;
    int64_t j = i / S::kLanes * S::kLanes;
    for (; j + kVectors * S::kLanes <= end; j += kVectors * S::kLanes) {
      tile(std::integral_constant<int, kVectors>{}, j);
    }
    const int64_t rest = (end - j) / S::kLanes;
    if (rest == 3) tile(std::integral_constant<int, 3>{}, j);
    if (rest == 2) tile(std::integral_constant<int, 2>{}, j);
    if (rest == 1) tile(std::integral_constant<int, 1>{}, j);
  }

  // e = exp(-|m_i - m_j|_1) for j > i, zero on and below the diagonal and past the end.
  template <int V>
  void similarity(int64_t i, int64_t j, Vec e[kRows][V]) const {
    Vec d[kRows][V] = {};
    for (int64_t c = 0; c < C; ++c) {
      const T* row = m + c * width;
      for (int v = 0; v < V; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes);
        for (int r = 0; r < kRows; ++r) d[r][v] += S::absolute(row[i + r] - mj);
      }
    }
    exponential<V>(i, j, d, e);
  }

  // The same, and q = sum_c (v_i - v_j) sign(m_i - m_j) for a second tensor v.
  template <int V>
  void similarity_and_projection(const T* v_matrix, int64_t i, int64_t j, Vec e[kRows][V],
                                 Vec q[kRows][V]) const {
    Vec d[kRows][V] = {};
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < V; ++v) q[r][v] = Vec{};
    for (int64_t c = 0; c < C; ++c) {
      const T *row = m + c * width, *v_row = v_matrix + c * width;
      for (int v = 0; v < V; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes), vj = S::load(v_row + j + v * S::kLanes);
        for (int r = 0; r < kRows; ++r) {
          const Vec difference = row[i + r] - mj;
          d[r][v] += S::absolute(difference);
          q[r][v] += S::times_sign(v_row[i + r] - vj, difference);
        }
      }
    }
    exponential<V>(i, j, d, e);
  }

  // Adds w sign(m_i - m_j) to rows[r, c], lane by lane, and subtracts it from columns[c].
  template <int V>
  void add_signed(int64_t i, int64_t j, const Vec w[kRows][V], Vec* rows, const Columns<T>& columns) const {
    for (int64_t c = 0; c < C; ++c) {
      const T* row = m + c * width;
      Vec total[kRows] = {};
      for (int v = 0; v < V; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes);
        Vec x[kRows];
        for (int r = 0; r < kRows; ++r) {
          x[r] = S::times_sign(w[r][v], row[i + r] - mj);
          total[r] += x[r];
        }
        columns.add(c, j / S::kLanes + v, -sum_of_rows(x));
      }
      for (int r = 0; r < kRows; ++r) rows[r * C + c] += total[r];
    }
  }

 private:
  template <int V>
  void exponential(int64_t i, int64_t j, const Vec d[kRows][V], Vec e[kRows][V]) const {
    for (int v = 0; v < V; ++v) {
      const int64_t column = j + v * S::kLanes;
      for (int r = 0; r < kRows; ++r) e[r][v] = S::exp_nonpositive(-d[r][v]);
      if (column >= i + kRows && column + S::kLanes <= B) continue;  // neither the diagonal nor the end
      for (int r = 0; r < kRows; ++r) {
        e[r][v] = S::keep(e[r][v], (S::lane() > Int(i + r - column)) & (S::lane() < Int(B - column)));
      }
    }
  }
};

// Calls body(k) for every k; `prepare` makes the body of one thread, with its own scratch.
template <typename Prepare>
void for_each_kernel(int64_t K, int threads, const Prepare& prepare) {
#pragma omp parallel num_threads(threads) if (threads > 1 && K > 1)
  {
    auto body = prepare();
#pragma omp for schedule(static)
    for (int64_t k = 0; k < K; ++k) body(k);
  }
}

template <typename E, typename T>
void run_forward(const E* m, E* o, int64_t B, int64_t K, int64_t C, int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const int64_t width = padded<T>(B), vectors = width / S::kLanes;
  for_each_kernel(K, threads, [&] {
    return [=, scratch = Scratch<Vec>(C * vectors + Columns<T>::size(1, vectors))](int64_t k) {
      T* mk = reinterpret_cast<T*>(scratch.data());
      const Columns<T> columns(scratch.data() + C * vectors, 1, vectors);
      transpose_features(m, k, B, K, C, mk);
      const Pairs<T> pairs{mk, B, C, width};
      for (int64_t i = 0; i < B; i += kRows) {
        Vec rows[kRows] = {};
        pairs.for_each_tile(i, [&](auto V, int64_t j) {
          Vec e[kRows][V];
          pairs.template similarity<V>(i, j, e);
          for (int v = 0; v < V; ++v) {
            Vec x[kRows];
            for (int r = 0; r < kRows; ++r) rows[r] += x[r] = e[r][v];
            columns.add(0, j / S::kLanes + v, sum_of_rows(x));
          }
        });
        for (int64_t r = 0; r < kRows && i + r < B; ++r) {
          store(o + (i + r) * K + k, S::sum(rows[r]) + columns.at(0, i + r));
        }
        columns.end_of_rows(i);
      }
    };
  });
}

// Stores the sums of rows i ... over all their pairs to out[i, k, :].
template <typename E, typename T, typename Vec>
void store_rows(const Vec* rows, const Columns<T>& columns, E* out, int64_t i, int64_t k, int64_t B,
                int64_t K, int64_t C) {
  for (int64_t r = 0; r < kRows && i + r < B; ++r)
    for (int64_t c = 0; c < C; ++c)
      store(out + ((i + r) * K + k) * C + c, Simd<T>::sum(rows[r * C + c]) + columns.at(c, i + r));
}

template <typename E, typename T>
void run_grad(const E* g, const E* m, E* dm, int64_t B, int64_t K, int64_t C, int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const int64_t width = padded<T>(B), vectors = width / S::kLanes;
  for_each_kernel(K, threads, [&] {
    const int64_t size = (C + 1) * vectors + kRows * C + Columns<T>::size(C, vectors);
    return [=, scratch = Scratch<Vec>(size)](int64_t k) {
      T* mk = reinterpret_cast<T*>(scratch.data());
      T* gk = mk + C * width;
      Vec* rows = scratch.data() + (C + 1) * vectors;
      const Columns<T> columns(rows + kRows * C, C, vectors);
      transpose_features(m, k, B, K, C, mk);
      transpose_features(g, k, B, K, 1, gk);
      const Pairs<T> pairs{mk, B, C, width};
      for (int64_t i = 0; i < B; i += kRows) {
        for (int64_t n = 0; n < kRows * C; ++n) rows[n] = Vec{};
        pairs.for_each_tile(i, [&](auto V, int64_t j) {
          Vec w[kRows][V];
          pairs.template similarity<V>(i, j, w);
          for (int v = 0; v < V; ++v) {
            const Vec gj = S::load(gk + j + v * S::kLanes);
            for (int r = 0; r < kRows; ++r) w[r][v] *= -(gk[i + r] + gj);
          }
          pairs.template add_signed<V>(i, j, w, rows, columns);
        });
        store_rows(rows, columns, dm, i, k, B, K, C);
        columns.end_of_rows(i);
      }
    };
  });
}

template <typename E, typename T>
void run_grad2(const E* v, const E* g, const E* m, E* gg, E* mm, int64_t B, int64_t K, int64_t C,
               int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const int64_t width = padded<T>(B), vectors = width / S::kLanes;
  for_each_kernel(K, threads, [&] {
    const int64_t size = (2 * C + 1) * vectors + kRows * C + Columns<T>::size(C + 1, vectors);
    return [=, scratch = Scratch<Vec>(size)](int64_t k) {
      T* mk = reinterpret_cast<T*>(scratch.data());
      T *vk = mk + C * width, *gk = vk + C * width;
      Vec* rows = scratch.data() + (2 * C + 1) * vectors;
      const Columns<T> columns(rows + kRows * C, C + 1, vectors);  // the last quantity is gg
      transpose_features(m, k, B, K, C, mk);
      transpose_features(v, k, B, K, C, vk);
      transpose_features(g, k, B, K, 1, gk);
      const Pairs<T> pairs{mk, B, C, width};
      for (int64_t i = 0; i < B; i += kRows) {
        for (int64_t n = 0; n < kRows * C; ++n) rows[n] = Vec{};
        Vec g_rows[kRows] = {};
        pairs.for_each_tile(i, [&](auto V, int64_t j) {
          Vec w[kRows][V], q[kRows][V];
          pairs.template similarity_and_projection<V>(vk, i, j, w, q);
          for (int n = 0; n < V; ++n) {
            const Vec gj = S::load(gk + j + n * S::kLanes);
            Vec x[kRows];
            for (int r = 0; r < kRows; ++r) {
              x[r] = -w[r][n] * q[r][n];
              g_rows[r] += x[r];
              w[r][n] = -x[r] * (gk[i + r] + gj);
            }
            columns.add(C, j / S::kLanes + n, sum_of_rows(x));
          }
          pairs.template add_signed<V>(i, j, w, rows, columns);
        });
        for (int64_t r = 0; r < kRows && i + r < B; ++r) {
          store(gg + (i + r) * K + k, S::sum(g_rows[r]) + columns.at(C, i + r));
        }
        store_rows(rows, columns, mm, i, k, B, K, C);
        columns.end_of_rows(i);
      }
    };
  });
}

}  // namespace

Error minibatch_discrimination(const void* m, void* o, int64_t B, int64_t K, int64_t C, DType dtype,
                               int threads){
#define RUN(E, T) run_forward<E, T>((const E*)m, (E*)o, B, K, C, threads)
    FASTGAN_DTYPE_SWITCH(dtype, "minibatch_discrimination", RUN)
#undef RUN
}

Error minibatch_discrimination_grad(const void* g, const void* m, void* dm, int64_t B, int64_t K, int64_t C,
                                    DType dtype, int threads){
#define RUN(E, T) run_grad<E, T>((const E*)g, (const E*)m, (E*)dm, B, K, C, threads)
    FASTGAN_DTYPE_SWITCH(dtype, "minibatch_discrimination", RUN)
#undef RUN
}

Error minibatch_discrimination_grad2(const void* v, const void* g, const void* m, void* gg, void* mm,
                                     int64_t B, int64_t K, int64_t C, DType dtype, int threads) {
#define RUN(E, T) run_grad2<E, T>((const E*)v, (const E*)g, (const E*)m, (E*)gg, (E*)mm, B, K, C, threads)
  FASTGAN_DTYPE_SWITCH(dtype, "minibatch_discrimination", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
