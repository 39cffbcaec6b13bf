"""Everything that scikit-learn asks of an estimator."""

import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from relax_rl.estimators import DMD, EDMD, DelayDMD, KernelEDMD, OptimisedDMD, SubspaceDMD


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def depends_on_the_order_of_rows(estimator: object) -> dict[str, str]:
    """Checks that hold for no prediction from several rows in a row."""
    reason = "a prediction from delays depends on the rows before it"
    names = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")
    return dict.fromkeys(names, reason) if isinstance(estimator, DelayDMD) else {}


@parametrize_with_checks(
    [
        DMD(),
        DMD(rank=0.9, variant="total_least_squares", modes="exact"),
        DelayDMD(),
        EDMD(),
        KernelEDMD(),
        KernelEDMD("polynomial"),
        OptimisedDMD(),
        SubspaceDMD(),
    ],
    expected_failed_checks=depends_on_the_order_of_rows,
)
def test_scikit_learn(estimator, check) -> None:
    """The check asserts."""
    check(estimator)
