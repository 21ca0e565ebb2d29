// The kernel of upfirdn2d.cu for 4 x 4 taps and the rates 1, up 2 and down 2, which the compiler knows: the
// pixels that a block's outputs need go to shared memory once, and from there to registers.
#pragma once

#include "cuda_launch.h"
#include "upfirdn2d.h"

namespace fastgan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTaps = 4;

// The largest integer at most a / b, for b > 0.
template <typename Integer>
__host__ __device__ constexpr Integer floor_div(Integer a, Integer b) {
  return (a >= 0 ? a : a - b + 1) / b;
}

// Pixels from the first tap of the first of so many outputs to the last tap of the last.
constexpr int span(int outputs, int up, int down) { return ((outputs - 1) * down + kTaps - 1) / up + 1; }

// One number, or two neighbours that move together: a pair of channels in channels_last.
template <typename T, int kVector>
struct alignas(kVector * sizeof(T)) Vector {
  T values[kVector];
};

// So many of a line's loads are under way at once that none is left over.
constexpr int batch_of(int slots) {
  int batch = slots < 6 ? slots : 6;
  while (slots % batch != 0) --batch;
  return batch;
}

// Room for a line of `used` vectors: an even number, for pairs. Where half a warp reads one line and the
// other half the one `below` lines away, the two shall lie in different banks of shared memory.
constexpr int pitch_of(int used, int below, bool two_lines) {
  int pitch = used + used % 2;
  while (two_lines && below * pitch % kWarp != kWarp / 2) pitch += 2;
  return pitch;
}

// Outputs of one block: kX columns of kChannels vectors (one, or neighbours in channels_last) in kPlanes
// images. A thread has kRows of them, one above the other, so that a pixel it has read serves several.
template <int kUp_, int kDown_, int kX_, int kChannels_, int kPlanes_, int kRows_, int kVector_>
struct Tile {
  static constexpr int kUp = kUp_, kDown = kDown_, kX = kX_, kChannels = kChannels_, kPlanes = kPlanes_;
  static constexpr int kRows = kRows_, kVector = kVector_;
  static constexpr bool kChannelsLast = kChannels > 1;
  static constexpr int kLanes = kX * kChannels;
  static constexpr int kGroups = kThreads / (kLanes * kPlanes);  // threads above each other
  static constexpr int kY = kGroups * kRows;
  static constexpr int kTerms = kTaps / kUp;              // taps in a row that meet no inserted zero
  static constexpr int kGroupStep = kRows * kDown / kUp;  // input rows from a thread to the one below
  static constexpr int kReach = span(kRows, kUp, kDown);  // input rows of a thread
  static constexpr int kBlocks = kChannelsLast ? 3 : 4;   // on a multiprocessor, at least

  static constexpr int kInX = span(kX, kUp, kDown), kInY = span(kY, kUp, kDown);
  static constexpr int kLines = kPlanes * kInY;
  static constexpr int kUsed = kInX * kChannels;  // vectors of a line
  static constexpr int kPitch = pitch_of(kUsed, kGroupStep, kLanes * 2 == kWarp && kDown == 1);

  // How a line is copied: kSlots loads for each lane, and kEnd vectors apart.
  static constexpr int kEnd = kUsed > kWarp&& kUsed % kWarp < 4 ? kUsed % kWarp : 0;
  static constexpr int kSlots = (kUsed - kEnd + kWarp - 1) / kWarp;
  static constexpr int kBatch = batch_of(kSlots);  // so many of them at once, ...
  static constexpr int kAtOnce = 8 / kBatch;       // in so many lines

  using Pixel = Vector<float, kVector>;
  using Pixels = Pixel[kLines][kPitch];

  static_assert(kTaps % kUp == 0 && kRows * kDown % kUp == 0,
                "every tile and every thread starts with tap 0");
  static_assert(kThreads % (kLanes * kPlanes) == 0, "a block has whole rows");
  static_assert(kPlanes == 1 || kPlanes == kWarps, "warps share a plane or have one each");
};

