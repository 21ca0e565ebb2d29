// Bias, activation, gain and clamp in one pass over memory (bias_act.h has the formulas).
//
// Eager PyTorch runs one pass for each of the four steps; here a row is read once and written once, so the
// floor is the copy of the tensor. Each activation is a template argument: the inner loop has no branch and
// vectorises. Rows are cut into fixed blocks, whose partial sums give db in an order that does not depend on
// the number of threads.

#include "bias_act.h"

#include "activations.h"
#include "dtype_switch.h"
#include "element.h"
#include "scratch.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr int64_t kBlock = 4096;  // elements a task handles: 16 KB of float32, a fraction of the L1 cache

// The value that remains of x when a tensor of E holds it.
template <typename E, typename T>
inline T rounded(T x) {
  E stored;
  store(&stored, x);
  return load(&stored);
}

// What a pass over tensors of E needs per element besides its pointers. A result is saved in E, where a clamp
// such as 0.65 may have been rounded down: it is recognised by the rounded value.
template <typename T>
struct Scalars {
  T alpha, gain, inverse_gain, clamp, saved_clamp;

  template <typename E>
  static Scalars of(const BiasActArgs& a) {
    const T clamp = T(a.clamp);
    return {T(a.alpha), T(a.gain), a.gain == 0.0 ? T(0) : T(1.0 / a.gain), clamp, rounded<E>(clamp)};
  }
};

template <Act act, typename T>
inline T forward(T z, const Scalars<T>& k) {
  return clamped_to(k.clamp, k.gain * activate<act>(z, k.alpha));
}

// s as `slope` and `curvature` want it, and whether the clamp is inactive there. Only where the input was
// saved does that take the activation again: then `clamped` says at compile time whether there is a clamp at
// all.
template <Act act, bool clamped, typename T>
inline bool unpack(T& s, T bias, const Scalars<T>& k) {
  if (saves_input(act)) {
    s += bias;
    return !clamped || !(absolute(k.gain * activate<act>(s, k.alpha)) >= k.clamp);
  }
  const bool open = !(absolute(s) >= k.saved_clamp);
  s *= k.inverse_gain;
  return open;
}

// The rows below are n neighbours, which have one bias each (`each`) or share one (`each` is nullptr). A loop
// per case: a choice inside the loop would keep it from vectorising.

template <Act act, typename E, typename T>
void forward_row(const E* x, const T* each, T shared, E* y, int64_t n, const Scalars<T>& k) {
  if (each) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, forward<act>(load(x + i) + each[i], k));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, forward<act>(load(x + i) + shared, k));
  }
}

// dx = dy p(s) for one element; 0 of infinity and NaN too where relu or the clamp let nothing through, as in
// PyTorch.
template <Act act, bool clamped, typename T>
inline T grad(T dy, T s, T bias, const Scalars<T>& k) {
  const bool open = unpack<act, clamped>(s, bias, k) && !(act == Act::relu && s <= T(0));
  return open ? dy * (k.gain * slope<act>(s, k.alpha)) : T(0);
}

// dx = dy p(s). Returns the sum of dx over the row, or adds it to sums[i] element by element if sums is
// given; sums are double, so that a channel of a million elements keeps float32's accuracy.
template <Act act, bool clamped, typename E, typename T>
double grad_row(const E* dy, const E* s, const T* each, T shared, E* dx, double* sums, int64_t n,
                const Scalars<T>& k) {
  double total = 0;
  if (each && sums) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const T result = grad<act, clamped>(load(dy + i), load(s + i), each[i], k);
      store(dx + i, result);
      sums[i] += result;
    }
  } else if (each) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(dx + i, grad<act, clamped>(load(dy + i), load(s + i), each[i], k));
  } else if (sums) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const T result = grad<act, clamped>(load(dy + i), load(s + i), shared, k);
      store(dx + i, result);
      sums[i] += result;
    }
  } else {
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; ++i) {
      const T result = grad<act, clamped>(load(dy + i), load(s + i), shared, k);
      store(dx + i, result);
      total += result;
    }
  }
  return total;
}

// t = u dy p'(s) for one element, where ds/d(saved) is 1 for the input and 1 / gain for the result, which p's
// gain cancels.
template <Act act, bool clamped, typename T>
inline T grad2(T u, T dy, T s, T bias, const Scalars<T>& k) {
  const T factor = saves_input(act) ? k.gain : T(k.gain != T(0));
  const bool open = unpack<act, clamped>(s, bias, k);
  return u * dy * (open ? factor * curvature<act>(s) : T(0));
}

template <Act act, bool clamped, typename E, typename T>
void grad2_row(const E* u, const E* dy, const E* s, const T* each, T shared, E* t, int64_t n,
               const Scalars<T>& k) {
  if (each) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(t + i, grad2<act, clamped>(load(u + i), load(dy + i), load(s + i), each[i], k));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(t + i, grad2<act, clamped>(load(u + i), load(dy + i), load(s + i), shared, k));
  }
}

