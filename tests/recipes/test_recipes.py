"""Recipes: all that come with fastgan train, are written as they are read, and refuse what they do not know."""

import pytest
import torch
import yaml

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.tasks import GAN, CycleGAN, Points
from fastgan.train.schedules import Schedule

pytestmark = pytest.mark.usefixtures("one_thread")

NARROW = {
    "dcgan": ("task.generator.width=4", "task.critic.width=4", "data.resolution=16"),
    "digits-dcgan": ("task.generator.width=4", "task.critic.width=4"),
    "digits-resnet": ("task.generator.width=4", "task.critic.width=4"),
    "points": ("task.width=8",),
    "stylegan2": ("task.generator.max_width=8", "task.critic.max_width=8", "data.resolution=16"),
    "stylegan2-small": ("task.generator.max_width=8", "task.critic.max_width=8", "data.resolution=16"),
    "cycle-gan": ("task.generator.width=4", "task.generator.blocks=1", "task.critic.width=4", "data.resolution=32"),
    "cycle-gan-small": ("task.generator.width=4", "task.critic.width=4", "data.resolution=16"),
}


def narrow(name, *changes):
    return recipes.read(name, [*NARROW[name], "run.batch_size=8", "run.device=cpu", *changes])


def test_all_that_there_are():
    assert recipes.names() == sorted(NARROW)


@pytest.mark.parametrize("name", NARROW)
def test_every_recipe_takes_two_steps_at_a_reduced_width(name):
    recipe = narrow(name, "run.steps=2")
    run = recipes.run_of(recipe)
    assert type(run.task) is {"gan": GAN, "cycle-gan": CycleGAN, "points": Points}[recipe.task.kind]
    before = {key: value.clone() for key, value in run.task.state_dict().items()}
    steps = list(run)
    assert [step.number for step in steps] == [1, 2]
    assert all(value.isfinite().all() for step in steps for value in step.log.values())
    after = run.task.state_dict()
    for network in (*run.task.critics, *run.task.generators):
        assert any(not torch.equal(before[key], after[key]) for key in after if f".{network}." in key)
    assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize("name", NARROW)
def test_what_is_written_is_read_again(name):
    recipe = recipes.read(name)
    written = recipe.written()
    assert recipes.resolved(written) == recipe
    assert recipes.resolved(yaml.safe_load(yaml.safe_dump(written))) == recipe


@pytest.mark.parametrize("name", NARROW)
def test_weights_are_functions_of_the_seed_alone(name):
    tasks = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(tasks))
        state = torch.get_rng_state()
        tasks.append(narrow(name, f"run.seed={seed}").build({}))
        assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (torch.nn.utils.parameters_to_vector(task.generators.parameters()) for task in tasks)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_averages_begin_as_the_generators():
    task = narrow("cycle-gan-small").build({})
    assert list(task.averages) == list(task.generators)
    for name, average in task.averages.items():
        for p, q in zip(average.parameters(), task.generators[name].parameters(), strict=True):
            assert torch.equal(p, q)
            assert not p.requires_grad


def test_changes_reach_every_level():
    changes = ["run.steps=7", "game.lr={from: 1e-3, to: 0, over: 5, shape: cosine}", "task.critic.dropout=0.1"]
    recipe = recipes.read("digits-dcgan", changes)
    assert recipe.run.steps == 7
    assert recipe.game.lr == Schedule(1e-3, 0.0, 5, "cosine")
    assert recipe.task.critic.model_extra["dropout"] == 0.1
    assert recipe.task.critic.model_extra["noise"] == 0.3  # as in the recipe
    part = recipes.read("points", ["game.lr.over=5"])  # a part of a schedule
    assert part.game.lr == Schedule(1e-3, 0.0, 5)