// The arguments in 32 bits, which save registers; offsets into tensors take 64. Channels and tensors count in
// vectors.
struct Geometry {
  int64_t planes;  // images of C channels, or of one
  int H, W, OH, OW, C;
  int origin_x, origin_y;
  int shift;  // by which tiles start above the image, so that every tile starts with tap 0
  unsigned tiles_x, tiles_y, chunks;
  float gain;
  bool flip, separable;
};

// Where a block's outputs and its pixels begin.
struct Place {
  int64_t plane;
  int planes;  // so many
  int channel, x, y, column, row;

  template <typename Tile>
  static __device__ __forceinline__ Place of_block(const Geometry& g) {
    unsigned rest = blockIdx.x;
    Place place;
    place.x = static_cast<int>(rest % g.tiles_x) * Tile::kX;
    rest /= g.tiles_x;
    place.y = static_cast<int>(rest % g.tiles_y) * Tile::kY - g.shift;
    rest /= g.tiles_y;
    place.channel = static_cast<int>(rest % g.chunks) * Tile::kChannels;
    place.plane = int64_t{rest / g.chunks} * Tile::kPlanes;
    place.planes = static_cast<int>(min(g.planes - place.plane, int64_t{Tile::kPlanes}));
    place.column = first_pixel<Tile>(place.x, g);
    place.row = (place.y * Tile::kDown - g.origin_y) / Tile::kUp;  // no remainder
    return place;
  }

  // Of an output in column x: the leftmost of the pixels that its taps meet.
  template <typename Tile>
  static __device__ __forceinline__ int first_pixel(int x, const Geometry& g) {
    return -floor_div(g.origin_x - x * Tile::kDown, Tile::kUp);
  }
};

// Copies a block's pixels, zeros outside of the image, in few instructions: all warps take lines of the one
// plane in turn, or each those of its own plane, so that what depends on the line is the same for a warp, the
// next line is an addition away, and what depends on the lane is the same for all lines. Where a line is a
// little longer than so many warps, the ends of all lines are copied together: 67 numbers are no three loads.
template <typename Tile, typename T>
class Staging {
 public:
  using Pixel = typename Tile::Pixel;
  using Pixels = typename Tile::Pixels;
  using Input = Vector<T, Tile::kVector>;

  __device__ __forceinline__ Staging(const Input* __restrict__ x, const Place& place, const Geometry& g)
      : place_(place),
        g_(g),
        stride_(int64_t{g.W} * (Tile::kChannelsLast ? g.C : 1)),
        x_(x + (place.plane * g.H + place.row) * stride_) {}

  __device__ __forceinline__ void run(Pixels& pixels) const {
    const int warp = static_cast<int>(threadIdx.x / kWarp), lane = static_cast<int>(threadIdx.x % kWarp);
    copy_ends(pixels);
    const int plane = Tile::kPlanes == 1 ? 0 : warp;
    if (plane >= place_.planes) return;
#pragma unroll 1
    for (int slot = 0; slot < Tile::kSlots; slot += Tile::kBatch) {
      copy_column(pixels + plane * Tile::kInY, x_ + plane * (g_.H * stride_), slot * kWarp + lane,
                  Tile::kPlanes == 1 ? warp : 0);
    }
  }

 private:
  static constexpr int kStep = Tile::kPlanes == 1 ? kWarps : 1;  // from a line of a warp to the next

