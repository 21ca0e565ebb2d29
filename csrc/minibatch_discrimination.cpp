// Minibatch discrimination on the CPU (minibatch_discrimination.h has the formulas).
//
// The eager composition writes B x B x K x C differences to memory, several times over; here they live in
// registers. For one k the features are transposed to [C, B], so that a vector register holds one feature of
// several samples j. A tile is kRows samples i against kVectors registers of samples j: a load of m_j serves
// kRows rows, and the cost per (i, j, c) is a subtraction, a mask and an addition on the way forward.
// Backward keeps the tile's weights in registers and passes over the features a second time. Distances are
// computed again in every derivative: storing them would take B x B x K numbers.
//
// Forward takes each pair once and adds its similarity to both samples' sums. The derivatives take it twice:
// adding to C columns of the other sample would cost the memory traffic that the tiling saves.
//
// Each task owns whole rows (k, i), so that sums have one order whatever the number of threads.

#include "minibatch_discrimination.h"

#include "scratch.h"
#include "simd.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

// A tile's kRows x kVectors accumulators fill half of the registers, of which AVX-512 has 32 and the
// others 16.
constexpr int kRows = kVectorBytes == 64 ? 4 : 2;
constexpr int kVectors = 4;
constexpr int64_t kTaskRows = 32;    // rows of one k that a task handles
constexpr int64_t kManyKernels = 8;  // from here on there are tasks enough if each handles all rows of one k

template <typename T>
constexpr int64_t kTileWidth = int64_t(Simd<T>::kLanes) * kVectors;

// B rounded up to whole tiles. Rows past B are zeros; their results are not stored.
template <typename T>
int64_t padded(int64_t B) {
  return (B + kTileWidth<T> - 1) / kTileWidth<T> * kTileWidth<T>;
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

// The state of a tile: rows i, i + 1, ... against columns j ... j + kTileWidth - 1.
template <typename T>
struct Tile {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  using Int = typename S::Int;
  const T* m;  // [C, width]
  int64_t B, C, width;

  // e = exp(-|m_i - m_j|_1), zero on the diagonal and past the end; with `upper`, zero below the diagonal
  // too.
  template <int V>
  void kernel(int64_t i, int64_t j, bool upper, Vec e[kRows][V]) const {
    Vec d[kRows][V] = {};
    for (int64_t c = 0; c < C; ++c) {
      const T* row = m + c * width;
      for (int v = 0; v < V; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes);
        for (int r = 0; r < kRows; ++r) d[r][v] += S::absolute(row[i + r] - mj);
      }
    }
    exponential<V>(i, j, upper, d, e);
  }

  // The same, and q = sum_c (v_i - v_j) sign(m_i - m_j) for a second tensor v.
  void kernel_and_projection(const T* v_matrix, int64_t i, int64_t j, Vec e[kRows][kVectors],
                             Vec q[kRows][kVectors]) const {
    Vec d[kRows][kVectors] = {};
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) q[r][v] = Vec{};
    for (int64_t c = 0; c < C; ++c) {
      const T *row = m + c * width, *v_row = v_matrix + c * width;
      for (int v = 0; v < kVectors; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes), vj = S::load(v_row + j + v * S::kLanes);
        for (int r = 0; r < kRows; ++r) {
          const Vec difference = row[i + r] - mj;
          d[r][v] += S::absolute(difference);
          q[r][v] += S::times_sign(v_row[i + r] - vj, difference);
        }
      }
    }
    exponential<kVectors>(i, j, false, d, e);
  }

  // out[r, c] += sum_j w sign(m_ic - m_jc), lane by lane.
  void accumulate(int64_t i, int64_t j, const Vec w[kRows][kVectors], Vec* out) const {
    for (int64_t c = 0; c < C; ++c) {
      const T* row = m + c * width;
      Vec total[kRows] = {};
      for (int v = 0; v < kVectors; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes);
        for (int r = 0; r < kRows; ++r) total[r] += S::times_sign(w[r][v], row[i + r] - mj);
      }
      for (int r = 0; r < kRows; ++r) out[r * C + c] += total[r];
    }
  }

 private:
  template <int V>
  void exponential(int64_t i, int64_t j, bool upper, const Vec d[kRows][V], Vec e[kRows][V]) const {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < V; ++v) e[r][v] = S::exp_nonpositive(-d[r][v]);
    }
    constexpr int64_t n = V * S::kLanes;
    if (j >= i + kRows && j + n <= B) return;  // neither the diagonal nor the end of the batch
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < V; ++v) {
        const int64_t column = j + v * S::kLanes;
        e[r][v] = S::keep(e[r][v], (S::lane() != Int(i + r - column)) & (S::lane() < Int(B - column)));
        if (upper) e[r][v] = S::keep(e[r][v], S::lane() > Int(i + r - column));
      }
    }
  }
};