// The tensor as rows of neighbours: a row is one channel's run of `inner` elements, or, with inner == 1, one
// element of every channel. Rows are cut into blocks of about kBlock elements; the cut depends on the shape
// alone. Without channels or positions there are rows of no elements.
struct Blocks {
  int64_t rows, row_length, rows_per_block, count;
  explicit Blocks(const BiasActArgs& a)
      : rows(a.inner == 1 ? a.outer : a.outer * a.channels),
        row_length(a.inner == 1 ? a.channels : a.inner),
        rows_per_block(row_length >= kBlock ? 1 : kBlock / (row_length > 0 ? row_length : 1)),
        count((rows + rows_per_block - 1) / rows_per_block) {}
};

// Calls body(row, row length, block) for every row.

template <typename Body>
void for_each_row(const BiasActArgs& a, const Body& body) {
  const Blocks blocks(a);
  const int threads = a.outer * a.channels * a.inner < 2 * kBlock ? 1 : a.threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t block = 0; block < blocks.count; ++block) {
    const int64_t first = block * blocks.rows_per_block;
    const int64_t last =
        first + blocks.rows_per_block < blocks.rows ? first + blocks.rows_per_block : blocks.rows;
    for (int64_t row = first; row < last; ++row) body(row, blocks.row_length, block);
  }
}

template <typename T>
inline T bias_of_row(const T* b, int64_t row, const BiasActArgs& a) {
  return b && a.inner != 1 ? b[row % a.channels] : T(0);
}

template <Act act, typename E, typename T>
void run_forward(const E* x, const T* b, E* y, const BiasActArgs& a) {
  const auto k = Scalars<T>::template of<E>(a);
  const T* each = a.inner == 1 ? b : nullptr;
  for_each_row(a, [&](int64_t row, int64_t n, int64_t) {
    forward_row<act>(x + row * n, each, bias_of_row(b, row, a), y + row * n, n, k);
  });
}

template <Act act, bool clamped, typename E, typename T>
void run_grad(const E* dy, const E* s, const T* b, E* dx, T* db, const BiasActArgs& a) {
  const auto k = Scalars<T>::template of<E>(a);
  const T* each = a.inner == 1 ? b : nullptr;
  const bool per_element = db && a.inner == 1;
  const Blocks blocks(a);
  // Partial sums, [any, channels]: for each block of rows if inner == 1, otherwise for each row.
  const int64_t count = !db ? 0 : (per_element ? blocks.count * a.channels : blocks.rows);
  const Scratch<double> partial(count);
  for (int64_t i = 0; i < count; ++i) partial.data()[i] = 0;
  for_each_row(a, [&](int64_t row, int64_t n, int64_t block) {
    double* sums = per_element ? partial.data() + block * a.channels : nullptr;
    const double total = grad_row<act, clamped>(dy + row * n, s ? s + row * n : dy + row * n, each,
                                                bias_of_row(b, row, a), dx + row * n, sums, n, k);
    if (db && !per_element) partial.data()[row] = total;
  });
  if (!db) return;
  for (int64_t c = 0; c < a.channels; ++c) {
    double total = 0;
    for (int64_t i = c; i < count; i += a.channels) total += partial.data()[i];
    db[c] = T(total);
  }
}

template <Act act, bool clamped, typename E, typename T>
void run_grad2(const E* u, const E* dy, const E* s, const T* b, E* t, const BiasActArgs& a) {
  const auto k = Scalars<T>::template of<E>(a);
  const T* each = a.inner == 1 ? b : nullptr;
  for_each_row(a, [&](int64_t row, int64_t n, int64_t) {
    grad2_row<act, clamped>(u + row * n, dy + row * n, s + row * n, each, bias_of_row(b, row, a), t + row * n,
                            n, k);
  });
}

}  // namespace

#define BY_ACT(E, T) FASTGAN_ACT_SWITCH(args.act, "bias_act", RUN, E, T)

Error bias_act(const void* x, const void* b, void* y, const BiasActArgs& args){
#define RUN(ACT, E, T) run_forward<ACT>((const E*)x, (const T*)b, (E*)y, args)
    FASTGAN_DTYPE_SWITCH(args.dtype, "bias_act", BY_ACT)
#undef RUN
}

Error
    bias_act_grad(const void* dy, const void* s, const void* b, void* dx, void* db, const BiasActArgs& args){
#define RUN(ACT, E, T)                                                                     \
  saves_input(ACT) && std::isnan(args.clamp)                                               \
      ? run_grad<ACT, false>((const E*)dy, (const E*)s, (const T*)b, (E*)dx, (T*)db, args) \
      : run_grad<ACT, true>((const E*)dy, (const E*)s, (const T*)b, (E*)dx, (T*)db, args)
        FASTGAN_DTYPE_SWITCH(args.dtype, "bias_act", BY_ACT)
#undef RUN
    }

Error bias_act_grad2(const void* u, const void* dy, const void* s, const void* b, void* t,
                     const BiasActArgs& args) {
#define RUN(ACT, E, T)                                                                          \
  saves_input(ACT) && std::isnan(args.clamp)                                                    \
      ? run_grad2<ACT, false>((const E*)u, (const E*)dy, (const E*)s, (const T*)b, (E*)t, args) \
      : run_grad2<ACT, true>((const E*)u, (const E*)dy, (const E*)s, (const T*)b, (E*)t, args)
  FASTGAN_DTYPE_SWITCH(args.dtype, "bias_act", BY_ACT)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
