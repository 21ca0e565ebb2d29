// Convolutions by minimal filtering (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308): a tile of y is
//
//   y = A' [sum over channels of (G w G') . (B' d B)] A
//
// for the pixels d of x that it depends on and small matrices A, B and G of a scheme, with fewer products
// than taps times pixels. For each product the sum over the channels is a product of matrices: that is where
// the time goes. A scheme names the matrices along one axis,
//
//   Input           B', pixels of x to places          Taps          G, taps to places
//   Output          A', places to pixels of y          TapsGradient  G', places to taps
//   OutputGradient  A, pixels of dy to places
//   kTerms          which place of x times which of the filter belongs to which of y
//   kInputStep      pixels of x between tiles;  those of y are as many as a tile has
//
// and both axes take every pair of terms. OutputGradient and TapsGradient are for weight_grad alone.
//
// The forward pass goes block by block of tiles, each by one thread from beginning to end, so that its
// transformed tiles stay in the thread's cache.
//
// The gradient to the filters sums over the tiles, in a number of sums that does not depend on the threads:
// nor does the result. Each thread takes whole sums; where there are too few for that, the threads transform
// blocks of tiles together, then each adds up its own places of the result.
#pragma once

#include "common.h"
#include "minimal_filters.h"
#include "minimal_product.h"
#include "scratch.h"

namespace fastgan {
namespace {

constexpr int64_t kTilesForward = 64;    // in a block: 16 places of 64 channels take 256 KB in float32
constexpr int64_t kTilesGradient = 128;  // fewer passes over the sums
constexpr int64_t kTermsAtOnce = 64;     // of a sum over the channels
constexpr int64_t kMostShares = 4;
// Bytes of transformed filters, or of their sums: more would leave the cache, and memory that is mapped anew
// at every call. Filters are taken in portions that they suffice for.
constexpr int64_t kMostFilters = 8 << 20;

// Calls run(T()) for the type of the elements.
template <typename Run>
Error with_type(DType dtype, const Run& run) {
  if (dtype == DType::float32) return run(float()), nullptr;
  if (dtype == DType::float64) return run(double()), nullptr;
  return "minimal filtering: the dtype is neither float32 nor float64";
}

// A convolution of `groups` groups of x's channels to as many of y's: those of x and y are of one group.
struct Geometry {
  int64_t B;
  Image x, y;
  int64_t pad_y, pad_x;  // pixels of the first tile's window before x; the tile begins at y's first one

  int64_t groups() const { return x.groups; }
};

// Numbers that the filters of one group are.
template <typename Scheme>
int64_t filters_size(const Geometry& g) {
  return g.x.C * g.y.C * Scheme::Taps::kIn * Scheme::Taps::kIn;
}

template <typename Scheme>
Placement placed_in_x(const Geometry& g) {
  return {Scheme::kInputStep, g.pad_y, g.pad_x};
}
template <typename Scheme>
Placement placed_in_y() {
  return {Scheme::Output::kOut, 0, 0};
}

template <typename Transform>
constexpr int64_t kPlaces = Transform::kOut * Transform::kOut;

// All tiles of an image whose tiles have so many pixels on a side.
inline Tiles all_tiles(int64_t B, const Image& of, int64_t side) {
  return {B, 0, ceil_div(of.H, side), 0, ceil_div(of.W, side), side, side};
}

// The same in four parts: the whole tiles, and those that are cut off by the image's right side, its lower
// one, or both.
struct Parts {
  Tiles part[4];

  Parts(int64_t B, const Image& of, int64_t side) {
    const int64_t rows = of.H / side, cols = of.W / side, bottom = of.H % side, right = of.W % side;
    part[0] = {B, 0, rows, 0, cols, side, side};
    part[1] = {B, 0, rows, cols, right > 0, side, right};
    part[2] = {B, rows, bottom > 0, 0, cols, bottom, side};
    part[3] = {B, rows, bottom > 0, cols, right > 0, bottom, right};
  }
};

// The filters to some chunks of y's channels, in each of some groups.
struct Portion {
  int64_t group, groups;  // the first one, and how many
  int64_t chunk, chunks;
};

// Several whole groups, or where not even one is small enough some of its chunks; of equal size but for the
// last ones.
struct Portions {
  int64_t all_groups, all_chunks;
  int64_t groups, chunks;  // of the largest portion

