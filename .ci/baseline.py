"""Write the core's first migration anew from its tables.  Until the first release only: a released revision never changes."""

import re
import subprocess
import sys
from pathlib import Path

import tallystick.migrations
from tallystick import database, migrate, tables

HEADER = '''"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary().with_variant(sa.BLOB(), "sqlite")


def upgrade() -> None:
'''


def main() -> None:
    """Render what an empty database lacks."""
    body = migrate.draft(database.connect("sqlite://"), tables.metadata)
    body = re.sub(r"^ *#.*\n", "", body, flags=re.MULTILINE)
    body = re.sub(r"sa\.BigInteger\(\)\.with_variant\(sa\.Integer\(\), 'sqlite'\)", "Int", body)
    body = re.sub(r"sa\.LargeBinary\(\)\.with_variant\(sa\.BLOB\(\), 'sqlite'\)", "Bytes", body)
    for table in tables.metadata.sorted_tables:  # Alembic leaves out checks that stand at a column
        for column in table.c:
            for check in column.constraints:
                create, rest = body.split(f"op.create_table('{table.name}',", 1)
                rest = rest.replace(
                    f"'{column.name}', Int", f"'{column.name}', Int, sa.CheckConstraint('{check.sqltext}')", 1
                )
                body = f"{create}op.create_table('{table.name}',{rest}"
    # only a lone key would count up by itself
    tables_apart = re.split(r"(?=op\.create_table)", body)
    body = "".join(
        table.replace("autoincrement=False, ", "") if not re.search(r"PrimaryKeyConstraint\('\w+'\)", table) else table
        for table in tables_apart
    )
    body = re.sub(r"sa\.(CheckConstraint|text)\('([^']*)'\)", r'sa.\1("\2")', body)
    file = Path(tallystick.migrations.__path__[0], "v0001_baseline.py")
    file.write_text(HEADER + "    " + body.strip() + "\n")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", file], check=True)


if __name__ == "__main__":
    main()
