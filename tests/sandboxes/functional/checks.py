"""checks.py GROUP: root, user (alice), sudo or chroot."""

import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
sys.dont_write_bytecode = True

import files  # noqa: E402, F401
import processes  # noqa: E402, F401
import users  # noqa: E402, F401
from harness import main  # noqa: E402

main()
