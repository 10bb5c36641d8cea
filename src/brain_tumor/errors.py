"""The only kind of error whose message is written for the user."""


class PipelineError(Exception):
    """An error that the user can correct.

    The message is one line: what was expected, what was found and what to do. Stages (exit code 1) and the command
    `brain-tumor` (exit code 2) print it without a traceback; any other exception is a bug and keeps its traceback.
    """
