"""`python -m gateway` is the command `pointsman`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
