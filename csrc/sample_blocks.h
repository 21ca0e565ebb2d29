// A batch of B samples of N elements each, cut into blocks that belong to one sample.
//
// The cut depends on the shape alone, so that what is computed per block does not depend on the threads.
#pragma once

#include <cstdint>

namespace fastgan {
namespace {

struct SampleBlocks {
  static constexpr int64_t kBlock = 4096;  // elements: 16 KB of float32, a fraction of the L1 cache
  int64_t B, N, per_sample;

  SampleBlocks(int64_t B, int64_t N) : B(B), N(N), per_sample((N + kBlock - 1) / kBlock) {}

  int64_t count() const { return B * per_sample; }
  // Threads cost more than they save where there is little to do.
  int worthwhile(int threads) const { return B * N < 2 * kBlock ? 1 : threads; }

  // Calls body(sample, start, n, block): n elements from offset `start` of the whole tensor.
  template <typename Body>
  void visit(int64_t block, const Body& body) const {
    const int64_t sample = block / per_sample, first = block % per_sample * kBlock;
    body(sample, sample * N + first, N - first < kBlock ? N - first : kBlock, block);
  }
  template <typename Body>
  void for_each(int threads, const Body& body) const {
    threads = worthwhile(threads);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t block = 0; block < count(); ++block) visit(block, body);
  }
};

}  // namespace
}  // namespace fastgan
