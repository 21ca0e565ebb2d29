// Spectral normalisation on the GPU: the formulas of spectral_norm.h, for all weights of a call together.
//
// Why it is fast. Every step moves memory and computes next to nothing, so passes over the weights and
// launches are what counts. All matrices share each launch (18 of them; the table is passed by value: no
// copy, no synchronisation, ready for a CUDA graph), so that a network costs as many launches as one weight:
//   u first  2 for each iteration and 1: rows (y, and parts of t, from ONE read), reduce (parts to t), finish
//   v first  4 for each iteration and 1: M' u, reduce, M v, reduce, ..., finish
// v first reads M twice for an iteration. So does u first, in 4 launches, where A > 1, where a row is longer
// than a block can hold (16384 elements of float32, 20480 of 16 bits, 8192 of float64), and where it has more
// than 256 elements that are not whole vectors of 16 bytes; a call with both kinds makes 5 and 1.
//
// The one read: a block holds whole rows in registers (8 of up to 16 KB, 1 of 64 KB), makes their y_j = <M_j,
// v> and then adds y_j M_j to its part of t. It stays for a slab of 8 rows (16 of 16-bit elements) or more,
// so that a part of t, which moves through the L2 cache once each way, is at most 1/8 of the slab's bytes; a
// wide weight makes at most 128 parts, one wave of an H100. Matrices of fewer rows are small anyway.
//
// Why not two launches: the norms of u and v are sums over all blocks, so a launch ends after the read of M,
// and another after the sum of the parts. One block for each matrix would save the latter, but adding up 5 MB
// of parts would keep a single multiprocessor for 50 us or more, and a launch takes about 2.
//
// grad and grad2 take two launches each, and read all that they need in both: sums in double, then elements.
//
// Every sum has one owner and one order: no atomics, the same bits every time, whatever else is in the call.
// Sizes of weights from 1e-30 to 1e+30 are taken care of at no cost, see spectral_norm_table.cuh.
//
// Not as fast as can be: A > 1 with B below 8 (a segment is then less than a sector of 32 bytes, and the L1
// cache must keep the rest for the warps of the next rows), and `rows`, whose one block on a multiprocessor
// waits for memory while it adds up its rows.
#include <algorithm>

#include "spectral_norm_gradients.cuh"
#include "spectral_norm_products.cuh"

