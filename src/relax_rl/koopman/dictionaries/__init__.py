"""Observables: functions that lift a hidden state, fitted or fixed."""

# `load_dictionary` finds the class of a file among the subclasses that exist. A kind that nobody imported would be
# "unknown", so an import of anything in this folder brings every kind.
from relax_rl.koopman.dictionaries import fixed as fixed
from relax_rl.koopman.dictionaries import network as network
from relax_rl.koopman.dictionaries import sigmoid as sigmoid
