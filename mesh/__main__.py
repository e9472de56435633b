"""`python -m mesh` is `knit`."""

import sys

from mesh.cli.main import main

sys.exit(main())
