"""The README's Python runs as printed, top to bottom, and its local links lead somewhere."""

import re
from pathlib import Path

from tests.helpers import host_only

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


@host_only
def test_python_blocks_run():
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["info"].iterations <= 20
    objective, batch = namespace["objective"], (namespace["x"], namespace["t"])
    assert objective.value(namespace["theta"] + namespace["d"], batch) < namespace["loss"]


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert link.startswith("http") or (ROOT / link).exists(), link