namespace fastgan::cuda {
namespace {

// Packs of M that a thread scales. Dividing doubles is a call, across which few registers are kept.
template <typename T>
constexpr int kHeld = sizeof(T) == 8 ? 4 : 8;
constexpr int kVectorItems = 8 * kThreads;  // elements of u and v that one block writes

template <typename T, typename A>
__device__ __forceinline__ void write_unit(void* to, const void* given, const RawVector& raw, int i,
                                           bool keep, const Scale<A>& scale) {
  if (to == nullptr) return;
  T& target = static_cast<T*>(to)[i];
  if (keep) {
    target = static_cast<const T*>(given)[i];
  } else {
    narrow(scale(static_cast<const A*>(raw.at)[i]), target);
  }
}

// By the first warp: <u, M v> without an iteration, otherwise |x|^2 / max(|x|, eps) of the last product x.
__device__ __forceinline__ double sigma_of(const Job& job, bool v_first, bool keep, double eps) {
  if (keep) return add_parts(job.y.parts, job.y.count) * factor_of(job.y);
  const double norm = norm_of(v_first ? job.y : job.t);
  return norm * (norm / at_least(norm, eps));
}

template <int V, typename T, typename Sigma>
__device__ __forceinline__ void scale_weight(const Job& job, int block, Sigma get_sigma) {
  const T* const weight = static_cast<const T*>(job.given.weight);
  Pack<T, V> x[kHeld<T>];  // on its way while sigma is added up
  const int64_t start = (int64_t{block} * kHeld<T> * kThreads + threadIdx.x) * V;
#pragma unroll
  for (int n = 0; n < kHeld<T>; ++n) {
    const int64_t i = start + n * kThreads * V;
    if (i < job.elements) x[n] = load<V>(weight + i);
  }
  const auto sigma = get_sigma();
#pragma unroll
  for (int n = 0; n < kHeld<T>; ++n) {
    const int64_t i = start + n * kThreads * V;
    forget_conversions(x[n]);
#pragma unroll
    for (int k = 0; k < V && i < job.elements; ++k) narrow(widen(x[n].at[k]) / sigma, x[n].at[k]);
    if (i < job.elements) store(x[n], static_cast<T*>(job.given.out) + i);
  }
}

// sigma, u, v and M / sigma. `keep`: no iteration was made. The first blocks of a matrix write its vectors.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const __grid_constant__ Table table, AccumulatorOf<T>* sigmas, bool v_first, bool keep,
                  double eps) {
  using A = AccumulatorOf<T>;
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  if (job.elements == 0) {
    if (threadIdx.x == 0) sigmas[job.index] = 0;
    return;
  }
  const auto get_sigma = [&] {
    return by_first_warp([&] { return static_cast<A>(sigma_of(job, v_first, keep, eps)); });
  };
  const int vector_blocks = static_cast<int>(ceil_div(int64_t{job.h} + job.w, kVectorItems));
  if (place.block >= vector_blocks) {
    const int block = place.block - vector_blocks;
    job.wide ? scale_weight<kWide<T>, T>(job, block, get_sigma) : scale_weight<1, T>(job, block, get_sigma);
    return;
  }
  struct Scales {
    Scale<A> u, v;
  };
  const auto scales = by_first_warp([&] {
    if (keep) return Scales{};
    return Scales{to_scale<A>(unit_factor(job.y, eps)), to_scale<A>(unit_factor(job.t, eps))};
  });
  const int64_t end = min(int64_t{place.block + 1} * kVectorItems, int64_t{job.h} + job.w);
  for (int64_t n = int64_t{place.block} * kVectorItems + threadIdx.x; n < end; n += kThreads) {
    const int i = static_cast<int>(n < job.h ? n : n - job.h);
    if (n < job.h) write_unit<T>(job.given.u_out, job.given.u, job.y, i, keep, scales.u);
    if (n >= job.h) write_unit<T>(job.given.v_out, job.given.v, job.t, i, keep, scales.v);
  }
  if (place.block == 0) {
    const A sigma = get_sigma();
    if (threadIdx.x == 0) sigmas[job.index] = sigma;
  }
}

// What needs no address: how a matrix is cut, and where its scratch begins.
struct Layout {
  int64_t h, w, rows, slabs, chunks;
  int64_t y, t, powers, partials, parts_y, parts_t, bytes;  // offsets
};

int64_t count_reduce_blocks(int64_t length) { return std::min<int64_t>(ceil_div(length, kWarp), kMaxParts); }

Layout layout_of(const SpectralMatrix& matrix, DType dtype) {
  const bool is_double = dtype == DType::float64;
  const bool is_half = dtype == DType::float16 || dtype == DType::bfloat16;
  Layout layout = {};
  layout.h = matrix.h;
  layout.w = matrix.A * matrix.B;
  if (layout.h == 0 || layout.w == 0) return layout;
  const int64_t most_slabs = layout.w <= 1024 ? kMaxSlabs : 128;
  layout.rows =
      ceil_div(std::max<int64_t>(is_half ? 16 : 8, ceil_div(layout.h, most_slabs)), kMostRows) * kMostRows;
  layout.slabs = ceil_div(layout.h, layout.rows);
  layout.chunks = ceil_div(layout.w, kChunk);
  const auto reserve = [&](int64_t count, int64_t size) {
    const int64_t offset = layout.bytes;
    layout.bytes += ceil_div(count * size, 32) * 32;
    return offset;
  };
  const int64_t size = is_double ? 8 : 4;
  layout.y = reserve(layout.h, size);
  layout.t = reserve(layout.w, size);
  layout.powers = reserve(layout.slabs, size);
  layout.partials = reserve(std::max(layout.slabs * layout.w, layout.chunks * layout.h), size);
  layout.parts_y = reserve(std::max<int64_t>(layout.slabs, kMaxParts) + 1, sizeof(double));
  layout.parts_t = reserve(3 * kMaxParts + 1, sizeof(double));
  return layout;
}

Error check(const SpectralMatrix* matrices, int count) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  for (int n = 0; n < count; ++n) {
    const int64_t A = matrices[n].A, h = matrices[n].h, B = matrices[n].B;
    if (A == 0 || h == 0 || B == 0) continue;
    if (A >= kLimit || h >= kLimit || B >= kLimit || A * h >= kLimit || A * h * B >= kLimit) {
      return "spectral norm: a weight must have fewer than 2^31 elements on CUDA";
    }
  }
  return nullptr;
}

bool is_aligned(const void* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; }

