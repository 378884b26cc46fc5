"""Gets archives from the Hugging Face hub, continuing where an earlier attempt stopped."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sar.data.archives import check_space
from sar.data.checks import sha256
from sar.data.layouts import Layout
from sar.errors import DataError, one_line
from sar.extras import extra

REPOSITORY = "zhengli97/prompt_learning_dataset"


def fetch(layout: Layout, folder: Path, repository: str, revision: str) -> Path:
    """The dataset's archive in `folder`, downloaded unless an earlier call did it.

    HF_ENDPOINT and HF_TOKEN are used as everywhere with huggingface_hub. Its own download function
    begins anew in every process, which is no way to get 39 GB (SUN397); so its parts are used. No
    two calls may be at work on the same dataset and folder.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
        DataError: the hub has no such file, the connection fails, the disk is full or the checksum
            is wrong.
    """
    with extra("hub"):
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

    name = layout.archive
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(repository, name, revision=revision, endpoint=endpoint)
    try:
        metadata = get_hf_file_metadata(url)
    except Exception as error:  # those of the hub and of whichever HTTP library it uses
        raise DataError(f"cannot get {url}: {one_line(error)}") from error
    etag, size = metadata.etag, metadata.size
    if not etag or size is None:
        raise DataError(f"{url} is not what a hub answers: it has no ETag or no size")
    # Named after its checksum: bytes of another version of the file are never continued.
    version = re.sub("[^0-9A-Za-z]", "", etag)[:16]
    archive = folder / f"{Path(name).stem}.{version}{Path(name).suffix}"
    if archive.exists():
        return archive
    part = archive.with_suffix(".part")
    done = part.stat().st_size if part.exists() else 0
    if done > size:
        part.unlink()
        done = 0
    # The archive and what is unpacked from it, which is about as large.
    check_space(folder, 2 * size - done, f"{name} and its contents")
    try:
        with open(part, "ab") as file:
            http_get(
                url,
                file,
                resume_size=done,
                headers=build_hf_headers(),
                expected_size=size,
                displayed_filename=name,
            )
    except Exception as error:
        raise DataError(
            f"the download of {name} stopped after {part.stat().st_size:,} of {size:,} bytes "
            f"({one_line(error)}); the same command continues there"
        ) from error
    if re.fullmatch("[0-9a-f]{64}", etag) and sha256(part) != etag:
        part.unlink()
        raise DataError(f"{name} arrived damaged and was deleted; run the command again")
    part.replace(archive)
    return archive
