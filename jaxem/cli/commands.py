"""All commands, in the order in which help lists them. Imports nothing slow."""

from jaxem.cli.frame_commands import demo, fit, info, size
from jaxem.cli.result_commands import doctor, locate, plot, restore, simulate

COMMANDS = (demo, info, size, fit, locate, restore, simulate, plot, doctor)
