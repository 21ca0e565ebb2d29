// Resampling on the CPU (upfirdn2d.h has the formula).
//
// Eager PyTorch writes the image with zeros inserted, writes it again with a border, and multiplies every
// zero; here an output row is made of input rows directly. A filter that is an outer product, given as such
// or found to be one, is applied to columns, then to rows:
//
//   columns   a row of weighted sums of input rows, between margins of zeros
//   rows      for each phase, weighted sums of that row at several offsets: neighbours in memory, because for
//             downsampling it is first split into its even and odd pixels (as many rows as the rate)
//   merge     the phases' rows in turn into the output row, which is needed for upsampling only
//
// so that every inner loop runs along memory, over vectors, with its few weights in registers. In
// channels_last a pixel is a run of channels and nothing else changes. Several rows go through each step
// before the next one, because a load that straddles two recent stores would wait for them. A filter that is
// no outer product takes the weighted sums of rows and columns at once, from staged copies of the input rows
// between their margins, as do half-precision pixels, which are converted once.

#include <type_traits>

#include "upfirdn2d.h"

#include "dtype_switch.h"
#include "upfirdn2d_rows.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr int64_t kBlockBytes =
    16384;  // of the rows that go through a step together: a third of the L1 cache
constexpr int64_t kStageBytes = 262144;  // of the staged rows of an item: a fraction of the L2 cache
constexpr int64_t kItem = 16384;         // outputs of an item, at least, where the image has them

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Sizes of rows and items; they depend on the shapes alone.
struct Layout {
  int64_t images, channel_blocks;
  int64_t pitch, c;          // a pixel is c numbers, of `pitch` in the tensors
  int64_t part, line;        // the pixels [lo, hi) of a row, split into ax.stride parts
  int64_t phase_row;         // outputs of one phase of a row
  int64_t rows, row_blocks;  // output rows of an item
  int64_t block;             // output rows that go through a step together
  int64_t staged_rows;       // input rows of an item, 0 where they are read in place

  Layout(const Upfirdn2dArgs& a, const Axis& ax, const Axis& ay, bool staged, int64_t lanes, int64_t size) {
    const int64_t window = ax.hi - ax.lo;
    images = a.channels_last ? a.B : a.B * a.C;
    pitch = c = a.channels_last ? a.C : 1;
    while (window * c * size > kBlockBytes && c % (2 * lanes) == 0 && c >= 8 * lanes) c /= 2;
    channel_blocks = pitch / c;
    part = round_up((window + ax.stride - 1) / ax.stride * c, lanes);
    line = part * ax.stride;
    phase_row = round_up(ax.outputs(0) * c, lanes);
    rows = clamp(kItem / (ax.out * c), 1, ay.out);
    if (staged) {
      const int64_t most = kStageBytes / (line * size + 1);
      rows = clamp(((most - 2) * ay.up - ay.taps) / ay.down, 1, rows);
    }
    row_blocks = (ay.out + rows - 1) / rows;
    block = clamp(kBlockBytes / (line * size + 1), 1, rows);
    staged_rows = staged ? ((rows - 1) * ay.down + ay.taps) / ay.up + 2 : 0;
  }
};

// Everything that the items of a call share.
template <typename E, typename T>
struct Plan {
  const E* x;
  E* y;
  Axis ax, ay;
  Filter filter;
  Layout layout;
  Table<T> columns;  // of one phase of ay each
  Table<T> rows;     // of one phase of ax each, or of a pair (phase of ay, phase of ax)

  Plan(const E* x, const float* f, E* y, const Upfirdn2dArgs& a)
      : x(x),
        y(y),
        ax(a.W, a.OW, a.up_x, a.down_x, a.origin_x, a.fw),
        ay(a.H, a.OH, a.up_y, a.down_y, a.origin_y, a.fh),
        filter(f, a),
        layout(a, ax, ay, sizeof(E) != sizeof(T) || !filter.separable, Simd<T>::kLanes, sizeof(T)),
        columns(ay.phases, a.fh),
        rows(ax.phases * (filter.separable ? 1 : ay.phases), a.fw * (filter.separable ? 1 : a.fh)) {
    for (int64_t r = 0; r < ay.phases; ++r) {
      columns.begin_phase();
      for (int64_t m = 0; m < ay.count(r); ++m) {
        columns.add(filter.u.data()[ay.tap(r) + m * ay.up], m * source_pitch());
      }
    }
    for (int64_t r = 0; r < (filter.separable ? 1 : ay.phases); ++r) {
      for (int64_t s = 0; s < ax.phases; ++s) add_phase_of_rows(r, s);
    }
  }