  // Vectors at, at + kWarp, ... of a warp's lines of a plane; of several lines first all loads, then all
  // stores.
  __device__ __forceinline__ void copy_column(Pixel (*pixels)[Tile::kPitch], const Input* plane, int at,
                                              int first) const {
    bool exists[Tile::kBatch];
#pragma unroll
    for (int m = 0; m < Tile::kBatch; ++m) exists[m] = has(at + m * kWarp);
    const int64_t across = Tile::kChannelsLast ? int64_t{kWarp / Tile::kChannels} * g_.C : kWarp;
    const Input* from = plane + first * stride_ + offset_of(at);
#pragma unroll
    for (int begin = 0; begin < Tile::kInY; begin += kStep * Tile::kAtOnce) {
      // A whole number of lines for each warp, as the compiler knows, except for the last.
      const auto has_line = [&](int n) {
        return begin + (n + 1) * kStep <= Tile::kInY || begin + n * kStep + first < Tile::kInY;
      };
      Pixel held[Tile::kAtOnce][Tile::kBatch];
#pragma unroll
      for (int n = 0; n < Tile::kAtOnce; ++n, from += kStep * stride_) {
        const bool inside = has_line(n) && has_row(begin + n * kStep + first);
#pragma unroll
        for (int m = 0; m < Tile::kBatch; ++m) {
          held[n][m] = read(from + m * across, inside && exists[m]);
        }
      }
#pragma unroll
      for (int n = 0; n < Tile::kAtOnce; ++n) {
        if (!has_line(n)) break;
#pragma unroll
        for (int m = 0; m < Tile::kBatch; ++m) {
          if (at + m * kWarp < Tile::kUsed) pixels[begin + n * kStep + first][at + m * kWarp] = held[n][m];
        }
      }
    }
  }

  __device__ __forceinline__ void copy_ends(Pixels& pixels) const {
    constexpr int kEnd = Tile::kEnd > 0 ? Tile::kEnd : 1, kNumbers = Tile::kLines * Tile::kEnd;
#pragma unroll
    for (int begin = 0; begin < kNumbers; begin += kThreads) {
      const int i = begin + static_cast<int>(threadIdx.x);
      if (i >= kNumbers) continue;
      const int number = i / kEnd, plane = number / Tile::kInY, line = number % Tile::kInY;
      const int at = Tile::kSlots * kWarp + i % kEnd;
      const bool exists = plane < place_.planes && has_row(line) && has(at);
      const Input* from = x_ + (plane * int64_t{g_.H} + line) * stride_ + offset_of(at);
      pixels[number][at] = read(from, exists);
    }
  }

  static __device__ __forceinline__ Pixel read(const Input* from, bool exists) {
    Pixel pixel = {};
    if (exists) {
      const Input input = *from;
#pragma unroll
      for (int v = 0; v < Tile::kVector; ++v) pixel.values[v] = widen(input.values[v]);
    }
    return pixel;
  }

  // Whether the image has vector `at` of a line, and where in a row of x that is.
  __device__ __forceinline__ bool has(int at) const {
    const unsigned column = static_cast<unsigned>(place_.column + at / Tile::kChannels);
    return at < Tile::kUsed && column < static_cast<unsigned>(g_.W) &&
           (!Tile::kChannelsLast || place_.channel + at % Tile::kChannels < g_.C);
  }
  __device__ __forceinline__ int64_t offset_of(int at) const {
    if constexpr (!Tile::kChannelsLast) return place_.column + at;
    return int64_t{place_.column + at / Tile::kChannels} * g_.C + place_.channel + at % Tile::kChannels;
  }
  __device__ __forceinline__ bool has_row(int line) const {
    return static_cast<unsigned>(place_.row + line) < static_cast<unsigned>(g_.H);
  }

  const Place& place_;
  const Geometry& g_;
  int64_t stride_;  // from a row of x to the next
  const Input* x_;  // the first row of the first plane, which may lie outside of the image
};

// The filter as a correlation, its gain included: f in reverse, or as it is. Of a separable one the outer
// product: its rounding is that of a pass over rows before one over columns.
__device__ __forceinline__ void stage_taps(float (&taps)[kTaps][kTaps], const float* __restrict__ f,
                                           const Geometry& g) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kTaps * kTaps) return;
  const int row = i / kTaps, column = i % kTaps;
  const int y = g.flip ? row : kTaps - 1 - row, x = g.flip ? column : kTaps - 1 - column;
  taps[row][column] = g.gain * (g.separable ? f[y] * f[x] : f[y * kTaps + x]);
}

