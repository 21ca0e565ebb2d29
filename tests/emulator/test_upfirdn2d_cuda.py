"""csrc/upfirdn2d.cu, unmodified, on the host emulator against the reference in float64."""

import ctypes
import os
from contextlib import nullcontext
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastgan import backends
from fastgan.ops.upfirdn2d import backends as operators
from fastgan.ops.upfirdn2d.spec import SPEC
from tests.ops.cases import Case, derivatives, draw_weights, leaves
from tests.rotation import in_turn

from .build import EmulatorError, emulate, unavailable
from .guarded import dies, fenced, sparse
from .upfirdn2d_calls import DTYPES, SOURCE, Args, arguments, check, draw, reference, run, same_bits

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

RATES = {"same": (1, 1), "up": (2, 1), "down": (1, 2)}
# The last one is drawn afresh in every run.
ORDERS = [("forward", 1), ("reverse", 1), ("random", int.from_bytes(os.urandom(4), "little"))]


@pytest.fixture(scope="module")
def kernels():
    return emulate(SOURCE, ["scratch_of", "pairs_of", "fastgan::cuda::upfirdn2d"])


# --- the tiles -------------------------------------------------------------------------------------------------------

# [B, C, H, W] without the padding, of x or, upsampled, of y: smaller than a tile, exactly a tile, and one more than it
# in every direction: columns (64 and 16), rows (64, 32 and 16), planes of a block (8), channels of a block (16 or
# 32; an even number goes in pairs).
NARROW = [(1, 1, 1, 1), (2, 3, 4, 4), (3, 3, 17, 16), (1, 9, 33, 5), (1, 2, 16, 17)]
WIDE = [(1, 1, 5, 64), (1, 2, 33, 65), (2, 1, 2, 129)]
DEEP = [(1, 16, 3, 4), (2, 33, 17, 2), (1, 5, 9, 17), (2, 34, 2, 9), (1, 2, 17, 17), (1, 32, 16, 16)]


