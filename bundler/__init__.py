"""The builder: `build(plan, sources, repository)`. The program is `lifeboat`."""

import os

# onnxruntime since 1.29 writes a device id and uploads events unless this stands before it is first imported
# (microsoft/onnxruntime#27379). A box that promises to stay offline must not depend on an operator's environment.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
