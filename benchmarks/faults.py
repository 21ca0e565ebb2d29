"""Scores sets of digits with a known fault by every number that `fastgan evaluate` prints.

python -m benchmarks.faults --table docs/evaluation.md
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.markdown import between, head, line
from fastgan.data import digit_labels, digits
from fastgan.metrics import (
    density_coverage,
    digit_judge,
    frechet_distance,
    inception_score,
    kernel_distance,
    memorisation,
    precision_recall,
)
from fastgan.metrics.digits import HALF_OF_DIGITS

BEGIN, END = "<!-- faults:begin -->", "<!-- faults:end -->"
HEADINGS = ("samples", "inception score", "Fréchet", "kernel", "precision", "recall", "density", "coverage", "nearest")


def faulty_sets() -> tuple[Tensor, dict[str, Tensor]]:
    """Half of the digits, and sets of as many images [898, 1, 8, 8] to be compared with them, by what they are."""
    random = torch.Generator().manual_seed(0)
    images, labels = digits().pixels, digit_labels()
    order = torch.randperm(len(images), generator=random)
    half, other = images[order[:HALF_OF_DIGITS]], images[order[HALF_OF_DIGITS : 2 * HALF_OF_DIGITS]]
    other_labels = labels[order[HALF_OF_DIGITS : 2 * HALF_OF_DIGITS]]
    noise = torch.randn(other.shape, generator=random)

    def repeated(few: Tensor) -> Tensor:
        return few[torch.arange(HALF_OF_DIGITS) % len(few)]

    of_each_digit = [int((other_labels == digit).nonzero()[0]) for digit in range(10)]
    return half, {
        "the other half of the data": other,
        "the data themselves": half,
        "pixel noise of 0.1 on the other half": (other + 0.1 * noise).clamp(-1, 1),
        "pixel noise of 0.5 on the other half": (other + 0.5 * noise).clamp(-1, 1),
        "digits 0 to 4 of the other half": repeated(other[other_labels < 5]),
        "100 images of the other half": repeated(other[:100]),
        "one image of each digit": repeated(other[of_each_digit]),
        "one image": repeated(other[:1]),
        "9 in 10 of the other half, the rest noise": torch.cat(
            [other[: HALF_OF_DIGITS * 9 // 10], noise[HALF_OF_DIGITS * 9 // 10 :].clamp(-1, 1)]
        ),
        "noise": noise.clamp(-1, 1),
    }


def table(half: Tensor, sets: dict[str, Tensor]) -> str:
    """Markdown: a row for each set, compared with the half."""
    network = digit_judge().network
    real = network(half)
    lines = head(HEADINGS)
    for name, images in sets.items():
        fake = network(images)
        kernel, error = kernel_distance(real, fake)
        score, _ = inception_score(network.classify(images), splits=1)
        precision, recall = precision_recall(real, fake)
        density, coverage = density_coverage(real, fake)
        figures = (f"{score:.2f}", f"{frechet_distance(real, fake):.3f}", f"{kernel:.4f} ± {error:.4f}")
        shares = (f"{precision:.1%}", f"{recall:.1%}", f"{density:.2f}", f"{coverage:.1%}")
        nearest = f"{memorisation(images, half).ratio:.2f}"
        lines.append(line([name, *figures, *shares, nearest]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="Also write the table between the marks of this Markdown file.")
    arguments = parser.parse_args()
    printed = table(*faulty_sets())
    print(printed)
    if arguments.table is not None:
        arguments.table.write_text(between(arguments.table.read_text(), BEGIN, END, [printed]))


if __name__ == "__main__":
    main()
