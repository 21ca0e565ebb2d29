// The two passes of attention's second backward (attention.h has the formulas): the gradient to g, whose sums
// over keys the other needs for each query; then the gradients to the inputs.
#pragma once

#include "attention_tasks.h"

namespace fastgan {
namespace {

template <typename E, typename T>
struct Cotangents {
  const E *a, *b, *c;
  BiasOf<T> t;

  Cotangents(const AttentionCotangents& y, const AttentionArgs& s)
      : a((const E*)y.q), b((const E*)y.k), c((const E*)y.v), t{(T*)y.bias, s} {}

  // X, of queries q and a that are scaled.
  void direction(const Chunked<T>& q, const Chunked<T>& qa, const KeyBlock<T>& k, const KeyBlock<T>& kb,
                 const Place& place, const Chunked<T>& X) const {
    const auto& [head, i0, n, j0, m] = place;
    if (!a && !b)
      for_each_vector<T>(n, m, X, [&](int64_t v, int64_t) { Simd<T>::store(X.data + v, Vec<T>{}); });
    if (a) multiply<T>(qa, k.columns, n, t.s.d, m, X, false);
    if (b) multiply<T>(q, kb.columns, n, t.s.d, m, X, a != nullptr);
    t.add_to(X, place);
  }
};

// For each query D, r and w.
template <typename T>
struct QuerySums {
  Scratch<T> memory;
  T *D, *r, *w;

  explicit QuerySums(int64_t queries)
      : memory(3 * queries), D(memory.data()), r(D + queries), w(r + queries) {}
};

// The gradient to g, and with it r and w.
template <typename E, typename T>
class Grad2OfOutputs {
 public:
  Grad2OfOutputs(const Inputs<E, T>& x, const Cotangents<E, T>& y, E* gg, const QuerySums<T>& sums,
                 const QueryTasks& tasks)
      : x_(x),
        s_(x.s),
        tasks_(tasks),
        y_(y),
        gg_(gg),
        sums_(sums),
        k_(s_.d),
        b_(s_.d),
        q_(tasks.queries, s_.d),
        a_(tasks.queries, s_.d),
        gg_sums_(tasks.queries, s_.e),
        o_(tasks.queries, s_.e),
        g_(tasks.queries, s_.e),
        v_(kBlock, s_.e),
        c_(kBlock, s_.e),
        P_(kBlock, kBlock),
        X_(kBlock, kBlock) {}

  void operator()(int64_t task) {
    const int64_t head = task / tasks_.per_head, i0 = task % tasks_.per_head * tasks_.queries;
    const int64_t n = smaller(tasks_.queries, s_.N - i0), first = head * s_.N + i0;
    read_rows<E, T>(x_.q + first * s_.d, n, s_.d, T(s_.scale), q_);
    if (y_.a) read_rows<E, T>(y_.a + first * s_.d, n, s_.d, T(s_.scale), a_);
    for (int64_t row = 0; row < n; ++row) sums_.r[first + row] = T(0);
    for (int64_t j0 = 0; j0 < s_.M; j0 += kBlock) {
      const int64_t m = smaller(kBlock, s_.M - j0), at = head * s_.M + j0;
      k_.read(x_.k + at * s_.d, m, s_.d);
      read_rows<E, T>(x_.v + at * s_.e, m, s_.e, T(1), v_);
      if (y_.b) b_.read(y_.b + at * s_.d, m, s_.d);
      if (y_.c) read_rows<E, T>(y_.c + at * s_.e, m, s_.e, T(1), c_);
      for (int64_t i = 0; i < n; i += kBlock) tile(i, {head, i0 + i, smaller(kBlock, n - i), j0, m});
    }
    finish(first, n);
  }

 private:
  void tile(int64_t i, const Place& place) {
    using S = Simd<T>;
    const auto& [head, i0, n, j0, m] = place;
    const int64_t first = head * s_.N + i0;
    const Chunked<T> q = from_row(q_, i), sums = from_row(gg_sums_, i);
    probabilities<T>(q, k_, x_.bias, x_.softmax + 2 * first, place, P_);
    y_.direction(q, from_row(a_, i), k_, b_, place, X_);
    for (int64_t row = 0; row < n; ++row) {
      Vec<T> r = {};
      for (int64_t c = 0; c < chunks_of<T>(m); ++c) {
        const Vec<T> PX = S::load(P_.at(row, c)) * S::load(X_.at(row, c));
        S::store(X_.at(row, c), PX);
        r += PX;
      }
      sums_.r[first + row] += S::sum(r);
    }
    multiply<T>(X_, v_, n, m, s_.e, sums, j0 > 0);
    if (y_.c) multiply<T>(P_, c_, n, m, s_.e, sums, true);
  }

  void finish(int64_t first, int64_t n) {
    read_rows<E, T>(x_.o + first * s_.e, n, s_.e, T(1), o_);
    read_rows<E, T>(x_.g + first * s_.e, n, s_.e, T(1), g_);
    for (int64_t row = 0; row < n; ++row) {
      const T r = sums_.r[first + row];
      Vec<T> w = {};
      for (int64_t c = 0; c < chunks_of<T>(s_.e); ++c) {
        T* sums = gg_sums_.at(row, c);
        const Vec<T> gg = Simd<T>::load(sums) - r * Simd<T>::load(o_.at(row, c));
        Simd<T>::store(sums, gg);
        w += gg * Simd<T>::load(g_.at(row, c));
      }
      sums_.w[first + row] = Simd<T>::sum(w);
    }
    if (gg_) write_rows<E, T>(gg_sums_, n, s_.e, T(1), gg_ + first * s_.e);
  }

