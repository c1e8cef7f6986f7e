"""Trained policies outside of Python: ONNX, torch.export, a C++ header, a page that plays.

``export`` is the function; every form has a module of its own, and all begin with :class:`exportable.ExportablePolicy`.
"""
