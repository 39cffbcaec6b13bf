"""Koopman estimators for NumPy arrays, in the manner of scikit-learn, over `relax_rl.koopman`.

One trajectory is an array (T, H), time along rows; several are a list of such arrays, or one array with `lengths`.
Everything is computed in float64: float32 input gives what the same numbers in float64 would. Complex data are for
`relax_rl.koopman`, which takes them; scikit-learn's conventions do not.
"""

from relax_rl.estimators.dmd import DMD, DelayDMD
from relax_rl.estimators.edmd import EDMD
from relax_rl.estimators.kernel_edmd import KernelEDMD
from relax_rl.estimators.optimised_dmd import OptimisedDMD
from relax_rl.estimators.subspace_dmd import SubspaceDMD

__all__ = ["DMD", "EDMD", "DelayDMD", "KernelEDMD", "OptimisedDMD", "SubspaceDMD"]
