"""One method of a paper, one file, read from top to bottom.

Every file has ``Settings`` (what its recipe may say of it) and ``build(task, settings)``, which gives a
:class:`train.method.task.Method`. Axes: B batch, S samples, M mel bands, T frames.
"""
