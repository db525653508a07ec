"""Which licence a text is, by its title: real texts of this machine, and the makers' own agreements."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.models.licence_text import titles

MIT = "Copyright (c) 2026 A\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy\n"
BSD = "Copyright 2026 A\nAll rights reserved.\n\nRedistribution and use in source and binary\nforms, with or without"
TEXTS = Path("/usr/share/common-licenses")  # Debian's base-files


@pytest.mark.skipif(not TEXTS.is_dir(), reason="no Debian: its package base-files has the texts")
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("Apache-2.0", ("Apache-2.0",)),
        ("GPL-2", ("GPL-2.0",)),
        ("GPL-3", ("GPL-3.0",)),
        ("LGPL-2.1", ("LGPL-2.1",)),
        ("LGPL-3", ("LGPL-3.0",)),
        ("MPL-2.0", ("MPL-2.0",)),
        ("GPL-1", ()),
        ("BSD", ()),
        ("Artistic", ()),
        ("GFDL-1.3", ()),
    ],
)
def test_a_text_is_what_its_title_says(file: str, expected: tuple[str, ...]) -> None:
    """Each of the texts that speak of several licences is one; what has no title of ours is nothing."""
    assert titles((TEXTS / file).read_text()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT License\n\nCopyright (c) 2026 A\n", ("MIT",)),
        ("# The MIT License (MIT)\n", ("MIT",)),
        ("Copyright 2026 A\n\n   Apache License\n   Version 2.0, January 2004\n   http://a/\n", ("Apache-2.0",)),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\r\n Version 3, 19 November 2007\r\n", ("AGPL-3.0",)),
        ("BSD 3-Clause License\n", ("BSD-3-Clause",)),
        ("Attribution-NonCommercial 4.0 International\n\n=====\n", ("CC-BY-NC-4.0",)),
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date: July 23, 2024\n", ("llama3.1",)),
        ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT\n", ("llama3",)),
        ("Gemma Terms of Use \n", ("gemma",)),
        ("Tongyi Qianwen LICENSE AGREEMENT\n", ("LicenseRef-Tongyi-Qianwen-LICENSE-AGREEMENT",)),
        ("Stability AI Community License Agreement\n", ("LicenseRef-Stability-AI-Community-License-Agreement",)),
        ("MIT License\n...\nApache License\nVersion 2.0, January 2004\nMIT License\n", ("MIT", "Apache-2.0")),
        (f"{MIT}\nApache License\nVersion 2.0\n", ()),
        (f"Copyright A\n{' '.join(MIT.split()) * 3}\nApache License\nVersion 2.0\n", ()),
        (f"{BSD}\n\nParts:\nMIT License\n", ()),
        ("Acme models\n\nApache License\nVersion 2.0\n", ()),
        (f"Apache License\nVersion 2.0\n...\n{MIT}", ("Apache-2.0", "MIT")),
        (f"BSD 3-Clause License\n{BSD}", ("BSD-3-Clause",)),
        (f"BSD 3-Clause License\n{BSD}\n{BSD}", ("BSD-3-Clause", "BSD-2-Clause")),
        (f"MIT License\n{BSD}", ("MIT", "BSD-2-Clause", "BSD-3-Clause")),
        ("MIT License\nPermission to use, copy,\n modify, and/or distribute this", ("MIT", "ISC", "0BSD")),
        (f"--- a-1.dist-info/LICENSE\n{MIT}--- a-1.dist-info/NOTICE\nApache License\nVersion 2.0\n", ()),
        (f"--- a-1.dist-info/LICENSE\nMIT License\n{MIT}", ("MIT",)),
        ("--- a\nMIT License\n--- b\nCopyright B\nApache License\nVersion 2.0\n", ("MIT", "Apache-2.0")),
        ("A notice.\nTongyi Qianwen LICENSE AGREEMENT\n", ()),
        ("under the terms of this license agreement\n", ()),
        ("Licensed under the Apache License, Version 2.0\n", ()),
        ("This is not the MIT License\n", ()),
        ("Apache License\nVersion 1.1\n", ()),
        ("A" * 100_000 + " LICENSE AGREEMENT\n", ()),
        ("", ()),
        ("\ufffd\x00\n", ()),
    ],
)
def test_only_a_title_counts(text: str, expected: tuple[str, ...]) -> None:
    """Not a licence that is spoken of, nor one of another version, nor a title under a text that has none itself."""
    assert titles(text) == expected
