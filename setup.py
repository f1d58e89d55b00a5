"""Packages: ``birdmix``, and ``conf`` as ``birdmix.conf``; pyproject.toml has all the rest."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["birdmix*"]), "birdmix.conf"])
