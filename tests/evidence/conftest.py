"""The scripts of ``evidence`` find each other by the folder they are in, as when they are run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "evidence"))
