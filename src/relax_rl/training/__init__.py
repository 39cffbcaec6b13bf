"""How a policy is trained. The only door to TRL."""
