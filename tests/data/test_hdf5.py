"""HDF5 files from strangers: each bad one is really made, and its message read."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from marline.data.hdf5 import read_arrays, write_arrays
from marline.errors import CorruptionError, DataError

DATA = np.arange(20000, dtype=np.float32).reshape(-1, 2)
Maker = Callable[[h5py.File], None]


def soft_link(file: h5py.File) -> None:
    file["elsewhere"] = DATA
    file["x"] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "x")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("x", (100,), "u1", external=[("/etc/passwd", 0, 100)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (10,))
    file.create_virtual_dataset("x", layout)


def bomb(file: h5py.File) -> None:
    file.create_dataset("x", (10**11,), "f4", chunks=(10**6,), compression="gzip")


def unallocated(file: h5py.File) -> None:
    file.create_dataset("x", (10**11,), "f4")


def large_chunks(file: h5py.File) -> None:
    file.create_dataset("x", (4,), "f8", maxshape=(None,), chunks=(2**28,), compression="gzip")
    file["x"].id.write_direct_chunk((0,), bytes(64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (soft_link, '"x" is a soft or external link, which is not read; export the logs again as plain arrays'),
        (external_link, '"x" is a soft or external link'),
        (external_storage, '"x" is stored in another file'),
        (virtual, '"x" is a virtual array, made of other files'),
        (bomb, '"x" claims to be 400000000000 bytes and stores 0, which is not read; export the logs again, complete'),
        (unallocated, '"x" claims to be 400000000000 bytes and stores 0'),
        (lambda file: file.create_dataset("x", data=["a", "b"]), '"x" holds something other than numbers'),
        (lambda file: file.create_dataset("x", data=np.array([b"a"])), '"x" holds something other than numbers'),
        (lambda file: file.create_dataset("x", (3,), h5py.vlen_dtype("i4")), '"x" holds something other than numbers'),
        (lambda file: file.create_dataset("x", (3,), h5py.ref_dtype), '"x" holds something other than numbers'),
        (lambda file: file.create_dataset("x", (3,), [("a", "i4")]), '"x" holds something other than numbers'),
        (lambda file: file.create_dataset("x", (3,), np.void(8).dtype), '"x" holds something other than numbers'),
        (lambda file: file.create_dataset("x", data=DATA, scaleoffset=2), '"x" is packed by filter 6'),
        (lambda file: file.create_dataset("x", data=h5py.Empty("f4")), '"x" is empty; export the logs again'),
        (lambda file: file.create_group("x"), '"x" is a group where an array is needed'),
        (lambda file: file.create_dataset("xx", data=DATA), 'no "x" among "xx"; rename "xx" to it'),
        (lambda file: None, 'no "x" among nothing; export it too'),
        (large_chunks, '"x" has chunks of 2147483648 bytes'),
    ],
)
def test_what_is_not_a_plain_array_is_refused(tmp_path: Path, make: Maker, message: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    with pytest.raises(DataError) as caught:
        read_arrays(tmp_path / "a.h5", ["x"])
    assert str(tmp_path / "a.h5") in str(caught.value)
    assert message in str(caught.value)


def test_of_a_million_groups_a_few_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(1000):
            file.create_group(f"g{i}\n[/bold]")
    with pytest.raises(DataError) as caught:
        read_arrays(tmp_path / "a.h5", ["x"])
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_what_is_not_asked_for_is_left_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = DATA
        soft_link_elsewhere = h5py.ExternalLink("/etc/passwd", "x")
        file["y"] = soft_link_elsewhere
        file.create_group("infos")["z"] = ["text"]
    assert list(read_arrays(tmp_path / "a.h5", ["x"], ["not there"])) == ["x"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 something zipped", b"\x80\x04\x95 pickle"])
def test_other_files_are_no_hdf5(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.h5 is (empty|not an HDF5 file); export the logs again as HDF5"):
        read_arrays(tmp_path / "a.h5", ["x"])


def test_a_file_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_arrays(path, {"x": DATA})
    data = path.read_bytes()
    for size in [8, 9, *range(100, len(data), 4096), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(
            CorruptionError, match=r"a\.h5 is truncated or altered .* restore a copy or export it again"
        ):
            read_arrays(path, ["x"])


def test_a_flipped_byte_in_a_chunk_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_arrays(path, {"x": DATA})
    data = bytearray(path.read_bytes())
    at = bytes(data).index(DATA[100:110].tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"a\.h5 is truncated or altered"):
        read_arrays(path, ["x"])


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.h5", {"x": DATA})
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(CorruptionError, match="is a symbolic link"):
        read_arrays(tmp_path / "link.h5", ["x"])
    with pytest.raises(CorruptionError, match="is not a plain file"):
        read_arrays(tmp_path / "pipe.h5", ["x"])


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_arrays(tmp_path / "a.h5", {"x": DATA})
    monkeypatch.setattr(os, "sysconf", lambda name: 200)
    with pytest.raises(
        DataError, match="holds 80000 bytes of logs and this machine has 40000 bytes of memory; keep fewer"
    ):
        read_arrays(tmp_path / "a.h5", ["x"])


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}])
def test_what_others_write_is_read(tmp_path: Path, options: dict[str, object]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=DATA.astype(">f8"), **options)
        file.create_dataset("zeros", data=np.zeros(10**6, bool), **options)
        file.create_dataset("scalar", data=3)
    arrays = read_arrays(tmp_path / "a.h5", ["x", "zeros", "scalar"])
    np.testing.assert_array_equal(arrays["x"], DATA)
    assert arrays["zeros"].dtype == bool and not arrays["zeros"].any()
    assert arrays["scalar"].shape == ()


def test_written_arrays_carry_a_checksum_and_no_time(tmp_path: Path) -> None:
    arrays = {"x": DATA, "flags": np.arange(10000) % 3 == 0, "wide": np.zeros((2, 10**6), np.float32)}
    for name in ("a.h5", "b.h5"):
        write_arrays(tmp_path / name, arrays)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        for array in map(file.get, arrays):
            assert isinstance(array, h5py.Dataset) and array.fletcher32 and array.compression is None
    for key, array in read_arrays(tmp_path / "a.h5", list(arrays)).items():
        assert array.dtype == arrays[key].dtype
        np.testing.assert_array_equal(array, arrays[key])


def test_a_disk_that_fills_up_anywhere_is_an_error_and_no_crash(tmp_path: Path) -> None:
    arrays = {"x": DATA, "y": DATA[:, 0]}
    write_arrays(tmp_path / "a.h5", arrays)
    size = (tmp_path / "a.h5").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [0, 1, 48, 100, *range(1000, size, 5000), size - 100, size - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # the kernel refuses longer files from here on
        try:
            with pytest.raises(OSError, match="File too large"):
                write_arrays(tmp_path / "a.h5", arrays)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_is_open_elsewhere_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    script = (
        f"import h5py\nfile = h5py.File({str(path)!r}, 'w')\nfile['x'] = [1.0]\nprint(flush=True)\n"
        "input()\nfile.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(DataError, match=r"a\.h5 is open for writing elsewhere; let that program close it"):
            read_arrays(path, ["x"])
        writer.communicate("done\n")
    assert read_arrays(path, ["x"])["x"].tolist() == [1.0]


def test_what_was_never_written_is_said_to_be(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (12,), bool)
        file.create_dataset("y", (12,), "f4", chunks=(3,))[:3] = 1.0
    with pytest.raises(DataError, match=r'"x" has shape \[12\], but nothing was ever written to it; write the zeros'):
        read_arrays(tmp_path / "a.h5", ["x"])
    with pytest.raises(DataError, match=r'"y" has shape \[12\], but only 12 of its 48 bytes were ever written to it'):
        read_arrays(tmp_path / "a.h5", ["y"])


@pytest.mark.parametrize("size", [512, 4096])
def test_a_block_of_the_users_may_stand_before_the_data(tmp_path: Path, size: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=size) as file:
        file["x"] = DATA
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.h5", ["x"])["x"], DATA)


def test_arrays_that_unpack_to_gigabytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marline.data.files.HARMLESS", 1 << 20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(1 << 20, np.float32), compression="gzip", chunks=(1 << 18,))
    with pytest.raises(DataError, match='"x" unpacks from .* to 4,194,304 bytes, as no log does'):
        read_arrays(tmp_path / "a.h5", ["x"])
