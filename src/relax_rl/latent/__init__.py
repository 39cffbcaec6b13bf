"""From a Hugging Face model to its hidden states: capture at named sites, and a store for more than memory holds.

Dimension letters: B sequences, T tokens, H hidden width, F observables.
"""
