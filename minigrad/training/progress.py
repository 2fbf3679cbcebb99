"""The progress bar of a run, and the polite answer to Ctrl-C."""

import contextlib
import signal
import threading
import time

_FORMAT = "{desc} {percentage:3.0f}% |{bar:24}| {elapsed}{postfix}"


class Progress:
    """A bar over the share that is done of whichever limit is nearer, updates or seconds; label None: no bar."""

    def __init__(self, label, updates, time_limit):
        self.updates, self.time_limit, self.bar, self.shown = updates, time_limit, None, 0.0
        if label is not None:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=1.0, desc=label, bar_format=_FORMAT, dynamic_ncols=True)

    def show(self, history, loss):
        """Redraw, ten times a second at most."""
        now = time.monotonic()
        if self.bar is None or now - self.shown < 0.1:
            return
        self.shown = now
        done = self.share(history)
        left = history.seconds * (1 - done) / done if done else float("nan")
        self.bar.n = done
        self.bar.set_postfix_str(f"update {history.update}, loss {loss:.4g}, {left:.0f} s left")

    def share(self, history):
        """How much of the run is done, 0 to 1."""
        by_updates = history.update / self.updates if self.updates else 0.0
        by_time = history.seconds / self.time_limit if self.time_limit else 0.0
        return min(max(by_updates, by_time), 1.0)

    def close(self, history, end):
        """Leave a last line that says how the run ended."""
        if self.bar is not None:
            self.bar.n = self.share(history)
            self.bar.set_postfix_str(f"update {history.update}, {history.seconds:.1f} s, {end}")
            self.bar.close()


@contextlib.contextmanager
def interruptible():
    """Gives a threading.Event that the first Ctrl-C sets; the second raises KeyboardInterrupt as ever.

    Signals belong to the main thread: elsewhere the event is never set, and Ctrl-C does what it always does.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def first(signum, frame):
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
