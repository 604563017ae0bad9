"""`python -m vision_jax.cli`, where the command is not on the path."""

import sys

from vision_jax.cli import main

sys.exit(main())
