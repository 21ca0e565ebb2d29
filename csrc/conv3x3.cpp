// The forward pass goes block by block of tiles, each by one thread from beginning to end, so that its
// transformed tiles stay in the thread's cache. What remains in the way is the arithmetic of 16 products of
// matrices: 4 B OH OW C K multiply-adds, where a direct convolution has 9.
//
// The gradient to the filters sums over the tiles. The threads transform a block of tiles together, then each
// adds up its own places of the result: no partial sums for each thread, and results that do not depend on
// their number.
#include "conv3x3.h"

#include "conv3x3_filters.h"
#include "conv3x3_product.h"
#include "scratch.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr int64_t kTilesForward = 64;  // in a block: transformed, 64 channels of them take 256 KB in float32
constexpr int64_t kTilesGradient = 128;  // fewer passes over the sums
constexpr int64_t kTerms = 64;           // of a sum over the channels that are added up at a time

Image input(const Conv3x3Args& a) { return {a.C, a.H, a.W, a.x_channels_last}; }
Image output(const Conv3x3Args& a) {
  return {a.K, a.H + 2 * a.pad_y - 2, a.W + 2 * a.pad_x - 2, a.y_channels_last};
}

// Smaller blocks where there would be fewer than threads; what a tile comes to does not depend on its block.
template <typename T>
int64_t tiles_in_block(int64_t tiles, int threads) {
  const int64_t share = ceil_div(ceil_div(tiles, threads), kRows<T>) * kRows<T>;
  return share < kRows<T> ? kRows<T> : smaller(kTilesForward, share);
}

// The sums over the channels of all places of a block of tiles.
template <typename T>
void multiply_filters(const Block<T>& v, const Filters<T>& u, int64_t tiles, const Block<T>& m) {
  const Panels panels{u.chunks};
  Product<T> product{};
  product.a_row = kLanes<T>, product.a_term = 1, product.a_block = v.chunk_pitch();
  product.b_chunk = u.chunk_pitch(), product.out_chunk = m.chunk_pitch();
  for (int place = 0; place < kPlaces; ++place)
    for (int64_t panel = 0; panel < panels.count(); ++panel)
      for (int64_t c = 0; c < u.channels; c += kTerms) {
        product.terms = smaller(kTerms, u.channels - c);
        product.b = u.at(place, panels.first(panel), c);
        for (int64_t tile = 0; tile < tiles; tile += kRows<T>) {
          product.a = v.at(place, c / kLanes<T>, tile);
          product.out = m.at(place, panels.first(panel), tile);
          multiply(product, panels.size(panel), c > 0);
        }
      }
}

template <typename T>
Vec<T> bias_of_chunk(const T* bias, int64_t k0, int64_t K) {
  Vec<T> lanes{};
  if (bias)
    for (int64_t l = 0; l < smaller(kLanes<T>, K - k0); ++l) lanes[l] = bias[k0 + l];
  return lanes;
}

template <typename T>
void forward(const T* x, const T* w, const T* bias, T* y, const Conv3x3Args& a, int threads) {
  const Image in = input(a), out = output(a);
  const Tiles tiles(a.B, out);
  const int64_t N = tiles_in_block<T>(tiles.count(), threads);
  const int64_t from = ceil_div(a.C, kLanes<T>), to = ceil_div(a.K, kLanes<T>);
  const Scratch<T> u_memory(Filters<T>::size(a.C, to));
  const Filters<T> u{u_memory.data(), a.C, to};
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> v_memory(Block<T>::size(N, from)), m_memory(Block<T>::size(N, to));
    const Scratch<T> scratch(window_size<T>(N));
    const Block<T> v{v_memory.data(), N, from}, m{m_memory.data(), N, to};
#pragma omp for schedule(static)
    for (int64_t item = 0; item < Slice::count(a, to); ++item) transform_filters(w, a, slice_of(item, to), u);
#pragma omp for schedule(static)
    for (int64_t block = 0; block < ceil_div(tiles.count(), N); ++block) {
      const int64_t first = block * N, count = smaller(N, tiles.count() - first);
      for_each_run(tiles, first, count, [&](const Run& run) {
        for (int64_t chunk = 0; chunk < from; ++chunk)
          transform_run<PixelsToPlaces>(x, in, chunk, run, a.pad_y, a.pad_x, scratch.data(), v);
      });
      multiply_filters(v, u, count, m);
      for_each_run(tiles, first, count, [&](const Run& run) {
        for (int64_t chunk = 0; chunk < to; ++chunk)
          pixels_of_run(m, chunk, run, bias_of_chunk(bias, chunk * kLanes<T>, a.K), scratch.data(), y, out);
      });
    }
  }
}