// Calls body(k, first, last, is_new_k) for every task of `rows` rows; `prepare` makes the body of one thread,
// with its own scratch.
template <typename Prepare>
void for_each_task(int64_t B, int64_t K, int64_t rows, int threads, const Prepare& prepare) {
  const int64_t tasks_per_k = (B + rows - 1) / rows, count = K * tasks_per_k;
#pragma omp parallel num_threads(threads) if (threads > 1 && count > 1)
  {
    auto body = prepare();
    int64_t current = -1;
#pragma omp for schedule(static)
    for (int64_t task = 0; task < count; ++task) {
      const int64_t k = task / tasks_per_k, first = task % tasks_per_k * rows;
      const int64_t last = first + rows < B ? first + rows : B;
      body(k, first, last, k != current);
      current = k;
    }
  }
}

template <typename E, typename T>
void forward_by_rows(const E* m, E* o, int64_t B, int64_t K, int64_t C, int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const int64_t width = padded<T>(B);
  for_each_task(B, K, kTaskRows, threads, [&] {
    return [=, features = Scratch<T>(C * width)](int64_t k, int64_t first, int64_t last, bool is_new_k) {
      if (is_new_k) transpose_features(m, k, B, K, C, features.data());
      const Tile<T> tile{features.data(), B, C, width};
      for (int64_t i = first; i < last; i += kRows) {
        Vec sum[kRows] = {}, e[kRows][kVectors];
        for (int64_t j = 0; j < B; j += kTileWidth<T>) {
          tile.template kernel<kVectors>(i, j, false, e);
          for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r] += e[r][v];
        }
        for (int r = 0; r < kRows && i + r < last; ++r) store(o + (i + r) * K + k, S::sum(sum[r]));
      }
    };
  });
}

// Adds the similarities of rows i ... to columns j ... above the diagonal, to the sums of both.
template <int V, typename T, typename Vec>
inline void add_upper(const Tile<T>& tile, int64_t i, int64_t j, Vec* row_sums, Vec* column_sums) {
  Vec e[kRows][V];
  tile.template kernel<V>(i, j, true, e);
  for (int v = 0; v < V; ++v) {
    for (int r = 0; r < kRows; ++r) row_sums[r] += e[r][v];
    // The tile's rows first: a fourth of the roundings that adding them one by one would take.
    Vec column = e[0][v] + e[1][v];
    for (int r = 2; r < kRows; r += 2) column += e[r][v] + e[r + 1][v];
    column_sums[j / Simd<T>::kLanes + v] += column;
  }
}

// Each pair once: a task has all rows of one k, and keeps what the rows above have added to those below.
// These sums are taken in blocks of rows, so that rounding errors grow with the square root of their number.
template <typename E, typename T>
void forward_by_pairs(const E* m, E* o, int64_t B, int64_t K, int64_t C, int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  constexpr int64_t kBlockRows = 16 * kRows;
  const int64_t width = padded<T>(B), vectors = width / S::kLanes;
  const int64_t used = (B + S::kLanes - 1) / S::kLanes * S::kLanes;
  for_each_task(B, K, B, threads, [&] {
    return [=, scratch = Scratch<Vec>((C + 2) * vectors)](int64_t k, int64_t, int64_t, bool) {
      T* features = reinterpret_cast<T*>(scratch.data());
      Vec *block = scratch.data() + C * vectors, *total = block + vectors;
      transpose_features(m, k, B, K, C, features);
      for (int64_t v = 0; v < vectors; ++v) block[v] = total[v] = Vec{};
      const Tile<T> tile{features, B, C, width};
      for (int64_t i = 0; i < B; i += kRows) {
        Vec rows[kRows] = {};
        int64_t j = i / S::kLanes * S::kLanes;
        for (; j + kTileWidth<T> <= used; j += kTileWidth<T>) add_upper<kVectors>(tile, i, j, rows, block);
        const int64_t rest = (used - j) / S::kLanes;
        if (rest == 3) add_upper<3>(tile, i, j, rows, block);
        if (rest == 2) add_upper<2>(tile, i, j, rows, block);
        if (rest == 1) add_upper<1>(tile, i, j, rows, block);
        for (int64_t r = 0; r < kRows && i + r < B; ++r) {
          const int64_t v = (i + r) / S::kLanes, lane = (i + r) % S::kLanes;
          store(o + (i + r) * K + k, S::sum(rows[r]) + (total[v][lane] + block[v][lane]));
        }
        if ((i + kRows) % kBlockRows == 0) {
          for (int64_t v = 0; v < vectors; ++v) {
            total[v] += block[v];
            block[v] = Vec{};
          }
        }
      }
    };
  });
}

template <typename E, typename T>
void run_forward(const E* m, E* o, int64_t B, int64_t K, int64_t C, int threads) {
  if (K >= kManyKernels) {
    forward_by_pairs<E, T>(m, o, B, K, C, threads);
  } else {
    forward_by_rows<E, T>(m, o, B, K, C, threads);
  }
}

// Stores the lane sums of acc[r, c] to out[i + r, k, c].
template <typename E, typename Vec, typename S>
void store_rows(const Vec* acc, E* out, int64_t i, int64_t last, int64_t k, int64_t K, int64_t C, S) {
  for (int r = 0; r < kRows && i + r < last; ++r)
    for (int64_t c = 0; c < C; ++c) store(out + ((i + r) * K + k) * C + c, S::sum(acc[r * C + c]));
}

