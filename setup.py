"""Packages: ``birdmix``, and ``conf`` as ``birdmix.conf``; pyproject.toml has all the rest."""

import sys

from setuptools import find_packages, setup

packages = find_packages(include=["birdmix*"])
if "editable_wheel" in sys.argv:
    # The checkout becomes an entry of the path, and its ``conf`` is read. Otherwise an import hook
    # would be installed, and lose to a folder "birdmix" without modules, such as the checkout.
    setup(packages=packages, package_dir={"": "."})
else:
    setup(packages=[*packages, "birdmix.conf"], package_dir={"birdmix.conf": "conf"})
