// bias_act with its activation kept as, or taken from, one bit per element (frozen_bias_act.h).
//
// Memory is cut into fixed blocks, whatever the length of a row. What varies along a block is laid out for
// each of its elements in the L1 cache first: the mask as a byte, and, where rows are short, the bias. The
// loops over a block then vectorise, with no remainder at the end of a row. The clamp is a second look at the
// block in the cache, for few blocks have an element that reaches it. db is summed per task, a fixed group of
// blocks: its order of summation depends on the shape alone, not on the number of threads.

#include "frozen_bias_act.h"

#include "dtype_switch.h"
#include "element.h"
#include "scratch.h"
#include "vector_math.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr int64_t kBlock = 2048;    // elements; a multiple of 8, so that no two blocks share a byte of a mask
constexpr int64_t kLongRow = 512;   // elements of one channel that are worth a loop of their own
constexpr int64_t kMostTasks = 64;  // whose partial sums of db are kept apart
constexpr int64_t kShortSum = 16;   // elements whose sum loses nothing in the type of the arithmetic

inline int64_t smallest(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t bytes_of_mask(int64_t n) { return (n + 7) / 8; }

// The elements of a call: how they are cut into blocks, rows and samples. A row is one channel's run of
// `inner` elements or, with inner == 1, one element of every channel.
struct Elements {
  int64_t count, row, sample, blocks;
  Elements(const BiasActArgs& a, int64_t samples)
      : count(a.outer * a.channels * a.inner),
        row(a.inner == 1 ? a.channels : a.inner),
        sample(samples > 0 ? count / samples : count),
        blocks((count + kBlock - 1) / kBlock) {}
};

// Calls body(first element, how many, task) for every block; one task's blocks run in order.
template <typename Body>
void for_each_block(const Elements& e, int64_t tasks, int wanted, const Body& body) {
  const int threads = e.count < 4 * kBlock ? 1 : wanted;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t task = 0; task < tasks; ++task)
    for (int64_t block = task * e.blocks / tasks; block < (task + 1) * e.blocks / tasks; ++block)
      body(block * kBlock, smallest(kBlock, e.count - block * kBlock), task);
}

// Calls body(offset in the block, how many, channel of the first, sample) for the runs of the block of n
// elements from `first` on: neighbours of one row and one sample.
template <typename Body>
void for_each_run(const BiasActArgs& a, const Elements& e, int64_t first, int64_t n, const Body& body) {
  int64_t row_left = e.row - first % e.row, channel = first / a.inner % a.channels;
  int64_t sample_left = e.sample - first % e.sample, sample = first / e.sample;
  for (int64_t i = 0; i < n;) {
    const int64_t length = smallest(n - i, smallest(row_left, sample_left));
    body(i, length, channel, sample);
    i += length;
    row_left -= length;
    sample_left -= length;
    if (a.inner == 1) channel += length;
    if (row_left == 0) {
      row_left = e.row;
      channel = a.inner == 1 || channel + 1 == a.channels ? 0 : channel + 1;
    }
    if (sample_left == 0) {
      sample_left = e.sample;
      ++sample;
    }
  }
}

// One mask of a block, a byte that is 0 or 1 per element. Eight of them are a little-endian word.
struct Flags {
  alignas(64) uint64_t words[kBlock / 8];
  static constexpr uint64_t kOnes = 0x0101010101010101u;

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(words); }

  // Writes the bits of n elements; the last byte is filled up with zeros.
  void pack(uint8_t* bits, int64_t n) {
    for (int64_t i = n; i % 8; ++i) bytes()[i] = 0;
#pragma omp simd
    for (int64_t k = 0; k < bytes_of_mask(n); ++k) {
      uint64_t word = words[k];
      word |= word >> 7;  // byte j moves to bit j: in pairs, in fours, in eights
      word |= word >> 14;
      word |= word >> 28;
      bits[k] = uint8_t(word);
    }
  }

  void unpack(const uint8_t* bits, int64_t n) {
#pragma omp simd
    for (int64_t k = 0; k < bytes_of_mask(n); ++k) {
      const uint64_t apart = (bits[k] * kOnes) & 0x8040201008040201u;  // bit j is in byte j
      words[k] = ((apart + 0x7f * kOnes) >> 7) & kOnes;
    }
  }
};

