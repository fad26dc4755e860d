"""Entry point for tools that run setup.py. All metadata is in pyproject.toml."""

from setuptools import setup

setup()
