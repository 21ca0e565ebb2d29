from .util import EasyDict as EasyDict
