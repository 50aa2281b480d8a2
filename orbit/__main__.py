"""`orbit` and `python -m orbit`: the command line.

A process for steps imports this again, as the main module of its worker: so it imports nothing by itself.
"""


def main() -> None:
    """Run the command line and exit."""
    from orbit.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
