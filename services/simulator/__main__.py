"""Run the simulated site: `python -m services.simulator --config config/simulate.yaml`."""

from services.simulator.cli import simulate

if __name__ == "__main__":
    simulate()
