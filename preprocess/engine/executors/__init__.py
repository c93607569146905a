"""Where the tasks of a build run: an :class:`Executor` gives them to workers.  ``local``: processes of this machine."""