@pytest.mark.parametrize("taps", [(4, 4), (4,)], ids=["two-dimensional", "separable"])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float64], ids=str)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_tiles_against_float64(kernels, format, rate, dtype, taps, generator):
    """Both parities of the padding, in each direction, for filters as they are and reversed."""
    up, down = RATES[rate]
    f = torch.randn(taps, generator=generator)
    for number, (B, C, H, W) in enumerate(DEEP if format == "channels_last" else NARROW + WIDE):
        kernels.set_order(*ORDERS[number % 3])
        for padding in ((3, 2, 2, 1), (2, 3, 3, 2), (1, 4, -1, 5), (4, -1, 4, 2)):
            keywords = {
                "up": (up, up),
                "down": (down, down),
                "padding": padding,
                "flip": number % 2 == 0,
                "gain": up**2,
            }
            x = draw((B, C, -(-H // up) + 2, -(-W // up) + 2), dtype, generator)
            assert_tiled(kernels, x, f, **keywords)
            check(kernels, x, f, **keywords, channels_last=format == "channels_last")


def assert_tiled(kernels, x, f, **keywords):
    """A separable filter needs scratch memory wherever there is no tile for the arguments."""
    elements = ctypes.c_int64()
    args = arguments(x.shape, f[:1].flatten(), x.dtype, **keywords)
    args.fh = args.fw = f.shape[-1]
    kernels.scratch_of(ctypes.byref(args), ctypes.byref(elements))
    assert elements.value == 0


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float64], ids=str)
@pytest.mark.parametrize("rate", RATES)
def test_channels_go_in_pairs_only_where_they_are_aligned(kernels, rate, dtype, generator):
    (up, down), f, B, H, W = RATES[rate], torch.randn(4, 4, generator=generator), 2, 5, 9
    for C in (5, 6):
        keywords = {"up": (up, up), "down": (down, down), "padding": (2, 2, 1, 2), "channels_last": True}
        args, results = arguments((B, C, H, W), f, dtype, **keywords), []
        sizes, values = (B * H * W * C, B * args.OH * args.OW * C), draw((B * H * W * C,), dtype, generator)
        for shifts in ((0, 0), (0, 1), (1, 0), (1, 1)):
            x, y = (
                torch.full((size + shift,), torch.nan, dtype=dtype)[shift:]
                for size, shift in zip(sizes, shifts, strict=True)
            )
            x.copy_(values)
            pairs = ctypes.c_int64()
            kernels.pairs_of(x, y, ctypes.byref(args), ctypes.byref(pairs))
            assert pairs.value == (C == 6 and shifts == (0, 0))
            kernels.upfirdn2d(x, f, y, ctypes.byref(args), None, None)
            results.append(y)
        assert all(same_bits(result, results[0]) for result in results)
        assert results[0].isfinite().all()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_every_order_of_threads_gives_the_same_bits(kernels, format, rate, generator):
    (up, down), f = RATES[rate], torch.randn(4, 4, generator=generator)
    for shape in ((1, 3, 20, 19), (1, 17, 9, 40), (1, 10, 20, 9)):
        x, results = draw(shape, torch.float32, generator), []
        for order in ORDERS:
            kernels.set_order(*order)
            keywords = {"up": (up, up), "down": (down, down), "channels_last": format == "channels_last"}
            results.append(run(kernels, x, f, padding=(2, 1, 2, 1), **keywords))
        assert all(same_bits(result, results[0]) for result in results), ORDERS


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_nan_and_infinity_stay_where_the_filter_takes_them(kernels, format, rate, generator):
    up, down = RATES[rate]
    f = torch.rand(4, 4, generator=generator) + 0.1
    for W in (20, 70):
        for value in (torch.nan, torch.inf):
            x = draw((1, 2, 20, W), torch.float32, generator)
            x[0, 1, 7, W - 3] = value
            keywords = {"up": (up, up), "down": (down, down), "padding": (3, 2, 2, 1)}
            found = run(kernels, x, f, **keywords, channels_last=format == "channels_last")
            finite = reference(x.nan_to_num(0, 0, 0), f, **keywords)
            reached = reference(x.isfinite().logical_not().double(), f, **keywords) > 0
            assert not found[reached].isfinite().any()
            assert found[~reached].isfinite().all()
            torch.testing.assert_close(found[~reached].double(), finite[~reached], rtol=1e-4, atol=1e-4)


# --- everything ------------------------------------------------------------------------------------------------------


def random_call(random):
    """Shapes and keywords; three of four have a tile where the dtype has one."""
    while True:
        tiled = random.random() < 0.75
        shape = tuple(map(int, (random.integers(1, 4), random.choice([1, 2, 3, 5, 9, 17]), *random.integers(1, 40, 2))))
        if random.random() < 0.2:
            shape = (1, int(random.integers(1, 3)), int(random.integers(1, 8)), int(random.integers(60, 140)))
        taps = (4,) * int(random.integers(1, 3)) if tiled else tuple(random.integers(1, 8, random.integers(1, 3)))
        up, down = RATES[random.choice(list(RATES))]
        rates = (up, up, down, down) if tiled else tuple(map(int, random.choice([1, 1, 2, 2, 3, 5], 4)))
        x0, x1, y0, y1 = padding = tuple(map(int, random.integers(-5, 9, 4)))
        if min(shape[3] * rates[0] + x0 + x1 - taps[-1], shape[2] * rates[1] + y0 + y1 - taps[0]) < 0:
            continue
        keywords = {"up": rates[:2], "down": rates[2:], "padding": padding, "gain": float(random.uniform(-2, 2))}
        keywords |= {"flip": bool(random.random() < 0.5), "channels_last": bool(random.random() < 0.4)}
        return shape, taps, keywords


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_random_calls_against_float64(kernels, dtype, seed):
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    for call in range(int(os.environ.get("FASTGAN_FUZZ", "25"))):
        shape, taps, keywords = random_call(random)
        kernels.set_order(*ORDERS[call % 2])
        check(kernels, draw(shape, dtype, generator), torch.randn(taps, generator=generator), **keywords)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("taps", [(12,), (7, 3), (1, 1), (2, 9)], ids=str)
def test_any_filter_at_any_rate(kernels, taps, dtype, channels_last, generator):
    f = torch.randn(taps, generator=generator)
    for up, down in (((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 2)), ((3, 2), (2, 5)), ((4, 1), (1, 3))):
        x = draw((2, 3, 6, 11), dtype, generator)
        keywords = {"up": up, "down": down, "padding": (8, 5, 7, 6), "gain": 1.7, "channels_last": channels_last}
        check(kernels, x, f, **keywords)
        check(kernels, x, f, **keywords, flip=True)


@pytest.mark.parametrize("rate", RATES)
def test_the_transpose_is_the_kernel_itself(kernels, rate, generator):
    """<g, A x> = <A' g, x>, with A' as fastgan/ops/upfirdn2d/autograd.py calls it for the gradient."""
    (up, down), f = RATES[rate], torch.randn(4, 4, generator=generator)
    x = draw((2, 3, 11, 37), torch.float32, generator)
    y = run(kernels, x, f, up=(up, up), down=(down, down), padding=(2, 1, 3, 2), gain=1.5)
    g = draw(y.shape, torch.float32, generator)
    # The origin becomes 4 - 1 - origin; the other side is what gives x's size.
    sides = []
    for origin, inner, outer in ((2, 37, y.shape[3]), (3, 11, y.shape[2])):
        before = 3 - origin
        sides += [before, (inner - 1) * up + 4 - outer * down - before]
    dx = run(kernels, g, f, up=(down, down), down=(up, up), padding=tuple(sides), flip=True, gain=1.5)
    assert dx.shape == x.shape
    left, right = (g.double() * y.double()).sum(), (dx.double() * x.double()).sum()
    assert (left - right).abs() <= 1e-5 * (g.double() * y.double()).abs().sum()


@pytest.mark.parametrize("taps", [(4, 4), (4,), (12,), (3, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty(kernels, dtype, taps, generator):
    f = torch.randn(taps, generator=generator)
    for channels_last in (False, True):
        y = run(kernels, draw((0, 3, 5, 6), dtype, generator), f, padding=(9, 9, 9, 9), channels_last=channels_last)
        assert y.numel() == 0


@pytest.mark.parametrize(
    ("rate", "taps"), in_turn(list(product(RATES, [(4, 4), (3, 2)])), "beyond the image", run=2), ids=str
)
def test_nothing_beyond_the_image_is_read(kernels, rate, taps, generator):
    """Not even where the result does not depend on it."""
    (up, down), f = RATES[rate], torch.randn(taps, generator=generator)
    fence = fenced(f, at_the_end=True)
    assert dies(lambda: ctypes.string_at(fence.data_ptr() + 4 * f.numel(), 1))
    for channels_last in (False, True):
        for shape in ((1, 1, 1, 1), (1, 5, 9, 17), (3, 6, 33, 5), (1, 3, 9, 50), (2, 1, 40, 66)):
            x = draw(shape, torch.float32, generator)
            stored = x.permute(0, 2, 3, 1) if channels_last else x
            for padding in ((3, 2, 2, 3), (2, 40, 1, 70), (-1, 4, 4, 3)):
                keywords = {"up": (up, up), "down": (down, down), "padding": padding, "channels_last": channels_last}
                args = arguments(shape, f, x.dtype, **keywords)
                if min(args.OH, args.OW) < 1:
                    continue
                y = torch.empty(args.B * args.C * args.OH * args.OW)

                def call(at_the_end, stored=stored, args=args, y=y):
                    tensors = fenced(stored, at_the_end), fenced(f, at_the_end), y
                    kernels.upfirdn2d(*tensors, ctypes.byref(args), None, None)

                assert not dies(lambda call=call: (call(True), call(False))), f"{shape}, {keywords}"


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [(4, 4), (4,), (5, 3), (6,)], ids=str)
def test_rates_and_origins_beyond_32_bits(kernels, taps, generator):
    """The second of two pixels that are 2^33 apart, cropped to, is one pixel between zeros."""
    far, f = (1 << 33) + 1, torch.randn(taps, generator=generator)
    for channels_last in (False, True):
        x = draw((1, 2, 1, 2), torch.float32, generator)
        side = far - 20 - f.shape[-1]
        keywords = {"padding": (-side, -(far - 30), 9, 9), "channels_last": channels_last}
        found = run(kernels, x, f, up=(far, 1), **keywords)
        near = {"padding": (far - side, far - (far - 30) - 1, 9, 9), "channels_last": channels_last}
        torch.testing.assert_close(found, check(kernels, x[..., 1:], f, **near))


@pytest.mark.parametrize("shape", [(1, 3, (1 << 15) + 2, 1 << 15), (1, 17, 2, 1 << 27)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("taps", [(4, 4), (3, 3)], ids=str)
def test_images_of_more_than_2_to_the_31_elements(kernels, taps, channels_last, shape, generator):
    """Many rows or long ones, cropped to the last corner of each channel; the rest is never touched."""
    f, (B, C, H, W), order = torch.randn(taps, generator=generator), shape, (0, 3, 1, 2)
    memory, h, w = sparse(B * C * H * W, torch.float16), min(H, 40), 40
    x = memory.view(B, H, W, C).permute(order) if channels_last else memory.view(shape)
    x[..., -h:, -w:] = draw((B, C, h, w), torch.float16, generator)
    keywords = {"padding": (8 - W, 2, 8 - H, 1), "channels_last": channels_last}
    args = arguments(shape, f, x.dtype, **keywords)
    y = torch.full((B, args.OH, args.OW, C), torch.nan, dtype=x.dtype)
    y = y.permute(order) if channels_last else y.view(B, C, args.OH, args.OW)
    kernels.upfirdn2d(memory, f, y, ctypes.byref(args), None, None)
    near = {**keywords, "padding": (8 - w, 2, 8 - h, 1)}
    assert same_bits(y, check(kernels, x[..., -h:, -w:], f, **near))
    assert y.any()


@pytest.mark.parametrize("origin", [(1 << 28) - 1, 1 << 28, (1 << 29) + 1, 1 << 40])
@pytest.mark.parametrize("rate", RATES)
def test_outputs_far_from_the_image_are_zero(kernels, rate, origin, generator):
    (up, down), f = RATES[rate], torch.randn(4, 4, generator=generator)
    x = draw((1, 2, 6, 40), torch.float32, generator)
    for padding in ((origin, -origin, 2, 1), (2, 1, origin, -origin), (2, 1, -origin, origin)):
        found = run(kernels, x, f, up=(up, up), down=(down, down), padding=padding)
        assert not found.any()


@pytest.mark.parametrize(("dtype", "shape"), [(0, (1 << 40, 1)), (1, (1 << 40, 1)), (0, (1 << 31, 1 << 20))], ids=str)
def test_sizes_beyond_the_grid_are_refused(kernels, dtype, shape):
    null = ctypes.c_void_p(None)
    args = arguments((*shape, 4, 40), torch.zeros(4, 4), DTYPES[dtype], padding=(2, 1, 2, 1))
    with pytest.raises(EmulatorError, match="too large for one CUDA grid"):
        kernels.upfirdn2d(null, null, null, ctypes.byref(args), null, None)


def test_unknown_dtype_is_refused(kernels):
    null, args = ctypes.c_void_p(None), arguments((1, 1, 4, 4), torch.zeros(4, 4), torch.float32)
    args.dtype = 4
    with pytest.raises(EmulatorError, match="unknown dtype"):
        kernels.upfirdn2d(null, null, null, ctypes.byref(args), null, None)


# --- the op ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_backend(kernels, monkeypatch):
    """The emulator in the place of the extension's CUDA functions and of the GPU, for tensors of the CPU."""

    def scratch(args):
        elements = ctypes.c_int64()
        kernels.scratch_of(ctypes.byref(args), ctypes.byref(elements))
        return elements.value

    def make(x, y, f, separable, up, down, origin, flip, gain, channels_last, dtype):
        return Args(*x, *y, *f, separable, *up, *down, *origin, flip, gain, channels_last, dtype)

    def call(x, f, y, args, scratch, stream):
        pointers = (ctypes.c_void_p(address) for address in (x, f, y))
        kernels.upfirdn2d(*pointers, ctypes.byref(args), ctypes.c_void_p(scratch), ctypes.c_void_p(stream))

    extension = SimpleNamespace(Upfirdn2dArgs=make, upfirdn2d_scratch=scratch, upfirdn2d_cuda=call)
    monkeypatch.setattr(operators, "extension", lambda: extension)
    monkeypatch.setattr(backends, "unsupported", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    with backends.backend("cuda"):
        yield


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("other_default_dtype")
def test_the_registry_s_samples_and_their_derivatives(as_backend, poisoned, dtype, generator):
    """What tests/ops compares on a GPU, here: forward, first and second derivatives, with float64."""
    single = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    for sample in SPEC.samples(torch.device("cpu"), dtype, generator):
        exact = sample.map(torch.Tensor.double)
        weights = draw_weights(Case(SPEC, "cuda", torch.device("cpu")), sample, generator)
        found = derivatives(lambda t, s=sample: SPEC.function(*t, **s.kwargs), leaves(sample), weights)
        truth = derivatives(
            lambda t, s=exact: SPEC.reference(*t, **s.kwargs), leaves(exact), [w.double() for w in weights]
        )
        for name, value in truth.items():
            assert found[name].dtype == dtype
            bound = torch.finfo(dtype).eps * value.abs() + 64 * single * (value.abs().max() if value.numel() else 0)
            assert bool(((found[name].double() - value).abs() <= bound).all()), f"{sample.label}, {name}"
