"""Claims about frames and finished fits: significance, statistics of frames, whether this machine computes rightly.

Imports from `search` and what lies below. Nothing that fits anything depends on this folder, so a claim can be
corrected here, or a new one added, without changing a result.
"""
