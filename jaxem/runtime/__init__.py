"""What a program needs of the machine: files that survive, threads, checkpoints, memory, compiled programs, errors.

At the ground: every other folder may import from here, and this one imports none of them. It knows pytrees of arrays
and nothing of EM, so any file can be changed by reading it alone.
"""
