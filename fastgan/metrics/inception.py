"""The inception score: a classifier's confidence in each sample, and the variety of classes over all samples."""

import torch
from torch import Tensor

from fastgan.metrics.checks import check_class_logits
from fastgan.ops._common.checks import check_count


def inception_score(class_logits: Tensor, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """exp(E KL(p(y|x) || p(y))) of a classifier's probabilities: from 1 to the number of classes.

    It knows no data: one perfect sample of each class scores best. p(y) is the mean over a split, so the score is
    biased downwards, the more so the fewer samples a split has: compare only figures of equal sizes.

    Args:
        class_logits: the classifier's on each sample, floating point [N, classes]; logarithms of probabilities are
            logits, too, minus infinity included.
        splits: into how many equal parts, but for one sample, the samples are shuffled; at most N.
        seed: of the shuffling.

    Returns:
        The mean of the splits' scores and their standard deviation, 0 for a single one. The deviation is how far the
        score of N / splits samples varies, no standard error of the mean.

    Raises:
        TypeError, ValueError: the logits have another type or shape or hold NaN or infinity, or there are fewer than
            there are splits.

    Salimans et al. 2016, arXiv:1606.03498, section 4; any classifier takes the place of Inception.
    """
    check_class_logits("inception_score", "class_logits", class_logits)
    check_count("inception_score", "splits", splits)
    if len(class_logits) < splits:
        raise ValueError(f"inception_score: splits is {splits}, expected at most the {len(class_logits)} samples")
    order = torch.randperm(len(class_logits), generator=torch.Generator().manual_seed(seed))
    probabilities = class_logits.detach().cpu().double().softmax(dim=1)[order]
    scores = torch.stack([_score(part) for part in probabilities.tensor_split(splits)])
    return scores.mean().item(), scores.std(unbiased=False).item()


def _score(probabilities: Tensor) -> Tensor:
    """The score of one split, whose mean KL is the entropy of the mean less the mean entropy (0 log 0 is 0)."""
    entropy = torch.special.entr(probabilities.mean(dim=0)).sum() - torch.special.entr(probabilities).sum(dim=1).mean()
    return entropy.exp()
