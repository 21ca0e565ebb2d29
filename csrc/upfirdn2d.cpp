// Resampling on the CPU (upfirdn2d.h has the formula).
//
// Eager PyTorch writes the image with zeros inserted, writes it again with a border, and multiplies every
// zero; here an output row is made of input rows directly. A filter that is an outer product, given as such
// or found to be one, is applied to columns, then to rows:
//
//   columns   weighted sums of input rows, between margins of zeros
//   rows      for each phase, a weighted sum of that row at several offsets: neighbours in memory, because
//   for
//             downsampling the row is first split into its even and odd pixels (as many parts as the rate)
//   merge     the phases' rows in turn, which is needed for upsampling only
//
// so that every inner loop runs along memory, over vectors, with its few weights in registers. In
// channels_last a pixel is a run of channels, and rows are made pixel by pixel. Several rows go through each
// step before the next one, because a load that straddles two recent stores would wait for them, and because
// a call for each row would take longer than a short row. A filter that is no outer product takes the
// weighted sums over rows and columns at once, from copies of the input rows between margins on all sides;
// half precision is converted on the way to such copies, and rows too short for a vector get one of their own
// there.

#include "upfirdn2d.h"

#include "dtype_switch.h"
#include "upfirdn2d_plan.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

// One thread's scratch memory, and what it does with an item: some rows of some images, and there of one
// block of channels. What sums read and write beyond the ends of rows in scratch memory, nobody needs.
template <typename E, typename T>
class Worker {
 public:
  explicit Worker(const Plan<E, T>& plan)
      : plan_(plan),
        ax_(plan.ax),
        ay_(plan.ay),
        l_(plan.layout),
        longest_((ay_.taps + ay_.up - 1) / ay_.up),
        staged_(zeros(l_.staged_rows * l_.line)),
        sums_(zeros(l_.block * l_.line)),
        split_(zeros(l_.parts > 1 ? l_.block * l_.line : 0)),
        outputs_(zeros(l_.block * (l_.wide ? ax_.out * l_.c : ax_.phases * l_.part))) {}

  void run(int64_t item) {
    const int64_t channel = item % l_.channel_blocks * l_.c, rest = item / l_.channel_blocks;
    const int64_t group = rest / l_.row_blocks, begin = rest % l_.row_blocks * l_.rows;
    const int64_t end = clamp(begin + l_.rows, begin, ay_.out);
    const int64_t last = clamp((group + 1) * l_.group, 0, plan_.images);
    y_end_ = plan_.y + ((last - 1) * ay_.out + end) * ax_.out * l_.pitch;
    for (int64_t image = group * l_.group; image < last; ++image) {
      const E* x = plan_.x + image * ay_.in * ax_.in * l_.pitch + channel;
      E* y = plan_.y + image * ay_.out * ax_.out * l_.pitch + channel;
      if (plan_.staged()) stage(x, begin, end);
      for (int64_t o = begin; o < end; o += l_.block) {
        const int64_t rows = clamp(l_.block, 1, end - o);
        plan_.filter.separable ? run_separable(x, y, begin, o, rows) : run_at_once(y, begin, o, rows);
      }
    }
  }

 private:
  // The input rows of outputs [begin, end), between margins of zeros on all sides.
  void stage(const E* x, int64_t begin, int64_t end) const {
    const int64_t first = first_row(begin), last = first_row(end - 1) + longest_, in = ay_.in;
    const int64_t above = clamp(0, first, last), below = clamp(in, above, last);
    const int64_t pixels = ax_.end - ax_.begin, pitch = ax_.in * l_.pitch;
    x += above * pitch + ax_.begin * l_.pitch;
    T* to = staged_.data() + (above - first) * l_.line + ax_.margin * l_.c;
    if (!plan_.filter.separable && l_.parts > 1) return stage_in_parts(x, first, above, below, last);
    if (l_.row_blocks > 1) {  // otherwise it is the same rows in every image
      clear(staged_.data(), (above - first) * l_.line);
      clear(staged_.data() + (below - first) * l_.line, (last - below) * l_.line);
    }
    if constexpr (std::is_same<E, T>::value) {
      if (l_.c == l_.pitch && pixels * l_.c < kLanes) {
        const int64_t readable = plan_.x + plan_.images * in * pitch - x;
        return copy_short<T>({x, pitch}, {to, l_.line}, pixels * l_.c, below - above, readable);
      }
    }
    for (int64_t row = 0; row < below - above; ++row) {
      gather(x + row * pitch, pixels, l_.c, l_.pitch, to + row * l_.line);
    }
  }

