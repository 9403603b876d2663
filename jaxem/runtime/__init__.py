"""What a program needs of the machine: files, threads, checkpoints, resources (memory and cores), compilation, errors.

At the ground: every other folder may import from here, and this one imports none of them. It knows pytrees of arrays
and nothing of EM, so any file can be changed by reading it alone.
"""
