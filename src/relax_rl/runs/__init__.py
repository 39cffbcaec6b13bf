"""The run directory: what a run leaves on disk, who may write there, and which checkpoint it is resumed from."""

from relax_rl.runs.directory import RunDirectory
from relax_rl.runs.files import write_whole
from relax_rl.runs.settings import differing_keys

__all__ = ["RunDirectory", "differing_keys", "write_whole"]