template <typename T>
Job make_job(const SpectralMatrix& matrix, int index, const SpectralNormArgs& args, char* scratch) {
  const Layout layout = layout_of(matrix, args.dtype);
  Job job = {};
  job.given = matrix;
  job.index = index;
  if (layout.bytes == 0) return job;
  job.A = static_cast<int>(matrix.A);
  job.h = static_cast<int>(matrix.h);
  job.B = static_cast<int>(matrix.B);
  job.w = static_cast<int>(layout.w);
  job.elements = job.h * job.w;
  job.rows = static_cast<int>(layout.rows);
  job.slabs = static_cast<int>(layout.slabs);
  job.chunks = static_cast<int>(layout.chunks);
  job.wide = job.B % kWide<T> == 0;
  for (const void* x : {matrix.weight, matrix.v, matrix.g, matrix.d, static_cast<const void*>(matrix.out),
                        static_cast<const void*>(matrix.g_out)}) {
    job.wide = job.wide && is_aligned(x);
  }
  if (matrix.A == 1 && !args.v_first && args.iterations > 0) job.way = choose_way<T>(job.w, job.wide);
  const int64_t y_parts = job.way == Way::separate ? count_reduce_blocks(job.h) : job.slabs;
  job.y = {scratch + layout.y, reinterpret_cast<double*>(scratch + layout.parts_y), job.h,
           static_cast<int>(y_parts)};
  job.t = {scratch + layout.t, reinterpret_cast<double*>(scratch + layout.parts_t), job.w,
           static_cast<int>(count_reduce_blocks(job.w))};
  job.partials = scratch + layout.partials;
  job.powers = scratch + layout.powers;
  return job;
}

// Starts kernel(table, arguments...) with count_blocks(job) blocks for each job; nothing if that is none.
template <typename... Parameters, typename Blocks, typename... Arguments>
void launch(void (*kernel)(Table, Parameters...), Table& table, int jobs, int threads, void* stream,
            Blocks count_blocks, Arguments... arguments) {
  table.first[0] = 0;
  for (int n = 0; n < kMaxJobs; ++n) {
    const int64_t blocks = n < jobs ? count_blocks(table.jobs[n]) : 0;
    table.first[n + 1] = table.first[n] + static_cast<int>(blocks);
  }
  const int blocks = table.first[kMaxJobs];
  if (blocks == 0) return;
  FASTGAN_LAUNCH(kernel, static_cast<unsigned>(blocks), threads, 0, static_cast<cudaStream_t>(stream), table,
                 arguments...);
}

template <typename T>
int64_t count_packs(const Job& job) {
  return job.elements / (job.wide ? kWide<T> : 1);
}

template <typename T>
void forward(Table& table, int jobs, void* sigma, const SpectralNormArgs& args, void* stream) {
  const double eps = args.eps;
  const bool keep = args.iterations == 0;
  const auto rows = [&](bool first) {
    const auto blocks = [](const Job& job) -> int64_t {
      if (job.way == Way::separate) return 0;
      return job.way < Way::block1 ? ceil_div(job.slabs, kRowWarps) : job.slabs;
    };
    launch(rows_kernel<T>, table, jobs, kRowThreads, stream, blocks, first, eps);
  };
  const auto multiply_v = [&](bool given) {
    const auto products = [](const Job& job) {
      return job.way == Way::separate ? ceil_div(int64_t{job.h} * job.chunks, kWarps) : 0;
    };
    const auto sums = [](const Job& job) { return job.way == Way::separate ? job.y.count : 0; };
    launch(multiply_v_kernel<T>, table, jobs, kThreads, stream, products, given);
    launch(reduce_kernel<T>, table, jobs, kThreads, stream, sums, true, given, keep, eps);
  };
  const auto multiply_u = [&](bool given) {
    const auto products = [](const Job& job) {
      const int64_t vectors = job.w / (job.wide ? kWide<T> : 1);
      return job.way == Way::separate ? ceil_div(job.slabs * vectors, kThreads) : 0;
    };
    const auto sums = [](const Job& job) { return job.t.count; };
    launch(multiply_u_kernel<T>, table, jobs, kThreads, stream, products, given);
    launch(reduce_kernel<T>, table, jobs, kThreads, stream, sums, false, given, false, eps);
  };
  if (keep) multiply_v(true);
  for (int n = 0; n < args.iterations; ++n) {
    const bool first = n == 0;
    if (args.v_first) {
      multiply_u(first);
      multiply_v(false);
    } else {
      rows(first);
      multiply_v(first);
      multiply_u(false);
    }
  }
  const auto blocks = [](const Job& job) -> int64_t {
    if (job.elements == 0) return 1;
    const int64_t weights = job.given.out ? ceil_div(count_packs<T>(job), kHeld<T> * kThreads) : 0;
    return ceil_div(int64_t{job.h} + job.w, kVectorItems) + weights;
  };
  launch(finish_kernel<T>, table, jobs, kThreads, stream, blocks, static_cast<AccumulatorOf<T>*>(sigma),
         args.v_first, keep, eps);
}

