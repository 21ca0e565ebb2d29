"""The tables that `fastgan evaluate` prints, and what it says of figures that flatter."""

from rich.console import Console
from rich.table import Table

from fastgan.cli.measurement import EvaluationReport
from fastgan.metrics import ClassificationAccuracy, DigitsReport, PatchDistance, PatchReport, StackedDigitsReport
from fastgan.metrics.agreement import ClassAgreement
from fastgan.metrics.coverage import CONFIDENT, COVERED
from fastgan.metrics.digits import HALF_OF_DIGITS, SPLITS
from fastgan.metrics.patches import REPEATS
from fastgan.metrics.stacked_digits import MODES

FEW = 0.5
"""Share of real digits' precision or recall below which a sample's is commented on."""

LITTLE = 1 / 3
"""Share of real stacks' confidence below which samples are commented on; noise reaches a quarter at most."""


def show(report: EvaluationReport, title: str) -> None:
    """Prints a report as tables."""
    if isinstance(report, StackedDigitsReport):
        _show_stacked_digits(report, title)
    elif isinstance(report, DigitsReport):
        _show_digits(report, title)
    else:
        _show_patches(report, title)


def show_figures(figures: dict[str, float], title: str) -> None:
    """Prints the figures of a task of any kind."""
    table = Table("", "value", title=title)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    Console().print(table)


def _show_digits(report: DigitsReport, title: str) -> None:
    console = Console()
    console.print(f"classifier: {report.test_accuracy:.1%} of the held-out digits right", highlight=False)
    table = Table("", "images", "Fréchet distance", "kernel distance", title=title)
    for name, row in (
        ("data, samples", report.all),
        ("halves, samples", report.matched),
        ("halves, other halves", report.floor),
    ):
        frechet = f"{row.frechet:.3f}" + (f" ± {row.frechet_std:.3f}" if row.frechet_std else "")
        table.add_row(name, f"{row.real}, {row.other}", frechet, f"{row.kernel:.4f} ± {row.kernel_error:.4f}")
    console.print(table)
    _show_classes(report, console)
    for doubt in doubts(report):
        console.print(doubt, style="bold", highlight=False)
    if report.right is not None and report.data_right is not None:
        _show_agreement(report.right, report.data_right, console)
    if report.taught is not None:
        _show_taught(report.taught, console)
    console.print(
        f"Covered: at least {COVERED:.0%} of the confident samples (probability {CONFIDENT} or more).\n"
        f"From precision to inception score: {HALF_OF_DIGITS} samples, or one half of the data, beside the\n"
        "other half.\n"
        "Fréchet distances compare only at equal numbers of images: the floor of the\n"
        "second row is the third, random halves of the data against each other. They are\n"
        f"means ± standard deviations over {SPLITS} splits. Kernel distances have no bias; ± is\n"
        "the standard error of one comparison of so many images.",
        highlight=False,
    )


def doubts(report: DigitsReport) -> list[str]:
    """Warnings about samples that the number of covered digits flatters: they are no digits, or much alike.

    A classifier finds digits in anything. Whether samples are digits, their precision says, beside that of real digits
    that were put aside; whether they are as many-sided, the recall.
    """
    samples, data = report.scores, report.data_scores
    if samples.precision < FEW * data.precision:
        covered = f"{report.samples.covered} of {report.samples.classes}"
        return [
            f"Most samples are no digits: {samples.precision:.1%} lie where real digits do, of other real\n"
            f"digits {data.precision:.1%}. That {covered} digits are covered says nothing of such samples."
        ]
    if samples.recall < FEW * data.recall:
        return [
            f"The samples are much alike: {samples.recall:.1%} of the real digits lie where samples do,\n"
            f"beside {data.recall:.1%} where other real digits do. A digit that is covered may be one\nimage."
        ]
    return []