// The byte that ends a mask of n elements which are all set.
inline uint8_t last_byte(int64_t n) { return n % 8 ? uint8_t((1 << n % 8) - 1) : uint8_t(0xff); }

void set_all(uint8_t* bits, int64_t n) {
  std::memset(bits, 0xff, bytes_of_mask(n));
  bits[bytes_of_mask(n) - 1] = last_byte(n);
}

bool all_set(const uint8_t* bits, int64_t n) {
  uint8_t common = 0xff;
#pragma omp simd reduction(& : common)
  for (int64_t k = 0; k < n / 8; ++k) common &= bits[k];
  return common == 0xff && bits[bytes_of_mask(n) - 1] == last_byte(n);
}

// What the loops need besides pointers. They take it by value: a byte written to the flags could otherwise be
// one of these numbers, which would then be read again for every element.
template <typename T>
struct Scalars {
  T alpha, gain;
};

template <Act act, typename T>
inline T activate(T z, T alpha) {
  if (act == Act::relu) return z < T(0) ? T(0) : z;  // keeps NaN
  return act == Act::linear || z > T(0) ? z : z * alpha;
}

// Returns whether the stored result reaches the clamp, which is rounded to E as the result is.
template <Act act, bool clamped, typename E, typename T>
inline int forward(T z, E* y, uint8_t* positive, T clamp, Scalars<T> k) {
  const T result = k.gain * activate<act>(z, k.alpha);
  *positive = z > T(0);
  E stored;
  store(&stored, result);
  *y = stored;
  return clamped && absolute(load(&stored)) >= clamp;
}

// The loops below run over n neighbours, which have a bias each (`each`) or share one (`each` is nullptr).

template <Act act, bool clamped, typename E, typename T>
int forward_loop(const E* x, const T* each, T shared, E* y, uint8_t* positive, T clamp, int64_t n,
                 Scalars<T> k) {
  int reached = 0;
  if (each) {
#pragma omp simd reduction(| : reached)
    for (int64_t i = 0; i < n; ++i)
      reached |= forward<act, clamped>(load(x + i) + each[i], y + i, positive + i, clamp, k);
  } else {
#pragma omp simd reduction(| : reached)
    for (int64_t i = 0; i < n; ++i)
      reached |= forward<act, clamped>(load(x + i) + shared, y + i, positive + i, clamp, k);
  }
  return reached;
}

// Clamps y where it lies and writes which elements are open. To round the result to E and then to clamp it at
// the rounded bound gives what bias_act gets the other way round.
template <typename E, typename T>
void clamp_block(E* y, T clamp, uint8_t* bits, int64_t n) {
  Flags open;
  uint8_t* flags = open.bytes();
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T value = load(y + i);
    flags[i] = !(absolute(value) >= clamp);
    store(y + i, value > clamp ? clamp : (value < -clamp ? -clamp : value));
  }
  open.pack(bits, n);
}

// The order of the products is bias_act's: with u = x and s = 1 the results are equal. A slope of 0 makes 0
// of infinity too, as relu does.
template <typename T>
inline T frozen(T z, uint8_t positive, Scalars<T> k) {
  return k.gain * (positive ? z : (k.alpha == T(0) ? T(0) : z * k.alpha));
}

template <typename E, typename T>
void frozen_loop(const E* u, const uint8_t* positive, const T* each, T shared, E* y, int64_t n,
                 Scalars<T> k) {
  if (each) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, frozen(load(u + i) + each[i], positive[i], k));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, frozen(load(u + i) + shared, positive[i], k));
  }
}

// Where not open: y = edge on the positive side, -edge on the other.
template <typename E, typename T>
void frozen_edges(const uint8_t* positive, const uint8_t* open, T edge, E* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T bound = positive[i] ? edge : -edge;
    store(y + i, open[i] ? load(y + i) : bound);
  }
}

template <typename E, typename T>
void grad_loop(const E* dy, const uint8_t* positive, T* du, int64_t n, Scalars<T> k) {
  const T negative = k.gain * k.alpha;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T value = load(dy + i);
    du[i] = positive[i] ? value * k.gain : (k.alpha == T(0) ? T(0) : value * negative);
  }
}

