"""`python -m attnseg` is `attnseg`."""

import sys

from attnseg.cli import main

sys.exit(main())
