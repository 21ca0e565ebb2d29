// The activations of fastgan/ops/_common/activations.py with their slopes and curvatures, one element at a
// time.
//
// Each activation is a template argument: the inner loops that call these have no branch and vectorise.
#pragma once

#include "bias_act.h"
#include "vector_math.h"

namespace fastgan {
namespace {

constexpr double kSeluScale = 1.0507009873554804934193349852946;
constexpr double kSeluAlpha = 1.6732632423543772848170429916717;

// Whether the derivatives are written in the input x (then z = s + b) or in the result y.
constexpr bool saves_input(Act act) {
  return act == Act::elu || act == Act::selu || act == Act::softplus || act == Act::swish;
}

template <typename T>
inline T negative_part(T z) {
  return z > T(0) ? T(0) : z;
}

// z where swish is neither 0 nor z itself, else a bound beyond which it is to the last digit: at infinity its
// formulas are 0 times infinity.
template <typename T>
inline T swish_range(T z) {
  return z < T(-800) ? T(-800) : (z > T(800) ? T(800) : z);  // keeps NaN
}

// f(z).
template <Act act, typename T>
inline T activate(T z, T alpha) {
  switch (act) {
    case Act::linear:
      return z;
    case Act::relu:
      return z < T(0) ? T(0) : z;  // keeps NaN
    case Act::lrelu:
      return z > T(0) ? z : z * alpha;
    case Act::tanh:
      return tanh_(z);
    case Act::sigmoid:
      return sigmoid(z);
    case Act::elu: {
      const T e = expm1_nonpositive(negative_part(z));
      return z > T(0) ? z : e;
    }
    case Act::selu: {
      const T e = T(kSeluAlpha) * expm1_nonpositive(negative_part(z));
      return T(kSeluScale) * (z > T(0) ? z : e);
    }
    case Act::softplus:
      return softplus(z);
    case Act::swish:
      return (z < T(0) ? swish_range(z) : z) * sigmoid(z);
  }
}

// y within [-clamp, clamp]. Comparisons with a NaN clamp are false: no clamp.
template <typename T>
inline T clamped_to(T clamp, T y) {
  return y > clamp ? clamp : (y < -clamp ? -clamp : y);
}

// The slope f'(z), written in s: z itself, or a = f(z) for relu, lrelu, tanh and sigmoid.
template <Act act, typename T>
inline T slope(T s, T alpha) {
  switch (act) {
    case Act::linear:
      return T(1);
    case Act::relu:
      return s > T(0) ? T(1) : T(0);
    case Act::lrelu:
      return s > T(0) ? T(1) : alpha;
    case Act::tanh:
      return T(1) - s * s;
    case Act::sigmoid:
      return s * (T(1) - s);
    case Act::elu: {
      const T e = exp_nonpositive(negative_part(s));
      return s > T(0) ? T(1) : e;
    }
    case Act::selu: {
      const T e = T(kSeluAlpha) * exp_nonpositive(negative_part(s));
      return T(kSeluScale) * (s > T(0) ? T(1) : e);
    }
    case Act::softplus:
      return sigmoid(s);
    case Act::swish: {
      const T z = swish_range(s);
      const Sigmoids<T> p = sigmoids(z);
      return p.of_x * (T(1) + z * p.of_minus_x);
    }
  }
}

// d slope / ds; zero for the piecewise linear activations, which never get here. At 0 that of elu and selu is
// the positive side's, though their slope is the negative side's: so it is in PyTorch (docs/kinks.md).
template <Act act, typename T>
inline T curvature(T s) {
  switch (act) {
    case Act::linear:
    case Act::relu:
    case Act::lrelu:
      return T(0);
    case Act::tanh:
      return T(-2) * s;
    case Act::sigmoid:
      return T(1) - T(2) * s;
    case Act::elu: {
      const T e = exp_nonpositive(negative_part(s));
      return s < T(0) ? e : T(0);
    }
    case Act::selu: {
      const T e = T(kSeluScale * kSeluAlpha) * exp_nonpositive(negative_part(s));
      return s < T(0) ? e : T(0);
    }
    case Act::softplus: {
      const Sigmoids<T> p = sigmoids(s);
      return p.of_x * p.of_minus_x;
    }
    case Act::swish: {
      const T z = swish_range(s);
      const Sigmoids<T> p = sigmoids(z);
      return p.of_x * p.of_minus_x * (T(2) + z * (p.of_minus_x - p.of_x));
    }
  }
}

}  // namespace
}  // namespace fastgan

// Turns a run-time activation into a template argument of `RUN(act, E, T)`, inside a function that returns an
// Error.
#define FASTGAN_ACT_CASE(ACT, RUN, E, T) \
  case Act::ACT: {                       \
    RUN(Act::ACT, E, T);                 \
    return nullptr;                      \
  }
#define FASTGAN_ACT_SWITCH(act, op, RUN, E, T) \
  switch (act) {                               \
    FASTGAN_ACT_CASE(linear, RUN, E, T)        \
    FASTGAN_ACT_CASE(relu, RUN, E, T)          \
    FASTGAN_ACT_CASE(lrelu, RUN, E, T)         \
    FASTGAN_ACT_CASE(tanh, RUN, E, T)          \
    FASTGAN_ACT_CASE(sigmoid, RUN, E, T)       \
    FASTGAN_ACT_CASE(elu, RUN, E, T)           \
    FASTGAN_ACT_CASE(selu, RUN, E, T)          \
    FASTGAN_ACT_CASE(softplus, RUN, E, T)      \
    FASTGAN_ACT_CASE(swish, RUN, E, T)         \
  }                                            \
  return op ": unknown activation code";