template <bool kSecond, typename T>
void gradient(Table& table, int jobs, const void* sigma, const void* gs, void* dgs, void* stream) {
  for (int n = 0; n < jobs; ++n) {
    Job& job = table.jobs[n];
    const int64_t parts = ceil_div(count_packs<T>(job), kHeld<T> * kThreads);
    job.t.count = job.given.g || job.given.d ? static_cast<int>(std::min<int64_t>(parts, kMaxParts)) : 0;
  }
  const auto sums = [](const Job& job) { return job.t.count; };
  const auto elements = [](const Job& job) -> int64_t {
    const bool is_wanted = job.elements != 0 && (job.given.out || (kSecond && job.given.g_out));
    return is_wanted ? ceil_div(count_packs<T>(job), kPacks * kThreads) : kSecond ? 1 : 0;
  };
  using A = AccumulatorOf<T>;
  launch(sums_kernel<kSecond, T>, table, jobs, kThreads, stream, sums);
  launch(gradient_kernel<kSecond, T>, table, jobs, kThreads, stream, elements, static_cast<const A*>(sigma),
         static_cast<const A*>(gs), static_cast<A*>(dgs));
}

// run(T{}, table, jobs) for the element type and each tableful of matrices.
template <typename Run>
Error for_each_table(const SpectralMatrix* matrices, int count, const SpectralNormArgs& args, void* scratch,
                     Run run) {
  if (const Error error = check(matrices, count)) return error;
  const auto with = [&](auto element) {
    char* next = static_cast<char*>(scratch);
    for (int start = 0; start < count; start += kMaxJobs) {
      Table table = {};
      const int jobs = std::min(count - start, kMaxJobs);
      for (int n = 0; n < jobs; ++n) {
        const SpectralMatrix& matrix = matrices[start + n];
        table.jobs[n] = make_job<decltype(element)>(matrix, start + n, args, next);
        next += layout_of(matrix, args.dtype).bytes;
      }
      run(element, table, jobs);
    }
    return launch_error();
  };
  switch (args.dtype) {
    case DType::float32:
      return with(float{});
    case DType::float64:
      return with(double{});
    case DType::float16:
      return with(__half{});
    case DType::bfloat16:
      return with(__nv_bfloat16{});
  }
  return "spectral norm: unknown dtype";
}

}  // namespace

int64_t spectral_norm_scratch(const SpectralMatrix* matrices, int count, const SpectralNormArgs& args) {
  if (check(matrices, count)) return 0;  // the functions will say why
  int64_t bytes = 0;
  for (int n = 0; n < count; ++n) bytes += layout_of(matrices[n], args.dtype).bytes;
  return bytes;
}

Error spectral_norm(const SpectralMatrix* matrices, int count, void* sigma, const SpectralNormArgs& args,
                    void* scratch, void* stream) {
  return for_each_table(matrices, count, args, scratch, [&](auto element, Table& table, int jobs) {
    forward<decltype(element)>(table, jobs, sigma, args, stream);
  });
}

Error spectral_norm_grad(const SpectralMatrix* matrices, int count, const void* sigma, const void* gs,
                         const SpectralNormArgs& args, void* scratch, void* stream) {
  return for_each_table(matrices, count, args, scratch, [&](auto element, Table& table, int jobs) {
    gradient<false, decltype(element)>(table, jobs, sigma, gs, nullptr, stream);
  });
}

Error spectral_norm_grad2(const SpectralMatrix* matrices, int count, const void* sigma, void* dgs,
                          const SpectralNormArgs& args, void* scratch, void* stream) {
  return for_each_table(matrices, count, args, scratch, [&](auto element, Table& table, int jobs) {
    gradient<true, decltype(element)>(table, jobs, sigma, nullptr, dgs, stream);
  });
}

}  // namespace fastgan::cuda
