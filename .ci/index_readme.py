"""The README as a package index shows it: a provider of metadata for scikit-build-core, which pyproject.toml names."""

import re
from pathlib import Path


def dynamic_metadata(field, settings, project):
    """README.md with the links to files and images of the repository made absolute."""
    repository = project["urls"]["Source"]
    text = Path("README.md").read_text(encoding="utf-8")
    for mark, place in (("!", "raw"), ("", "blob")):
        link = re.compile(rf"(?<!!)({mark}\[[^]]*\])\((?!https?:|#)([^)]+)\)")
        text = link.sub(rf"\1({repository}/{place}/main/\2)", text)
    return {"content-type": "text/markdown", "text": text}
