// Softmax attention on the CPU (attention.h has the formulas).
//
// Everything of size N x M lives in tiles of 64 x 64, in the innermost cache, and is computed again where it
// is needed. The work is the products: 2 of N x M x d multiply-adds forward, 5 backward, 15 in the second
// backward. Forward and the sums over keys of the second backward go through blocks of queries; what is
// summed over queries, through blocks of keys, and the gradients to queries come with it: each of at most 8
// parts of the keys adds up its own, which saves the products of another pass over the tiles. Parts and tasks
// follow from the sizes alone.

#include "attention.h"

#include "attention_grad2.h"
#include "dtype_switch.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

// The softmax of some queries so far: exp(score - highest) has been summed to `total`, and its products with
// v to o.
template <typename T>
struct Softmax {
  T highest[kMostQueries], total[kMostQueries];

  void begin(int64_t n) {
    for (int64_t row = 0; row < n; ++row) {
      highest[row] = -kInfinity<T>;
      total[row] = T(0);
    }
  }

  // Turns the scores of a tile whose first query is `first` into exponentials, and rescales o to the new
  // highest.
  void take(const Chunked<T>& tile, int64_t first, int64_t n, int64_t m, const Chunked<T>& o, int64_t width) {
    using S = Simd<T>;
    for (int64_t row = 0; row < n; ++row) {
      Vec<T> top = S::load(tile.at(row, 0));
      for (int64_t c = 1; c < chunks_of<T>(m); ++c) top = S::larger(S::load(tile.at(row, c)), top);
      const T before = highest[first + row], found = S::largest(top);
      const T now = found > before ? found : before;
      const T base = now == -kInfinity<T> ? T(0) : now;  // nothing but masked keys so far
      Vec<T> sum = {};
      for (int64_t c = 0; c < chunks_of<T>(m); ++c) {
        const Vec<T> p = S::exp_nonpositive(S::load(tile.at(row, c)) - base);
        S::store(tile.at(row, c), p);
        sum += p;
      }
      const T shrink = exp_nonpositive(before - base);
      highest[first + row] = now;
      total[first + row] = total[first + row] * shrink + S::sum(sum);
      if (shrink == T(1)) continue;
      for (int64_t c = 0; c < chunks_of<T>(width); ++c) {
        T* out = o.at(first + row, c);
        S::store(out, S::load(out) * shrink);
      }
    }
  }
};

template <typename E, typename T>
class Forward {
 public:
  Forward(const Inputs<E, T>& x, E* o, T* softmax, const QueryTasks& tasks)
      : x_(x),
        s_(x.s),
        tasks_(tasks),
        o_(o),
        softmax_out_(softmax),
        q_(tasks.queries, s_.d),
        sums_(tasks.queries, s_.e),
        v_(kBlock, s_.e),
        tile_(kBlock, kBlock),
        k_(s_.d) {}

  void operator()(int64_t task) {
    const int64_t head = task / tasks_.per_head, i0 = task % tasks_.per_head * tasks_.queries;
    const int64_t n = smaller(tasks_.queries, s_.N - i0);
    read_rows<E, T>(x_.q + (head * s_.N + i0) * s_.d, n, s_.d, T(s_.scale), q_);
    softmax_.begin(n);
    for (int64_t j0 = 0; j0 < s_.M; j0 += kBlock) {
      const int64_t m = smaller(kBlock, s_.M - j0);
      k_.read(x_.k + (head * s_.M + j0) * s_.d, m, s_.d);
      read_rows<E, T>(x_.v + (head * s_.M + j0) * s_.e, m, s_.e, T(1), v_);
      for (int64_t i = 0; i < n; i += kBlock) {
        const Place place{head, i0 + i, smaller(kBlock, n - i), j0, m};
        scores<T>(from_row(q_, i), k_, x_.bias, place, tile_);
        softmax_.take(tile_, i, place.n, m, sums_, j0 ? s_.e : 0);
        multiply<T>(tile_, v_, place.n, m, s_.e, from_row(sums_, i), j0 > 0);
      }
    }
    finish(head * s_.N + i0, n);
  }

