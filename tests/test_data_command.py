"""`sarclip data`: what is there, what is damaged, and downloads from a local hub."""

import dataclasses
import hashlib
import io
import random
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import pytest
from hub_server import serve
from mini_layouts import PICTURE, write_originals, write_split

from sar import cli
from sar.data import archives, layouts
from sar.data.cli import _WORKSPACE as FOLDER
from sar.data.hub import REPOSITORY
from sar.data.layouts import LAYOUTS
from sar.errors import DataError

FILE = f"{REPOSITORY}/resolve/main/oxford_pets.zip"


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """The folder of a complete, small OxfordPets; the layout's numbers are changed to its own."""
    folder = write_originals("OxfordPets", tmp_path / "made")
    parts = write_split("OxfordPets", folder)
    layout = dataclasses.replace(
        LAYOUTS["OxfordPets"],
        counts=[len(parts[part]) for part in ("train", "val", "test")],
        lists={file: digest(folder / file) for file in LAYOUTS["OxfordPets"].lists},
    )
    monkeypatch.setitem(layouts.LAYOUTS, "OxfordPets", layout)
    monkeypatch.setattr(archives, "tqdm", lambda items, **_: items)
    return folder


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def data(*argv):
    """Exit status of `sarclip data`."""
    try:
        cli.main(["data", *map(str, argv)])
    except SystemExit as done:
        return done.code or 0


