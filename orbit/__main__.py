"""`python -m orbit`: the command line."""

from orbit.cli.main import main

if __name__ == "__main__":
    main()
