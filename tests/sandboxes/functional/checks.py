"""checks.py GROUP: root, user (alice), sudo, chroot; leave and left in two RUNs."""

import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
sys.dont_write_bytecode = True

import files  # noqa: E402, F401
import jobs  # noqa: E402, F401
import processes  # noqa: E402, F401
import sharing  # noqa: E402, F401
import sockets  # noqa: E402, F401
import times  # noqa: E402, F401
import users  # noqa: E402, F401
from harness import main  # noqa: E402

# Not in a process that multiprocessing starts anew.
if __name__ == "__main__":
    main()
