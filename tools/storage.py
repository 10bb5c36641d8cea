"""The database of a study: by its URL, with errors in one line and without its password."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote, quote_plus

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, ProgrammingError, SQLAlchemyError

from brain_tumor.errors import PipelineError

UNAVAILABLE = (StorageInternalError, SQLAlchemyError)
"""Errors of a call that the database did not take."""


def open_storage(url: str) -> RDBStorage:
    """The database at a URL, with the tables of Optuna, which are made if they are not there yet.

    Raises:
        PipelineError: it is of another kind or version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    kind = make_url(url).drivername
    try:
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (IntegrityError, ProgrammingError):  # another worker makes the tables at this moment
            time.sleep(1)
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except NoSuchModuleError:
        raise PipelineError(f"expected a database that SQLAlchemy knows (--storage), got {kind}") from None
    except ImportError as error:
        problem = f"expected the driver of {kind} (--storage), got {error.__cause__}"
        raise PipelineError(f"{problem}: install it with pip") from None
    except RuntimeError as error:
        raise PipelineError(f"expected a database of this version of Optuna (--storage): {error}") from None


@contextmanager
def errors_in_one_line(url: str) -> Iterator[None]:
    """Let errors of the database be one line, which never has its password.

    Raises:
        PipelineError: instead of them.
    """
    parsed = _parsed(url)
    try:
        yield
    except UNAVAILABLE as error:
        cause = error.__cause__ or error
        said = " ".join(str(getattr(cause, "orig", cause)).split())
        for secret in _secrets(parsed):
            said = said.replace(secret, "***")
        where = parsed.set(query={}).render_as_string()  # with *** in place of the password
        raise PipelineError(f"cannot use the database {where} (--storage): {said}") from None


def _parsed(url: str) -> URL:
    """The parts of a URL; what is none, or was understood wrongly, is not repeated, since a password may be in it."""
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        if "@" not in f"{parsed.host}{parsed.database}":
            return parsed
    raise PipelineError(
        "expected the URL of a database, such as postgresql://USER@HOST/NAME, got another text (--storage): "
        "write special characters of a password as %40 and the like, or keep it in ~/.pgpass"
    )


def _secrets(url: URL) -> set[str]:
    """The passwords in a URL, as they are and as they are written there."""
    found = [url.password or "", *(str(value) for key, value in url.query.items() if "pass" in key)]
    return {form for secret in found if secret for form in (secret, quote(secret), quote_plus(secret))}
