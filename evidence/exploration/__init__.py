"""Study I: latent exploration against the frontier that a plain KL traces."""
