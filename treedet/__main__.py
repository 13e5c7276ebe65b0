"""``python -m treedet``."""

import sys

from treedet.cli import main

sys.exit(main())