  bool staged() const { return layout.staged_rows > 0; }
  int64_t source_pitch() const { return staged() ? layout.line : ax.in * layout.pitch; }

 private:
  void add_phase_of_rows(int64_t r, int64_t s) {
    rows.begin_phase();
    for (int64_t m = 0; m < (filter.separable ? 1 : ay.count(r)); ++m) {
      for (int64_t n = 0; n < ax.count(s); ++n) {
        const int64_t pixel = ax.first(s) + n - ax.lo;
        const int64_t place = pixel % ax.stride * layout.part + pixel / ax.stride * layout.c;
        const int64_t tap = ax.tap(s) + n * ax.up;
        if (filter.separable) {
          rows.add(filter.v.data()[tap], place);
        } else {
          rows.add(filter.f.data()[(ay.tap(r) + m * ay.up) * ax.taps + tap], m * layout.line + place);
        }
      }
    }
  }
};

// One thread's scratch memory, and what it does with an item: some output rows of one image, and there of one
// block of channels.
template <typename E, typename T>
class Worker {
 public:
  explicit Worker(const Plan<E, T>& plan)
      : plan_(plan),
        sizes_(plan.layout),
        staged_(sizes_.staged_rows * sizes_.line),
        sums_(sizes_.block * sizes_.line),
        split_(sizes_.block * sizes_.line),
        outputs_(plan.ax.phases * sizes_.phase_row) {
    // The margins stay zero: what is written later lies between them.
    for (int64_t i = 0; i < sizes_.staged_rows * sizes_.line; ++i) staged_.data()[i] = T(0);
    for (int64_t i = 0; i < sizes_.block * sizes_.line; ++i) sums_.data()[i] = T(0);
  }

  void run(int64_t item) const {
    const int64_t block = item % sizes_.channel_blocks * sizes_.c;
    const int64_t rest = item / sizes_.channel_blocks;
    const int64_t image = rest / sizes_.row_blocks, o = rest % sizes_.row_blocks * sizes_.rows;
    const E* x = plan_.x + image * plan_.ay.in * plan_.ax.in * sizes_.pitch + block;
    E* y = plan_.y + image * plan_.ay.out * plan_.ax.out * sizes_.pitch + block;
    const int64_t end = clamp(o + sizes_.rows, o, plan_.ay.out);
    if (plan_.staged()) stage(x, o, end);
    for (int64_t i = o; i < end; i += sizes_.block) {
      const int64_t rows = clamp(sizes_.block, 1, end - i);
      if (plan_.filter.separable) {
        run_separable(x, y, i, rows, first_row(o));
      } else {
        for (int64_t k = 0; k < rows; ++k) make_row_from_staged(y, i + k, first_row(o));
      }
    }
  }

 private:
  // The first input row that output o reads, and the row after the last, inside the image.
  int64_t first_row(int64_t o) const { return clamp(plan_.ay.first(o), 0, plan_.ay.in); }
  int64_t last_row(int64_t o) const { return clamp(plan_.ay.last(o), first_row(o), plan_.ay.in); }

  // Copies the input rows of outputs [o, end) to staged_.
  void stage(const E* x, int64_t o, int64_t end) const {
    const auto& ax = plan_.ax;
    const bool at_once = plan_.filter.separable || ax.stride == 1;
    for (int64_t row = first_row(o); row < last_row(end - 1); ++row) {
      T* line = staged_.data() + (row - first_row(o)) * sizes_.line;
      T* to = at_once ? line : sums_.data();
      gather(x + (row * ax.in + ax.begin) * sizes_.pitch, ax.end - ax.begin, sizes_.c, sizes_.pitch,
             to + (ax.begin - ax.lo) * sizes_.c);
      if (!at_once) split(to, ax.hi - ax.lo, sizes_.c, ax.stride, sizes_.part, line);
    }
  }

