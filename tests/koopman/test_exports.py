"""What `relax_rl.koopman` offers, and what it needs to have imported for a file to be read."""

import subprocess
import sys

from relax_rl import koopman


def test_the_package_exports_what_a_user_starts_with() -> None:
    """Locked: everything else is reached by its folder. A name that is added here stays for good."""
    assert len(koopman.__all__) == 27
    contract = {"KoopmanDictionary", "dynamic_spectral_dispersion", "koopman_eigenvalues", "koopstd_distance"}
    assert contract <= set(koopman.__all__)
    assert all(hasattr(koopman, name) for name in koopman.__all__)


def test_every_kind_of_dictionary_is_known_to_whoever_loads_one() -> None:
    code = (
        "from relax_rl.koopman.dictionaries.protocol import StoredDictionary, _kinds\n"
        "print(*sorted(kind.kind for kind in _kinds(StoredDictionary) if kind.kind))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["identity", "network", "polynomial", "radial_basis", "random_fourier", "sigmoid"]
