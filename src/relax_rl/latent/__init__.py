"""From a Hugging Face model to its hidden states: capture at named sites, and a store for more than memory holds.

Dimension letters: B sequences, T tokens, H hidden width, F observables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_rl.lazy_names import lazy_names

if TYPE_CHECKING:
    from relax_rl.latent.capture import ForwardCapture, ForwardRecord, StateCapture
    from relax_rl.latent.contract import ModelContract, contract_of, read_contract
    from relax_rl.latent.final_norm import final_norm_of
    from relax_rl.latent.nonfinite import first_nonfinite_layer
    from relax_rl.latent.recording_files import RecordedStates, read_recording_file
    from relax_rl.latent.recordings import Recording, RecordingFolder
    from relax_rl.latent.repeats import capture_cycles, capture_depth, capture_repeats
    from relax_rl.latent.sites import decoder_layers, default_sites, find_decoder, resolve_sites
    from relax_rl.latent.store import LatentStore, StoreRow, merge_stores
    from relax_rl.latent.trajectories import LatentTrajectory, capture_generation, capture_inputs, capture_sequences

__all__ = [
    "ForwardCapture",
    "ForwardRecord",
    "LatentStore",
    "LatentTrajectory",
    "ModelContract",
    "RecordedStates",
    "Recording",
    "RecordingFolder",
    "StateCapture",
    "StoreRow",
    "capture_cycles",
    "capture_depth",
    "capture_generation",
    "capture_inputs",
    "capture_repeats",
    "capture_sequences",
    "contract_of",
    "decoder_layers",
    "default_sites",
    "final_norm_of",
    "find_decoder",
    "first_nonfinite_layer",
    "merge_stores",
    "read_contract",
    "read_recording_file",
    "resolve_sites",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "capture": ("ForwardCapture", "ForwardRecord", "StateCapture"),
        "contract": ("ModelContract", "contract_of", "read_contract"),
        "final_norm": ("final_norm_of",),
        "nonfinite": ("first_nonfinite_layer",),
        "recording_files": ("RecordedStates", "read_recording_file"),
        "recordings": ("Recording", "RecordingFolder"),
        "repeats": ("capture_cycles", "capture_depth", "capture_repeats"),
        "sites": ("decoder_layers", "default_sites", "find_decoder", "resolve_sites"),
        "store": ("LatentStore", "StoreRow", "merge_stores"),
        "trajectories": ("LatentTrajectory", "capture_generation", "capture_inputs", "capture_sequences"),
    },
)