  // `bytes` are those of a chunk.
  Portions(int64_t groups_, int64_t chunks_, int64_t bytes) : all_groups(groups_), all_chunks(chunks_) {
    const int64_t fit = kMostFilters / bytes, most = fit < kMostChunks ? kMostChunks : fit;
    chunks = ceil_div(all_chunks, ceil_div(all_chunks, most));
    const int64_t whole = most / all_chunks;
    groups = whole > 1 ? smaller(whole, all_groups) : 1;
  }
  template <typename Body>
  void for_each(const Body& body) const {
    for (int64_t group = 0; group < all_groups; group += groups)
      for (int64_t chunk = 0; chunk < all_chunks; chunk += chunks)
        body(Portion{group, smaller(groups, all_groups - group), chunk, smaller(chunks, all_chunks - chunk)});
  }
};

// Smaller blocks where there would be fewer than threads; what a tile comes to does not depend on its block.
template <typename T>
int64_t tiles_in_block(int64_t tiles, int threads) {
  const int64_t share = ceil_div(ceil_div(tiles, threads), kRows<T>) * kRows<T>;
  return share < kRows<T> ? kRows<T> : smaller(kTilesForward, share);
}

// Calls body(input place, filter place, output place) for every pair of a scheme's terms.
template <typename Scheme, typename Body>
void for_each_product(const Body& body) {
  for (const Term& i : Scheme::kTerms)
    for (const Term& j : Scheme::kTerms)
      body(i.input * Scheme::Input::kOut + j.input, i.filter * Scheme::Taps::kOut + j.filter,
           i.output * Scheme::Output::kIn + j.output);
}

// The sums over the channels of all products of a block of tiles, `height` by `width` pixels of which are
// wanted.
template <typename Scheme, typename T>
void multiply_filters(const Block<T>& v, const Filters<T>& u, int64_t tiles, int64_t height, int64_t width,
                      const Block<T>& m) {
  const Panels panels{u.chunks};
  Product<T> product{};
  product.a_row = kLanes<T>, product.a_term = 1, product.a_block = v.chunk_pitch();
  product.b_chunk = u.chunk_pitch(), product.out_chunk = m.chunk_pitch();
  constexpr int64_t kPixels = Scheme::Output::kOut, kSums = Scheme::Output::kIn;
  bool begun[kSums * kSums] = {};
  for_each_product<Scheme>([&](int input, int filter, int output) {
    // Each pixel less, from the end of a tile, is one place less.
    if (output / kSums >= kSums - kPixels + height || output % kSums >= kSums - kPixels + width) return;
    for (int64_t panel = 0; panel < panels.count(); ++panel)
      for (int64_t c = 0; c < u.channels; c += kTermsAtOnce) {
        product.terms = smaller(kTermsAtOnce, u.channels - c);
        product.b = u.at(filter, panels.first(panel), c);
        for (int64_t tile = 0; tile < tiles; tile += kRows<T>) {
          product.a = v.at(input, c / kLanes<T>, tile);
          product.out = m.at(output, panels.first(panel), tile);
          multiply(product, panels.size(panel), begun[output] || c > 0);
        }
      }
    begun[output] = true;
  });
}

template <typename T>
Vec<T> bias_of_chunk(const T* bias, int64_t k0, int64_t K) {
  Vec<T> lanes{};
  if (bias)
    for (int64_t l = 0; l < smaller(kLanes<T>, K - k0); ++l) lanes[l] = bias[k0 + l];
  return lanes;
}

// w is one group's filters after the other's, bias nullptr or [groups K].
template <typename Scheme, typename T>
void forward(const T* x, const T* w, const FilterOrder& order, const T* bias, T* y, const Geometry& g,
             int threads) {
  using Input = typename Scheme::Input;
  using Output = typename Scheme::Output;
  constexpr int64_t kStep = Scheme::kInputStep, kOut = Output::kOut;
  constexpr int64_t kFilterPlaces = kPlaces<typename Scheme::Taps>;
  const Placement in_x = placed_in_x<Scheme>(g), in_y = placed_in_y<Scheme>();
  const Parts parts(g.B, g.y, kOut);
  const int64_t C = g.x.C, K = g.y.C, from = ceil_div(C, kLanes<T>), to = ceil_div(K, kLanes<T>);
  const Portions portions(g.groups(), to, Filters<T>::size(kFilterPlaces, C, 1) * sizeof(T));
  const int threads_each = int(ceil_div(threads, portions.groups));  // for a group
  const int64_t N = tiles_in_block<T>(all_tiles(g.B, g.y, kOut).count(), threads_each);
  const int64_t u_size = Filters<T>::size(kFilterPlaces, C, portions.chunks);
  const Scratch<T> u_memory(portions.groups * u_size);
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> v_memory(Block<T>::size(kPlaces<Input>, N, from));
    const Scratch<T> m_memory(Block<T>::size(Output::kIn * Output::kIn, N, portions.chunks));
    const Scratch<T> read(window_size<T>(Input::kIn, kStep, N)), written(window_size<T>(kOut, kOut, N));
    const Block<T> v{v_memory.data(), N, from};
    portions.for_each([&](const Portion& portion) {
      const int64_t chunks = portion.chunks;
      const Block<T> m{m_memory.data(), N, chunks};
      const auto u = [&](int64_t i) { return Filters<T>{u_memory.data() + i * u_size, C, chunks}; };
#pragma omp for schedule(static)
      for (int64_t item = 0; item < portion.groups * Slice::count(C, chunks); ++item) {
        const int64_t i = item / Slice::count(C, chunks), slice = item % Slice::count(C, chunks);
        transform_filters<typename Scheme::Taps>(w + (portion.group + i) * filters_size<Scheme>(g), C, K,
                                                 order, slice_of(slice, chunks), portion.chunk, u(i));
      }
      for (const Tiles& tiles : parts.part) {
        const int64_t size = tiles_in_block<T>(tiles.count(), threads_each);
        const int64_t blocks = ceil_div(tiles.count(), size);
#pragma omp for schedule(static) nowait
        for (int64_t item = 0; item < portion.groups * blocks; ++item) {
          const int64_t i = item / blocks, group = portion.group + i;
          const int64_t first = item % blocks * size, count = smaller(size, tiles.count() - first);
          for_each_run(tiles, first, count, [&](const Run& run) {
            for (int64_t chunk = 0; chunk < from; ++chunk)
              transform_run<Input>(x + g.x.offset(group), g.x, chunk, run, in_x, read.data(), v, chunk);
          });
          multiply_filters<Scheme>(v, u(i), count, tiles.height, tiles.width, m);
          for_each_run(tiles, first, count, [&](const Run& run) {
            for (int64_t chunk = 0; chunk < chunks; ++chunk) {
              const int64_t to_chunk = portion.chunk + chunk;
              const Vec<T> of_chunk =
                  bias_of_chunk(bias ? bias + group * K : nullptr, to_chunk * kLanes<T>, K);
              pixels_of_run<Output>(m, chunk, run, of_chunk, in_y, written.data(), y + g.y.offset(group), g.y,
                                    to_chunk);
            }
          });
        }
      }
#pragma omp barrier
    });
  }
}

// Adds the products of a block of tiles to the sums of one place of the filters, for a panel of chunks.
template <typename Scheme, typename T>
void add_tiles(const Block<T>& v, const Block<T>& m, int64_t count, int64_t place, int64_t chunk,
               int64_t chunks, bool add, const Filters<T>& sums) {
  Product<T> product{};
  product.a_row = 1, product.a_term = kLanes<T>, product.a_block = kLanes<T> * kLanes<T>;
  product.b_chunk = m.chunk_pitch();
  product.terms = count, product.out_chunk = sums.chunk_pitch();
  for_each_product<Scheme>([&](int input, int filter, int output) {
    if (filter != place) return;
    product.b = m.at(output, chunk, 0);
    for (int64_t c = 0; c < sums.channels; c += kRows<T>) {
      product.a = v.at(input, c / kLanes<T>, 0) + c % kLanes<T>;
      product.out = sums.at(place, chunk, c);
      multiply(product, chunks, add);
    }
    add = true;
  });
}

// The tiles in shares that are summed apart. How many depends on the sizes alone, and so do the sums.
struct Shares {
  int64_t count, tiles;  // of each

