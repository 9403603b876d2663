"""Claims: is there a template at all, what do the frames look like, does this machine compute rightly?

Imports from `search` and what lies below. Nothing that fits anything depends on this folder, so a claim can be
corrected here, or a new one added, without changing a result.
"""
