"""`python -m clipself`, as `torchrun` starts it."""

from clipself.cli.main import run

if __name__ == "__main__":
    run()