  // `sums` are the numbers that a share's sums are.
  template <typename T>
  static Shares of(int64_t tiles, int64_t sums) {
    const int64_t whole = ceil_div(tiles, kTilesGradient), fit = kMostFilters / (sums * int64_t(sizeof(T)));
    int64_t count = 1;
    while (2 * count <= kMostShares && 2 * count <= whole && 2 * count <= fit) count *= 2;
    return {count, ceil_div(tiles, count)};
  }
};

// Threads work on so many sums at a time: as many as there are threads where those divide them, else fewer.
inline int64_t sums_at_once(int64_t sums, int threads) {
  int64_t width = smaller(sums, threads);
  while (sums % width) --width;
  return width;
}

template <typename Scheme, typename T>
void weight_grad(const T* x, const T* dy, T* dw, const Geometry& g, int threads) {
  using Input = typename Scheme::Input;
  using OutputGradient = typename Scheme::OutputGradient;
  constexpr int64_t N = kTilesGradient, kFilterPlaces = kPlaces<typename Scheme::Taps>;
  constexpr int64_t kOut = Scheme::Output::kOut;
  const Placement in_x = placed_in_x<Scheme>(g), in_y = placed_in_y<Scheme>();
  const Tiles tiles = all_tiles(g.B, g.y, kOut);
  const int64_t C = g.x.C, K = g.y.C, from = ceil_div(C, kLanes<T>), to = ceil_div(K, kLanes<T>);
  const int64_t channels = from * kLanes<T>;  // whole chunks of them: kRows divides it
  const Portions portions(g.groups(), to, Filters<T>::size(kFilterPlaces, channels, 1) * sizeof(T));
  const int64_t v_size = Block<T>::size(kPlaces<Input>, N, from);
  const int64_t m_size = Block<T>::size(kPlaces<OutputGradient>, N, portions.chunks);
  const int64_t sums_size = Filters<T>::size(kFilterPlaces, channels, portions.chunks);
  const Shares shares = Shares::of<T>(tiles.count(), portions.groups * sums_size);
  const Scratch<T> sums_memory(portions.groups * shares.count * sums_size);
  const Scratch<T> v_memory(threads * v_size), m_memory(threads * m_size);

  // A block of the tiles of one of the sums, that of a share in a group; `done` of the share's tiles are
  // behind it.
  struct Step {
    const Portion& portion;
    int64_t sum, done;
    Block<T> v, m;
  };
  const auto first = [&](const Step& step) { return step.sum % shares.count * shares.tiles + step.done; };
  const auto count = [&](const Step& step) {
    const int64_t last = smaller((step.sum % shares.count + 1) * shares.tiles, tiles.count());
    return first(step) < last ? smaller(N, last - first(step)) : 0;
  };
  // Transforms chunk number `item` of x, or where it has no more of dy.
  const auto transform = [&](const Step& step, int64_t item, T* read, T* read_dy) {
    const int64_t group = step.portion.group + step.sum / shares.count, chunk = item - from;
    for_each_run(tiles, first(step), count(step), [&](const Run& run) {
      if (item < from) {
        transform_run<Input>(x + g.x.offset(group), g.x, item, run, in_x, read, step.v, item);
      } else {
        transform_run<OutputGradient>(dy + g.y.offset(group), g.y, step.portion.chunk + chunk, run, in_y,
                                      read_dy, step.m, chunk);
      }
    });
  };
  // Adds the products of place and panel number `item`.
  const auto add = [&](const Step& step, int64_t item) {
    const Panels panels{step.portion.chunks};
    const int64_t place = item / panels.count(), panel = item % panels.count();
    const Filters<T> sums{sums_memory.data() + step.sum * sums_size, channels, step.portion.chunks};
    add_tiles<Scheme>(step.v, step.m, count(step), place, panels.first(panel), panels.size(panel),
                      step.done > 0, sums);
  };
#pragma omp parallel num_threads(threads)
  {
    const Scratch<T> read(window_size<T>(Input::kIn, Scheme::kInputStep, N));
    const Scratch<T> read_dy(window_size<T>(kOut, kOut, N));
    const Scratch<T> own_v(v_size), own_m(m_size);
    portions.for_each([&](const Portion& portion) {
      const int64_t all = portion.groups * shares.count, width = sums_at_once(all, threads);
      const int64_t images = from + portion.chunks;
      const int64_t products = kFilterPlaces * Panels{portion.chunks}.count();
      // An empty batch goes through once, to sums of nothing.
      const auto for_each_block = [&](const auto& body) {
        for (int64_t done = 0; done == 0 || done < shares.tiles; done += N) body(done);
      };
      if (width == threads) {  // a sum is one thread's, and nobody waits
#pragma omp for schedule(static)
        for (int64_t sum = 0; sum < all; ++sum)
          for_each_block([&](int64_t done) {
            const Step step{portion, sum, done, {own_v.data(), N, from}, {own_m.data(), N, portion.chunks}};
            for (int64_t item = 0; item < images; ++item) transform(step, item, read.data(), read_dy.data());
            for (int64_t item = 0; item < products; ++item) add(step, item);
          });
      } else {
        const auto step = [&](int64_t sum, int64_t i, int64_t done) {
          return Step{portion,
                      sum + i,
                      done,
                      {v_memory.data() + i * v_size, N, from},
                      {m_memory.data() + i * m_size, N, portion.chunks}};
        };
        for (int64_t sum = 0; sum < all; sum += width)
          for_each_block([&](int64_t done) {
#pragma omp for schedule(static)
            for (int64_t item = 0; item < width * images; ++item)
              transform(step(sum, item / images, done), item % images, read.data(), read_dy.data());
#pragma omp for schedule(static)
            for (int64_t item = 0; item < width * products; ++item)
              add(step(sum, item / products, done), item % products);
          });
      }
      const int64_t slices = Slice::count(C, portion.chunks);
#pragma omp for schedule(static)
      for (int64_t item = 0; item < portion.groups * slices; ++item) {
        const int64_t i = item / slices;
        const Filters<T> sums{sums_memory.data() + i * shares.count * sums_size, channels, portion.chunks};
        taps_of_sums<typename Scheme::TapsGradient>(sums, shares.count, sums_size, C, K,
                                                    slice_of(item % slices, portion.chunks), portion.chunk,
                                                    dw + (portion.group + i) * filters_size<Scheme>(g));
      }
    });
  }
}

}  // namespace
}  // namespace fastgan