def test_a_folder_named_like_a_number_stays_text(tmp_path):
    recipe = recipes.read("digits-dcgan", data={"image": "2024"})
    assert recipe.data.image == "2024"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe.written()))
    assert recipes.read(path) == recipe


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("digits-dcgn", "run.steps=1", "RECIPE is 'digits-dcgn', expected 'digits-dcgan', or another of"),
        ("digits-dcgan", "game.learning_rate=1", "game.learning_rate is no setting, expected "),
        ("digits-dcgan", "game.lr_critc=1e-3", "game.lr_critc is no setting, expected 'lr_critic', or another of"),
        ("digits-dcgan", "gmae.lr=1e-3", "gmae.lr is no setting, expected a section 'game', or"),
        ("digits-dcgan", "lr=1e-3", "'lr=1e-3' is no setting, expected section.key=value, as in game.lr=1e-3"),
        ("digits-dcgan", "run.steps", "'run.steps' is no setting, expected section.key=value"),
        ("digits-dcgan", "task.kind=gann", "task.kind is 'gann', expected 'gan', or another of"),
        ("digits-dcgan", "task.critic.kind=dcgam", "task.critic.kind is 'dcgam', expected 'dcgan', or another of"),
        (
            "digits-dcgan",
            "task.critic.widht=3",
            "task.critic.widht is no setting of dcgan, expected 'width', or another of",
        ),
        ("digits-dcgan", "task.critic.width=wide", "task.critic.width is 'wide', expected a number"),
        ("digits-dcgan", "task.loss=hnge", "task.loss is 'hnge', expected 'hinge', or another of"),
        (
            "digits-dcgan",
            "game.kind=extragradiant",
            "game.kind is 'extragradiant', expected 'extragradient', or another of",
        ),
        ("digits-dcgan", "run.steps=0", "run.steps is 0, expected greater than or equal to 1"),
        ("digits-dcgan", "run.steps=1.5", "run.steps is 1.5, expected a valid integer"),
        ("digits-dcgan", "run.seed=-1", "run.seed is -1, expected greater than or equal to 0"),
        ("digits-dcgan", "game.lr=0", "game.lr is 0, expected a number, above 0"),
        ("digits-dcgan", "game.lr=nan", "game.lr is 'nan', expected a number"),
        ("digits-dcgan", "game.lr={from: 1}", "game.lr is {'from': 1}, expected the keys from, to, over"),
        ("digits-dcgan", "game.lr={from: 1, to: 0, over: 5, shape: step}", "shape is 'step', expected one of linear"),
        ("digits-dcgan", "run.ema=1", "run.ema is 1, expected a number, at least 0 and below 1"),
        ("digits-dcgan", "run.precision=float8", "run.precision is 'float8', expected 'float32' or 'bfloat16'"),
        ("digits-dcgan", "data.resolution=0", "data.resolution is 0, expected a size such as 64"),
        ("digits-dcgan", "data.resolution=12", "task.generator cannot be built: "),
        ("digits-dcgan", "data.channels=2", "data.channels is 2, expected 1 or 3"),
        ("digits-dcgan", "run=3", "'run=3' is no setting, expected section.key=value"),
        ("digits-dcgan", "data.image=2024-13-45", "--data is '2024-13-45', which does not exist"),
        ("digits-dcgan", "task.loss=!!int abc", "task.loss is '!!int abc', expected "),
        ("digits-dcgan", f"run.steps={'9' * 5000}", "run.steps is "),
        ("digits-dcgan", f"run.steps={'9' * 400}", "run.steps is "),
        ("digits-dcgan", f"game.lr={'9' * 400}", "game.lr is "),
        ("digits-dcgan", f"task.penalty_every={10**20}", "task.penalty_every is 100000000000000000000, expected less"),
        ("digits-dcgan", "task.kind={a: 1}", "task.kind is {'a': 1}, expected one of"),
        ("digits-dcgan", "task.generator.width=-1", "task.generator cannot be built: "),
        ("digits-dcgan", "task.generator.width=1000000000", "task.generator cannot be built: "),
        ("digits-dcgan", "task.critic.noise=loud", "task.critic.noise is 'loud', expected a number"),
        ("digits-dcgan", "data.channels=1.0", "data.channels is 1.0, expected 1 or 3"),
        ("digits-dcgan", "data.resolution=1000000", "data.resolution is 1000000, expected a size such as 64"),
        ("digits-dcgan", f"data.image={'x' * 5000}", "--data is 'xxx"),
        ("digits-dcgan", "task.penalty_method=nope", "task.penalty_method is 'nope', expected one of auto, one_pass"),
        ("points", "task.width=10000000", "task cannot be built: "),
        ("cycle-gan-small", "data.resolution=6", "data.resolution is 6x6, "),
        ("cycle-gan-small", "data.resolution=13", "data.resolution is 13x13, "),
        ("cycle-gan-small", "data.resolution=34", "data.resolution is 34x34, expected multiples of 4"),
        ("cycle-gan-small", "data.resolution=2", "data.resolution is 2x2, too small for these networks"),
        ("cycle-gan-small", "task.critic.halvings=0x10", "data.resolution is 32x32, too small for these networks"),
        ("cycle-gan-small", "data.c=x", "data.c is no setting, expected "),
        ("points", "data.image=rings", "the data are 'rings', expected one of ring, grid"),
    ],
)
def test_what_is_refused(name, change, message):
    with pytest.raises(UserError) as caught:
        recipes.run_of(recipes.read(name, [change]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("digits-resnet", ["task.penalty_method=directional"], "task.penalty_method is 'directional': "),
        ("digits-dcgan", ["task.penalty=r1:1", "task.penalty_method=one_pass"], "task.penalty_method is 'one_pass': "),
    ],
)
def test_methods_that_a_critic_does_not_allow(name, changes, message):
    with pytest.raises(UserError) as caught:
        next(recipes.run_of(narrow(name, *changes)))
    assert message in str(caught.value)


