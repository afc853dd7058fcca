"""From a trained model to files that an app ships.

This package is also the function :func:`pocketseq.export`: importing it puts it in the
place that the function has in ``pocketseq``, so it can be called like that.
"""

import inspect
import sys
from types import ModuleType

import pocketseq
import pocketseq.pipeline  # noqa: F401  Keras is set up there.

__signature__ = inspect.signature(pocketseq.export)


class _CallablePackage(ModuleType):
    __call__ = staticmethod(pocketseq.export)


sys.modules[__name__].__class__ = _CallablePackage
