"""`python -m browsing` is `hetlm`; `accelerate launch -m browsing train ...` is it in several processes."""

from browsing.cli import main

if __name__ == "__main__":
    main()
