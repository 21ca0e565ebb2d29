"""StyleGAN2 code and networks of NVIDIA's and rosinality's repositories: run on fastgan's ops, moved to its modules."""

from fastgan.integrations.stylegan.installation import install, installed, uninstall
from fastgan.integrations.stylegan.report import Report, Row

__all__ = ["Report", "Row", "install", "installed", "uninstall"]
