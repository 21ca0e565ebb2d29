"""The emulator itself: the results of small kernels, and the faults that it must catch."""

import os

import numpy as np
import pytest
import torch

from .build import EmulatorError, emulate, unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

SOURCE = r"""
#include "cuda_launch.h"
using fastgan::Error;
using fastgan::cuda::launch_error;

__global__ void block_sum(const float* x, float* sums, int64_t n) {
  __shared__ float of_warp[32];
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  float value = i < n ? x[i] : 0.0f;
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_down_sync(0xffffffffu, value, lanes);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x < 32) {
    value = threadIdx.x < blockDim.x / 32 ? of_warp[threadIdx.x] : 0.0f;
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    if (threadIdx.x == 0) sums[blockIdx.x] = value;
  }
}
Error run_block_sum(const float* x, float* sums, int64_t n, int64_t blocks) {
  FASTGAN_LAUNCH(block_sum, static_cast<unsigned>(blocks), 256, 0, nullptr, x, sums, n);
  return launch_error();
}

// One value per lane: up, down, xor and indexed shuffles in segments of 8 lanes, then votes.
__global__ void warp_operations(int* out) {
  const int t = threadIdx.x;
  out[t] = __shfl_up_sync(0xffffffffu, t, 3, 8);
  out[32 + t] = __shfl_down_sync(0xffffffffu, t, 3, 8);
  out[64 + t] = __shfl_xor_sync(0xffffffffu, t, 4, 8);
  out[96 + t] = __shfl_sync(0xffffffffu, t, 5, 8);
  out[128 + t] = static_cast<int>(__ballot_sync(0xffffffffu, t % 3 == 0));
  out[160 + t] = __any_sync(0xffffffffu, t == 7) * 2 + __all_sync(0xffffffffu, t < 31);
  out[192 + t] = static_cast<int>(__shfl_sync(0xffffffffu, t * 0.5, 31));
  // Two halves of the warp, each for itself.
  out[224 + t] = t < 16 ? __shfl_xor_sync(0x0000ffffu, t, 1) : __shfl_xor_sync(0xffff0000u, t, 2);
}
Error run_warp_operations(int* out) {
  FASTGAN_LAUNCH(warp_operations, 1, 32, 0, nullptr, out);
  return launch_error();
}

__global__ void histogram(const int* x, int* counts, double* sum, int n) {
  const int block = blockIdx.y * gridDim.x + blockIdx.x;
  const int i = (block * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(&counts[x[i]], 1);
  atomicAdd(sum, 0.5);
}
Error run_histogram(const int* x, int* counts, double* sum, int64_t n) {
  FASTGAN_LAUNCH(histogram, dim3(3, 4), dim3(8, 5), 0, nullptr, x, counts, sum, static_cast<int>(n));
  return launch_error();
}

// Shared memory inside a template is found too.
template <bool kWithBarrier>
__global__ void reverse_block(const float* x, float* y) {
  __shared__ float tile[64];
  tile[threadIdx.x] = x[threadIdx.x];
  if (kWithBarrier) __syncthreads();
  y[threadIdx.x] = tile[63 - threadIdx.x];
}
Error run_reverse(const float* x, float* y, int64_t with_barrier) {
  FASTGAN_LAUNCH(with_barrier ? reverse_block<true> : reverse_block<false>, 1, 64, 0, nullptr, x, y);
  return launch_error();
}

// The barrier between reading one tile and writing the next is missing.
__global__ void overwrites(const float* x, float* y, bool with_barrier) {
  __shared__ float tile[64];
  float sum = 0.0f;
  for (int step = 0; step < 4; ++step) {
    tile[threadIdx.x] = x[step * 64 + threadIdx.x];
    __syncthreads();
    sum += tile[63 - threadIdx.x];
    if (with_barrier) __syncthreads();
  }
  y[threadIdx.x] = sum;
}
Error run_overwrites(const float* x, float* y, int64_t with_barrier) {
  FASTGAN_LAUNCH(overwrites, 1, 64, 0, nullptr, x, y, with_barrier != 0);
  return launch_error();
}

__global__ void divergent(int kind) {
  if (kind == 0 && blockIdx.x == 1 && threadIdx.x >= 40) return;  // exits, the others wait
  if (kind == 1) {
    if (threadIdx.x < 10) {
      __syncthreads();
    } else {
      __syncthreads();  // another barrier
    }
  }
  if (kind == 2 && threadIdx.x % 32 != 5) __shfl_sync(0xffffffffu, 1, 0);  // lane 5 never comes
  if (kind == 3 && threadIdx.x == 0) __shfl_sync(0xfffffffeu, 1, 1);       // lane 0 is not in its own mask
  if (kind == 4) threadIdx.x % 32 < 16 ? __shfl_sync(0xffffffffu, 1, 0) : __ballot_sync(0xffffffffu, 1);
  __syncthreads();
}
Error run_divergent(int64_t kind) {
  FASTGAN_LAUNCH(divergent, 2, 64, 0, nullptr, static_cast<int>(kind));
  return launch_error();
}
Error run_configuration(int64_t blocks, int64_t threads, int64_t shared_bytes) {
  FASTGAN_LAUNCH(divergent, static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes, nullptr, -1);
  return launch_error();
}

// What block 0 wrote must not help block 1.
__global__ void forgets(float* y) {
  __shared__ float value;
  if (blockIdx.x == 0) value = 1.0f;
  y[blockIdx.x] = value;
}
Error run_forgets(float* y) {
  FASTGAN_LAUNCH(forgets, 2, 1, 0, nullptr, y);
  return launch_error();
}

__global__ void convert(const float* x, __half* h, __nv_bfloat16* b, float* h_back, float* b_back, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  h[i] = __float2half_rn(x[i]);
  b[i] = __float2bfloat16_rn(x[i]);
  h_back[i] = __half2float(h[i]);
  b_back[i] = __bfloat162float(b[i]);
}
Error run_convert(const float* x, __half* h, __nv_bfloat16* b, float* h_back, float* b_back, int64_t n) {
  FASTGAN_LAUNCH(convert, static_cast<unsigned>((n + 255) / 256), 256, 0, nullptr, x, h, b, h_back, b_back, n);
  return launch_error();
}
"""
FUNCTIONS = [
    "run_block_sum",
    "run_warp_operations",
    "run_histogram",
    "run_reverse",
    "run_overwrites",
    "run_divergent",
    "run_configuration",
    "run_forgets",
    "run_convert",
]
ORDERS = ["forward", "reverse", "random"]


