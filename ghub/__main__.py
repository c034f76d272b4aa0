"""`python -m ghub`, the same as the console script."""

from ghub.cli import main

if __name__ == "__main__":
    main()
