import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_prompts_template_and_grammar(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for file in ("models/prompts/naming.txt", "report/template.html.j2", "demo/grammar.yaml", "pipeline.py"):
        assert f"hypsae_ray/{file}" in names
    assert not [name for name in names if name.startswith(("tests/", "jobs/", ".venv"))]
