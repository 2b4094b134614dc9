"""README's example trains somebody else's model from our shards."""

import re
from pathlib import Path

import synthetic

README = Path(__file__).parents[1] / "README.md"


def test_the_example_of_the_readme_learns(tmp_path, monkeypatch):
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf8"), re.DOTALL | re.MULTILINE)
    left: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), left)  # our own text
    assert left["batch"].position == 400
    assert left["loss"].item() < 0.8  # from log 4 towards log 2: it sees where, and not what is asked
