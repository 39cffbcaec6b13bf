"""May two evaluations be compared, by what, and what do methods differ in over seeds?"""