 private:
  void finish(int64_t first, int64_t n) {
    for (int64_t row = 0; row < n; ++row) {
      const T total = softmax_.total[row];
      const bool masked = x_.bias.data && total == T(0);
      softmax_out_[2 * (first + row)] = masked ? T(0) : softmax_.highest[row];
      softmax_out_[2 * (first + row) + 1] = masked ? T(0) : T(1) / total;
      for (int64_t c = 0; c < chunks_of<T>(s_.e); ++c) {
        T* sums = sums_.at(row, c);
        Simd<T>::store(sums, masked ? Vec<T>{} : Simd<T>::load(sums) / total);
      }
    }
    write_rows<E, T>(sums_, n, s_.e, T(1), o_ + first * s_.e);
  }

  const Inputs<E, T>& x_;
  const AttentionArgs& s_;
  const QueryTasks& tasks_;
  E* o_;
  T* softmax_out_;
  Matrix<T> q_, sums_, v_, tile_;
  KeyBlock<T> k_;
  Softmax<T> softmax_;
};

template <typename E, typename T>
void run_forward(const AttentionInputs& inputs, E* o, T* softmax, const AttentionArgs& s) {
  const Inputs<E, T> x(inputs, s);
  const QueryTasks tasks(s);
  for_each_task(s.heads * tasks.per_head, s.threads, [&] { return Forward<E, T>(x, o, softmax, tasks); });
}

// D_i = <g_i, o_i>
template <typename E, typename T>
void products_with_output(const Inputs<E, T>& x, T* D) {
  const int64_t rows = x.s.heads * x.s.N, width = x.s.e;
#pragma omp parallel for num_threads(x.s.threads) if (x.s.threads > 1)
  for (int64_t i = 0; i < rows; ++i) {
    T sum = T(0);
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < width; ++c) sum += load(x.g + i * width + c) * load(x.o + i * width + c);
    D[i] = sum;
  }
}

template <typename E, typename T>
class Grad {
 public:
  Grad(const Inputs<E, T>& x, const T* D, const AttentionGradients& out, const KeyTasks& tasks,
       const QueryShares<T>& dq)
      : x_(x),
        s_(x.s),
        tasks_(tasks),
        D_(D),
        out_(out),
        dq_(dq),
        dh_(out.bias, s_),
        k_(s_.d),
        v_(s_.e),
        q_(kBlock, s_.d),
        g_(kBlock, s_.e),
        dk_(kBlock, s_.d),
        dv_(kBlock, s_.e),
        P_(kBlock, kBlock),
        dS_(kBlock, kBlock) {}

  void operator()(int64_t task) {
    const int64_t part = task % tasks_.parts, end = smaller(s_.M, (part + 1) * tasks_.keys);
    tasks_.for_each_head(task / tasks_.parts, s_, [&](int64_t head, bool first_head) {
      for (int64_t j0 = part * tasks_.keys; j0 < end; j0 += kBlock) {
        const int64_t m = smaller(kBlock, s_.M - j0), at = head * s_.M + j0;
        k_.read(x_.k + at * s_.d, m, s_.d);
        v_.read(x_.v + at * s_.e, m, s_.e);
        dh_.begin();
        for (int64_t i0 = 0; i0 < s_.N; i0 += kBlock) {
          const Place place{head, i0, smaller(kBlock, s_.N - i0), j0, m};
          tile(place, part, j0 > part * tasks_.keys, first_head);
        }
        dh_.end(head, j0, m);
        if (out_.k) write_rows<E, T>(dk_, m, s_.d, T(1), (E*)out_.k + at * s_.d);
        if (out_.v) write_rows<E, T>(dv_, m, s_.e, T(1), (E*)out_.v + at * s_.e);
      }
    });
  }

