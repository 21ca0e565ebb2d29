# The compiled extension (csrc/bindings/). Addresses are those of native.address or a CUDA stream; 0 stands for none.

has_cuda: bool
instruction_set: str

class AttentionArgs:
    def __init__(
        self,
        heads: int,
        N: int,
        M: int,
        d: int,
        e: int,
        scale: float,
        bias_inner: int,
        bias_count: int,
        by_row: bool,
        by_column: bool,
        dtype: int,
        threads: int,
    ) -> None: ...

class AttentionInputs:
    def __init__(self, q: int, k: int, v: int, bias: int, g: int, o: int, softmax: int) -> None: ...

class AttentionCotangents:
    def __init__(self, q: int, k: int, v: int, bias: int) -> None: ...

class AttentionGradients:
    def __init__(self, q: int, k: int, v: int, bias: int, g: int) -> None: ...

def attention(x: AttentionInputs, o: int, softmax: int, args: AttentionArgs) -> None: ...
def attention_grad(x: AttentionInputs, out: AttentionGradients, args: AttentionArgs) -> None: ...
def attention_grad2(
    x: AttentionInputs, y: AttentionCotangents, out: AttentionGradients, args: AttentionArgs
) -> None: ...

class BiasActArgs:
    def __init__(
        self,
        outer: int,
        channels: int,
        inner: int,
        act: int,
        alpha: float,
        gain: float,
        clamp: float,
        dtype: int,
        threads: int,
    ) -> None: ...

def bias_act(x: int, b: int, y: int, args: BiasActArgs) -> None: ...
def bias_act_grad(dy: int, s: int, b: int, dx: int, db: int, args: BiasActArgs) -> None: ...
def bias_act_grad2(u: int, dy: int, s: int, b: int, t: int, args: BiasActArgs) -> None: ...
def bias_act_with_mask(x: int, b: int, y: int, bits: int, args: BiasActArgs) -> None: ...
def frozen_bias_act(
    u: int, b: int, s: int, bits: int, y: int, samples: int, constant: bool, args: BiasActArgs
) -> None: ...
def frozen_bias_act_grad(dy: int, s: int, bits: int, du: int, db: int, samples: int, args: BiasActArgs) -> None: ...

class Conv3x3Args:
    def __init__(
        self,
        x: tuple[int, ...],
        K: int,
        padding: tuple[int, ...],
        groups: int,
        x_channels_last: bool,
        y_channels_last: bool,
        turned: bool,
        dtype: int,
    ) -> None: ...

def conv3x3(x: int, w: int, bias: int, y: int, args: Conv3x3Args, threads: int) -> None: ...
def conv3x3_weight_grad(x: int, dy: int, dw: int, args: Conv3x3Args, threads: int) -> None: ...

class ConvStride2Args:
    def __init__(
        self,
        x: tuple[int, ...],
        y: tuple[int, ...],
        padding: int,
        taps: int,
        x_channels_last: bool,
        y_channels_last: bool,
        dtype: int,
    ) -> None: ...

def conv_stride2(x: int, w: int, bias: int, y: int, args: ConvStride2Args, threads: int) -> None: ...
def conv_stride2_transposed(y: int, w: int, bias: int, x: int, args: ConvStride2Args, threads: int) -> None: ...
def conv_stride2_weight_grad(x: int, dy: int, dw: int, args: ConvStride2Args, threads: int) -> None: ...

class ScaledBiasActArgs:
    def __init__(
        self,
        B: int,
        C: int,
        N: int,
        noise_per_sample: bool,
        act: int,
        alpha: float,
        gain: float,
        clamp: float,
        dtype: int,
        threads: int,
    ) -> None: ...

def scaled_bias_act(x: int, s: int, n: int, sigma: int, b: int, y: int, args: ScaledBiasActArgs) -> None: ...
def scaled_bias_act_grad(
    dy: int, x: int, s: int, n: int, sigma: int, b: int, dx: int, sums: int, unscaled: bool, args: ScaledBiasActArgs
) -> None: ...
def plane_dots(
    t: int, w: int, dots: int, B: int, C: int, N: int, sample_step: int, channel_step: int, dtype: int, threads: int
) -> None: ...

class NormPenaltyArgs:
    def __init__(
        self,
        B: int,
        N: int,
        weight: float,
        target: float,
        one_sided: bool,
        scale: float,
        grad_scale: float,
        dtype: int,
        threads: int,
    ) -> None: ...

