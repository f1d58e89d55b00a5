"""The house: no import climbs, every third party has one home, torch-free files stay so.

A room imports only from lower floors; the ground floor's single files may import each other.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "birdmix"

FLOORS = {
    **dict.fromkeys(["labels", "windows", "batch", "keys", "files", "threads"], 0),
    **dict.fromkeys(["suggest", "text", "competitions", "duration"], 0),
    **dict.fromkeys(["json_data", "tensor_headers", "ownership", "partials"], 0),
    **dict.fromkeys(["audio", "mix", "frontend", "metrics"], 1),
    **dict.fromkeys(["recordings", "model"], 2),
    **dict.fromkeys(["bundle", "report", "loading"], 3),
    **dict.fromkeys(["training", "inference"], 4),
    "kaggle": 5,
    "app": 6,
    "__main__": 7,
}

HOMES = {
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "audiomentations": {"audio"},
    "torchaudio": {"frontend"},
    "timm": {"model"},
    "huggingface_hub": {"model"},
    "lightning": {"training"},
    "matplotlib": {"report"},
    "hydra": {"app"},
    "omegaconf": {"app"},
    "typer": {"app"},
    "rich": {"app"},
    "safetensors": {"bundle", "model"},
    "onnx": {"inference"},
    "onnxruntime": {"inference"},
    "openvino": {"inference"},
    "packaging": {"kaggle"},
    "wheel": {"kaggle"},
}

HEAVY = ("torch", "torchaudio", "timm", "lightning", "librosa", "hydra")

#: Rooms that import without any of these, but for the files named; and every room's settings.
TORCH_FREE_ROOMS = [
    *["labels", "windows", "keys", "files", "suggest", "text", "competitions", "duration"],
    *["threads", "json_data", "tensor_headers", "ownership", "partials"],
    *["audio", "metrics", "recordings", "report", "bundle", "inference", "kaggle"],
]
TORCH_FILES = {"bundle.weights", "inference.torch_engine", "inference.export"}


def torch_free_modules() -> list[str]:
    names = [
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in PACKAGE.rglob("*.py")
    ]
    rooms = [name for name in names if name.split(".")[0] in TORCH_FREE_ROOMS]
    settings = [f"{room}.settings" for room in ("frontend", "mix", "model", "training")]
    return sorted({*rooms, *settings, "frontend.log_mel_numpy"} - TORCH_FILES)


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_and_imports() -> list[tuple[str, Path, str]]:
    return [
        (file.relative_to(PACKAGE).with_suffix("").parts[0], file, name)
        for file in sorted(PACKAGE.rglob("*.py"))
        if file != PACKAGE / "__init__.py"
        for name in imports(file)
    ]


def test_no_import_climbs():
    climbing = []
    for room, file, name in rooms_and_imports():
        target = name.split(".")[1] if name.startswith("birdmix.") else None
        if target in FLOORS and target != room and FLOORS[target] >= max(FLOORS[room], 1):
            climbing.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not climbing


def test_every_third_party_has_one_home():
    astray = [
        f"{file.relative_to(ROOT)} imports {name}"
        for room, file, name in rooms_and_imports()
        if room not in HOMES.get(name.split(".")[0], {room})
    ]
    assert not astray


def test_every_room_stands_on_a_floor():
    assert {room for room, _, _ in rooms_and_imports()} <= set(FLOORS)


@pytest.fixture(scope="module")
def imported_without_torch() -> str:
    modules = "\n".join(f"import birdmix.{name}" for name in torch_free_modules())
    code = f"import sys\n{modules}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torch_free_rooms_are_torch_free(imported_without_torch: str):
    assert imported_without_torch == "[]"