  const Inputs<E, T>& x_;
  const AttentionArgs& s_;
  const QueryTasks& tasks_;
  const Cotangents<E, T>& y_;
  E* gg_;
  const QuerySums<T>& sums_;
  KeyBlock<T> k_, b_;
  Matrix<T> q_, a_, gg_sums_, o_, g_, v_, c_, P_, X_;
};

// The gradients to q, k, v and the bias.
template <typename E, typename T>
class Grad2OfInputs {
 public:
  Grad2OfInputs(const Inputs<E, T>& x, const Cotangents<E, T>& y, const QuerySums<T>& sums,
                const AttentionGradients& out, const KeyTasks& tasks, const QueryShares<T>& gq)
      : x_(x),
        s_(x.s),
        tasks_(tasks),
        y_(y),
        sums_(sums),
        out_(out),
        gq_(gq),
        gh_(out.bias, s_),
        k_(s_.d),
        v_(s_.e),
        b_(s_.d),
        c_(s_.e),
        q_(kBlock, s_.d),
        a_(kBlock, s_.d),
        g_(kBlock, s_.e),
        gk_(kBlock, s_.d),
        gv_(kBlock, s_.e),
        dS_(kBlock, kBlock),
        G_(kBlock, kBlock),
        X_(kBlock, kBlock),
        C_(kBlock, kBlock) {}

  void operator()(int64_t task) {
    const int64_t part = task % tasks_.parts, end = smaller(s_.M, (part + 1) * tasks_.keys);
    tasks_.for_each_head(task / tasks_.parts, s_, [&](int64_t head, bool first_head) {
      for (int64_t j0 = part * tasks_.keys; j0 < end; j0 += kBlock) {
        const int64_t m = smaller(kBlock, s_.M - j0), at = head * s_.M + j0;
        k_.read(x_.k + at * s_.d, m, s_.d);
        v_.read(x_.v + at * s_.e, m, s_.e);
        if (y_.b) b_.read(y_.b + at * s_.d, m, s_.d);
        if (y_.c) c_.read(y_.c + at * s_.e, m, s_.e);
        gh_.begin();
        for (int64_t i0 = 0; i0 < s_.N; i0 += kBlock) {
          const Place place{head, i0, smaller(kBlock, s_.N - i0), j0, m};
          tile(place, part, j0 > part * tasks_.keys, first_head);
        }
        gh_.end(head, j0, m);
        if (out_.k) write_rows<E, T>(gk_, m, s_.d, T(1), (E*)out_.k + at * s_.d);
        if (out_.v) write_rows<E, T>(gv_, m, s_.e, T(1), (E*)out_.v + at * s_.e);
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
    if (y_.a) read_rows<E, T>(y_.a + at * s_.d, n, s_.d, T(s_.scale), a_);
    probabilities<T>(q_, k_, x_.bias, x_.softmax + 2 * at, place, dS_);
    multiply<T>(g_, v_.columns, n, s_.e, m, G_, false);
    y_.direction(q_, a_, k_, b_, place, X_);
    if (y_.c) multiply<T>(g_, c_.columns, n, s_.e, m, C_, false);
    differentiate(n, m, at);
    if (out_.v) multiply_transposed<T>(Y(), g_, m, n, s_.e, gv_, later);
    if (out_.k) {
      multiply_transposed<T>(W(), q_, m, n, s_.d, gk_, later);
      if (y_.a) multiply_transposed<T>(dS_, a_, m, n, s_.d, gk_, true);
    }
    if (out_.q) {
      const Chunked<T> gq = from_row(gq_.of(part, head), i0);
      multiply<T>(W(), k_.rows, n, m, s_.d, gq, later_keys);
      if (y_.b) multiply<T>(dS_, b_.rows, n, m, s_.d, gq, true);
    }
    gh_.take(W(), place, first_head);
  }

  // P, G, X and C are replaced by dS, W and Y.
  void differentiate(int64_t n, int64_t m, int64_t first) {
    using S = Simd<T>;
    const T *D = sums_.D + first, *r = sums_.r + first, *w = sums_.w + first;
    for_each_vector<T>(n, m, dS_, [&](int64_t v, int64_t row) {
      const Vec<T> P = S::load(dS_.data + v), G = S::load(G_.data + v) - D[row];
      const Vec<T> C = y_.c ? S::load(C_.data + v) : Vec<T>{}, PX = P * (S::load(X_.data + v) - r[row]);
      S::store(dS_.data + v, P * G);
      S::store(Y().data + v, PX);
      S::store(W().data + v, PX * G + P * (C - w[row]));
    });
  }
  const Chunked<T>& W() const { return G_; }
  const Chunked<T>& Y() const { return X_; }

  const Inputs<E, T>& x_;
  const AttentionArgs& s_;
  const KeyTasks& tasks_;
  const Cotangents<E, T>& y_;
  const QuerySums<T>& sums_;
  const AttentionGradients& out_;
  const QueryShares<T>& gq_;
  BiasGradient<T> gh_;
  KeyBlock<T> k_, v_, b_, c_;
  Matrix<T> q_, a_, g_, gk_, gv_, dS_, G_, X_, C_;
};

}  // namespace
}  // namespace fastgan
