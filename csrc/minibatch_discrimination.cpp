// Minibatch discrimination on the CPU (minibatch_discrimination.h has the formulas).
//
// The eager composition writes B x B x K x C differences to memory, several times over; here they live in
// registers. For one k the features are transposed to [C, B], so that a vector register holds one feature of
// several samples j. A tile is kRows samples i against kVectors registers of samples j: a load of m_j serves
// kRows rows, and the cost per (i, j, c) is a subtraction, a mask and an addition on the way forward.
// Backward keeps the tile's weights in registers and passes over the features a second time. Distances are
// computed again in every derivative: storing them would take B x B x K numbers.
//
// Each task owns whole rows (k, i), so that sums have one order whatever the number of threads.

#include "minibatch_discrimination.h"

#include "element.h"
#include "scratch.h"
#include "vector_math.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Bits;
template <>
struct Bits<float> {
  using type = int32_t;
};
template <>
struct Bits<double> {
  using type = int64_t;
};

template <typename T>
struct Simd {
  using Int = typename Bits<T>::type;
  typedef T Vec __attribute__((vector_size(kVectorBytes)));
  typedef Int IntVec __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / sizeof(T);
  static constexpr Int kSign = Int(1) << (8 * sizeof(T) - 1);

  static Vec load(const T* p) {
    Vec v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static Vec absolute(Vec x) { return (Vec)((IntVec)x & ~kSign); }
  // w sign(d), with sign(0) = 0.
  static Vec times_sign(Vec w, Vec d) {
    return (Vec)(((IntVec)w ^ ((IntVec)d & kSign)) & (IntVec)(d != T(0)));
  }
  static T sum(Vec x) {
    T total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += x[lane];
    return total;
  }
};

constexpr int kRows = 2;
constexpr int kVectors = 4;
constexpr int64_t kTaskRows = 32;  // rows of one k that a task handles

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
  const T* m;  // [C, width]
  int64_t B, C, width;

  // e = exp(-|m_i - m_j|_1), zero on the diagonal and past the end.
  void kernel(int64_t i, int64_t j, Vec e[kRows][kVectors]) const {
    Vec d[kRows][kVectors] = {};
    for (int64_t c = 0; c < C; ++c) {
      const T* row = m + c * width;
      for (int v = 0; v < kVectors; ++v) {
        const Vec mj = S::load(row + j + v * S::kLanes);
        for (int r = 0; r < kRows; ++r) d[r][v] += S::absolute(row[i + r] - mj);
      }
    }
    exponential(i, j, d, e);
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
    exponential(i, j, d, e);
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
  void exponential(int64_t i, int64_t j, const Vec d[kRows][kVectors], Vec e[kRows][kVectors]) const {
    constexpr int64_t n = kTileWidth<T>;
    for (int r = 0; r < kRows; ++r) {
      alignas(64) T value[n];
      std::memcpy(value, d[r], sizeof(value));
#pragma omp simd
      for (int64_t l = 0; l < n; ++l) value[l] = exp_nonpositive(-value[l]);
      if (i + r >= j && i + r < j + n) value[i + r - j] = T(0);
      for (int64_t l = B - j; l < n; ++l) value[l] = T(0);
      std::memcpy(e[r], value, sizeof(value));
    }
  }
};

// Calls body(k, first, last, is_new_k) for every task; `prepare` makes the body of one thread, with its own
// scratch.
template <typename Prepare>
void for_each_task(int64_t B, int64_t K, int threads, const Prepare& prepare) {
  const int64_t tasks_per_k = (B + kTaskRows - 1) / kTaskRows, count = K * tasks_per_k;
#pragma omp parallel num_threads(threads) if (threads > 1 && count > 1)
  {
    auto body = prepare();
    int64_t current = -1;
#pragma omp for schedule(static)
    for (int64_t task = 0; task < count; ++task) {
      const int64_t k = task / tasks_per_k, first = task % tasks_per_k * kTaskRows;
      const int64_t last = first + kTaskRows < B ? first + kTaskRows : B;
      body(k, first, last, k != current);
      current = k;
    }
  }
}

template <typename E, typename T>
void run_forward(const E* m, E* o, int64_t B, int64_t K, int64_t C, int threads) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const int64_t width = padded<T>(B);
  for_each_task(B, K, threads, [&] {
    return [=, features = Scratch<T>(C * width)](int64_t k, int64_t first, int64_t last, bool is_new_k) {
      T* mk = features.data();
      if (is_new_k) transpose_features(m, k, B, K, C, mk);
      const Tile<T> tile{mk, B, C, width};
      for (int64_t i = first; i < last; i += kRows) {
        Vec sum[kRows] = {}, e[kRows][kVectors];
        for (int64_t j = 0; j < B; j += kTileWidth<T>) {
          tile.kernel(i, j, e);
          for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r] += e[r][v];
        }
        for (int r = 0; r < kRows && i + r < last; ++r) store(o + (i + r) * K + k, S::sum(sum[r]));
      }
    };
  });
}

// Stores scale * (lane sums of acc[r, c]) to out[i + r, k, c].
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
  for_each_task(B, K, threads, [&] {
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
          tile.kernel(i, j, w);
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
  for_each_task(B, K, threads, [&] {
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
