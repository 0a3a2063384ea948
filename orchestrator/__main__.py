"""`python -m orchestrator` is `pilotfish`."""

from orchestrator.cli import main

if __name__ == "__main__":
    main(prog_name="pilotfish")
