"""What a command can refuse from its words alone is refused before anything heavy is imported."""

import json
import subprocess
import sys

REFUSED = {
    "--workers is 0": ["index", "--workers", "0"],
    "--port is -1": ["serve", "--port", "-1"],
    "--port is 65536": ["serve", "--port", "65536"],
    "expected a file ending in": ["export", "nopenope", "no.txt"],
    "there is no descriptor": ["similar", "nopenope", "--by", "nope"],
    "--top is 0": ["similar", "nopenope", "--top", "0"],
}
CODE = """
import json, sys
from curiosity_bluesky.cli.app import main

for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        heavy = ("tiled", "xarray", "bluesky", "scipy", "sidpy", "torch", "matplotlib")
        print(json.dumps([end.code, [name for name in heavy if name in sys.modules]]))
"""


def test_words_are_refused_before_heavy_imports(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(list(REFUSED.values()))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[2, []]] * len(REFUSED)
    for said, line in zip(REFUSED, done.stderr.splitlines(), strict=True):
        assert said in line
    assert not list(tmp_path.iterdir())
