"""Builds the two extensions; everything else about the distribution stands in pyproject.toml.

``VMTOOLS_DEBUG_BUILD=1`` keeps assertions and symbols; ``VMTOOLS_WERROR=1`` makes compiler warnings errors (CI).
"""

from __future__ import annotations

import os
import sysconfig
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

# One wheel for every CPython from 3.11 on; the free-threaded builds have no stable ABI to offer.
ABI3 = not sysconfig.get_config_var("Py_GIL_DISABLED")
PY_LIMITED_API = 0x030B0000

# State per interpreter, not per process: sub-interpreters may load the extensions, too.
MACROS: list[tuple[str, str | None]] = [("CYTHON_USE_MODULE_STATE", "1")]
if ABI3:
    MACROS.append(("Py_LIMITED_API", f"0x{PY_LIMITED_API:08X}"))

CFLAGS = ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra"]
# What Cython generates is held to fewer rules than what we write: these name its own habits.
CFLAGS += [
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]
LDFLAGS = ["-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"]
if os.environ.get("VMTOOLS_WERROR"):
    CFLAGS.append("-Werror")
if os.environ.get("VMTOOLS_DEBUG_BUILD"):
    CFLAGS += ["-O0", "-g", "-UNDEBUG"]
else:
    CFLAGS.append("-g0")
    LDFLAGS.append("-Wl,-s")


def extension(name: str, *sources: str, quick: bool = False) -> Extension:
    return Extension(
        name,
        [f"ext/{source}" for source in sources],
        depends=sorted(glob("ext/*.h")),
        include_dirs=["ext"],
        # Cython's own file sees the header; quickstart.c undoes it for itself.
        extra_compile_args=[*CFLAGS, "-include", "ext/quickstart.h"] if quick and ABI3 else CFLAGS,
        extra_link_args=LDFLAGS,
        py_limited_api=ABI3,
        define_macros=MACROS,
    )


setup(
    ext_modules=cythonize(
        [
            # Each architecture's file is empty on the others.
            extension(
                "vmtools._gate", "gate.pyx", "quickstart.c", "fault.c", "x86_64.c", "i386.c", "aarch64.c", quick=True
            ),
            extension("vmtools.sim._tracer", "tracer.pyx", "decode.c", "ptrace.c", "memory.c", "spawn.c", "probe.c"),
        ],
        build_dir="build/cython",
        include_path=["ext"],
        compiler_directives={
            "language_level": 3,
            "binding": False,
            # What `help` and stubtest know of a function's arguments.
            "embedsignature": True,
            "embedsignature.format": "clinic",
            "autotestdict": False,
        },
    ),
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