  void stage_in_parts(const E* x, int64_t first, int64_t above, int64_t below, int64_t last) const {
    for (int64_t row = first; row < last; ++row) {
      T* line = sums_.data();
      if (row >= above && row < below) {
        gather(x + (row - above) * ax_.in * l_.pitch, ax_.end - ax_.begin, l_.c, l_.pitch,
               line + ax_.margin * l_.c);
      } else {
        clear(line, l_.line);
      }
      split(line, l_.line / l_.c, l_.c, l_.parts, l_.staged_rows * l_.part,
            staged_.data() + (row - first) * l_.part);
    }
  }

  // Calls body(phase, k, count, first) for output rows o + k, o + k + phases, ...: `count` rows of one phase
  // of ay, the first of which needs input rows from `first` on.
  template <typename Body>
  void for_each_phase(int64_t o, int64_t rows, const Body& body) const {
    if (ay_.phases == 1) return body(0, 0, rows, first_row(o));
    for (int64_t k = 0; k < ay_.phases && k < rows; ++k) {
      body((o + k) % ay_.phases, k, (rows - k + ay_.phases - 1) / ay_.phases, first_row(o + k));
    }
  }

  void run_separable(const E* x, E* y, int64_t begin, int64_t o, int64_t rows) const {
    for_each_phase(o, rows, [&](int64_t phase, int64_t k, int64_t count, int64_t first) {
      if (plan_.staged()) {
        sum<T>({staged_.data() + (first - first_row(begin)) * l_.line, ay_.stride * l_.line},
               plan_.columns[phase], {sums_.data() + k * l_.line, ay_.phases * l_.line}, l_.line, count);
      } else {
        sum_columns(x, plan_.columns[phase], k, count, first);
      }
    });
    const T* lines = sums_.data();
    if (l_.parts > 1) {
      split(lines, rows * l_.line / l_.c, l_.c, l_.parts, l_.block * l_.part, split_.data());
      lines = split_.data();
    }
    make_rows(y, {lines, l_.part}, &plan_.rows[0], o, 1, rows);
  }

  void run_at_once(E* y, int64_t begin, int64_t o, int64_t rows) const {
    for_each_phase(o, rows, [&](int64_t phase, int64_t k, int64_t count, int64_t first) {
      const T* lines = staged_.data() + (first - first_row(begin)) * l_.part;
      make_rows(y, {lines, ay_.stride * l_.part}, &plan_.rows[phase * ax_.phases], o + k, ay_.phases, count);
    });
  }

  // From the tensor, where rows outside of the image have no memory.
  void sum_columns(const E* x, const Terms<T>& terms, int64_t k, int64_t count, int64_t first) const {
    if constexpr (std::is_same<E, T>::value) {
      const int64_t pixels = ax_.end - ax_.begin, pitch = ay_.stride * ax_.in * l_.pitch;
      for (int64_t run; count > 0; count -= run, k += run * ay_.phases, first += run * ay_.stride) {
        const int64_t begin = clamp(-first, 0, terms.count), end = clamp(ay_.in - first, begin, terms.count);
        // As many rows together as lie inside the image.
        const bool inside = end - begin == terms.count && terms.count > 0;
        run = inside ? clamp((ay_.in - terms.count - first) / ay_.stride + 1, 1, count) : 1;
        const Terms<T> some{terms.weight + begin, terms.offset, end - begin};
        const T* from = x + ((first + begin) * ax_.in + ax_.begin) * l_.pitch;
        const Rows<T> to{sums_.data() + k * l_.line + ax_.margin * l_.c, ay_.phases * l_.line};
        if (l_.c == l_.pitch) {
          sum<T>({from, pitch}, some, to, pixels * l_.c, run);
        } else {
          for (int64_t row = 0; row < run; ++row) {
            sum<T>({from + row * pitch, l_.pitch}, some, {to.first + row * to.pitch, l_.c}, l_.c, pixels);
          }
        }
      }
    }
  }

