// Resampling on the GPU (upfirdn2d.h has the formula).
//
// The floor is memory: (H W + OH OW) B C elements, each pixel read once and each output written once, over
// the bandwidth. A blur of 16 x 512 x 64 x 64 in bfloat16 moves 134 MB, 40 us at an H100's 3.35 TB/s.
//
// Why the tiles should reach it. What could cost more than memory are reads of the same pixel, 16 for an
// output, and instructions: a byte takes as long as 9 of a thread, so that a blur has 70 for an output in
// float32 and 35 in 16 bit. Hence:
//
//   - A block copies the pixels of its outputs to shared memory once, 67 x 67 for 64 x 64 outputs; the
//     border, a tenth, another block has read too and comes from the L2 cache.
//   - A thread makes up to 16 outputs of a column: 19 rows of 4 pixels, 5 reads of shared memory for each.
//   - Inserted zeros are never multiplied: tiles start where the taps are the same, so that the compiler
//     knows what meets what and unrolls everything. 4 products for an output where up is 2, else 16.
//   - Neighbouring threads have neighbouring columns, in channels_last channels, whatever the sizes: loads
//     and stores are coalesced and no two threads meet in a bank. Rows of odd length (a transposed
//     convolution leaves 2 H + 1) rule out wider loads, but not pairs of channels in channels_last.
//   - Images at most 32 wide go eight to a block.
//
// For an output the compiler's PTX has 29 instructions upsampling, 51 blurring and 83 downsampling (18, 42
// and 106 in channels_last), where an H100 has 44, 70 and 176 in the time of the bytes in float32: memory
// decides. In 16 bit it has half of that, and instructions are expected to decide.
//
// The filter is on the device: whether it is an outer product cannot be seen without waiting for it, so that
// 4 x 4 taps are applied as they are, and 4 separable ones as their outer product. Nothing is read back and
// nothing is allocated: a call can be captured in a CUDA graph. Every sum has one owner and one order: the
// same bits every time.
//
// Other filters and rates, and float64, go to a kernel that reads pixels through the caches: one launch for
// [fh, fw], two for [n], with scratch memory in between.
#include "upfirdn2d_general.cuh"
#include "upfirdn2d_tile.cuh"

namespace fastgan::cuda {
namespace {

constexpr int64_t kMostBlocks = 0x7fffffff;

int64_t images_of(const Upfirdn2dArgs& a) { return a.channels_last ? a.B : a.B * a.C; }

// --- tiles ---

template <typename Tile, typename T>
Error launch_tiles(const T* x, const float* f, T* y, const Upfirdn2dArgs& a, void* stream) {
  Geometry g;
  g.planes = images_of(a);
  g.H = static_cast<int>(a.H), g.W = static_cast<int>(a.W);
  g.OH = static_cast<int>(a.OH), g.OW = static_cast<int>(a.OW);
  g.C = a.channels_last ? static_cast<int>(a.C / Tile::kVector) : 1;
  g.origin_x = static_cast<int>(a.origin_x), g.origin_y = static_cast<int>(a.origin_y);
  g.shift = Tile::kUp == 1 ? 0 : g.origin_y & 1;
  g.tiles_x = static_cast<unsigned>(ceil_div(a.OW, Tile::kX));
  g.tiles_y = static_cast<unsigned>(ceil_div(a.OH + g.shift, Tile::kY));
  g.chunks = static_cast<unsigned>(ceil_div(g.C, Tile::kChannels));
  g.gain = static_cast<float>(a.gain);
  g.flip = a.flip, g.separable = a.separable;
  // In steps, so that nothing overflows: each factor is below 2^31, and a product that is too large ends it.
  int64_t blocks = ceil_div(g.planes, Tile::kPlanes);
  for (const unsigned factor : {g.chunks, g.tiles_y, g.tiles_x}) {
    if (blocks > kMostBlocks) break;
    blocks *= factor;
  }
  if (blocks > kMostBlocks) return "upfirdn2d: the result is too large for one CUDA grid";
  using Element = Vector<T, Tile::kVector>;
  FASTGAN_LAUNCH((tile_kernel<Tile, T>), static_cast<unsigned>(blocks), kThreads, 0,
                 static_cast<cudaStream_t>(stream), reinterpret_cast<const Element*>(x), f,
                 reinterpret_cast<Element*>(y), g);
  return launch_error();
}

// Whether channels of channels_last can move in pairs: only where each pair is aligned.
template <typename T>
bool in_pairs(const void* x, const void* y, const Upfirdn2dArgs& a) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % (2 * sizeof(T)) == 0; };
  return a.channels_last && a.C % 2 == 0 && aligned(x) && aligned(y);
}

// Calls run(Tile{}) for the tile of these rates that suits the images.
template <int kUp, int kDown, typename Run>
void with_layout(const Upfirdn2dArgs& a, bool pairs, const Run& run) {
  constexpr int kColumns = kDown == 2 ? 8 : 16;
  if (a.channels_last && pairs) {
    run(Tile<kUp, kDown, kColumns, 16, 1, kDown == 2 ? 4 : 16, 2>{});
  } else if (a.channels_last) {
    run(Tile<kUp, kDown, kColumns, 256 / kColumns, 1, kDown == 2 ? 8 : 16, 1>{});
  } else if (a.OW <= 32) {
    run(Tile<kUp, kDown, 16, 1, 8, 8, 1>{});
  } else {
    run(Tile<kUp, kDown, 64, 1, 1, kDown == 2 ? 8 : 16, 1>{});
  }
}

