"""Speed and memory of rllib_ppg beside bare loops of the same work; run it by `make bench`.

Every row is a ratio of two things measured in turns in one run, so that it can be compared between
machines where a plain number cannot.
"""