def test_every_method_of_the_penalties():
    for name, method, told in (
        ("digits-resnet", "one_pass", "one pass"),
        ("digits-resnet", "double_backward", "double backward"),
        ("digits-resnet", "random_probe", "random probe"),
    ):
        run = recipes.run_of(narrow(name, f"task.penalty_method={method}"))
        next(run)
        assert run.task.remark == f"gradient of the penalties: {told}"


def test_stylegan2_in_bfloat16_with_path_lengths():
    run = recipes.run_of(narrow("stylegan2", "run.precision=bfloat16", "run.steps=2"))
    *_, last = run
    assert last.log["penalty_path_length"].isfinite()
    assert run.task.path_length_mean > 0


def test_files_that_are_no_recipes(tmp_path):
    for text, message in (
        ("a: [", "is no YAML"),
        ("- 1", "holds list, expected the sections of a recipe"),
        ("task: 3", "task.kind is None, expected one of"),
        ("task: {kind: gan}", "task.generator is missing"),
        ("task: {kind: points}\nrun: 5\ndata: {image: ring}", "run is 5, expected"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            recipes.read(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read: No such file or directory"):
        recipes.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "name", [name for name in NARROW if name not in ("points", "stylegan2") and "cycle" not in name]
)
@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing", "feature_matching", "began", "mmd"])
def test_a_single_sample_or_pack(name, loss):
    """Batch norm over one image's pixels, minibatch layers without others: whatever is not refused takes a step."""
    for size in (("run.batch_size=1",), ("run.batch_size=3", "task.pack=3"), ("run.batch_size=2",)):
        try:
            run = recipes.run_of(narrow(name, f"task.loss={loss}", "task.penalty=", "task.penalty_every=1", *size))
        except UserError as error:
            assert loss in ("mmd", "began")
            assert loss != "began" or name == "stylegan2-small" or "pack" in size[-1], error  # noqa: PT017
            assert loss != "mmd" or size != ("run.batch_size=2",), error  # noqa: PT017 (all but a few go on)
            continue
        assert all(value.isfinite().all() for value in next(run).log.values())


@pytest.mark.parametrize("loss", ["mmd", "mmd:gaussian", "sliced_wasserstein"])
def test_samples_that_are_compared_are_two_or_more(loss):
    for changes, message in (
        (("run.batch_size=1",), f"run.batch_size is 1, expected at least 2: {loss} compares samples with each other"),
        (("task.pack=8",), f"run.batch_size is 8, expected at least 16: {loss} compares packs with each other"),
        (("run.chunks=8",), f"run.batch_size is 8, in chunks of 1, expected at least 2: {loss} compares samples"),
    ):
        with pytest.raises(UserError) as caught:
            recipes.run_of(narrow("digits-dcgan", f"task.loss={loss}", *changes))
        assert message in str(caught.value)


@pytest.mark.parametrize("name", [name for name in NARROW if name != "points" and "cycle" not in name])
def test_spectral_norm_where_a_layer_takes_it(name):
    """Either the run is refused or its critic can be made: one is normalised where its layers are torch's."""
    try:
        task = narrow(name, "task.spectral_norm=true").build({})
    except UserError as error:
        assert "stylegan2" in name
        assert str(error).startswith("task.spectral_norm is True, expected none for stylegan2")  # noqa: PT017
        return
    assert any("parametrizations" in key for key in task.critics.state_dict())
