"""Runs a command and holds the most memory that it had resident against a limit: peak_memory.py MB COMMAND... The
memory of an emulator, with the code that it has translated, counts as the program's."""

import resource
import subprocess
import sys

limit, command = float(sys.argv[1]), sys.argv[2:]
code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
if code != 0:
    sys.exit(f"`{' '.join(command)}` ended with {code}")
print(f"at most {peak:.0f} MB resident, of {limit:.0f}")
sys.exit(0 if peak <= limit else 1)
