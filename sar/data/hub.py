"""Gets archives from the Hugging Face hub, continuing where an earlier attempt stopped."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sar.command_line.extras import extra
from sar.data.archives import check_space
from sar.data.checks import sha256
from sar.data.layouts import Layout
from sar.errors import DataError, one_line

REPOSITORY = "zhengli97/prompt_learning_dataset"
_SHA256 = re.compile("[0-9a-f]{64}")


def fetch(layout: Layout, folder: Path, repository: str, revision: str) -> Path:
    """The dataset's archive in `folder`, downloaded unless an earlier call did it.

    An archive that is pinned must have that checksum, whatever the hub says of it. The pin is of
    `REPOSITORY`; another one, or a `revision` that is not empty, is the caller's own choice.

    HF_ENDPOINT and HF_TOKEN are used as everywhere with huggingface_hub. Its own download function
    begins anew in every process, which is no way to get 39 GB (SUN397), so only its parts are used.
    Two calls must not work on the same dataset and folder at a time.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
        DataError: the hub has no such file, the connection fails, the disk is full or the checksum
            is wrong.
    """
    pinned = repository == REPOSITORY and revision in ("", layout.archive_revision)
    wanted = layout.archive_sha256.lower() if pinned else ""
    revision = revision or (layout.archive_revision if pinned else "") or "main"
    with extra("hub"):
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

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
    if wanted and _SHA256.fullmatch(etag) and etag != wanted:
        raise _other_archive(name, etag, wanted)
    # Named after its checksum: bytes of another version of the file are never continued.
    version = re.sub("[^0-9A-Za-z]", "", etag)[:16]
    archive = folder / f"{Path(name).stem}.{version}{Path(name).suffix}"
    if archive.exists():
        found = sha256(archive)
        if wanted and found != wanted:
            raise _other_archive(name, found, wanted)
        if _SHA256.fullmatch(etag) and found != etag:
            raise DataError(f"{archive} is damaged; delete it, then run the command again")
    else:
        found = _download(url, archive, size, etag, name, wanted)
    if not wanted:
        where = f"{repository} at {metadata.commit_hash}, SHA-256 {found}"
        how = (
            f"To pin it, write into RECORD of {layout.config}.yaml: archive_revision: "
            f"{metadata.commit_hash}, archive_sha256: {found}"
            if repository == REPOSITORY
            else "Pins are of the usual repository alone; keep these to compare with"
        )
        print(f"{name} is not pinned: nothing but the hub vouches for {where}. {how}")
    return archive


def _download(url: str, archive: Path, size: int, etag: str, name: str, wanted: str) -> str:
    """Gets what is not there yet of an archive; its SHA-256. Raises as `fetch` does."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    folder = archive.parent
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
    found = sha256(part)
    if _SHA256.fullmatch(etag) and found != etag:
        part.unlink()
        raise DataError(f"{name} arrived damaged and was deleted; run the command again")
    if wanted and found != wanted:
        part.unlink()
        raise _other_archive(name, found, wanted)
    part.replace(archive)
    return found


def _other_archive(name: str, found: str, wanted: str) -> DataError:
    return DataError(
        f"{name} is not the archive that is pinned: its SHA-256 is {found}, expected {wanted}. If "
        "you trust it, say where it is from with --revision, or unpack it yourself with --archive"
    )
