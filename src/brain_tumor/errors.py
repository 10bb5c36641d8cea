"""The one kind of error that is meant for the person at the terminal."""


class PipelineError(Exception):
    """Something the user can mend.

    The text is one line that says what was expected, what came and what to do. Stages and
    commands print it without a traceback and exit with 1; any other exception is a bug and
    keeps its traceback.
    """