// Adds a block of tiles to the sums of one place, for a panel of chunks.
template <typename T>
void add_tiles(const Block<T>& v, const Block<T>& m, int64_t count, int64_t place, int64_t chunk,
               int64_t chunks, bool add, const Filters<T>& sums) {
  Product<T> product{};
  product.a_row = 1, product.a_term = kLanes<T>, product.a_block = kLanes<T> * kLanes<T>;
  product.b = m.at(place, chunk, 0), product.b_chunk = m.chunk_pitch();
  product.terms = count, product.out_chunk = sums.chunk_pitch();
  for (int64_t c = 0; c < sums.channels; c += kRows<T>) {
    product.a = v.at(place, c / kLanes<T>, 0) + c % kLanes<T>;
    product.out = sums.at(place, chunk, c);
    multiply(product, chunks, add);
  }
}

template <typename T>
void weight_grad(const T* x, const T* dy, T* dw, const Conv3x3Args& a, int threads) {
  const Image in = input(a), out = output(a);
  const Tiles tiles(a.B, out);
  constexpr int64_t N = kTilesGradient;
  const int64_t from = ceil_div(a.C, kLanes<T>), to = ceil_div(a.K, kLanes<T>);
  const Scratch<T> v_memory(Block<T>::size(N, from)), m_memory(Block<T>::size(N, to));
  const Block<T> v{v_memory.data(), N, from}, m{m_memory.data(), N, to};
  const int64_t channels = from * kLanes<T>;  // whole chunks of them: kRows divides it
  const Scratch<T> sums_memory(Filters<T>::size(channels, to));
  const Filters<T> sums{sums_memory.data(), channels, to};
  const Panels panels{to};
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> scratch(window_size<T>(N));
    // An empty batch goes through once, to sums of nothing.
    for (int64_t first = 0; first == 0 || first < tiles.count(); first += N) {
      const int64_t count = smaller(N, tiles.count() - first);
#pragma omp for schedule(static)
      for (int64_t chunk = 0; chunk < from + to; ++chunk)
        for_each_run(tiles, first, count, [&](const Run& run) {
          if (chunk < from) {
            transform_run<PixelsToPlaces>(x, in, chunk, run, a.pad_y, a.pad_x, scratch.data(), v);
          } else {
            transform_run<GradientToPlaces>(dy, out, chunk - from, run, 0, 0, scratch.data(), m);
          }
        });
#pragma omp for schedule(static)
      for (int64_t item = 0; item < kPlaces * panels.count(); ++item) {
        const int64_t panel = item % panels.count();
        add_tiles(v, m, count, item / panels.count(), panels.first(panel), panels.size(panel), first > 0,
                  sums);
      }
    }
#pragma omp for schedule(static)
    for (int64_t item = 0; item < Slice::count(a, to); ++item) taps_of_sums(sums, a, slice_of(item, to), dw);
  }
}

// Calls run(T()) for the type of the elements.
template <typename Run>
Error with_type(DType dtype, const Run& run) {
  if (dtype == DType::float32) return run(float()), nullptr;
  if (dtype == DType::float64) return run(double()), nullptr;
  return "conv3x3: the dtype is neither float32 nor float64";
}

}  // namespace

Error conv3x3(const void* x, const void* w, const void* bias, void* y, const Conv3x3Args& args, int threads) {
  return with_type(args.dtype, [&](auto type) {
    using T = decltype(type);
    forward((const T*)x, (const T*)w, (const T*)bias, (T*)y, args, threads);
  });
}

Error conv3x3_weight_grad(const void* x, const void* dy, void* dw, const Conv3x3Args& args, int threads) {
  return with_type(args.dtype, [&](auto type) {
    using T = decltype(type);
    weight_grad((const T*)x, (const T*)dy, (T*)dw, args, threads);
  });
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
