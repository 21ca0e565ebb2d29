"""minibatch_discrimination: sums of the similarities of each sample's features to those of the rest of the batch.

The eager composition materialises B x B x K x C differences and their signs. The kernels keep them in registers, in
forward, backward and double backward, so that the extra memory is O(B K C).
"""

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.checks import check_floating
from fastgan.ops.minibatch_discrimination.autograd import MinibatchDiscrimination
from fastgan.ops.minibatch_discrimination.reference import minibatch_discrimination_reference


def minibatch_discrimination(m: Tensor) -> Tensor:  # [B, K, C] -> [B, K]
    """Sums, for every sample and kernel, the similarities to the other samples of the batch.

        o_ik = sum over j != i of exp(-||m_ik - m_jk||_1)

    Salimans et al. 2016, Improved Techniques for Training GANs, section 3.2 (there the sum
    includes j = i, the constant 1). Differentiable to any order, twice by kernels. The norm's subgradient at 0
    is 0, as in PyTorch.

    Args:
        m: [B, K, C], the features after the layer's projection: batch, kernels, dimensions of a kernel; float32,
            float64, float16 or bfloat16. Sums are float32 (float64 for float64).

    Returns:
        [B, K] in the dtype of m.

    Raises:
        TypeError: m is not a floating tensor.
        ValueError: m does not have three dimensions.
        fastgan.BackendError: a backend was forced that cannot take m.
    """
    check_floating("minibatch_discrimination", "m", m)
    if m.ndim != 3:
        raise ValueError(f"minibatch_discrimination: m has shape {list(m.shape)}, expected [batch, kernels, dims]")
    backend = select("minibatch_discrimination", m)
    if backend == "reference":
        return minibatch_discrimination_reference(m)
    return MinibatchDiscrimination.apply(m, backend)
