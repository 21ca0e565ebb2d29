"""The projection critic: how well an image and its class fit, as the inner product of features with an embedding."""

from torch import Tensor, nn

from fastgan.models.headed import features_and_logits, headed
from fastgan.ops._common.checks import check_count, check_labels


class ProjectionCritic(nn.Module):
    """D(x, y) = <embed(y), phi(x)> + psi(phi(x)), of a critic with the features phi and the head psi.

    That is the form which the log ratio of two class-conditional distributions takes when log p(y | x) is linear in
    phi. One number for each image, as ever, so any objective of logits and any penalty goes with it; piecewise affine
    in x where phi is, so that penalties take one pass.

    Args:
        critic: phi and psi.
        num_classes: of labels.

    Shape: images [B, C, H, W] and labels, int64 or int32 [B] -> [B, 1]

    Raises:
        TypeError: the critic has no such parts; in forward, the labels are no integers.
        ValueError: num_classes is below 1; in forward, the labels have another shape, or psi gives several numbers.
        IndexError: in forward on a CPU, there is no such class.

    Miyato and Koyama 2018, arXiv:1802.05637, equation 3. The embedding's first values are Glorot's, as in their code.
    """

    def __init__(self, critic: nn.Module, num_classes: int) -> None:
        super().__init__()
        check_count("ProjectionCritic", "num_classes", num_classes)
        self.critic = headed("ProjectionCritic", critic)
        self.num_classes = num_classes
        self.embed = nn.Embedding(num_classes, self.critic.num_features)
        nn.init.xavier_uniform_(self.embed.weight)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        check_labels("ProjectionCritic", "labels", labels, len(images))
        phi, logits = features_and_logits("ProjectionCritic", self.critic, images)
        return logits + (self.embed(labels) * phi).sum(1, keepdim=True)