template <typename E, typename T>
void run_grad(const E* g, const E* m, E* dm, int64_t B, int64_t K, int64_t C, int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const int64_t width = padded<T>(B), vectors = width / S::kLanes;
  for_each_task(B, K, kTaskRows, threads, [&] {
    return [=, scratch = Scratch<Vec>((C + 1) * vectors + kRows * C)](int64_t k, int64_t first, int64_t last,
                                                                      bool is_new_k) {
      T* mk = reinterpret_cast<T*>(scratch.data());
      T* gk = reinterpret_cast<T*>(scratch.data() + C * vectors);
      Vec* acc = scratch.data() + (C + 1) * vectors;
      if (is_new_k) {
        transpose_features(m, k, B, K, C, mk);
        transpose_features(g, k, B, K, 1, gk);
      }
      const Tile<T> tile{mk, B, C, width};
      for (int64_t i = first; i < last; i += kRows) {
        for (int64_t a = 0; a < kRows * C; ++a) acc[a] = Vec{};
        Vec w[kRows][kVectors];
        for (int64_t j = 0; j < B; j += kTileWidth<T>) {
          tile.template kernel<kVectors>(i, j, false, w);
          for (int v = 0; v < kVectors; ++v) {
            const Vec gj = S::load(gk + j + v * S::kLanes);
            for (int r = 0; r < kRows; ++r) w[r][v] *= -(gk[i + r] + gj);
          }
          tile.accumulate(i, j, w, acc);
        }
        store_rows(acc, dm, i, last, k, K, C, S{});
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
  for_each_task(B, K, kTaskRows, threads, [&] {
    return [=, scratch = Scratch<Vec>((2 * C + 1) * vectors + kRows * C)](int64_t k, int64_t first,
                                                                          int64_t last, bool is_new_k) {
      T* mk = reinterpret_cast<T*>(scratch.data());
      T* vk = reinterpret_cast<T*>(scratch.data() + C * vectors);
      T* gk = reinterpret_cast<T*>(scratch.data() + 2 * C * vectors);
      Vec* acc = scratch.data() + (2 * C + 1) * vectors;
      if (is_new_k) {
        transpose_features(m, k, B, K, C, mk);
        transpose_features(v, k, B, K, C, vk);
        transpose_features(g, k, B, K, 1, gk);
      }
      const Tile<T> tile{mk, B, C, width};
      for (int64_t i = first; i < last; i += kRows) {
        for (int64_t a = 0; a < kRows * C; ++a) acc[a] = Vec{};
        Vec w[kRows][kVectors], q[kRows][kVectors], g_sum[kRows] = {};
        for (int64_t j = 0; j < B; j += kTileWidth<T>) {
          tile.kernel_and_projection(vk, i, j, w, q);
          for (int n = 0; n < kVectors; ++n) {
            const Vec gj = S::load(gk + j + n * S::kLanes);
            for (int r = 0; r < kRows; ++r) {
              w[r][n] *= q[r][n];
              g_sum[r] -= w[r][n];
              w[r][n] *= gk[i + r] + gj;
            }
          }
          tile.accumulate(i, j, w, acc);
        }
        for (int r = 0; r < kRows && i + r < last; ++r) store(gg + (i + r) * K + k, S::sum(g_sum[r]));
        store_rows(acc, mm, i, last, k, K, C, S{});
      }
    };
  });
}

}  // namespace

#define FASTGAN_DTYPE_SWITCH(RUN) \
  switch (dtype) {                \
    case DType::float32:          \
      RUN(float, float);          \
      return nullptr;             \
    case DType::float64:          \
      RUN(double, double);        \
      return nullptr;             \
    case DType::float16:          \
      RUN(float16, float);        \
      return nullptr;             \
    case DType::bfloat16:         \
      RUN(bfloat16, float);       \
      return nullptr;             \
  }                               \
  return "minibatch_discrimination: unknown dtype code";

Error minibatch_discrimination(const void* m, void* o, int64_t B, int64_t K, int64_t C, DType dtype,
                               int threads){
#define RUN(E, T) run_forward<E, T>((const E*)m, (E*)o, B, K, C, threads)
    FASTGAN_DTYPE_SWITCH(RUN)
#undef RUN
}

Error minibatch_discrimination_grad(const void* g, const void* m, void* dm, int64_t B, int64_t K, int64_t C,
                                    DType dtype, int threads){
#define RUN(E, T) run_grad<E, T>((const E*)g, (const E*)m, (E*)dm, B, K, C, threads)
    FASTGAN_DTYPE_SWITCH(RUN)
#undef RUN
}

Error minibatch_discrimination_grad2(const void* v, const void* g, const void* m, void* gg, void* mm,
                                     int64_t B, int64_t K, int64_t C, DType dtype, int threads) {
#define RUN(E, T) run_grad2<E, T>((const E*)v, (const E*)g, (const E*)m, (E*)gg, (E*)mm, B, K, C, threads)
  FASTGAN_DTYPE_SWITCH(RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