// The same where there is a tile for these arguments; otherwise returns false.
template <typename Run>
bool with_tile(const Upfirdn2dArgs& a, bool pairs, const Run& run) {
  constexpr int64_t kLimit = int64_t{1} << 28;  // so that nothing overflows 32 bits
  for (const int64_t size : {a.H, a.W, a.OH, a.OW, a.C, a.origin_x, -a.origin_x, a.origin_y, -a.origin_y}) {
    if (size >= kLimit) return false;
  }
  if (a.dtype == DType::float64 || a.fw != kTaps || a.fh != kTaps) return false;
  if (a.up_x != a.up_y || a.down_x != a.down_y || a.up_x * a.down_x > 2) return false;
  if (a.up_x == 2) return with_layout<2, 1>(a, pairs, run), true;
  if (a.down_x == 2) return with_layout<1, 2>(a, pairs, run), true;
  return with_layout<1, 1>(a, pairs, run), true;
}

// --- anything else ---

// Whether all that the kernel computes fits 31 bits.
bool is_small(const Direction<int64_t>& d) {
  constexpr int64_t kLimit = int64_t{1} << 29;
  return d.up < kLimit && d.down < kLimit && d.in < kLimit / d.up && d.out < kLimit / d.down &&
         d.taps < kLimit && d.origin < kLimit && d.origin > -kLimit;
}

template <typename In, typename Out>
Error launch_general(const In* x, const float* f, Out* y, General<int64_t> g, int64_t images, void* stream) {
  g.outputs = images * g.y.out * g.x.out * g.channels;
  const int64_t inputs = images * g.y.in * g.x.in * g.channels;
  const int64_t blocks = ceil_div(g.outputs, kThreads);
  if (blocks > kMostBlocks) return "upfirdn2d: the result is too large for one CUDA grid";
  const auto launch = [&](auto index) {
    using Index = decltype(index);
    FASTGAN_LAUNCH((general_kernel<In, Out, Index>), static_cast<unsigned>(blocks), kThreads, 0,
                   static_cast<cudaStream_t>(stream), x, f, y, g.as<Index>());
    return launch_error();
  };
  constexpr int64_t kLimit = int64_t{1} << 31;
  const bool small =
      is_small(g.x) && is_small(g.y) && inputs < kLimit && g.outputs < kLimit && g.x.taps * g.y.taps < kLimit;
  return small ? launch(int{}) : launch(int64_t{});
}

// A separable filter goes along the rows, then, from scratch memory, along the columns.
template <typename T>
Error run_general(const T* x, const float* f, T* y, const Upfirdn2dArgs& a, void* scratch, void* stream) {
  using A = typename Accumulator<T>::type;
  General<int64_t> g{{a.W, a.OW, a.up_x, a.down_x, a.origin_x, a.fw},
                     {a.H, a.OH, a.up_y, a.down_y, a.origin_y, a.fh},
                     a.channels_last ? a.C : 1,
                     1,
                     a.fw,
                     0,
                     a.gain,
                     a.flip};
  if (!a.separable) return launch_general(x, f, y, g, images_of(a), stream);
  General<int64_t> rows = g, columns = g;
  rows.y = {a.H, a.H, 1, 1, 0, 1};
  rows.step_y = 0;
  rows.gain = 1;
  columns.x = {a.OW, a.OW, 1, 1, 0, 1};
  columns.step_x = 0;
  columns.step_y = 1;
  A* const between = static_cast<A*>(scratch);
  if (const Error error = launch_general(x, f, between, rows, images_of(a), stream)) return error;
  return launch_general(static_cast<const A*>(between), f, y, columns, images_of(a), stream);
}

template <typename T>
Error run(const void* x, const float* f, void* y, const Upfirdn2dArgs& a, void* scratch, void* stream) {
  const T* const from = static_cast<const T*>(x);
  T* const to = static_cast<T*>(y);
  if constexpr (sizeof(T) < sizeof(double)) {
    Error error = nullptr;
    const auto launch = [&](auto tile) { error = launch_tiles<decltype(tile)>(from, f, to, a, stream); };
    if (with_tile(a, in_pairs<T>(x, y, a), launch)) return error;
  }
  return run_general(from, f, to, a, scratch, stream);
}

}  // namespace

int64_t upfirdn2d_scratch(const Upfirdn2dArgs& args) {
  const bool tiled = with_tile(args, false, [](auto) {});
  return args.separable && !tiled ? args.B * args.C * args.H * args.OW : 0;
}

Error upfirdn2d(const void* x, const float* f, void* y, const Upfirdn2dArgs& args, void* scratch,
                void* stream) {
  if (args.B * args.C == 0) return nullptr;
  switch (args.dtype) {
    case DType::float32:
      return run<float>(x, f, y, args, scratch, stream);
    case DType::float64:
      return run<double>(x, f, y, args, scratch, stream);
    case DType::float16:
      return run<__half>(x, f, y, args, scratch, stream);
    case DType::bfloat16:
      return run<__nv_bfloat16>(x, f, y, args, scratch, stream);
  }
  return "upfirdn2d: unknown dtype";
}

}  // namespace fastgan::cuda
