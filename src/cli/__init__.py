"""What every command shares: how it starts, and how a mistake becomes a sentence.

Importing it ends a command with one sentence where a package that commands need is not installed.
"""

from cli.extras import check_installed

check_installed()
