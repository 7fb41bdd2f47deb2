"""`python -m attnseg`: what torchrun and srun start."""

from attnseg.cli import entry

if __name__ == "__main__":
    entry()
