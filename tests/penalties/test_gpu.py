"""critic_loss on a GPU: exact, in half precision, without waiting for the device, and inside a CUDA graph."""

import copy

import pytest
import torch

import fastgan
from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.critics import CRITICS, batch, build, gradients, relative_error, textbook
from tests.penalties.test_exact import LOSSES

pytestmark = pytest.mark.gpu
LOSS = LOSSES["nonsaturating"]


def on_gpu(kind, dtype=torch.float64):
    critic = build(CRITICS[kind], dtype).cuda()
    real, fake, labels = batch(CRITICS[kind], dtype=dtype)
    return critic, real.cuda(), fake.cuda(), None if labels is None else labels.cuda()


@pytest.mark.parametrize("kind", CRITICS)
def test_one_pass_equals_the_textbook(kind):
    critic, real, fake, labels = on_gpu(kind)
    other = copy.deepcopy(critic)
    torch.manual_seed(5)
    truth = gradients(other, textbook(other, real, fake, labels, LOSS, r1=2.0, r2=5.0))
    torch.manual_seed(5)
    found = fastgan.critic_loss(
        critic, real, fake, loss=LOSS, penalties=(R1(2.0), R2(5.0)), labels=labels, method="one_pass"
    )
    assert relative_error(gradients(critic, found), truth) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_autocast(dtype, channels_last):
    critic, real, fake, _ = on_gpu("resnet", torch.float32)
    wide = copy.deepcopy(critic).double()
    truth = gradients(wide, textbook(wide, real.double(), fake.double(), None, LOSS, r1=2.0, r2=5.0))
    if channels_last:
        critic, real, fake = (t.to(memory_format=torch.channels_last) for t in (critic, real, fake))
    with torch.autocast("cuda", dtype=dtype):
        total = fastgan.critic_loss(critic, real, fake, penalties=(R1(2.0), R2(5.0)), method="one_pass")
    found = gradients(critic, total * 2.0**16)
    whole = torch.cat([g.flatten() for g in truth.values()])
    ours = torch.cat([found[name].flatten().double() / 2**16 for name in truth])
    assert (ours - whole).norm() / whole.norm() <= 16 * torch.finfo(dtype).eps


def test_nothing_waits_for_the_device():
    critic, real, fake, _ = on_gpu("resnet", torch.float32)
    penalties = (R1(2.0), R2(5.0), WGANGP(1.0))
    fastgan.critic_loss(critic, real, fake, penalties=penalties, method="one_pass").backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        fastgan.critic_loss(critic, real, fake, penalties=penalties, method="one_pass").backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_cuda_graph_of_the_whole_step():
    critic, real, fake, _ = on_gpu("resnet", torch.float32)
    penalties = (R1(2.0), R2(5.0))

    def step():
        fastgan.critic_loss(critic, real, fake, penalties=penalties, method="one_pass").backward()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            critic.zero_grad(set_to_none=True)
            step()
    torch.cuda.current_stream().wait_stream(stream)
    critic.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    real.copy_(torch.randn_like(real))
    graph.replay()
    replayed = [p.grad.clone() for p in critic.parameters()]
    critic.zero_grad(set_to_none=True)
    step()
    for a, p in zip(replayed, critic.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)
