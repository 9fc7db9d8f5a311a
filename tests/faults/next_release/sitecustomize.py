"""Python imports this before a program begins: the schema's version is that of the later release then."""

from pathlib import Path

from jobmaster.stores.sql import version

version.SCHEMA_VERSION = "0005"
version.AUTOMATIC_SCHEMA = "0004"
version.FOLDERS = (*version.FOLDERS, str(Path(__file__).with_name("versions")))