@pytest.fixture(scope="module", params=["native", "ucontext"])
def kernels(request):
    """The kernels above, over both ways of switching fibres."""
    return emulate(SOURCE, FUNCTIONS, ["-DSIMT_USE_UCONTEXT"] if request.param == "ucontext" else [])


@pytest.fixture
def seed():
    return int.from_bytes(os.urandom(4), "little")


@pytest.mark.parametrize("order", ORDERS)
def test_block_reduction(kernels, order, seed):
    kernels.set_order(order, seed)
    n = 1000
    x = torch.from_numpy(np.random.default_rng(seed).integers(-1000, 1000, n).astype(np.float32))
    sums = torch.full((4,), torch.nan)
    kernels.run_block_sum(x, sums, n, 4)
    expected = [x[i : i + 256].sum().item() for i in range(0, n, 256)]  # integers: exact in any order
    assert sums.tolist() == expected, f"seed {seed}"


@pytest.mark.parametrize("order", ORDERS)
def test_warp_operations(kernels, order, seed):
    kernels.set_order(order, seed)
    out = torch.full((8, 32), -1, dtype=torch.int32)
    kernels.run_warp_operations(out)
    t = np.arange(32)
    ballot = int(np.int64(sum(1 << i for i in range(0, 32, 3))).astype(np.int32))
    expected = [
        np.where(t % 8 >= 3, t - 3, t),
        np.where(t % 8 < 5, t + 3, t),
        t ^ 4,
        t // 8 * 8 + 5,
        np.full(32, ballot),
        np.full(32, 2),
        np.full(32, 15),
        np.where(t < 16, t ^ 1, t ^ 2),
    ]
    np.testing.assert_array_equal(out.numpy(), np.stack(expected), err_msg=f"seed {seed}")


@pytest.mark.parametrize("order", ORDERS)
def test_atomics_and_two_dimensional_indices(kernels, order, seed):
    kernels.set_order(order, seed)
    n = 3 * 4 * 8 * 5 - 7
    x = torch.from_numpy(np.random.default_rng(seed).integers(0, 10, n).astype(np.int32))
    counts, total = torch.zeros(10, dtype=torch.int32), torch.zeros(1, dtype=torch.float64)
    kernels.run_histogram(x, counts, total, n)
    assert counts.tolist() == np.bincount(x.numpy(), minlength=10).tolist(), f"seed {seed}"
    assert total.item() == 0.5 * n


