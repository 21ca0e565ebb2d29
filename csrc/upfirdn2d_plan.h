// How upfirdn2d goes through a call's images on the CPU: which rows together, and which sums make them.
#pragma once

#include "upfirdn2d_rows.h"

namespace fastgan {
namespace {

constexpr int64_t kBlockBytes = 16384;   // of rows that go through a step together: a third of the L1 cache
constexpr int64_t kStageBytes = 262144;  // of an item's staged rows: a fraction of the L2 cache
constexpr int64_t kItem = 16384;         // outputs of an item, about

// Sizes of rows and items; they depend on the shapes alone.
struct Layout {
  int64_t pitch, c;  // a pixel is c numbers, of `pitch` in the tensors
  int64_t channel_blocks;
  bool wide;                 // a pixel fills vectors, so that rows need not be split or merged
  int64_t parts;             // that the pixels [lo, hi) of a row are split into, so that ...
  int64_t part;              // ... numbers of one part, which has room for the outputs too, are neighbours
  int64_t line;              // all parts
  int64_t staged_rows;       // input rows of an item that go to scratch memory; 0: they are read in place
  int64_t rows, row_blocks;  // output rows of an item
  int64_t block;             // output rows that go through a step together
  int64_t group, groups;     // images of an item

  template <typename E, typename T>
  static Layout of(const Upfirdn2dArgs& a, const Axis& ax, const Axis& ay, bool separable) {
    constexpr int64_t lanes = Simd<T>::kLanes, size = sizeof(T);
    const int64_t window = ax.hi - ax.lo;
    Layout l;
    l.pitch = l.c = a.channels_last ? a.C : 1;
    while (window * l.c * size > kBlockBytes && l.c % (2 * lanes) == 0 && l.c >= 8 * lanes) l.c /= 2;
    l.channel_blocks = l.pitch / l.c;
    l.wide = l.c >= lanes;
    l.parts = l.wide ? 1 : ax.stride;
    int64_t pixels = (window + l.parts - 1) / l.parts;
    if (!l.wide && pixels < ax.outputs(0)) pixels = ax.outputs(0);
    if (pixels * l.c < lanes) pixels = (lanes + l.c - 1) / l.c;
    l.part = pixels * l.c;
    l.line = l.part * l.parts;

    // Too short for a vector, in another type than that of the sums, or needed between margins.
    const bool staged = (ax.end - ax.begin) * l.c < lanes || !std::is_same<E, T>::value || !separable;
    l.rows = clamp(kItem / (ax.out * l.c), 1, ay.out);
    if (staged) l.rows = clamp(((kStageBytes / (l.line * size) - 2) * ay.up - ay.taps) / ay.down, 1, l.rows);
    l.staged_rows = staged ? ((l.rows - 1) * ay.down + ay.taps) / ay.up + 2 : 0;
    l.row_blocks = (ay.out + l.rows - 1) / l.rows;
    l.block = clamp(kBlockBytes / (l.line * size), 1, l.rows);

    const int64_t images = a.channels_last ? a.B : a.B * a.C;
    l.group = l.row_blocks > 1 ? 1 : clamp(kItem / (ay.out * ax.out * l.c), 1, images);
    l.groups = (images + l.group - 1) / l.group;
    return l;
  }
};

// Everything that the items of a call share.
template <typename E, typename T>
struct Plan {
  const E* x;
  E* y;
  int64_t images;
  Axis ax, ay;
  Filter filter;
  Layout layout;
  Table<T> columns;        // one phase of ay each; none where the filter is not separable
  Table<T> rows;           // one phase of ax each, or one pair (phase of ay, phase of ax)
  Scratch<int64_t> first;  // ay.first(o): a division takes longer than a short row

  Plan(const E* x, const float* f, E* y, const Upfirdn2dArgs& a)
      : x(x),
        y(y),
        images(a.channels_last ? a.B : a.B * a.C),
        ax(a.W, a.OW, a.up_x, a.down_x, a.origin_x, a.fw),
        ay(a.H, a.OH, a.up_y, a.down_y, a.origin_y, a.fh),
        filter(f, a),
        layout(Layout::of<E, T>(a, ax, ay, filter.separable)),
        columns(ay.phases, a.fh),
        rows(ax.phases * (filter.separable ? 1 : ay.phases), a.fw * (filter.separable ? 1 : a.fh)),
        first(a.OH) {
    const int64_t source_pitch = staged() ? layout.line : ax.in * layout.pitch;
    for (int64_t r = 0; r < ay.phases && filter.separable; ++r) {
      columns.begin_phase();
      for (int64_t m = 0; m < ay.count(r); ++m) {
        columns.add(filter.u.data()[ay.tap(r) + m * ay.up], m * source_pitch);
      }
    }
    for (int64_t r = 0; r < (filter.separable ? 1 : ay.phases); ++r) {
      for (int64_t s = 0; s < ax.phases; ++s) add_phase_of_rows(r, s);
    }
    for (int64_t o = 0; o < a.OH; ++o) first.data()[o] = ay.first(o);
  }

  bool staged() const { return layout.staged_rows > 0; }
  int64_t items() const { return layout.groups * layout.row_blocks * layout.channel_blocks; }

 private:
  void add_phase_of_rows(int64_t r, int64_t s) {
    const Layout& l = layout;
    const int64_t lines = filter.separable ? l.block : l.staged_rows;  // the parts of so many lie together
    rows.begin_phase();
    for (int64_t m = 0; m < (filter.separable ? 1 : ay.count(r)); ++m) {
      for (int64_t n = 0; n < ax.count(s); ++n) {
        const int64_t pixel = ax.first(s) + n - ax.lo;
        const int64_t place = (pixel % l.parts * lines + m) * l.part + pixel / l.parts * l.c;
        const int64_t tap = ax.tap(s) + n * ax.up;
        const double weight = filter.separable ? filter.v.data()[tap]
                                               : filter.f.data()[(ay.tap(r) + m * ay.up) * ax.taps + tap];
        rows.add(weight, place);
      }
    }
  }
};

}  // namespace
}  // namespace fastgan
