"""A neural dictionary: the constant, the state itself, and what a small network makes of it (ResKoopNet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from relax_rl.errors import ConfigError
from relax_rl.koopman.dictionaries.fit import (
    LiftedBatch,
    Partition,
    condition_penalty,
    fit_report,
    lift_batch,
    partition_trajectories,
    validation_residual,
)
from relax_rl.koopman.dictionaries.fixed import standardization
from relax_rl.koopman.dictionaries.protocol import StoredDictionary
from relax_rl.koopman.inputs import channel_list
from relax_rl.koopman.operators.fits import ridge_operator
from relax_rl.koopman.pairs.snapshots import GramStatistics
from relax_rl.koopman.spectra.eigenpairs import eigenpairs
from relax_rl.koopman.spectra.residuals import squared_residuals

__all__ = ["NetworkDictionary"]

_HIDDEN_LAYERS = 3


class NetworkDictionary(StoredDictionary):
    """[1, x, NN(x)] of the standardised state x, NN = linear, three tanh layers, linear. F = 1 + H + learned.

    The constant and the state are always there, so that the network cannot do away with what is to be explained
    (ResKoopNet, arXiv 2501.00701).
    """

    kind: ClassVar[str] = "network"

    @property
    def hidden_size(self) -> int:
        return self._tensors["mean"].shape[0]

    @property
    def num_learned(self) -> int:
        return self._tensors[f"bias_{_HIDDEN_LAYERS}"].shape[0]

    @property
    def num_observables(self) -> int:
        return 1 + self.hidden_size + self.num_learned

    def _lift(self, states: Tensor) -> Tensor:
        return _lift(states, self._tensors)

    @classmethod
    def fit(
        cls,
        trajectories: Tensor | Sequence[Tensor],
        num_learned: int = 20,
        steps: int = 50,
        seed: int = 0,
        *,
        width: int = 64,
        learning_rate: float = 1e-3,
        batch_size: int = 256,
        ridge: float = 1e-6,
        validation_share: float = 0.2,
    ) -> Self:
        """Alternate between the operator and the network.

        Each outer step computes K = (G + s I)^-1 A and its eigenpairs on all the trajectories, then takes one epoch of
        Adam steps on the network with the eigenpairs held fixed, on the sum over eigenpairs of
        ||(Psi_Y - lambda Psi_X) v||^2 / ||Psi_X v||^2. Without the division, which is ours, the sum would be of the
        squares of residuals in no unit in particular, and smaller for smaller outputs; with it, it is that of squared
        ResDMD residuals. The penalty is that of the default objective
        (:func:`~relax_rl.koopman.dictionaries.fit.condition_penalty`).

        Args:
            trajectories: list of (T_i, H), any floating dtype; those with NaN or Inf are left out and counted.
            num_learned: outputs of the network.
            steps: outer steps; 0 returns the random start.
            seed: seed of this call's own generator.
            width: width of the hidden layers.
            learning_rate: learning rate of Adam; the paper's is 1e-5 to 1e-4, with many more steps.
            batch_size: snapshot pairs of an inner step.
            ridge: s, relative to the mean diagonal of G. The paper's is 0.1, which keeps small eigenfunctions out of
                the eigenpairs: on x' = 0.9 x, z' = 0.5 z + x^2 with one learned observable, the residual held out went
                from 0.048 to 0.0007 with 1e-6 and to 0.044 with 0.1.
            validation_share: share of the trajectories, held out whole; the outer step that does best on them is
                returned.

        Raises:
            DataError: no usable trajectory, or no more pairs than observables.
            ConfigError: a setting out of range.
        """
        if min(num_learned, width, batch_size) < 1 or steps < 0 or not min(learning_rate, ridge) > 0:
            raise ConfigError(
                "num_learned, width and batch_size must be at least 1, steps not negative, learning_rate and ridge "
                f"positive; got {num_learned}, {width}, {batch_size}, {steps}, {learning_rate}, {ridge}."
            )
        generator = torch.Generator().manual_seed(seed)
        trajectories = channel_list(trajectories)
        hidden_size = trajectories[0].shape[-1]
        partition = partition_trajectories(trajectories, 1 + hidden_size + num_learned, validation_share, generator)
        tensors = standardization(partition.all) | _random_network(hidden_size, width, num_learned, generator)
        tensors = {name: tensor.to(partition.all[0].device) for name, tensor in tensors.items()}
        with torch.autocast(partition.all[0].device.type, enabled=False), torch.enable_grad():
            best, best_step = _alternate(partition, tensors, steps, batch_size, learning_rate, ridge, generator)
        start, dictionary = cls.__new__(cls), cls.__new__(cls)
        StoredDictionary.__init__(start, tensors)
        StoredDictionary.__init__(dictionary, best)
        dictionary.report = fit_report(partition, start, dictionary, "sum_of_squares", steps, best_step)
        return dictionary


def _lift(states: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    outputs = states
    for layer in range(_HIDDEN_LAYERS + 1):
        outputs = outputs @ tensors[f"weight_{layer}"] + tensors[f"bias_{layer}"]
        if layer < _HIDDEN_LAYERS:
            outputs = outputs.tanh()
    return torch.cat([torch.ones_like(states[..., :1]), states, outputs], dim=-1)


def _random_network(hidden_size: int, width: int, num_learned: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights and biases uniform on +-1 / sqrt(inputs), as linear layers of torch start."""
    sizes = [hidden_size, *[width] * _HIDDEN_LAYERS, num_learned]
    tensors = {}
    for layer in range(_HIDDEN_LAYERS + 1):
        bound = max(sizes[layer], 1) ** -0.5
        for name, shape in (("weight", (sizes[layer], sizes[layer + 1])), ("bias", (sizes[layer + 1],))):
            tensors[f"{name}_{layer}"] = (torch.rand(shape, generator=generator) * 2.0 - 1.0) * bound
    return tensors


