"""What a bundle is: shared by the writer (`bundler`) and the reader (`appliance`), importing neither.

Needs only the standard library, `cryptography` and `tuf`. The normative text is SPEC.md beside this file.
"""

FORMAT_VERSION = 1