@pytest.mark.parametrize("order", ORDERS)
def test_barrier_makes_every_order_equal(kernels, order, seed):
    kernels.set_order(order, seed)
    x, y = torch.arange(256.0), torch.full((64,), torch.nan)
    kernels.run_reverse(x, y, 1)
    assert torch.equal(y, x[:64].flip(0))
    kernels.run_overwrites(x, y, 1)
    assert torch.equal(y, x.view(4, 64).flip(1).sum(0))


@pytest.mark.parametrize("order", ORDERS)
def test_missing_barrier_after_a_write_reads_nan(kernels, order, seed):
    kernels.set_order(order, seed)
    x, y = torch.arange(64.0), torch.zeros(64)
    kernels.run_reverse(x, y, 0)
    assert y.isnan().any(), f"seed {seed}"


@pytest.mark.parametrize("order", ORDERS)
def test_missing_barrier_before_an_overwrite_shows(kernels, order, seed):
    kernels.set_order(order, seed)
    x, y = torch.arange(256.0), torch.zeros(64)
    kernels.run_overwrites(x, y, 0)
    assert not torch.equal(y, x.view(4, 64).flip(1).sum(0)), f"seed {seed}"


def test_random_orders_follow_the_seed(kernels, seed):
    x, results = torch.arange(256.0), []
    for each in (seed, seed, seed + 1):
        kernels.set_order("random", each)
        results.append(torch.zeros(64))
        kernels.run_overwrites(x, results[-1], 0)
    assert torch.equal(results[0], results[1]), f"seed {seed}"
    assert not torch.equal(results[0], results[2]), f"seed {seed}"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (0, r"divergent barrier in block \(1, 0, 0\): 40 of 64 threads reached __syncthreads at .*, 24 exited"),
        (1, r"divergent barrier in block \(0, 0, 0\): some threads wait at .* and others at "),
        (2, r"warp operation of thread \d+ in block \(0, 0, 0\) with mask 0xffffffff: lanes 0x00000020 never arrive"),
        (3, r"thread 0 in block \(0, 0, 0\): its mask 0xfffffffe lacks its own lane 0"),
        (4, r"with mask 0xffffffff: lanes 0x(ffff0000|0000ffff) never arrive"),
    ],
)
def test_threads_that_wait_in_vain(kernels, kind, message):
    kernels.set_order("forward")
    with pytest.raises(EmulatorError, match=message):
        kernels.run_divergent(kind)
    kernels.run_divergent(-1)  # and the next launch is unharmed


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_starts_as_nan_in_every_block(kernels, order, seed):
    kernels.set_order(order, seed)
    y = torch.zeros(2)
    kernels.run_forgets(y)
    assert y[0] == 1
    assert y[1].isnan()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 64, 0), "invalid configuration"),
        ((1, 0, 0), "invalid configuration"),
        ((1, 1025, 0), "invalid configuration"),
        ((1, 32, 16), "dynamic shared memory"),
    ],
)
def test_launches_that_cuda_refuses(kernels, arguments, message):
    with pytest.raises(EmulatorError, match=message):
        kernels.run_configuration(*arguments)
    kernels.run_configuration(1, 32, 0)


def test_sixteen_bit_conversions(kernels, seed):
    bits = np.random.default_rng(seed).integers(0, 1 << 32, 50_000, dtype=np.uint64).astype(np.uint32)
    every = np.arange(1 << 16, dtype=np.uint16)
    halves = every.view(np.float16).astype(np.float32)
    with np.errstate(invalid="ignore"):
        between = np.nextafter(halves, np.float32(np.inf)), np.nextafter(halves, np.float32(-np.inf))
        middles = (halves[:-1] + halves[1:]) / 2  # ties, to even
    wide = (every.astype(np.uint32) << 16).view(np.float32)
    wide_ties = ((every.astype(np.uint32) << 16) | 0x8000).view(np.float32)
    values = [bits.view(np.float32), halves, *between, middles, wide, wide_ties]
    x = torch.from_numpy(np.concatenate(values))
    h, b = torch.zeros(len(x), dtype=torch.float16), torch.zeros(len(x), dtype=torch.bfloat16)
    h_back, b_back = torch.zeros(len(x)), torch.zeros(len(x))
    kernels.run_convert(x, h, b, h_back, b_back, len(x))
    torch.testing.assert_close(h, x.half(), rtol=0, atol=0, equal_nan=True, msg=lambda m: f"seed {seed}: {m}")
    torch.testing.assert_close(b, x.bfloat16(), rtol=0, atol=0, equal_nan=True, msg=lambda m: f"seed {seed}: {m}")
    torch.testing.assert_close(h_back, h.float(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(b_back, b.float(), rtol=0, atol=0, equal_nan=True)