def _show_classes(report: DigitsReport, console: Console) -> None:
    table = Table("", "samples", "data")
    spreads, scores = (report.samples, report.data), (report.scores, report.data_scores)
    table.add_row("digits covered", *(f"{spread.covered} of {spread.classes}" for spread in spreads))
    table.add_row("confident", *(f"{spread.confident:.1%}" for spread in spreads))
    # A classifier finds every digit in noise: these say whether there are any.
    table.add_row("precision", *(f"{of.precision:.1%}" for of in scores))
    table.add_row("recall", *(f"{of.recall:.1%}" for of in scores))
    table.add_row("density", *(f"{of.density:.3f}" for of in scores))
    table.add_row("coverage", *(f"{of.coverage:.1%}" for of in scores))
    table.add_row("inception score", *(f"{of.inception_score:.2f} ± {of.inception_score_std:.2f}" for of in scores))
    table.add_row("KL to the data's histogram", *(f"{spread.kl:.4f}" for spread in spreads), end_section=True)
    for digit in range(10):
        table.add_row(f"share of {digit}", *(f"{spread.histogram[digit]:.1%}" for spread in spreads))
    console.print(table)


def _show_agreement(samples: ClassAgreement, data: ClassAgreement, console: Console) -> None:
    table = Table("found to be the digit", "samples asked for", "data labelled")
    for digit in range(10):
        table.add_row(str(digit), *(f"{found.per_class[digit]:.1%}" for found in (samples, data)))
    table.add_section()
    table.add_row("all", *(f"{found.share:.1%}" for found in (samples, data)))
    console.print(table)
    console.print("The classifier was trained on most of the data, so that column flatters it.", highlight=False)


def _show_taught(taught: ClassificationAccuracy, console: Console) -> None:
    console.print(
        f"Classification accuracy score: {taught.samples:.1%} of the held-out digits right by a\n"
        f"classifier trained on {taught.images} of the samples, {taught.data:.1%} by one of real digits.",
        highlight=False,
    )


def _show_stacked_digits(report: StackedDigitsReport, title: str) -> None:
    console = Console()
    console.print(f"classifier: {report.test_accuracy:.1%} of the held-out digits right", highlight=False)
    table = Table("", "samples", "data", title=title)
    counts = (report.samples, report.data)
    table.add_row("modes", *(f"{count.modes} of {MODES}" for count in counts))
    table.add_row("confident", *(f"{count.confident:.1%}" for count in counts))
    table.add_row("KL to the data's modes", *(f"{count.kl:.4f}" for count in counts))
    console.print(table)
    if report.samples.confident < LITTLE * report.data.confident:
        console.print(
            f"Most samples are no digits: the classifier is confident of {report.samples.confident:.1%} of them,\n"
            f"and of {report.data.confident:.1%} of real ones. It finds hundreds of modes in noise.",
            style="bold",
            highlight=False,
        )
    console.print(
        f"{report.images} images each. Confident: all three digits have a probability of {CONFIDENT} or more.\n"
        "The KL of real images is what so many of them cannot be expected to beat.",
        highlight=False,
    )


def _show_patches(report: PatchReport, title: str) -> None:
    console = Console()
    table = Table("patches of", "data, samples", "data, other data", title=title)
    for name, row in report.levels.items():
        table.add_row(name, *_both(row))
    table.add_section()
    table.add_row("mean", *_both(report.mean))
    console.print(table)
    console.print(
        f"Sliced Wasserstein distances between the patches of {report.images} images and of as many\n"
        "others, at each level of their Laplacian pyramids: mean ± standard deviation\n"
        f"over {REPEATS} draws. They compare only at equal numbers of images: the floor of the\n"
        "middle column is the right one, real images against each other.",
        highlight=False,
    )


def _both(row: PatchDistance) -> tuple[str, str]:
    return f"{row.samples:.4f} ± {row.samples_std:.4f}", f"{row.floor:.4f} ± {row.floor_std:.4f}"
