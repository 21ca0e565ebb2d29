"""A stand-in for what the original writes into a pickle in place of an object: its state, and source code to run."""

import dnnlib

EXECUTED = "open('executed', 'w').close()\n"


def _reconstruct_persistent_obj(meta):
    raise RuntimeError("this would execute meta.module_src")


def persistent(network, **arguments):
    """The network with every module in it pickled as the original's decorator does."""
    for module in network.modules():
        original = type(module)

        def reduce(self, original=original):
            meta = dnnlib.EasyDict(
                type="class", version=6, module_src=EXECUTED, class_name=original.__name__, state=self.__dict__
            )
            return _reconstruct_persistent_obj, (meta,)

        module._init_args, module._init_kwargs = (), dnnlib.EasyDict(arguments)
        module.__class__ = type(original.__name__, (original,), {"__reduce__": reduce})
    return network