// Adds s times the sum of n neighbours to sums[0], or (`apart`) s times the i-th to sums[i]; sums are double,
// so that a channel of a million elements keeps float32's accuracy.
template <typename T>
void add_to_sums(const T* du, double s, bool apart, double* sums, int64_t n) {
  if (apart) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) sums[i] += s * du[i];
  } else if (n <= kShortSum) {  // few enough for the type of the arithmetic: no conversions in the loop
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; ++i) total += du[i];
    *sums += s * double(total);
  } else {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; ++i) total += du[i];
    *sums += s * total;
  }
}

// Writes s b for each of n neighbours, the first of which belongs to `channel`.
template <typename T>
void spread_bias(const T* b, T s, const BiasActArgs& a, int64_t channel, T* each, int64_t n) {
  if (a.inner == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) each[i] = s * b[channel + i];
  } else {
    const T value = s * b[channel];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) each[i] = value;
  }
}

// Runs loop(offset, how many, each, shared) over a block, with the biases s b as the loops want them.
template <typename T, typename Loop>
void with_bias(const T* b, const T* s, const BiasActArgs& a, const Elements& e, int64_t first, int64_t n,
               const Loop& loop) {
  if (!b) return loop(0, n, (const T*)nullptr, T(0));
  if (a.inner >= kLongRow)
    return for_each_run(a, e, first, n, [&](int64_t i, int64_t length, int64_t channel, int64_t sample) {
      loop(i, length, (const T*)nullptr, s ? s[sample] * b[channel] : b[channel]);
    });
  alignas(64) T each[kBlock];
  for_each_run(a, e, first, n, [&](int64_t i, int64_t length, int64_t channel, int64_t sample) {
    spread_bias(b, s ? s[sample] : T(1), a, channel, each + i, length);
  });
  loop(0, n, (const T*)each, T(0));
}

template <Act act, bool clamped, typename E, typename T>
void run_forward(const E* x, const T* b, E* y, uint8_t* bits, const BiasActArgs& a) {
  const Scalars<T> k{T(a.alpha), T(a.gain)};
  const Elements e(a, 1);
  uint8_t* open_bits = bits + bytes_of_mask(e.count);
  E stored;
  store(&stored, T(a.clamp));
  const T clamp = load(&stored);
  for_each_block(e, e.blocks, a.threads, [&](int64_t first, int64_t n, int64_t) {
    Flags positive;
    int reached = 0;
    with_bias(b, (const T*)nullptr, a, e, first, n, [&](int64_t i, int64_t length, const T* each, T shared) {
      reached |= forward_loop<act, clamped>(x + first + i, each, shared, y + first + i, positive.bytes() + i,
                                            clamp, length, k);
    });
    positive.pack(bits + first / 8, n);
    if (!clamped) return;
    reached ? clamp_block(y + first, clamp, open_bits + first / 8, n) : set_all(open_bits + first / 8, n);
  });
}

template <typename E, typename T>
void run_frozen(const E* u, const T* b, const T* s, const uint8_t* bits, E* y, int64_t samples, bool constant,
                const BiasActArgs& a) {
  const Scalars<T> k{T(a.alpha), T(a.gain)};
  const Elements e(a, samples);
  const uint8_t* open_bits = std::isnan(a.clamp) ? nullptr : bits + bytes_of_mask(e.count);
  const T clamp = T(a.gain < 0 ? -a.clamp : a.clamp);
  for_each_block(e, e.blocks, a.threads, [&](int64_t first, int64_t n, int64_t) {
    Flags positive, open;
    positive.unpack(bits + first / 8, n);
    with_bias(b, s, a, e, first, n, [&](int64_t i, int64_t length, const T* each, T shared) {
      frozen_loop(u + first + i, positive.bytes() + i, each, shared, y + first + i, length, k);
    });
    if (!open_bits || all_set(open_bits + first / 8, n)) return;
    open.unpack(open_bits + first / 8, n);
    for_each_run(a, e, first, n, [&](int64_t i, int64_t length, int64_t, int64_t sample) {
      const T edge = !constant ? T(0) : (s ? s[sample] * clamp : clamp);
      frozen_edges(positive.bytes() + i, open.bytes() + i, edge, y + first + i, length);
    });
  });
}

