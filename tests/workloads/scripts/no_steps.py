"""Never trains."""

import os

print(os.environ.get("BSADVISOR_BATCH_SIZE"))
