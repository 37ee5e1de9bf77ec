"""The import never ends, as one that waits for a download or a lock."""

import time

time.sleep(100_000)
