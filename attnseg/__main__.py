"""`python -m attnseg`: what torchrun and srun start."""

import sys

from attnseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
