"""PPO's losses in the kernels: figures and gradients of the formulas, as autograd has them."""

import pytest
import torch
from torch.distributions import Categorical

from attn_rl.backends.kernels import build
from attn_rl.backends.kernels.losses import Coefficients, ppo_losses

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")


def minibatch(n: int, n_actions: int) -> tuple[torch.Tensor, ...]:
    """Logits, some of them forbidden, values, actions and what the rollout noted, some ratios beyond the range."""
    logits = 2 * torch.randn(n, n_actions)
    logits[:, 1::3] = torch.where(torch.rand(n, len(range(1, n_actions, 3))) < 0.5, torch.finfo().min, logits[:, 1::3])
    actions = Categorical(logits=logits).sample()
    log_probs = Categorical(logits=logits).log_prob(actions) + 0.3 * torch.randn(n)
    values, advantages = torch.randn(n, 1), 3 * torch.randn(n) + 1
    return logits, values, actions, values.flatten() + 0.2 * torch.randn(n), log_probs, advantages, torch.randn(n)


def by_autograd(logits, values, actions, old_values, log_probs, advantages, returns, weights: Coefficients):
    leaves = logits.double().requires_grad_(), values.double().requires_grad_()
    now, distribution = leaves[1].flatten(), Categorical(logits=leaves[0])
    if weights.normalize and len(advantages) > 1:
        advantages = (advantages.double() - advantages.double().mean()) / (advantages.double().std() + 1e-8)
    log_ratio = distribution.log_prob(actions) - log_probs
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - weights.clip, 1 + weights.clip)
    policy = -torch.min(advantages * ratio, advantages * clipped).mean()
    if weights.clip_values is not None:
        now = old_values + (now - old_values).clamp(-weights.clip_values, weights.clip_values)
    value, entropy = (now - returns).square().mean(), -distribution.entropy().mean()
    total = policy + weights.entropy * entropy + weights.value * value
    return torch.stack([policy, value, entropy, total]), log_ratio, *torch.autograd.grad(total, leaves)


@pytest.mark.parametrize("n", [1, 64, 101])
@pytest.mark.parametrize("n_actions", [1, 2, 5, 33])
@pytest.mark.parametrize(
    "weights",
    [
        Coefficients(normalize=True, clip=0.2, clip_values=None, entropy=0.0, value=0.5),
        Coefficients(normalize=False, clip=0.1, clip_values=0.1, entropy=0.3, value=0.7),
        Coefficients(normalize=True, clip=0.2, clip_values=0.0, entropy=0.3, value=0.7),
    ],
)
def test_figures_and_gradients_are_those_of_autograd(n, n_actions, weights):
    given = minibatch(n, n_actions)
    found = ppo_losses(*given[:3], given[3:], weights)
    for a, b in zip(found, by_autograd(*given, weights), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-6)


def test_what_is_not_finite_stays_visible():
    given = minibatch(7, 3)
    weights = Coefficients(normalize=True, clip=0.2, clip_values=0.1, entropy=0.1, value=0.5)
    for i in (0, 1, 3, 4, 5, 6):
        broken = [x.clone() for x in given]
        broken[i].view(-1)[2] = torch.nan
        assert not ppo_losses(*broken[:3], tuple(broken[3:]), weights)[0][3].isfinite()