  void run_separable(const E* x, E* y, int64_t o, int64_t rows, int64_t staged_from) const {
    const auto& ax = plan_.ax;
    for (int64_t k = 0; k < rows; ++k) {
      sum_columns(x, o + k, staged_from, sums_.data() + k * sizes_.line + (ax.begin - ax.lo) * sizes_.c);
    }
    const T* lines = sums_.data();
    if (ax.stride > 1) {
      lines = split_.data();
      for (int64_t k = 0; k < rows; ++k) {
        split(sums_.data() + k * sizes_.line, ax.hi - ax.lo, sizes_.c, ax.stride, sizes_.part,
              split_.data() + k * sizes_.line);
      }
    }
    for (int64_t k = 0; k < rows; ++k) {
      make_row(y, o + k, [&](int64_t phase, T* out, int64_t n) {
        sum(lines + k * sizes_.line, plan_.rows[phase], out, n);
      });
    }
  }

  // The weighted sum of the input rows of output row o.
  void sum_columns(const E* x, int64_t o, int64_t staged_from, T* out) const {
    const auto& ax = plan_.ax;
    const int64_t first = plan_.ay.first(o), row = first_row(o);
    const auto terms = plan_.columns[o % plan_.ay.phases].lines(row - first, last_row(o) - first, 1);
    const int64_t pixels = ax.end - ax.begin, c = sizes_.c;
    if (plan_.staged()) {
      const T* from = staged_.data() + (row - staged_from) * sizes_.line + (ax.begin - ax.lo) * c;
      sum(from, terms, out, pixels * c);
    } else if constexpr (std::is_same<E, T>::value) {
      const T* from = x + (row * ax.in + ax.begin) * sizes_.pitch;
      if (c == sizes_.pitch) return sum(from, terms, out, pixels * c);
      for (int64_t p = 0; p < pixels; ++p) sum(from + p * sizes_.pitch, terms, out + p * c, c);
    }
  }

  void make_row_from_staged(E* y, int64_t o, int64_t staged_from) const {
    const auto &ax = plan_.ax, &ay = plan_.ay;
    const int64_t row = first_row(o), skipped = row - ay.first(o), end = last_row(o) - ay.first(o);
    const T* from = staged_.data() + (row - staged_from) * sizes_.line;
    make_row(y, o, [&](int64_t phase, T* out, int64_t n) {
      const auto& terms = plan_.rows[o % ay.phases * ax.phases + phase];
      sum(from, terms.lines(skipped, end, ax.count(phase)), out, n);
    });
  }

  // Output row o from its phases; of(phase, out, n) makes n numbers of one.
  template <typename Of>
  void make_row(E* y, int64_t o, const Of& of) const {
    const auto& ax = plan_.ax;
    y += o * ax.out * sizes_.pitch;
    if constexpr (std::is_same<E, T>::value) {
      if (ax.phases == 1 && sizes_.c == sizes_.pitch) return of(0, y, ax.out * sizes_.c);
    }
    for (int64_t r = 0; r < ax.phases; ++r) {
      of(r, outputs_.data() + r * sizes_.phase_row, ax.outputs(r) * sizes_.c);
    }
    merge(outputs_.data(), sizes_.phase_row, ax.phases, ax.out, sizes_.c, sizes_.pitch, y);
  }

  const Plan<E, T>& plan_;
  const Layout& sizes_;
  Scratch<T> staged_;
  Scratch<T> sums_;     // of columns, between margins
  Scratch<T> split_;    // the same, split
  Scratch<T> outputs_;  // of the phases of a row
};

template <typename E, typename T>
void run(const E* x, const float* f, E* y, const Upfirdn2dArgs& args, int threads) {
  const Plan<E, T> plan(x, f, y, args);
  const Layout& sizes = plan.layout;
  const int64_t items = sizes.images * sizes.row_blocks * sizes.channel_blocks;
#pragma omp parallel num_threads(threads) if (threads > 1 && items * sizes.rows * args.OW * sizes.c > kItem)
  {
    const Worker<E, T> worker(plan);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) worker.run(item);
  }
}

}  // namespace

Error upfirdn2d(const void* x, const float* f, void* y, const Upfirdn2dArgs& args, int threads) {
  if (args.B * args.C == 0) return nullptr;
#define RUN(E, T) run<E, T>((const E*)x, f, (E*)y, args, threads)
  FASTGAN_DTYPE_SWITCH(args.dtype, "upfirdn2d", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
