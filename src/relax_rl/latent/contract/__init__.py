"""The contract of a model, read before anything runs: one contract for training and measuring."""

from relax_rl.latent.contract.contract import ModelContract, contract_of, read_contract
from relax_rl.latent.contract.tokens import stop_token_ids

__all__ = ["ModelContract", "contract_of", "read_contract", "stop_token_ids"]
