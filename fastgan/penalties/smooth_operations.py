"""The ATen operations that are smooth in their arguments, those that have kinks, and those that read a shape only.

Names are without the overload, and without the `_` of the operation in place. What is on no list is not known.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LINEAR = _names("""
    add sub rsub neg mul mm bmm addmm baddbmm addbmm addmv mv addr dot convolution _convolution linear
    mkldnn_linear sum mean cumsum lerp avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_avg_pool1d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d im2col col2im pixel_shuffle pixel_unshuffle
    channel_shuffle roll flip rot90 repeat repeat_interleave tril triu cat stack index index_select gather
    take_along_dim masked_fill where scatter scatter_add index_add index_copy slice_scatter select_scatter
    diagonal_scatter index_put trace diag_embed _fft_r2c _fft_c2c _fft_c2r conj_physical real imag complex
    native_dropout _fused_dropout clone _to_copy copy lift_fresh contiguous grid_sampler_2d grid_sampler_3d
    grid_sampler _embedding_bag _fw_primal fill zero
""")
"""Operations that are linear in each floating argument. The integers, masks and grids that choose are checked."""

VIEWS = _names("""
    view _unsafe_view _reshape_alias reshape expand permute transpose t unsqueeze squeeze slice select split
    split_with_sizes unbind chunk narrow as_strided alias detach unfold diagonal view_as_real view_as_complex _conj
    _neg_view movedim swapaxes numpy_T mT adjoint view_as expand_as resolve_conj resolve_neg unsafe_chunk unsafe_split
    unsafe_split_with_sizes
""")

CURVED = _names("""
    div reciprocal square pow sqrt rsqrt exp exp2 expm1 log log1p log2 log10 sin cos sinh cosh tanh asinh acosh
    atanh asin acos atan sigmoid log_sigmoid_forward silu gelu mish softplus erf erfc sinc
    logsumexp logaddexp logaddexp2 _softmax _log_softmax _safe_softmax softmax log_softmax addcmul addcdiv prod
    var var_mean std std_mean cumprod logcumsumexp linalg_vector_norm norm glu special_erf
    native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit batch_norm cudnn_batch_norm
    miopen_batch_norm _batch_norm_with_update _native_batch_norm_legit_no_training _fused_rms_norm rms_norm
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable _flash_attention_forward _efficient_attention_forward
    _cudnn_attention_forward scaled_dot_product_attention _scaled_dot_product_attention_math
    _trilinear mse_loss
""")
"""Operations with derivatives of every order where the critic is defined (roots, norms and logarithms not at 0)."""

SHAPE_ONLY = _names("""
    empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_empty new_zeros new_ones new_full
    new_empty_strided sym_size sym_stride sym_numel sym_storage_offset is_same_size is_contiguous
    is_strides_like_format is_non_overlapping_and_dense device layout bernoulli
""")
"""Operations that read no more than the shape of a tensor (`bernoulli` where its probability is a number)."""

KINKS = _names("""
    relu relu6 leaky_relu prelu _prelu_kernel rrelu_with_noise abs max min amax amin aminmax maximum minimum fmax fmin
    clamp clamp_min clamp_max hardtanh hardsigmoid hardswish hardshrink softshrink threshold elu celu selu
    smooth_l1_loss huber_loss max_pool1d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d
    adaptive_max_pool3d fractional_max_pool2d topk sort median nanmedian kthvalue mode sign sgn round floor ceil trunc
    frac fmod remainder heaviside cummax cummin _cdist_forward _pdist_forward
""")

SMOOTH = LINEAR | VIEWS | CURVED

OURS = _names("""
    attention conv1x1 conv3x3 conv_stride2 conv_stride2_transposed upfirdn2d modulated_conv2d minibatch_stddev bias_act
    scaled_bias_act
""")
"""Fastgan's own operations that are smooth, the last two with an activation of the next list and no clamp."""

SMOOTH_ACTIVATIONS = frozenset((None, "linear", "tanh", "sigmoid", "softplus", "swish"))
