"""A stand-in for the decorator behind which the original hides the arguments of some functions."""

import torch


def profiled_function(function):
    def decorator(*args, **kwargs):
        with torch.autograd.profiler.record_function(function.__name__):
            return function(*args, **kwargs)

    decorator.__name__ = function.__name__
    return decorator
