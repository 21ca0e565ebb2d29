"""StyleGAN2 code and networks of NVIDIA's and rosinality's repositories: run on fastgan's ops, moved to its modules."""

from fastgan.integrations.stylegan.installation import install, installed, uninstall
from fastgan.integrations.stylegan.nvidia_attributes import nvidia_settings
from fastgan.integrations.stylegan.nvidia_names import from_nvidia, to_nvidia
from fastgan.integrations.stylegan.our_state import build_critic, build_generator
from fastgan.integrations.stylegan.pickled import Network
from fastgan.integrations.stylegan.reader import read_pickle
from fastgan.integrations.stylegan.report import InstallReport, InstallRow
from fastgan.integrations.stylegan.rosinality_names import from_rosinality, to_rosinality

__all__ = [
    "InstallReport",
    "InstallRow",
    "Network",
    "build_critic",
    "build_generator",
    "from_nvidia",
    "from_rosinality",
    "install",
    "installed",
    "nvidia_settings",
    "read_pickle",
    "to_nvidia",
    "to_rosinality",
    "uninstall",
]
