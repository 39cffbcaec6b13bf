"""The embedded policies: weights, tokenizer and build record of each in a folder of its own.

``tiny`` is a countdown searcher of 0.84 million parameters, built by ``scripts/build_tiny_policy.py``. Its folder's
``build.json`` holds the settings it was built with and the numbers it reached on held-out problems.

``figures`` is an Idefics3 of 0.5 million parameters that answers easy questions about figures, built by
``scripts/build_figures_policy.py``, with a ``build.json`` of its own.
"""