def _alternate(
    partition: Partition,
    start: dict[str, Tensor],
    steps: int,
    batch_size: int,
    learning_rate: float,
    ridge: float,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], int]:
    """The tensors after the outer step that does best on what is held out (the last, if nothing is)."""
    fixed = {name: start[name] for name in ("mean", "scale")}
    learned = {name: tensor.clone().requires_grad_() for name, tensor in start.items() if name not in fixed}
    optimizer = torch.optim.Adam(learned.values(), lr=learning_rate)

    def lift(states: Tensor) -> Tensor:
        return _lift((states - fixed["mean"]) / fixed["scale"], learned)

    def current() -> dict[str, Tensor]:
        return fixed | {name: tensor.detach().clone() for name, tensor in learned.items()}

    first = torch.cat([trajectory[:-1] for trajectory in partition.training])
    second = torch.cat([trajectory[1:] for trajectory in partition.training])
    best, best_step = current(), 0
    best_score = validation_residual(partition, lift) if partition.validation else float("inf")
    for step in range(1, steps + 1):
        with torch.no_grad():
            # On all pairs, not on the batch: the eigenpairs of a few pairs would be noise that the network then learns.
            statistics = lift_batch(partition.training, lift).statistics
            pairs = eigenpairs(ridge_operator(statistics, ridge, relative=True).matrix)
        # Drawn on the CPU and then moved, so that a seed means the same on every device.
        for rows in torch.randperm(len(first), generator=generator).to(first.device).split(batch_size):
            optimizer.zero_grad()
            _loss(lift(first[rows]), lift(second[rows]), *pairs).backward()
            optimizer.step()
        # With nothing held out the last step must win: a score that falls with every step.
        score = validation_residual(partition, lift) if partition.validation else -float(step)
        if score < best_score:
            best, best_step, best_score = current(), step, score
    return best, best_step


def _loss(first: Tensor, second: Tensor, eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """Sum of squared relative residuals of these pairs, and the penalty on observables that are alike."""
    # Statistics of this batch under eigenpairs of all: the batch has no part in choosing what it is judged by.
    x, y = first.double(), second.double()
    statistics = GramStatistics(x.mT @ x, x.mT @ y, y.mT @ y, torch.tensor(len(x)))
    batch = LiftedBatch(statistics, first, num_trajectories=1)
    return squared_residuals(statistics, eigenvalues, eigenvectors).clamp_min(0.0).sum() + condition_penalty(batch)