// The pixels of a line that an output's taps meet.
template <typename Tile>
__device__ __forceinline__ void read_terms(typename Tile::Pixel (&terms)[Tile::kTerms],
                                           const typename Tile::Pixel* line) {
  if constexpr (Tile::kDown == 2 && !Tile::kChannelsLast) {  // pairs: single numbers would meet in a bank
#pragma unroll
    for (int m = 0; m < Tile::kTerms; m += 2) {
      const float2 pair = *reinterpret_cast<const float2*>(line + m);
      terms[m].values[0] = pair.x;
      terms[m + 1].values[0] = pair.y;
    }
  } else {
#pragma unroll
    for (int m = 0; m < Tile::kTerms; ++m) terms[m] = line[m * Tile::kChannels];
  }
}

// Adds the terms of input row `row`, counted from a thread's first, to those of its outputs that reach it.
template <typename Tile>
__device__ __forceinline__ void add_row(typename Tile::Pixel (&sums)[Tile::kRows], int row,
                                        const typename Tile::Pixel (&terms)[Tile::kTerms],
                                        const float (&weights)[kTaps][Tile::kTerms]) {
#pragma unroll
  for (int j = 0; j < Tile::kRows; ++j) {
    const int k = row * Tile::kUp - j * Tile::kDown;
    if (k < 0 || k >= kTaps) continue;
#pragma unroll
    for (int m = 0; m < Tile::kTerms; ++m) {
#pragma unroll
      for (int v = 0; v < Tile::kVector; ++v) sums[j].values[v] += weights[k][m] * terms[m].values[v];
    }
  }
}

template <typename Tile, typename T>
__global__ void __launch_bounds__(kThreads, Tile::kBlocks)
    tile_kernel(const Vector<T, Tile::kVector>* __restrict__ x, const float* __restrict__ f,
                Vector<T, Tile::kVector>* __restrict__ y, Geometry g) {
  __shared__ __align__(16) typename Tile::Pixels pixels;
  __shared__ float taps[kTaps][kTaps];
  const Place place = Place::of_block<Tile>(g);
  stage_taps(taps, f, g);
  Staging<Tile, T>(x, place, g).run(pixels);
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x) % Tile::kLanes;
  const int group = static_cast<int>(threadIdx.x) / Tile::kLanes % Tile::kGroups;
  const int in_block = static_cast<int>(threadIdx.x) / (Tile::kLanes * Tile::kGroups);
  const int column = place.x + lane / Tile::kChannels, c = lane % Tile::kChannels;
  const int first = Place::first_pixel<Tile>(column, g);
  const int tap = first * Tile::kUp - (column * Tile::kDown - g.origin_x);

  float weights[kTaps][Tile::kTerms];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
#pragma unroll
    for (int m = 0; m < Tile::kTerms; ++m) weights[k][m] = taps[k][tap + m * Tile::kUp];
  }
  typename Tile::Pixel sums[Tile::kRows] = {};
  const typename Tile::Pixel* from =
      pixels[in_block * Tile::kInY + group * Tile::kGroupStep] + (first - place.column) * Tile::kChannels + c;
#pragma unroll
  for (int row = 0; row < Tile::kReach; ++row) {
    typename Tile::Pixel terms[Tile::kTerms];
    read_terms<Tile>(terms, from + row * Tile::kPitch);
    add_row<Tile>(sums, row, terms, weights);
  }

  const int channels = Tile::kChannelsLast ? g.C : 1, top = place.y + group * Tile::kRows;
  if (column >= g.OW || place.channel + c >= channels || in_block >= place.planes) return;
  const int64_t step = int64_t{g.OW} * channels;
  auto* to =
      y + ((place.plane + in_block) * g.OH + top) * step + int64_t{column} * channels + place.channel + c;
#pragma unroll
  for (int j = 0; j < Tile::kRows; ++j) {
    if (static_cast<unsigned>(top + j) < static_cast<unsigned>(g.OH)) {
      Vector<T, Tile::kVector> output;
#pragma unroll
      for (int v = 0; v < Tile::kVector; ++v) narrow(sums[j].values[v], output.values[v]);
      *to = output;
    }
    to += step;
  }
}

}  // namespace
}  // namespace fastgan::cuda
