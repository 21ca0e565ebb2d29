// The scheduler of the SIMT emulator: see simt_emulator.h for what it promises.
#include "simt_emulator.h"

#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <numeric>
#include <vector>

#include "simt_fibre.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {
namespace {

enum class State { runnable, at_barrier, in_warp_operation, exited };

struct Thread {
  Context context;
  State state;
  // at_barrier
  const char* file;
  int line;
  // in_warp_operation, and the result when it is over
  Operation operation;
  unsigned mask;
  uint64_t value;
  int source;
  uint64_t result;
};

constexpr size_t kStackBytes = 128 * 1024;
constexpr unsigned kMaxThreads = 1024;

Order order = Order::forward;
uint64_t random_state = 1;

cudaError_t last_error = cudaSuccess;
char error_text[1024] = "no error";

std::vector<Thread> threads;  // of the block that runs
int current = 0;
Context scheduler;
void (*kernel_body)(void*) = nullptr;
void* kernel_context = nullptr;

// The first error counts: those after it are its consequences.
__attribute__((format(printf, 2, 3))) void fail(cudaError_t error, const char* format, ...) {
  if (last_error != cudaSuccess) return;
  last_error = error;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error_text, sizeof(error_text), format, arguments);
  va_end(arguments);
}

uint64_t random_number() {  // splitmix64
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void arrange(std::vector<unsigned>& turns) {
  std::iota(turns.begin(), turns.end(), 0u);
  if (order == Order::reverse) std::reverse(turns.begin(), turns.end());
  if (order == Order::random) {
    for (size_t n = turns.size(); n > 1; --n) std::swap(turns[n - 1], turns[random_number() % n]);
  }
}

// One stack for each thread, kept for the next launch; the page below each is not accessible, so that a stack
// that overflows stops at once.
char* stack_of(unsigned thread) {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  static std::vector<char*> stacks;
  while (stacks.size() <= thread) {
    void* memory = mmap(nullptr, page + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
      fail(cudaErrorLaunchFailure, "no memory for the stacks of the emulated threads");
      return nullptr;
    }
    stacks.push_back(static_cast<char*>(memory) + page);
  }
  return stacks[thread];
}

void give_way() { switch_context(threads[current].context, scheduler); }

void fibre_main() {
  kernel_body(kernel_context);
  threads[current].state = State::exited;
  give_way();
}

bool waits_with(const Thread& other, const Thread& self) {
  return other.state == State::in_warp_operation && other.mask == self.mask &&
         other.operation == self.operation;
}

int count(State state) {
  return static_cast<int>(
      std::count_if(threads.begin(), threads.end(), [&](auto& t) { return t.state == state; }));
}

void describe_deadlock() {
  const unsigned x = blockIdx.x, y = blockIdx.y, z = blockIdx.z;
  for (size_t t = 0; t < threads.size(); ++t) {
    if (threads[t].state != State::in_warp_operation) continue;
    unsigned absent = threads[t].mask;
    const size_t first = t / warpSize * warpSize;
    for (size_t l = first; l < std::min(first + warpSize, threads.size()); ++l) {
      if (waits_with(threads[l], threads[t])) absent &= ~(1u << (l - first));
    }
    return fail(
        cudaErrorLaunchFailure,
        "warp operation of thread %zu in block (%u, %u, %u) with mask 0x%08x: lanes 0x%08x never arrive", t,
        x, y, z, threads[t].mask, absent);
  }
  const auto waiting =
      std::find_if(threads.begin(), threads.end(), [](auto& t) { return t.state == State::at_barrier; });
  fail(cudaErrorLaunchFailure,
       "divergent barrier in block (%u, %u, %u): %d of %zu threads reached __syncthreads at %s:%d, %d exited",
       x, y, z, count(State::at_barrier), threads.size(), waiting->file, waiting->line, count(State::exited));
}

// Once all threads wait at the barrier, they go on; but they must have come to the same one.
void open_barrier() {
  for (Thread& thread : threads) {
    if (thread.line != threads[0].line || strcmp(thread.file, threads[0].file) != 0) {
      return fail(cudaErrorLaunchFailure,
                  "divergent barrier in block (%u, %u, %u): some threads wait at %s:%d and others at %s:%d",
                  blockIdx.x, blockIdx.y, blockIdx.z, threads[0].file, threads[0].line, thread.file,
                  thread.line);
    }
    thread.state = State::runnable;
  }
}

// The calling thread's thread-local memory of this library: all __shared__ variables, and `touched`.
struct Range {
  char* begin;
  size_t bytes;
};
thread_local volatile char touched;

Range find_shared_memory() {
  touched = 1;  // its first use by a host thread is what allocates the range
  Range range = {nullptr, 0};
  const auto visit = [](dl_phdr_info* info, size_t, void* result) {
    const auto* headers = info->dlpi_phdr;
    const auto here = reinterpret_cast<uintptr_t>(&threads) - info->dlpi_addr;
    const ElfW(Phdr)* tls = nullptr;
    bool is_this_library = false;
    for (int h = 0; h < info->dlpi_phnum; ++h) {
      if (headers[h].p_type == PT_TLS) tls = &headers[h];
      if (headers[h].p_type == PT_LOAD && here - headers[h].p_vaddr < headers[h].p_memsz)
        is_this_library = true;
    }
    if (!is_this_library) return 0;
    *static_cast<Range*>(result) = {static_cast<char*>(info->dlpi_tls_data), tls->p_memsz};
    return 1;
  };
  dl_iterate_phdr(visit, &range);
  return range;
}

uint3 thread_index(unsigned thread) {
  return {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
}

void run_block(Range shared_memory) {
  memset(shared_memory.begin, 0xff, shared_memory.bytes);
  for (unsigned t = 0; t < threads.size(); ++t) {
    threads[t].state = State::runnable;
    prepare_context(threads[t].context, stack_of(t), kStackBytes, fibre_main);
  }
  std::vector<unsigned> turns(threads.size());
  while (last_error == cudaSuccess && count(State::exited) < static_cast<int>(threads.size())) {
    arrange(turns);
    bool progress = false;
    for (const unsigned t : turns) {
      if (threads[t].state != State::runnable) continue;
      progress = true;
      current = static_cast<int>(t);
      threadIdx = thread_index(t);
      switch_context(scheduler, threads[t].context);
      if (last_error != cudaSuccess) return;  // the fibres are left where they stand
    }
    if (count(State::at_barrier) == static_cast<int>(threads.size())) {
      open_barrier();
    } else if (!progress) {
      describe_deadlock();
    }
  }
}

}  // namespace

extern "C" void simt_set_order(Order new_order, uint64_t seed) {
  order = new_order;
  random_state = seed;
}

int lane() { return current % warpSize; }

void block_barrier(const char* file, int line) {
  Thread& self = threads[current];
  self.state = State::at_barrier;
  self.file = file;
  self.line = line;
  give_way();
}

uint64_t warp_meet(Operation operation, unsigned mask, uint64_t value, int source) {
  Thread& self = threads[current];
  self.state = State::in_warp_operation;
  self.operation = operation;
  self.mask = mask;
  self.value = value;
  self.source = source;
  if (!(mask >> lane() & 1u)) {
    fail(cudaErrorLaunchFailure,
         "warp operation of thread %d in block (%u, %u, %u): its mask 0x%08x lacks its own lane %d", current,
         blockIdx.x, blockIdx.y, blockIdx.z, mask, lane());
    give_way();
  }
  const size_t first = current / warpSize * warpSize;
  const auto is_there = [&](int l) {
    return first + l < threads.size() && waits_with(threads[first + l], self);
  };
  for (int l = 0; l < warpSize; ++l) {
    if ((mask >> l & 1u) && !is_there(l)) {
      give_way();
      return threads[current].result;
    }
  }
  // The last to arrive serves all: nobody's value can be overwritten by its next operation before it is read.
  uint64_t ballot = 0;
  for (int l = 0; l < warpSize; ++l) {
    if ((mask >> l & 1u) && threads[first + l].value) ballot |= uint64_t{1} << l;
  }
  for (int l = 0; l < warpSize; ++l) {
    if (!(mask >> l & 1u)) continue;
    Thread& thread = threads[first + l];
    const bool valid = thread.source >= 0 && thread.source < warpSize && (mask >> thread.source & 1u);
    const uint64_t shuffled =
        valid ? threads[first + thread.source].value : ~uint64_t{0};  // undefined in CUDA
    thread.result = operation == Operation::shuffle ? shuffled : ballot;
  }
  for (int l = 0; l < warpSize; ++l) {
    if (mask >> l & 1u) threads[first + l].state = State::runnable;
  }
  return self.result;
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void*), void* context) {
  const uint64_t size = uint64_t{block.x} * block.y * block.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (size == 0 || size > kMaxThreads || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu ||
      grid.y > 65535 || grid.z > 65535) {
    return fail(cudaErrorInvalidConfiguration, "invalid configuration: grid (%u, %u, %u), block (%u, %u, %u)",
                grid.x, grid.y, grid.z, block.x, block.y, block.z);
  }
  if (shared_bytes != 0) {
    return fail(cudaErrorInvalidConfiguration,
                "dynamic shared memory is not emulated: use static __shared__ arrays");
  }
  if (!stack_of(static_cast<unsigned>(size) - 1)) return;
  kernel_body = body;
  kernel_context = context;
  gridDim = grid;
  blockDim = block;
  threads.assign(size, Thread{});
  const Range shared_memory = find_shared_memory();
  if (!shared_memory.begin)
    return fail(cudaErrorLaunchFailure, "the emulator did not find its shared memory");
  std::vector<unsigned> turns(blocks);
  arrange(turns);
  for (const unsigned b : turns) {
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
    run_block(shared_memory);
    if (last_error != cudaSuccess) return;
  }
}

}  // namespace simt

cudaError_t cudaGetLastError() {
  const cudaError_t error = simt::last_error;
  simt::last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : simt::error_text;
}
