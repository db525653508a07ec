"""The builder: `build(plan, sources, repository)`. The program is `lifeboat`."""

import os

# onnxruntime since 1.29 writes a device id and uploads events unless this stands before it is first imported
# (microsoft/onnxruntime#27379). A box that promises to stay offline must not depend on an operator's environment.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# huggingface-hub 2.4 reads these when it is first imported. Without this one it tells the hub which programs it finds
# around it, and asks the hub for a list to know them by.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Files are fetched over plain HTTP and hashed here; the Xet protocol is untested with this program.
os.environ["HF_HUB_DISABLE_XET"] = "1"

__version__ = "0.1.0"
