"""`python -m unlearning` is `unlearn`."""

from unlearning.cli import main

if __name__ == "__main__":
    main()