 private:
  void tile(const Place& place, int64_t part, bool later_keys, bool first_head) {
    const auto& [head, i0, n, j0, m] = place;
    const int64_t at = head * s_.N + i0;
    const bool later = i0 > 0;
    read_rows<E, T>(x_.q + at * s_.d, n, s_.d, T(s_.scale), q_);
    read_rows<E, T>(x_.g + at * s_.e, n, s_.e, T(1), g_);
    probabilities<T>(q_, k_, x_.bias, x_.softmax + 2 * at, place, P_);
    if (out_.v) multiply_transposed<T>(P_, g_, m, n, s_.e, dv_, later);
    if (!out_.q && !out_.k && !dh_.wanted()) return;
    multiply<T>(g_, v_.columns, n, s_.e, m, dS_, false);
    const T* D = D_ + at;
    for_each_vector<T>(n, m, dS_, [&](int64_t v, int64_t row) {
      const Vec<T> P = Simd<T>::load(P_.data + v), G = Simd<T>::load(dS_.data + v);
      Simd<T>::store(dS_.data + v, P * (G - D[row]));
    });
    if (out_.k) multiply_transposed<T>(dS_, q_, m, n, s_.d, dk_, later);
    if (out_.q) multiply<T>(dS_, k_.rows, n, m, s_.d, from_row(dq_.of(part, head), i0), later_keys);
    dh_.take(dS_, place, first_head);
  }

  const Inputs<E, T>& x_;
  const AttentionArgs& s_;
  const KeyTasks& tasks_;
  const T* D_;
  const AttentionGradients& out_;
  const QueryShares<T>& dq_;
  BiasGradient<T> dh_;
  KeyBlock<T> k_, v_;
  Matrix<T> q_, g_, dk_, dv_, P_, dS_;
};

template <typename E, typename T>
void run_grad(const AttentionInputs& inputs, const AttentionGradients& out, const AttentionArgs& s) {
  const Inputs<E, T> x(inputs, s);
  const KeyTasks tasks(s, out.bias && s.by_row);
  const QueryShares<T> dq(s, tasks.parts, out.q);
  const Scratch<T> D(s.heads * s.N);
  products_with_output<E, T>(x, D.data());
  for_each_task(tasks.groups * tasks.parts, s.threads,
                [&] { return Grad<E, T>(x, D.data(), out, tasks, dq); });
  if (out.q) dq.add_up((E*)out.q);
}

template <typename E, typename T>
void run_grad2(const AttentionInputs& inputs, const AttentionCotangents& cotangents,
               const AttentionGradients& out, const AttentionArgs& s) {
  const Inputs<E, T> x(inputs, s);
  const Cotangents<E, T> y(cotangents, s);
  const QuerySums<T> sums(s.heads * s.N);
  const QueryTasks outputs(s);
  products_with_output<E, T>(x, sums.D);
  for_each_task(s.heads * outputs.per_head, s.threads,
                [&] { return Grad2OfOutputs<E, T>(x, y, (E*)out.g, sums, outputs); });
  if (!out.q && !out.k && !out.v && !out.bias) return;
  const KeyTasks tasks(s, out.bias && s.by_row);
  const QueryShares<T> gq(s, tasks.parts, out.q);
  for_each_task(tasks.groups * tasks.parts, s.threads,
                [&] { return Grad2OfInputs<E, T>(x, y, sums, out, tasks, gq); });
  if (out.q) gq.add_up((E*)out.q);
}

}  // namespace

Error attention(const AttentionInputs& x, void* o, void* softmax, const AttentionArgs& args){
#define RUN(E, T) run_forward<E, T>(x, (E*)o, (T*)softmax, args)
    FASTGAN_DTYPE_SWITCH(args.dtype, "attention", RUN)
#undef RUN
}

Error attention_grad(const AttentionInputs& x, const AttentionGradients& out, const AttentionArgs& args){
#define RUN(E, T) run_grad<E, T>(x, out, args)
    FASTGAN_DTYPE_SWITCH(args.dtype, "attention", RUN)
#undef RUN
}

Error attention_grad2(const AttentionInputs& x, const AttentionCotangents& y, const AttentionGradients& out,
                      const AttentionArgs& args) {
#define RUN(E, T) run_grad2<E, T>(x, y, out, args)
  FASTGAN_DTYPE_SWITCH(args.dtype, "attention", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
