"""Starts tl-tui in a pseudo-terminal, looks for the classes of a data set on its screen, and leaves by q:
dashboard.py COMMAND..."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

WANTED = [b"fish", b"hammer", b"windmill"]

pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-256color"
    os.execvp(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
seen = b""
end = time.monotonic() + 240
left = False
while time.monotonic() < end:
    if select.select([terminal], [], [], 0.2)[0]:
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            break
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen)
    if not left and all(word in text for word in WANTED):
        os.write(terminal, b"q")
        left = True
_, status = os.waitpid(pid, 0 if left else os.WNOHANG)
if not left or status != 0:
    sys.exit(f"the dashboard did not show {WANTED} and end well (status {status}):\n{seen[-2000:]!r}")
print("the dashboard shows the data set and ends by q")
