"""Packages: ``birdmix``, and ``conf`` as ``birdmix.conf``; pyproject.toml has all the rest."""

import sys

from setuptools import find_packages, setup

packages, package_dir = find_packages(include=["birdmix*"]), {}
# An editable installation reads the checkout's ``conf``. Without a folder to map it is an entry of
# the path, which is found before a folder "birdmix" without modules, such as the checkout itself.
if "editable_wheel" not in sys.argv:
    packages.append("birdmix.conf")
    package_dir["birdmix.conf"] = "conf"

setup(packages=packages, package_dir=package_dir)
