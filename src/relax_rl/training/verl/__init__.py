"""verl as the engine of a cluster: one subclass of its FSDP engine, switched on by configuration alone.

`actor_rollout_ref.model.external_lib=relax_rl.training.verl.plugin` registers it, and
`actor_rollout_ref.actor.policy_loss._target_=relax_rl.training.verl.policy_loss.RelaxPolicyLossConfig` names the
method. ``relax verl-config`` writes both. This package alone imports verl, and only verl's own processes import it.
"""
