"""The command line: words, exit codes and progress (extra ``app``).

It may import everything, and nothing imports it. `commands` holds what every command takes and imports nothing slow;
the work of a command is in a file of its own, imported when the command runs. Words can be changed here freely.
"""
