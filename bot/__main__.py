"""`python -m bot` equals `fairbrush`."""

import sys

from bot.cli import main

sys.exit(main())
