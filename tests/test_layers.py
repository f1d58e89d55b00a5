"""Rules of imports: only from lower layers, few importers per library, torch-free modules."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "birdmix"

#: A package imports only from lower layers; base modules may import each other.
BASE = (
    *("labels", "windows", "random_keys", "files", "threads", "messages", "text"),
    *("competitions", "duration", "json_data", "safetensors_header", "ownership", "partial_files"),
    *("console", "user_errors", "torch_versions", "worker_processes"),
)
LAYERS = {
    **dict.fromkeys(BASE, 0),
    **dict.fromkeys(["audio", "mix", "frontend", "metrics"], 1),
    **dict.fromkeys(["recordings", "model", "augment"], 2),
    **dict.fromkeys(["bundle", "report", "loading"], 3),
    **dict.fromkeys(["training", "engines"], 4),
    "inference": 5,
    "kaggle": 6,
    "config": 7,
    "experiments": 8,
    "cli": 9,
    "__main__": 10,
}

#: Packages that do not import each other, whatever their layers.
INDEPENDENT = ("training", "inference")

#: The packages that may import each third-party library.
IMPORTERS = {
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "audiomentations": {"audio"},
    "torchaudio": {"frontend"},
    "librosa": {"mix", "report"},
    "triton": {"mix"},
    "timm": {"model"},
    "huggingface_hub": {"model"},
    "lightning": {"training"},
    "matplotlib": {"report"},
    "hydra": {"config", "experiments"},
    "omegaconf": {"config", "experiments"},
    "optuna": {"experiments"},
    "typer": {"cli"},
    "rich": {"console"},
    "safetensors": {"bundle", "model"},
    "onnx": {"engines"},
    "onnxruntime": {"engines"},
    "openvino": {"engines"},
    "packaging": {"kaggle"},
    "wheel": {"kaggle"},
}

#: Libraries that take seconds to import, or that users of an export need not install.
HEAVY = ("torch", "torchaudio", "timm", "lightning", "librosa", "hydra")

#: Packages whose modules import none of these libraries, except ``TORCH_FILES``.
TORCH_FREE = [
    *BASE,
    *(
        "audio",
        "metrics",
        "recordings",
        "report",
        "bundle",
        "engines",
        "inference",
        "kaggle",
        "cli",
    ),
]
#: Modules of these packages that import torch.
TORCH_FILES = {
    *("bundle.bundle_weights", "engines.torch_engine", "engines.onnx_export"),
    "inference.make_golden_windows",
}

#: File names that more than one package may have.
COMMON_NAMES = {"__init__.py", "settings.py"}


def python_files() -> list[Path]:
    """Return the modules of the package, except its own ``__init__``."""
    return sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def torch_free_modules() -> list[str]:
    """Return the modules that import without torch: those of ``TORCH_FREE``, and settings."""
    names = [".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in python_files()]
    free = [name for name in names if name.split(".")[0] in TORCH_FREE]
    settings = [name for name in names if name.endswith("settings")]
    return sorted({*free, *settings, "frontend.log_mel_numpy"} - TORCH_FILES)


def imports(file: Path) -> set[str]:
    """Return the full names that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages_and_imports() -> list[tuple[str, Path, str]]:
    """Return package, file and imported name for every import in the package."""
    return [
        (file.relative_to(PACKAGE).with_suffix("").parts[0], file, name)
        for file in python_files()
        for name in imports(file)
    ]


def test_packages_import_only_from_lower_layers():
    violations = []
    for package, file, name in packages_and_imports():
        target = name.split(".")[1] if name.startswith("birdmix.") else None
        is_other_package = target in LAYERS and target != package
        if is_other_package and LAYERS[target] >= max(LAYERS[package], 1):
            violations.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not violations


def test_training_and_inference_do_not_import_each_other():
    violations = [
        f"{file.relative_to(ROOT)} imports {name}"
        for package, file, name in packages_and_imports()
        for other in INDEPENDENT
        if package in INDEPENDENT and package != other and name.startswith(f"birdmix.{other}.")
    ]
    assert not violations


def test_each_third_party_library_is_imported_by_its_packages_only():
    violations = [
        f"{file.relative_to(ROOT)} imports {name}"
        for package, file, name in packages_and_imports()
        if package not in IMPORTERS.get(name.split(".")[0], {package})
    ]
    assert not violations


def test_the_command_predict_has_no_prediction_logic_of_its_own():
    allowed = {"cli", "console", "user_errors", "inference.settings", "inference.predict_folder"}
    allowed |= {"inference.journal_tables", "inference.process_share", "inference.predict_files"}
    names = imports(PACKAGE / "cli" / "predict.py")
    used = {name.removeprefix("birdmix.") for name in names if name.startswith("birdmix.")}
    assert [name for name in used if not name.startswith(tuple(allowed))] == []


def test_every_package_has_a_layer():
    assert {package for package, _, _ in packages_and_imports()} <= set(LAYERS)


def test_file_names_are_unique():
    counts = Counter(file.name for file in python_files() if file.name not in COMMON_NAMES)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.fixture(scope="module")
def heavy_libraries_loaded() -> str:
    """Import all torch-free modules; return the list of heavy libraries that were loaded."""
    modules = "\n".join(f"import birdmix.{name}" for name in torch_free_modules())
    code = f"import sys\n{modules}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torch_free_modules_import_no_heavy_library(heavy_libraries_loaded: str):
    assert heavy_libraries_loaded == "[]"
