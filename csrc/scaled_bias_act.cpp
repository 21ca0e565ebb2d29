// Scale per sample and channel, noise, bias, activation, gain and clamp in one pass over memory
// (scaled_bias_act.h has the formulas).
//
// Eager PyTorch makes a pass for each of the six steps; here a plane is read once and written once, and the
// backward pass reads two and writes one. Planes are the tasks, so that what is summed over one is summed in
// an order that does not depend on the number of threads.

#include "scaled_bias_act.h"

#include "activations.h"
#include "dtype_switch.h"
#include "element.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr int64_t kTask = 4096;  // elements, at least, that are worth handing to a thread

template <typename T>
struct Scalars {
  T alpha, gain, clamp;
};

// What the elements of one plane share. `noise` is nullptr where there is none.
template <typename T>
struct Plane {
  T scale, bias, sigma;
  const T* noise;
};

template <Act act, typename T>
inline T forward(T v, Scalars<T> k) {
  return clamped_to(k.clamp, k.gain * activate<act>(v, k.alpha));
}

// gain f'(v), zero where the clamp is active.
template <Act act, bool clamped, typename T>
inline T weight_of(T v, Scalars<T> k) {
  const T a = activate<act>(v, k.alpha);
  const T h = k.gain * slope<act>(saves_input(act) ? v : a, k.alpha);
  return clamped && absolute(k.gain * a) >= k.clamp ? T(0) : h;
}

// dy gain f'(v); 0 of infinity and NaN too where relu or the clamp let nothing through, as in PyTorch.
template <Act act, bool clamped, typename T>
inline T weighted(T dy, T v, Scalars<T> k) {
  const T h = weight_of<act, clamped>(v, k);
  return (clamped || act == Act::relu) && h == T(0) ? T(0) : dy * h;
}

template <Act act, typename E, typename T>
void forward_plane(const E* x, const Plane<T>& p, E* y, int64_t n, Scalars<T> k) {
  if (p.noise) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(y + i, forward<act>(load(x + i) * p.scale + (p.sigma * p.noise[i] + p.bias), k));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, forward<act>(load(x + i) * p.scale + p.bias, k));
  }
}

// The sums are double, so that a plane of a million pixels keeps float32's accuracy.
template <Act act, bool clamped, typename E, typename T>
void grad_plane(const E* dy, const E* x, const Plane<T>& p, T dx_scale, E* dx, double* sums, int64_t n,
                Scalars<T> k) {
  double tx = 0, tn = 0, t_ = 0;
  if (p.noise) {
#pragma omp simd reduction(+ : tx, tn, t_)
    for (int64_t i = 0; i < n; ++i) {
      const T z = load(x + i);
      const T t = weighted<act, clamped>(load(dy + i), z * p.scale + (p.sigma * p.noise[i] + p.bias), k);
      store(dx + i, t * dx_scale);
      tx += t * z;
      tn += t * p.noise[i];
      t_ += t;
    }
  } else {
#pragma omp simd reduction(+ : tx, t_)
    for (int64_t i = 0; i < n; ++i) {
      const T z = load(x + i);
      const T t = weighted<act, clamped>(load(dy + i), z * p.scale + p.bias, k);
      store(dx + i, t * dx_scale);
      tx += t * z;
      t_ += t;
    }
  }
  sums[0] = tx;
  sums[1] = tn;
  sums[2] = t_;
}

// In double from the products on: they cancel, so that what rounding them in float32 leaves is not small
// beside the sum.
template <typename E>
double dot(const E* t, const E* w, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += double(load(t + i)) * double(load(w + i));
  return sum;
}

// Calls body(index) for every plane, in tasks of kTask elements at least.
template <typename Body>
void in_tasks(int64_t planes, int64_t pixels, int max_threads, const Body& body) {
  const int64_t per_task = pixels >= kTask ? 1 : kTask / (pixels < 1 ? 1 : pixels);
  const int64_t tasks = (planes + per_task - 1) / per_task;
  const int threads = tasks < 2 ? 1 : max_threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t last = (task + 1) * per_task < planes ? (task + 1) * per_task : planes;
    for (int64_t i = task * per_task; i < last; ++i) body(i);
  }
}

// Calls body(index of the plane, offset of its first element, Plane) for every plane.
template <typename T, typename Body>
void for_each_plane(const void* s, const void* n, const void* sigma, const void* b,
                    const ScaledBiasActArgs& a, const Body& body) {
  const T *scales = (const T*)s, *noise = (const T*)n, *bias = (const T*)b;
  const T strength = !noise ? T(0) : (sigma ? *(const T*)sigma : T(1));
  in_tasks(a.B * a.C, a.N, a.threads, [&](int64_t i) {
    const int64_t sample = i / a.C, channel = i % a.C;
    const T* pixels = noise && a.noise_per_sample ? noise + sample * a.N : noise;
    body(i, i * a.N, Plane<T>{scales[i], bias ? bias[channel] : T(0), strength, pixels});
  });
}

}  // namespace

Error scaled_bias_act(const void* x, const void* s, const void* n, const void* sigma, const void* b, void* y,
                      const ScaledBiasActArgs& args) {
#define RUN(ACT, E, T)                                                                         \
  const Scalars<T> k{T(args.alpha), T(args.gain), T(args.clamp)};                              \
  for_each_plane<T>(s, n, sigma, b, args, [&](int64_t, int64_t start, const Plane<T>& plane) { \
    forward_plane<ACT>((const E*)x + start, plane, (E*)y + start, args.N, k);                  \
  })
#define BY_ACT(E, T) FASTGAN_ACT_SWITCH(args.act, "scaled_bias_act", RUN, E, T)
  FASTGAN_DTYPE_SWITCH(args.dtype, "scaled_bias_act", BY_ACT)
#undef RUN
}

Error scaled_bias_act_grad(const void* dy, const void* x, const void* s, const void* n, const void* sigma,
                           const void* b, void* dx, double* sums, bool unscaled,
                           const ScaledBiasActArgs& args) {
#define RUN(ACT, E, T)                                                                                    \
  const Scalars<T> k{T(args.alpha), T(args.gain), T(args.clamp)};                                         \
  const auto grad = std::isnan(args.clamp) ? grad_plane<ACT, false, E, T> : grad_plane<ACT, true, E, T>;  \
  for_each_plane<T>(s, n, sigma, b, args, [&](int64_t i, int64_t start, const Plane<T>& plane) {          \
    grad((const E*)dy + start, (const E*)x + start, plane, unscaled ? T(1) : plane.scale, (E*)dx + start, \
         sums + 3 * i, args.N, k);                                                                        \
  })
  FASTGAN_DTYPE_SWITCH(args.dtype, "scaled_bias_act", BY_ACT)
#undef RUN
#undef BY_ACT
}

Error plane_dots(const void* t, const void* w, double* dots, const PlaneDotsArgs& a) {
#define RUN(E, T)                                                                      \
  in_tasks(a.B* a.C, a.N, a.threads, [&](int64_t i) {                                  \
    const E* other = (const E*)w + i / a.C * a.sample_step + i % a.C * a.channel_step; \
    dots[i] = dot((const E*)t + i * a.N, other, a.N);                                  \
  })
  FASTGAN_DTYPE_SWITCH(a.dtype, "plane_dots", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