def zipped(folder, prefix="oxford_pets/"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return buffer.getvalue()


def files_in(folder):
    files = {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    return {name: content for name, content in files.items() if name.parts[0] != FOLDER}


def row(output, name):
    (line,) = [line for line in output.splitlines() if line.startswith(f"{name} ")]
    return line.split()


def test_status(pets, capsys):
    root = pets.parent
    assert data("status", "--root", root) == 0
    output = capsys.readouterr().out
    assert row(output, "OxfordPets")[2:] == ["complete", "50", "50", "37"]
    assert row(output, "ImageNetA")[2:] == ["absent", "7,500", "200"]
    assert len(output.splitlines()) == 4 + 15

    (pets / "images" / "pug_3.jpg").unlink()
    write_originals("EuroSAT", root)
    write_originals("ImageNetA", root)
    aircraft = write_originals("FGVCAircraft", root)
    (aircraft / "images_variant_val.txt").write_text("0000003 707-321\n")
    assert (
        data("status", "oxford_pets", "eurosat", "ImageNetA", "fgvc_aircraft", "--root", root) == 0
    )
    output = capsys.readouterr().out
    assert row(output, "OxfordPets")[2:4] == ["incomplete", "49"]
    assert "OxfordPets: 1 images of the lists are missing" in output
    assert "EuroSAT: no split_zhou_EuroSAT.json" in output
    assert "ImageNetA: 12 test images, published: 7,500" in output
    assert "FGVCAircraft: not as published: variants.txt, images_variant_train.txt" in output
    assert row(output, "EuroSAT")[2:4] == ["incomplete", "50"]
    assert "'707-321' is not in variants.txt" in output


def test_status_is_quick(tmp_path):
    script = (
        "import sys, sar.cli\n"
        "try: sar.cli.main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules, 'huggingface_hub' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "data", "status", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_verify(pets, capsys):
    root = pets.parent
    assert data("verify", "OxfordPets", "--root", root, "--workers", 2) == 0
    assert "50 images opened, 0 damaged, 0 missing" in capsys.readouterr().out
    (pets / "images" / "pug_3.jpg").write_bytes(PICTURE[: len(PICTURE) // 2])
    (pets / "images" / "pug_4.jpg").write_text("<html>not found</html>")
    (pets / "images" / "pug_5.jpg").unlink()
    assert data("verify", "--root", root, "--workers", 2) == 1
    output = capsys.readouterr().out
    assert "49 images opened, 2 damaged, 1 missing" in output
    assert f"damaged: {pets / 'images' / 'pug_3.jpg'} (" in output
    assert f"damaged: {pets / 'images' / 'pug_4.jpg'} (cannot identify" in output
    assert f"missing: {pets / 'images' / 'pug_5.jpg'}" in output
    assert "ImageNet: absent" in output
    assert data("verify", "EuroSAT", "--root", root) == 1
    assert "expects a folder 'eurosat'" in capsys.readouterr().err


def test_wrong_arguments(tmp_path, capsys):
    assert data("status", "pets", "--root", tmp_path) == 1
    assert "unknown dataset 'pets'; expected all or one of Caltech101" in capsys.readouterr().err
    assert data("download", "ImageNet", "--root", tmp_path) == 1
    assert f"{tmp_path}/imagenet/images/train/n01440764" in capsys.readouterr().out
    assert data("download", "all", "--root", tmp_path, "--archive", "x.zip") == 1
    assert "name it" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert data("download", "EuroSAT", "--root", tmp_path / "file") == 1
    assert "give another --root" in capsys.readouterr().err


@pytest.fixture
def hub(pets, monkeypatch):
    with serve({FILE: zipped(pets)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_download(pets, hub, tmp_path, capsys):
    root = tmp_path / "data"
    assert data("download", "oxford_pets", "--root", root) == 0
    assert "put into" in capsys.readouterr().out
    assert files_in(root / "oxford_pets") == files_in(pets)
    assert [file.name for file in (root / FOLDER).iterdir()] == [".oxford_pets-lock"]
    asked = len(hub.asked)
    assert data("download", "OxfordPets", "--root", root) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert len(hub.asked) == asked

    # A damaged and a missing file: the first one is the user's to delete.
    (root / "oxford_pets" / "images" / "pug_3.jpg").write_text("my own")
    (root / "oxford_pets" / "images" / "pug_4.jpg").unlink()
    assert data("download", "OxfordPets", "--root", root, "--keep-archive") == 0
    assert (root / "oxford_pets" / "images" / "pug_3.jpg").read_text() == "my own"
    assert (root / "oxford_pets" / "images" / "pug_4.jpg").read_bytes() == PICTURE
    # An archive that is there already, as after an interruption of the unpacking.
    shutil.rmtree(root / "oxford_pets")
    (root / FOLDER / "oxford_pets-unpacked" / "images").mkdir(parents=True)
    (root / FOLDER / "oxford_pets-unpacked" / "images" / "half.jpg").touch()
    asked = len(hub.asked)
    assert data("download", "OxfordPets", "--root", root) == 0
    assert [command for command, _ in hub.asked[asked:]] == ["HEAD"]
    assert files_in(root / "oxford_pets") == files_in(pets)
    assert not list(root.glob(f"{FOLDER}/*.zip"))


def test_a_failed_download_does_not_stop_the_others(pets, hub, tmp_path, capsys):
    root = tmp_path / "data"
    assert data("download", "eurosat", "oxford_pets", "--root", root) == 1
    said = capsys.readouterr()
    assert "EuroSAT: " in said.err
    assert "OxfordPets: " in said.out
    assert files_in(root / "oxford_pets") == files_in(pets)


def large(folder):
    """An archive larger than what the client buffers before it writes."""
    (folder / "noise.bin").write_bytes(random.Random(0).randbytes(12_000_000))
    return zipped(folder)


def test_download_continues_after_errors(pets, hub, tmp_path, capsys):
    root = tmp_path / "data"
    hub.files[FILE] = large(pets)
    # The connection breaks, and the next request is answered with 500.
    hub.stop_after, hub.stop = 11_000_000, lambda: setattr(hub, "refuse", 1)
    assert data("download", "OxfordPets", "--root", root) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"oxford_pets\.zip stopped after [\d,]+ of [\d,]+ bytes .*continues", error)
    (part,) = root.glob(f"{FOLDER}/*.part")
    kept = part.stat().st_size
    assert kept > 1_000_000
    assert data("download", "OxfordPets", "--root", root) == 0
    assert hub.asked[-1] == ("GET", f"bytes={kept}-")
    assert files_in(root / "oxford_pets") == files_in(pets)


def test_download_continues_after_a_kill(pets, hub, tmp_path):
    root = tmp_path / "data"
    waiting, go_on = threading.Event(), threading.Event()
    hub.files[FILE] = large(pets)
    hub.stop_after, hub.stop = 11_000_000, lambda: (waiting.set(), go_on.wait(30))
    argv = ["data", "download", "OxfordPets", "--root", str(root)]
    process = subprocess.Popen([sys.executable, "-m", "sar", *argv], stderr=subprocess.DEVNULL)
    assert waiting.wait(30)
    part = wait_for(lambda: [f for f in root.glob(f"{FOLDER}/*.part") if f.stat().st_size], process)
    process.kill()
    process.wait()
    go_on.set()
    kept = part[0].stat().st_size
    assert data(*argv[1:]) == 0
    assert hub.asked[-1] == ("GET", f"bytes={kept}-")
    assert files_in(root / "oxford_pets") == files_in(pets)


def wait_for(condition, process):
    pause = threading.Event()
    for _ in range(600):
        if found := condition():
            return found
        assert process.poll() is None
        pause.wait(0.05)
    raise AssertionError("nothing was written")


def test_changed_and_damaged_downloads(pets, hub, tmp_path, capsys, monkeypatch):
    root = tmp_path / "data"
    (root / FOLDER).mkdir(parents=True)
    checksum = hashlib.sha256(hub.files[FILE]).hexdigest()
    part = root / FOLDER / f"oxford_pets.{checksum[:16]}.part"
    part.write_bytes(b"x" * 100)  # not how the file begins
    assert data("download", "OxfordPets", "--root", root) == 1
    assert "arrived damaged and was deleted" in capsys.readouterr().err
    assert not part.exists()
    part.write_bytes(b"x" * 10 * len(hub.files[FILE]))
    old = root / FOLDER / "oxford_pets.0123456789abcdef.part"
    old.write_bytes(b"of an older version")
    assert data("download", "OxfordPets", "--root", root) == 0
    assert hub.asked[-1] == ("GET", "")

    assert data("download", "EuroSAT", "--root", root) == 1
    assert "cannot get" in capsys.readouterr().err
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert data("download", "EuroSAT", "--root", root) == 1
    assert "cannot get http://127.0.0.1:9" in capsys.readouterr().err


def test_an_archive_that_is_not_pinned_says_how_to_pin_it(pets, hub, tmp_path, capsys):
    assert data("download", "OxfordPets", "--root", tmp_path / "data") == 0
    said = capsys.readouterr().out
    checksum = hashlib.sha256(hub.files[FILE]).hexdigest()
    pins = f"archive_revision: {'c' * 40}, archive_sha256: {checksum}"
    assert f"oxford_pets.zip is not pinned: nothing but the hub vouches for {REPOSITORY}" in said
    assert pins in said
    # One that an earlier call has left, too; and of another repository, that no pin is for it.
    for root, more in (("kept", ()), ("other", ("--repository", "a/b"))):
        folder = tmp_path / root / FOLDER
        folder.mkdir(parents=True)
        hub.files["a/b/resolve/main/oxford_pets.zip"] = hub.files[FILE]
        (folder / f"oxford_pets.{checksum[:16]}.zip").write_bytes(hub.files[FILE])
        assert data("download", "OxfordPets", "--root", tmp_path / root, *more) == 0
        said = capsys.readouterr().out
        assert (pins in said) == (not more)
        assert f"at {'c' * 40}, SHA-256 {checksum}" in said
    folder = tmp_path / "damaged" / FOLDER
    folder.mkdir(parents=True)
    (folder / f"oxford_pets.{checksum[:16]}.zip").write_bytes(b"other")
    assert data("download", "OxfordPets", "--root", tmp_path / "damaged") == 1
    assert f"oxford_pets.{checksum[:16]}.zip is damaged; delete it" in capsys.readouterr().err


def test_a_pinned_archive_is_that_one_or_none(pets, hub, tmp_path, capsys, monkeypatch):
    """Whatever checksum the hub sends along."""
    content, other = hub.files.pop(FILE), zipped(pets, "other/")
    pinned_file = FILE.replace("/main/", "/v1/")
    checksum = hashlib.sha256(content).hexdigest()
    pets_layout = layouts.LAYOUTS["OxfordPets"]
    pinned = dataclasses.replace(pets_layout, archive_revision="v1", archive_sha256=checksum)
    monkeypatch.setitem(layouts.LAYOUTS, "OxfordPets", pinned)
    root = tmp_path / "data"
    hub.files[pinned_file] = other
    assert data("download", "OxfordPets", "--root", root) == 1
    assert "is not the archive that is pinned: its SHA-256 is" in capsys.readouterr().err
    assert ("GET", "") not in hub.asked  # the hub itself has said so
    assert not (root / "oxford_pets").exists()
    # One that an earlier call had got, or that somebody has put there.
    hub.files[pinned_file] = content
    archive = root / FOLDER / f"oxford_pets.{checksum[:16]}.zip"
    archive.write_bytes(other)
    assert data("download", "OxfordPets", "--root", root) == 1
    assert "is not the archive that is pinned" in capsys.readouterr().err
    archive.unlink()
    assert data("download", "OxfordPets", "--root", root) == 0
    assert "not pinned" not in capsys.readouterr().out
    # Whatever the case of its digits.
    loud = dataclasses.replace(pinned, archive_sha256=checksum.upper())
    monkeypatch.setitem(layouts.LAYOUTS, "OxfordPets", loud)
    assert data("download", "OxfordPets", "--root", tmp_path / "loud") == 0
    # Another revision is the caller's own choice.
    hub.files[FILE] = other
    assert data("download", "OxfordPets", "--root", tmp_path / "b", "--revision", "main") == 0
    assert "is not pinned" in capsys.readouterr().out


def test_no_room(pets, hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert data("download", "OxfordPets", "--root", tmp_path / "data") == 1
    assert "oxford_pets.zip and its contents needs 0.0 GB, but" in capsys.readouterr().err
    assert ("GET", "") not in hub.asked


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("prefix", ["", "oxford_pets/", "outer/inner/data/"])
def test_archives_with_any_folders_around(pets, tmp_path, suffix, prefix):
    (pets / "split_fewshot").mkdir()
    (pets / "split_fewshot" / "shot_16-seed_1.pkl").write_bytes(b"of another machine")
    archive = tmp_path / f"mine{suffix}"
    if suffix == ".zip":
        archive.write_bytes(zipped(pets, prefix))
    else:
        with tarfile.open(archive, f"w:{suffix[5:]}") as file:
            file.add(pets, prefix or ".")
    root = tmp_path / "data"
    assert data("download", "OxfordPets", "--root", root, "--archive", archive) == 0
    assert archive.is_file()
    (pets / "split_fewshot" / "shot_16-seed_1.pkl").unlink()
    assert files_in(root / "oxford_pets") == files_in(pets)


def unsafe_zip(name, link=False):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr("images/a.jpg", PICTURE)
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def unsafe_tar(name, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        good, bad = tarfile.TarInfo("images/a.jpg"), tarfile.TarInfo(name)
        good.size, bad.type, bad.linkname = len(PICTURE), kind, "/etc/passwd"
        archive.addfile(good, io.BytesIO(PICTURE))
        archive.addfile(bad)
    return buffer.getvalue()


UNSAFE = {
    "zip up": unsafe_zip("images/../../../evil"),
    "zip absolute": unsafe_zip("/tmp/evil"),
    "zip drive": unsafe_zip("C:\\evil"),
    "zip backslashes": unsafe_zip("images\\..\\..\\evil"),
    "zip link": unsafe_zip("images/evil", link=True),
    "tar up": unsafe_tar("../evil"),
    "tar absolute": unsafe_tar("/tmp/evil"),
    "tar symlink": unsafe_tar("images/evil", tarfile.SYMTYPE),
    "tar hard link": unsafe_tar("images/evil", tarfile.LNKTYPE),
    "tar device": unsafe_tar("images/evil", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_archives(pets, tmp_path, case):
    archive, root = tmp_path / "archive", tmp_path / "outside" / "data"
    archive.write_bytes(UNSAFE[case])
    with pytest.raises(DataError, match=r"was not unpacked: its member .*(evil|lands? elsewhere)"):
        archives.unpack(archive, LAYOUTS["OxfordPets"], root, root)
    assert files_in(tmp_path / "outside") == {}
    assert list(root.iterdir()) == []


def corrupt(content):
    middle = len(content) // 2
    return (
        content[:middle]
        + bytes(b ^ 255 for b in content[middle : middle + 200])
        + content[middle + 200 :]
    )


def test_damaged_archives(pets, tmp_path):
    layout, root, archive = LAYOUTS["OxfordPets"], tmp_path / "data", tmp_path / "archive"
    noise = random.Random(0).randbytes(5000)
    (pets / "images" / "noise.jpg").write_bytes(noise)
    tars = []
    for kind in ("gz", "xz", ""):
        with tarfile.open(archive, f"w:{kind}") as file:
            file.add(pets, "oxford_pets")
        tars.append(archive.read_bytes())
    header = tars[2].index(b"oxford_pets/images/pug_3.jpg")
    whole_zip = zipped(pets)
    for content, message in (
        (corrupt(whole_zip), "is damaged"),
        (corrupt(tars[0]), "is damaged"),
        (corrupt(tars[1]), "is damaged"),
        (tars[0][: len(tars[0]) // 2], "is damaged"),
        (tars[2][: len(tars[2]) // 2], "is damaged"),
        (tars[2][:header] + b"?" + tars[2][header + 1 :], "is damaged"),
        (whole_zip[: len(whole_zip) // 2], "neither a zip nor a tar"),
        (b"<html>", "neither a zip nor a tar"),
        (zipped(pets / "annotations"), "does not hold OxfordPets: expected a folder images"),
    ):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=message):
            archives.unpack(archive, layout, root, root)
        assert list(root.iterdir()) == []
