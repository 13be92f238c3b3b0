"""What Qt calls."""

import functools


def slot(method):
    """Qt swallows what a slot raises: here it becomes one line in the panel, and its traceback goes to the log."""

    @functools.wraps(method)
    def safe(self, *arguments):
        try:
            return method(self, *arguments)
        except Exception as error:
            self.fault(error)

    return safe
