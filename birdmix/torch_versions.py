"""Messages about torchvision and torchaudio that do not fit the installed torch."""

import traceback

from birdmix.messages import first_line

# The last torch with a torchaudio of its own, and the last that birdmix installs: torch 2.N is
# released with torchaudio 2.N and torchvision 0.(N + 15).
_LAST_TORCH = (2, 11)


def find_unfit_package(error: Exception) -> str | None:
    """Return the package that an error was raised in while it was imported.

    Args:
        error: An error, as caught.

    Returns:
        torchvision or torchaudio; None for an error from anywhere else.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package in ("torchvision", "torchaudio"):
            return package
    return None


def describe_unfit_package(package: str, error: Exception) -> str:
    """Return that a package cannot be imported, its version and torch's, and the remedy.

    Args:
        package: torchvision or torchaudio.
        error: The error that its import raised.
    """
    from importlib.metadata import PackageNotFoundError, version  # slows the start of a command

    torch = version("torch")
    try:
        installed = version(package)
    except PackageNotFoundError:
        return f"{package} is not installed; {_remedy(package, '', torch)}"
    return (
        f"{package} {installed} does not fit torch {torch} ({first_line(error)}); "
        f"{_remedy(package, installed, torch)}"
    )


def _remedy(package: str, installed: str, torch: str) -> str:
    """Return what to install so that a package fits torch, given the versions of both."""
    release = torch.partition("+")[0]  # without the name of the build
    major, minor = map(int, release.split(".")[:2])
    if (major, minor) > _LAST_TORCH:
        if package == "torchaudio":
            return f"there is none for torch {release}"
        return f"run: pip install --upgrade torch=={release} torchvision"
    fitting = {"torchvision": f"0.{minor + 15}.", "torchaudio": f"2.{minor}."}
    # Fitting versions that fail are of different builds, as for a CPU and for CUDA.
    option = "--force-reinstall " if installed.startswith(fitting[package]) else ""
    packages = " ".join(f"{name}~={prefix}0" for name, prefix in fitting.items())
    return f"run: pip install {option}torch=={release} {packages}"
