"""Run the simulated site: `python -m services.simulator --config config/simulate.yaml`."""

from services.commands.simulate import simulate

if __name__ == "__main__":
    simulate()
