// The kernel of upfirdn2d.cu for any filter and any rates: a thread makes one output and reads its pixels
// through the caches.
#pragma once

#include "upfirdn2d_tile.cuh"

namespace fastgan::cuda {
namespace {

// One direction. Index is int where all that the kernel computes fits, because divisions of 64 bits take
// longer than a small filter; else int64_t.
template <typename Index>
struct Direction {
  Index in, out, up, down, origin, taps;

  template <typename Other>
  Direction<Other> as() const {
    return {static_cast<Other>(in),   static_cast<Other>(out),    static_cast<Other>(up),
            static_cast<Other>(down), static_cast<Other>(origin), static_cast<Other>(taps)};
  }
};

template <typename Index>
struct General {
  Direction<Index> x, y;
  Index channels;        // of a pixel: 1 but in channels_last
  Index step_x, step_y;  // of f, from a tap to the next
  int64_t outputs;       // all
  double gain;
  bool flip;

  template <typename Other>
  General<Other> as() const {
    return {x.template as<Other>(),
            y.template as<Other>(),
            static_cast<Other>(channels),
            static_cast<Other>(step_x),
            static_cast<Other>(step_y),
            outputs,
            gain,
            flip};
  }
};

// The pixels inside of the image that an output's taps meet, without the zeros in between: pixel first + m
// and tap + up m for m below count.
template <typename Index>
struct Terms {
  Index first, tap, count;

  __device__ __forceinline__ Terms(const Direction<Index>& d, Index output) {
    const Index start = output * d.down - d.origin;
    first = max(-floor_div(-start, d.up), Index(0));
    tap = first * d.up - start;
    count = tap < d.taps ? min((d.taps - tap + d.up - 1) / d.up, d.in - first) : 0;
  }
};

template <typename In, typename Out, typename Index>
__global__ void __launch_bounds__(kThreads)
    general_kernel(const In* __restrict__ x, const float* __restrict__ f, Out* __restrict__ y,
                   General<Index> g) {
  using A = typename Accumulator<In>::type;
  const int64_t number = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (number >= g.outputs) return;
  Index rest = static_cast<Index>(number);
  const Index channel = rest % g.channels;
  rest /= g.channels;
  const Index column = rest % g.x.out;
  rest /= g.x.out;
  const Index row = rest % g.y.out, image = rest / g.y.out;

  const Terms<Index> along_x(g.x, column), along_y(g.y, row);
  A sum = 0;
  for (Index m = 0; m < along_y.count; ++m) {
    const Index tap_y = along_y.tap + m * g.y.up;
    const float* taps = f + (g.flip ? tap_y : g.y.taps - 1 - tap_y) * g.step_y;
    const In* line =
        x + ((image * g.y.in + along_y.first + m) * g.x.in + along_x.first) * g.channels + channel;
    for (Index n = 0; n < along_x.count; ++n) {
      const Index tap_x = along_x.tap + n * g.x.up;
      const float weight = taps[(g.flip ? tap_x : g.x.taps - 1 - tap_x) * g.step_x];
      sum += static_cast<A>(weight) * widen(line[n * g.channels]);
    }
  }
  narrow(static_cast<A>(g.gain) * sum, y[number]);
}

}  // namespace
}  // namespace fastgan::cuda
