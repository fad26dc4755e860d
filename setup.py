"""Installs the plugin; its settings for ruff and pytest are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
README = HERE / 'README.md'
VERSION = re.search(r"^__version__ = '(.+)'$", (HERE / 'deeprftv2_plugin/__init__.py').read_text('utf-8'), re.MULTILINE)

setup(
    name='deeprftv2-plugin',
    version=VERSION.group(1),
    description='DeepRFTv2, reversible image deblurring with Fourier kernel estimators, for BasicSR',
    long_description=README.read_text('utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    author='The DeepRFTv2 plugin developers',
    project_urls={'Paper': 'https://arxiv.org/abs/2511.21132', 'BasicSR': 'https://github.com/XPixelGroup/BasicSR'},
    license='Apache-2.0',
    keywords='image deblurring, image restoration, blind deconvolution, blur kernel, BasicSR, PyTorch',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Console',
        'Environment :: GPU :: NVIDIA CUDA',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Multimedia :: Graphics',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
    packages=find_packages(include=['deeprftv2_plugin', 'deeprftv2_plugin.*']),
    package_data={'deeprftv2_plugin.ops.backends': ['cpp/*']},
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.6',  # the first whose torch.load refuses code by default
        'torchvision',
        'basicsr>=1.4.2',
        'mmengine>=0.10',
        'addict',
        'lmdb',
        'numpy',
        'opencv-python',
        'pyyaml',
        'safetensors',
        'tqdm',
    ],
    extras_require={
        'bench': ['mambapy', 'matplotlib'],
        'demo': ['matplotlib', 'scikit-image'],
        'test': ['pytest', 'pytest-xdist', 'scikit-image', 'scipy', 'triton; sys_platform == "linux"'],
        'dev': ['build', 'ruff'],
        'metrics': ['pyiqa'],
    },
    entry_points={'console_scripts': ['basicsr = deeprftv2_plugin.cli:main', 'deeprftv2 = deeprftv2_plugin.cli:main']},
)
