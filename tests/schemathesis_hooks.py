"""What schemathesis uploads: scans of each kind and other bytes, so that answers are checked as well as refusals."""

from email import message_from_bytes
from email.policy import HTTP

import cv2
import numpy as np
import schemathesis
from hypothesis import strategies as st
from scan_files import dicom, nifti
from schemathesis.core.failures import AcceptedNegativeData


def _noise(size: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


_seeds = st.integers(0, 2**32 - 1)
_pictures = st.builds(_noise, st.tuples(st.integers(16, 64), st.integers(16, 64)), _seeds)
_volumes = st.builds(_noise, st.tuples(*[st.integers(4, 24)] * 3), _seeds)
_kinds = st.sampled_from([".png", ".jpg", ".tif", ".bmp", ".webp"])
schemathesis.openapi.format(
    "binary",
    st.one_of(
        st.builds(lambda pixels, kind: cv2.imencode(kind, pixels)[1].tobytes(), _pictures, _kinds),
        _pictures.map(lambda pixels: dicom(pixels.astype(np.int16))),
        _volumes.map(nifti),
        st.binary(max_size=500),
    ),
)


@schemathesis.hook
def filter_failure(context, failure, case, response) -> bool:
    """Whether a failure is one: a form made to lack `files` may have a field that is called so by chance.

    Such a request is accepted with right, which is read from what was sent and not from how it was made.
    """
    if not isinstance(failure, AcceptedNegativeData):
        return True
    head = f"Content-Type: {response.request.headers['Content-Type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + response.request.body, policy=HTTP).iter_parts()
    names = [part.get_param("name", header="Content-Disposition") for part in parts]
    return not (1 <= len(names) <= 16 and set(names) == {"files"})
