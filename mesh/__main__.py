"""`python -m mesh` is `knit`."""

from mesh.cli.main import main

main()