template <typename E, typename T>
void run_grad(const E* dy, const T* s, const uint8_t* bits, E* du, T* db, int64_t samples,
              const BiasActArgs& a) {
  const Scalars<T> k{T(a.alpha), T(a.gain)};
  const Elements e(a, samples);
  const uint8_t* open_bits = std::isnan(a.clamp) ? nullptr : bits + bytes_of_mask(e.count);
  // Partial sums of db, [tasks, channels]: few enough to be small beside the tensor.
  const int64_t most = db ? smallest(kMostTasks, 1 + e.count / (8 * (a.channels + 1))) : e.blocks;
  const int64_t tasks = smallest(e.blocks, most);
  const int64_t count = db ? tasks * a.channels : 0;
  const Scratch<double> partial(count);
  for (int64_t i = 0; i < count; ++i) partial.data()[i] = 0;
  for_each_block(e, tasks, a.threads, [&](int64_t first, int64_t n, int64_t task) {
    Flags positive, open;
    positive.unpack(bits + first / 8, n);
    alignas(64) T exact[kBlock];  // du before it is rounded to E
    grad_loop(dy + first, positive.bytes(), exact, n, k);
    if (open_bits && !all_set(open_bits + first / 8, n)) {
      open.unpack(open_bits + first / 8, n);
      const uint8_t* flags = open.bytes();
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) exact[i] = flags[i] ? exact[i] : T(0);
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(du + first + i, exact[i]);
    if (!db) return;
    for_each_run(a, e, first, n, [&](int64_t i, int64_t length, int64_t channel, int64_t sample) {
      double* sums = partial.data() + task * a.channels + channel;
      add_to_sums(exact + i, s ? double(s[sample]) : 1.0, a.inner == 1, sums, length);
    });
  });
  if (!db) return;
  for (int64_t c = 0; c < a.channels; ++c) {
    double total = 0;
    for (int64_t i = c; i < count; i += a.channels) total += partial.data()[i];
    db[c] = T(total);
  }
}

}  // namespace

Error bias_act_with_mask(const void* x, const void* b, void* y, uint8_t* bits, const BiasActArgs& args) {
#define FORWARD(ACT, E, T)                                                                           \
  std::isnan(args.clamp) ? run_forward<Act::ACT, false>((const E*)x, (const T*)b, (E*)y, bits, args) \
                         : run_forward<Act::ACT, true>((const E*)x, (const T*)b, (E*)y, bits, args)
#define RUN(E, T)                                                           \
  switch (args.act) {                                                       \
    case Act::linear:                                                       \
      FORWARD(linear, E, T);                                                \
      break;                                                                \
    case Act::relu:                                                         \
      FORWARD(relu, E, T);                                                  \
      break;                                                                \
    case Act::lrelu:                                                        \
      FORWARD(lrelu, E, T);                                                 \
      break;                                                                \
    default:                                                                \
      return "bias_act_with_mask: activation is not linear, relu or lrelu"; \
  }
  FASTGAN_DTYPE_SWITCH(args.dtype, "frozen_bias_act", RUN)
#undef RUN
#undef FORWARD
}

Error frozen_bias_act(const void* u, const void* b, const void* s, const uint8_t* bits, void* y,
                      int64_t samples, bool constant, const BiasActArgs& args){
#define RUN(E, T) run_frozen((const E*)u, (const T*)b, (const T*)s, bits, (E*)y, samples, constant, args)
    FASTGAN_DTYPE_SWITCH(args.dtype, "frozen_bias_act", RUN)
#undef RUN
}

Error frozen_bias_act_grad(const void* dy, const void* s, const uint8_t* bits, void* du, void* db,
                           int64_t samples, const BiasActArgs& args) {
#define RUN(E, T) run_grad((const E*)dy, (const T*)s, bits, (E*)du, (T*)db, samples, args)
  FASTGAN_DTYPE_SWITCH(args.dtype, "frozen_bias_act", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
