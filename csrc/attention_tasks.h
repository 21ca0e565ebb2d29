// How the passes of attention.cpp are cut into tasks, from the sizes alone, and how what several tasks have
// summed is collected.
#pragma once

#include "attention_tiles.h"

namespace fastgan {
namespace {

template <typename E, typename T>
struct Inputs {
  const AttentionArgs& s;
  const E *q, *k, *v, *g, *o;
  BiasOf<T> bias;
  const T* softmax;

  Inputs(const AttentionInputs& x, const AttentionArgs& s)
      : s(s),
        q((const E*)x.q),
        k((const E*)x.k),
        v((const E*)x.v),
        g((const E*)x.g),
        o((const E*)x.o),
        bias{(T*)x.bias, s},
        softmax((const T*)x.softmax) {}
};

// Calls task(0) ... task(count - 1); `prepare` makes the task of one thread, with its own scratch.
template <typename Prepare>
void for_each_task(int64_t count, int threads, const Prepare& prepare) {
#pragma omp parallel num_threads(threads) if (threads > 1 && count > 1)
  {
    auto task = prepare();
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < count; ++i) task(i);
  }
}

// The passes over queries: a task is several blocks of one head's, between which a block of keys is read
// once.
struct QueryTasks {
  int64_t per_head, queries;

  explicit QueryTasks(const AttentionArgs& s) {
    const int64_t blocks = ceil_div(s.N, kBlock);
    const int64_t wanted = ceil_div(s.heads * blocks, 16);  // so that there are enough tasks for many threads
    queries = smaller(kBlock * wanted, kMostQueries);
    per_head = ceil_div(s.N, queries);
  }
};

// The passes over keys: a task is a part of the keys, of one head or of all that share a bias whose gradient
// is wanted.
struct KeyTasks {
  int64_t inner, groups, parts, keys;  // keys of a part

  KeyTasks(const AttentionArgs& s, bool shares) {
    inner = shares ? s.bias_inner : 1;
    groups = shares ? s.bias_count : s.heads;
    const int64_t blocks = ceil_div(s.M, kBlock);
    const int64_t wanted = ceil_div(16, groups);  // each costs as much memory as q
    const int64_t most = smaller(blocks, wanted < 8 ? wanted : 8);
    keys = kBlock * ceil_div(blocks, most);
    parts = ceil_div(s.M, keys);
  }

  template <typename Body>
  void for_each_head(int64_t group, const AttentionArgs& s, const Body& body) const {
    bool first = true;
    for (int64_t outer = group * inner; outer < s.heads; outer += groups * inner)
      for (int64_t head = outer; head < outer + inner; ++head) {
        body(head, first);
        first = false;
      }
  }
};

// The gradients to queries, of which each part of the keys has a share, to be added up in the end.
template <typename T>
struct QueryShares {
  const AttentionArgs& s;
  int64_t parts, rows;
  Scratch<T> memory;

  QueryShares(const AttentionArgs& s, int64_t parts, bool wanted)
      : s(s),
        parts(parts),
        rows(ceil_div(s.N, kBlock) * kBlock),
        memory(wanted ? parts * s.heads * rows * padded<T>(s.d) : 0) {}

  Chunked<T> of(int64_t part, int64_t head) const {
    return {memory.data() + (part * s.heads + head) * rows * padded<T>(s.d), rows * kLanes<T>};
  }

  // out = scale times their sum
  template <typename E>
  void add_up(E* out) const {
    const int64_t blocks = ceil_div(s.N, kBlock);
#pragma omp parallel for num_threads(s.threads) if (s.threads > 1)
    for (int64_t i = 0; i < s.heads * blocks; ++i) {
      const int64_t head = i / blocks, i0 = i % blocks * kBlock, n = smaller(kBlock, s.N - i0);
      const Chunked<T> sum = from_row(of(0, head), i0);
      for (int64_t part = 1; part < parts; ++part) {
        const Chunked<T> other = from_row(of(part, head), i0);
        for_each_vector<T>(n, s.d, sum, [&](int64_t at, int64_t) {
          Simd<T>::store(sum.data + at, Simd<T>::load(sum.data + at) + Simd<T>::load(other.data + at));
        });
      }
      write_rows<E, T>(sum, n, s.d, T(s.scale), out + (head * s.N + i0) * s.d);
    }
  }
};

// The gradient to the bias: sums over queries of a block of keys, or the tiles themselves.
template <typename T>
class BiasGradient {
 public:
  BiasGradient(void* out, const AttentionArgs& s) : out_{(T*)out, s} {}

  bool wanted() const { return out_.data; }
  void begin() {
    for (Vec<T>& sum : sums_) sum = Vec<T>{};
  }
  void take(const Chunked<T>& tile, const Place& place, bool first_head) {
    if (!wanted()) return;
    if (out_.s.by_row) return out_.collect(tile, place, !first_head);
    for (int64_t c = 0; c < chunks_of<T>(place.m); ++c) {
      Vec<T> sum = {};
      for (int64_t row = 0; row < place.n; ++row) sum += Simd<T>::load(tile.at(row, c));
      sums_[c] += sum;
    }
  }
  void end(int64_t head, int64_t j0, int64_t m) {
    if (!wanted() || out_.s.by_row) return;
    for (int64_t j = 0; j < m; ++j) {
      out_.data[head * out_.s.M + j0 + j] = sums_[j / kLanes<T>][j % kLanes<T>];
    }
  }

 private:
  BiasOf<T> out_;
  Vec<T> sums_[kBlock / kLanes<T>];
};

}  // namespace
}  // namespace fastgan