  // Output rows o, o + step, ... from as many lines, in y itself where sums are outputs as they are.
  void make_rows(E* y, Rows<const T> lines, const Terms<T>* terms, int64_t o, int64_t step,
                 int64_t rows) const {
    const int64_t y_pitch = step * ax_.out * l_.pitch;
    y += o * ax_.out * l_.pitch;
    int64_t done = 0;
    if constexpr (std::is_same<E, T>::value) {
      done = make_rows_in_place({y, y_pitch}, lines, terms, step, rows);
      if (done == rows) return;
    }
    lines.first += done * lines.pitch;
    y += done * y_pitch;
    rows -= done;
    const int64_t size = l_.block * l_.part;  // of a phase's rows
    if (l_.wide) {
      for (int64_t k = 0; k < rows; ++k) {
        T* row = outputs_.data() + k * ax_.out * l_.c;
        make_pixels({row, l_.c}, lines.first + k * lines.pitch, terms);
        merge(row, 0, 1, ax_.out, l_.c, l_.pitch, y + k * y_pitch);
      }
      return;
    }
    for (int64_t s = 0; s < ax_.phases; ++s) {
      sum<T>(lines, terms[s], {outputs_.data() + s * size, l_.part}, l_.part, rows);
    }
    for (int64_t k = 0; k < rows; ++k) {
      merge(outputs_.data() + k * l_.part, size, ax_.phases, ax_.out, l_.c, l_.pitch, y + k * y_pitch);
    }
  }

  // Makes what rows it can and returns their number.
  int64_t make_rows_in_place(Rows<T> y, Rows<const T> lines, const Terms<T>* terms, int64_t step,
                             int64_t rows) const {
    if (l_.wide) {
      for (int64_t k = 0; k < rows; ++k) {
        make_pixels({y.first + k * y.pitch, l_.pitch}, lines.first + k * lines.pitch, terms);
      }
      return rows;
    }
    // Rows shorter than a vector are written as one, if what follows will be written later or is ours.
    const bool pairs = ax_.phases == 2 && l_.c == 1 && ax_.out % 2 == 0 && in_pairs(terms[0], terms[1]);
    if (!(ax_.phases == 1 || pairs) || l_.c != l_.pitch) return 0;
    int64_t n = ax_.out * l_.c / ax_.phases;
    if (n < kLanes) {
      const int64_t room = reinterpret_cast<const T*>(y_end_) - y.first - kLanes * ax_.phases;
      rows = step > 1 || room < 0 ? 0 : clamp(room / y.pitch + 1, 0, rows);
      n = kLanes;
    }
    if (pairs) {
      sum_two(lines, terms[0], terms[1], y, n, rows);
    } else {
      sum(lines, terms[0], y, n, rows);
    }
    return rows;
  }

  // One row of wide pixels.
  void make_pixels(Rows<T> out, const T* line, const Terms<T>* terms) const {
    for (int64_t s = 0; s < ax_.phases; ++s) {
      sum<T>({line, ax_.stride * l_.c}, terms[s], {out.first + s * out.pitch, ax_.phases * out.pitch}, l_.c,
             ax_.outputs(s));
    }
  }

  static constexpr int64_t kLanes = Simd<T>::kLanes;

  int64_t first_row(int64_t o) const { return plan_.first.data()[o]; }

  static void clear(T* x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) x[i] = T(0);
  }
  Scratch<T> zeros(int64_t n) const {
    n += l_.line + kLanes;  // for what is beyond the end of the last row
    Scratch<T> memory(n);
    clear(memory.data(), n);
    return memory;
  }

  const Plan<E, T>& plan_;
  const Axis &ax_, &ay_;
  const Layout& l_;
  int64_t longest_;           // terms over columns
  const E* y_end_ = nullptr;  // of this item's outputs
  Scratch<T> staged_;
  Scratch<T> sums_;     // over columns, between margins
  Scratch<T> split_;    // the same, split into parts
  Scratch<T> outputs_;  // not yet merged, or not yet of type E
};

template <typename E, typename T>
void run(const E* x, const float* f, E* y, const Upfirdn2dArgs& args, int threads) {
  const Plan<E, T> plan(x, f, y, args);
  const int64_t items = plan.items();
#pragma omp parallel num_threads(threads) if (threads > 1 && args.B * args.C * args.OH * args.OW > kItem)
  {
    Worker<E, T> worker(plan);
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
