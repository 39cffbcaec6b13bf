"""The adapter to TRL: rollouts, trainer, settings, callbacks."""
