"""Everything that scikit-learn asks of an estimator."""

import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from relax_rl.estimators import DMD, EDMD, DelayDMD, KernelEDMD, OptimisedDMD


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@parametrize_with_checks(
    [
        DMD(),
        DMD(rank=0.9, variant="total_least_squares", modes="exact"),
        DelayDMD(),
        EDMD(),
        KernelEDMD(),
        KernelEDMD("polynomial"),
        OptimisedDMD(rank=1),
    ]
)
def test_scikit_learn(estimator, check) -> None:
    """The check asserts."""
    check(estimator)
