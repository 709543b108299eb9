"""What an engine has used is counted whole."""

import os
import threading
import time

from gateway.cli.compress.resources import cpu_seconds

BUSY_SECONDS = 0.3


def test_the_time_of_threads_that_have_ended_is_counted_too() -> None:
    def work() -> None:
        end = time.thread_time() + BUSY_SECONDS
        while time.thread_time() < end:
            pass

    before = cpu_seconds({os.getpid()})
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    after = cpu_seconds({os.getpid()})
    assert before is not None
    assert after is not None
    assert after - before > 0.9 * BUSY_SECONDS
