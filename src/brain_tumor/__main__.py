"""`python -m brain_tumor`: the command line where the package is not installed."""

import sys

from brain_tumor.serving.command.cli import main

sys.exit(main())
