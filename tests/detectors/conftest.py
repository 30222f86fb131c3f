"""All tests of detectors run on one thread."""

from tests.threads import one_thread as one_thread
