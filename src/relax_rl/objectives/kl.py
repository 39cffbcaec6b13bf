"""Estimators of KL(policy || reference) from the log-probabilities of sampled tokens.

With d = log_probs - ref_log_probs of tokens that the policy sampled (Schulman, "Approximating KL divergence"):

    k1 = d                  unbiased value; as a loss its expected gradient is zero
    k2 = d^2 / 2            biased value; as a loss its expected gradient is that of KL(policy || reference)
    k3 = exp(-d) - 1 + d    unbiased, never negative; as a loss its expected gradient is that of KL(reference || policy)

k3 is bounded as in verl (core_algos.py, ``low_var_kl``): d to +-20, the estimate to 10. Without the bound one token
that the policy makes 99 nats less likely than the reference is infinite in float32, and one that lost 9 nats decides
the gradient of the whole update. Beyond the bound, which k3 reaches 2.6 nats below the reference, a token has no
gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from relax_rl.errors import ConfigError

__all__ = ["KLEstimator", "token_kl"]

KLEstimator = Literal["k1", "k2", "k3"]

_MAX_LOG_RATIO, _MAX_K3 = 20.0, 10.0


def token_kl(log_probs: Tensor, ref_log_probs: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """KL estimate of each token, same shape as the inputs, in nats.

    Raises:
        ConfigError: for an estimator other than k1, k2, k3.
    """
    difference = log_probs - ref_log_probs
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return 0.5 * difference.square()
    if estimator == "k3":
        difference = difference.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        return (torch.exp(-difference) - 1 + difference).clamp(max=_MAX_K3)
    raise ConfigError(f"The KL estimator {estimator!r} is unknown; choose k1, k2 or k3.")
