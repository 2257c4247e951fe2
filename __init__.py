"""systemprompt-cloud: from nothing to a running tenant, as durable state machines.

Everything public is importable from here; `__init__.pyi` is the list. A name is loaded when it is first used, so that
importing the package, as every start of the command line does, costs next to nothing.
"""

import lazy_loader

# lazy_loader is not annotated; the names it attaches are typed by the stub.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # pyright: ignore[reportUnknownVariableType]
