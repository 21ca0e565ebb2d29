// A pass over the tensors of minibatch_stddev.h, tile by tile.
//
// The cut into tiles, and the order of all sums, depend on the shape alone and not on the threads.
#pragma once

#include "minibatch_stddev.h"
#include "scratch.h"

namespace fastgan {
namespace {

constexpr int64_t kWidth = 128;   // positions of a tile: for 4 members 2 KB of float32
constexpr int64_t kBlock = 1024;  // positions of a task

// What follows from the sizes. (Not functions of the struct itself: of what object files share the linker
// keeps one copy, and that could be one for newer processors.)
struct Sizes : MinibatchStddevArgs {
  explicit Sizes(const MinibatchStddevArgs& args) : MinibatchStddevArgs(args) {}

  int64_t x_stride() const { return segments * features * length; }
  int64_t o_stride() const { return segments * features * (length + pixels); }
  int64_t positions() const { return segments * length; }
  int64_t statistics() const { return groups * features; }
  int64_t elements() const { return samples * x_stride(); }
};

// One feature of one group of G members.
struct Statistic {
  int64_t number, group, feature, G;

  Statistic(int64_t number, const Sizes& a)
      : number(number),
        group(number / a.features),
        feature(number % a.features),
        G((a.samples - group + a.groups - 1) / a.groups) {}
};

// `width` neighbouring positions of a statistic, at offset x of every member in x, and at offset o in o.
struct Tile {
  int64_t x, o, width;
};

// The members' elements in one tensor.
template <typename E>
struct Rows {
  E* first;
  int64_t stride;

  E* operator[](int64_t member) const { return first + member * stride; }
};
template <typename E>
Rows<E> rows_of_x(E* x, const Statistic& of, const Tile& tile, const Sizes& a) {
  return {x + of.group * a.x_stride() + tile.x, a.groups * a.x_stride()};
}
template <typename E>
Rows<E> rows_of_o(E* o, const Statistic& of, const Tile& tile, const Sizes& a) {
  return {o + of.group * a.o_stride() + tile.o, a.groups * a.o_stride()};
}

// The positions of a statistic in `count` blocks: parts of a segment or several segments, of about kBlock.
struct Blocks {
  const Sizes& a;
  int64_t parts, segments, count;

  explicit Blocks(const Sizes& a)
      : a(a),
        parts((a.length + kBlock - 1) / kBlock),
        segments(parts > 1 ? 1 : kBlock / a.length),
        count((a.segments + segments - 1) / segments * parts) {}

  template <typename Body>
  void for_each_tile(int64_t block, const Statistic& of, const Body& body) const {
    const int64_t row = a.features * a.length, row_of_o = row + a.features * a.pixels;
    const int64_t first = block / parts * segments, begin = block % parts * kBlock;
    const int64_t last = first + segments < a.segments ? first + segments : a.segments;
    const int64_t end = begin + kBlock < a.length ? begin + kBlock : a.length;
    for (int64_t segment = first; segment < last; ++segment) {
      for (int64_t p = begin; p < end; p += kWidth) {
        const int64_t offset = of.feature * a.length + p;
        body(Tile{segment * row + offset, segment * row_of_o + offset, end - p < kWidth ? end - p : kWidth});
      }
    }
  }
};

// A pass over memory: before(statistic) for all of them, then of_tile(statistic, tile, memory) for all tiles,
// then after(statistic, the sum of what its tiles gave). `memory` has a number for each element of a tile.
template <typename Before, typename OfTile, typename After>
void pass(const Sizes& a, const Before& before, const OfTile& of_tile, const After& after) {
  if (a.elements() == 0) return;
  const Blocks blocks(a);
  const int64_t tasks = a.statistics() * blocks.count, most_members = Statistic(0, a).G;
  const Scratch<double> sums(tasks);
  const int threads = a.elements() < 8192 ? 1 : a.threads;  // which cost more than they save there
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Scratch<double> memory(most_members * kWidth);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < a.statistics(); ++n) before(Statistic(n, a));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const Statistic statistic(task / blocks.count, a);
      double sum = 0;
      blocks.for_each_tile(task % blocks.count, statistic,
                           [&](const Tile& tile) { sum += of_tile(statistic, tile, memory.data()); });
      sums.data()[task] = sum;
    }
#pragma omp for schedule(static)
    for (int64_t n = 0; n < a.statistics(); ++n) {
      double sum = 0;
      for (int64_t block = 0; block < blocks.count; ++block) sum += sums.data()[n * blocks.count + block];
      after(Statistic(n, a), sum);
    }
  }
}

}  // namespace
}  // namespace fastgan