def gradient_norm_penalty(g: int, x: int, s: int, u: int, penalty: int, norm: int, args: NormPenaltyArgs) -> None: ...
def gradient_norm_penalty_grad(p: int, g: int, norm: int, dg: int, args: NormPenaltyArgs) -> None: ...
def interpolate(x: int, y: int, seed: int, o: int, B: int, N: int, dtype: int, threads: int) -> None: ...
def interpolate_grad(g: int, seed: int, dx: int, dy: int, B: int, N: int, dtype: int, threads: int) -> None: ...
def minibatch_discrimination(m: int, o: int, B: int, K: int, C: int, dtype: int, threads: int) -> None: ...
def minibatch_discrimination_grad(
    g: int, m: int, dm: int, B: int, K: int, C: int, dtype: int, threads: int
) -> None: ...
def minibatch_discrimination_grad2(
    v: int, g: int, m: int, gg: int, mm: int, B: int, K: int, C: int, dtype: int, threads: int
) -> None: ...

class MinibatchStddevArgs:
    def __init__(
        self,
        samples: int,
        groups: int,
        features: int,
        segments: int,
        length: int,
        pixels: int,
        dtype: int,
        threads: int,
    ) -> None: ...

def minibatch_stddev(x: int, o: int, args: MinibatchStddevArgs) -> None: ...
def minibatch_stddev_grad(g: int, x: int, dx: int, args: MinibatchStddevArgs) -> None: ...
def minibatch_stddev_grad2(v: int, g: int, x: int, gg: int, mm: int, args: MinibatchStddevArgs) -> None: ...

class SpectralNormArgs:
    def __init__(self, iterations: int, eps: float, v_first: bool, dtype: int) -> None: ...

# A row of a table: nine addresses and three sizes of csrc/spectral_norm.h's SpectralMatrix.
def spectral_norm(table: list[int], sigma: int, args: SpectralNormArgs, threads: int) -> None: ...
def spectral_norm_grad(table: list[int], sigma: int, gs: int, args: SpectralNormArgs, threads: int) -> None: ...
def spectral_norm_grad2(table: list[int], sigma: int, dgs: int, args: SpectralNormArgs, threads: int) -> None: ...

class Upfirdn2dArgs:
    def __init__(
        self,
        x: tuple[int, int, int, int],
        y: tuple[int, int],
        f: tuple[int, int],
        separable: bool,
        up: tuple[int, int],
        down: tuple[int, int],
        origin: tuple[int, int],
        flip: bool,
        gain: float,
        channels_last: bool,
        dtype: int,
    ) -> None: ...

def upfirdn2d(x: int, f: int, y: int, args: Upfirdn2dArgs, threads: int) -> None: ...

# Only where has_cuda.
def spectral_norm_scratch(table: list[int], args: SpectralNormArgs) -> int: ...
def spectral_norm_cuda(table: list[int], sigma: int, args: SpectralNormArgs, scratch: int, stream: int) -> None: ...
def spectral_norm_grad_cuda(
    table: list[int], sigma: int, gs: int, args: SpectralNormArgs, scratch: int, stream: int
) -> None: ...
def spectral_norm_grad2_cuda(
    table: list[int], sigma: int, dgs: int, args: SpectralNormArgs, scratch: int, stream: int
) -> None: ...
def minibatch_discrimination_cuda(m: int, o: int, B: int, K: int, C: int, dtype: int, stream: int) -> None: ...
def minibatch_discrimination_grad_cuda(
    g: int, m: int, dm: int, B: int, K: int, C: int, dtype: int, stream: int
) -> None: ...
def minibatch_discrimination_grad2_cuda(
    v: int, g: int, m: int, gg: int, mm: int, B: int, K: int, C: int, dtype: int, stream: int
) -> None: ...
def minibatch_stddev_parts(args: MinibatchStddevArgs) -> int: ...
def minibatch_stddev_cuda(x: int, o: int, parts: int, args: MinibatchStddevArgs, stream: int) -> None: ...
def minibatch_stddev_grad_cuda(g: int, x: int, dx: int, args: MinibatchStddevArgs, stream: int) -> None: ...
def minibatch_stddev_grad2_cuda(
    v: int, g: int, x: int, gg: int, mm: int, parts: int, args: MinibatchStddevArgs, stream: int
) -> None: ...
def upfirdn2d_scratch(args: Upfirdn2dArgs) -> int: ...
def upfirdn2d_cuda(x: int, f: int, y: int, args: Upfirdn2dArgs, scratch: int, stream: int) -> None: ...
