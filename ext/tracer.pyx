# distutils: sources = ext/spawn.c ext/decode.c ext/memory.c ext/probe.c
# cython: freethreading_compatible=True
"""The system calls of the simulated host's tracer: spawn, wait, registers, memory, go on.

Thin: what a stop means and what becomes of the program is for :mod:`vmtools.sim.tracer`.  See _tracer.pyi for what a
user needs to know.
"""

from libc.errno cimport ECHILD, EFAULT, EINTR, EMSGSIZE, ENOSYS, ESRCH
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from tracer cimport (
    VMT_AT_CHDIR,
    VMT_AT_EXEC,
    VMT_AT_SECCOMP,
    VMT_AT_STDIO,
    VMT_CPUID,
    VMT_EVENT,
    VMT_EXIT,
    VMT_GONE,
    VMT_RETURN,
    VMT_SECCOMP_MMAP,
    VMT_SECCOMP_MMAP_32,
    VMT_SECCOMP_PROTECT,
    VMT_SECCOMP_PROTECT_32,
    VMT_SECCOMP_PTRACE,
    VMT_SECCOMP_PTRACE_32,
    VMT_SIGNAL,
    VMT_TRACES,
    vmt_answer,
    vmt_arguments,
    vmt_cont,
    vmt_cpuid,
    vmt_cpuid_faults,
    vmt_decode,
    vmt_decoded,
    vmt_finish_call,
    vmt_get_frame,
    vmt_hypercalls,
    vmt_inject,
    vmt_judge,
    vmt_listen,
    vmt_message,
    vmt_mount,
    vmt_no_core,
    vmt_own_mounts,
    vmt_plant,
    vmt_program,
    vmt_read,
    vmt_result,
    vmt_spawn,
    vmt_trace,
    vmt_wait,
    vmt_write,
)

import os

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    bytes PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)
    char *PyBytes_AsString(object data) except NULL
    Py_ssize_t PyBytes_Size(object data) except -1

SUPPORTED = bool(VMT_TRACES)
EXIT, SIGNAL, EVENT, GONE, RETURN = VMT_EXIT, VMT_SIGNAL, VMT_EVENT, VMT_GONE, VMT_RETURN
CPUID = VMT_CPUID
SECCOMP_MMAP = {VMT_SECCOMP_MMAP: 64, VMT_SECCOMP_MMAP_32: 32}
SECCOMP_PROTECT = {VMT_SECCOMP_PROTECT: 64, VMT_SECCOMP_PROTECT_32: 32}
SECCOMP_PTRACE = {VMT_SECCOMP_PTRACE: 64, VMT_SECCOMP_PTRACE_32: 32}
AT_STDIO, AT_CHDIR, AT_SECCOMP, AT_EXEC = VMT_AT_STDIO, VMT_AT_CHDIR, VMT_AT_SECCOMP, VMT_AT_EXEC
LARGEST_READ = 1 << 20
cdef object HIGHEST_32 = 0xFFFFFFFF
cdef object HIGHEST_64 = 0xFFFFFFFFFFFFFFFF

cdef int check(int result) except -1:
    if result < 0:
        if result == -ENOSYS and not SUPPORTED:
            raise NotImplementedError("tracing guest programs needs Linux on x86-64 and a 64-bit Python")
        # OSError chooses its own subclass by the number.
        raise OSError(-result, os.strerror(-result))
    return 0


cdef int go_on(int result) except -1:
    # A tracee may be killed at any time, also while it is stopped; wait() tells its end.
    return 0 if result == -ESRCH else check(result)


cdef char **strings(list values) except NULL:
    # The bytes objects stay alive in the caller's list.
    cdef char **array = <char **>calloc(<size_t>len(values) + 1, sizeof(char *))
    if array == NULL:
        raise MemoryError
    try:
        for i, value in enumerate(values):
            if b"\0" in value:
                raise ValueError("embedded null byte")
            array[<Py_ssize_t>i] = PyBytes_AsString(value)
    except BaseException:
        free(array)
        raise
    return array


def spawn(list paths, list argv, list envp, bytes cwd, tuple stdio, bint watch=False):
    cdef vmt_program program
    cdef int report = -1
    cdef int pid
    memset(&program, 0, sizeof(program))
    program.watch = watch
    for i in range(3):
        program.stdio[<int>i] = <int>stdio[i]
    if cwd is not None:
        if b"\0" in cwd:
            raise ValueError("embedded null byte")
        program.cwd = PyBytes_AsString(cwd)
    try:
        program.paths = strings(paths)
        program.argv = strings(argv)
        program.envp = strings(envp)
        with nogil:
            pid = vmt_spawn(&program, &report)
    finally:
        free(program.paths)
        free(program.argv)
        free(program.envp)
    if pid < 0:
        check(pid)
    return pid, report


def decode(bytes code, int bits):
    cdef vmt_decoded found
    if not vmt_decode(<const uint8_t *>PyBytes_AsString(code), <size_t>PyBytes_Size(code), bits, &found):
        return None
    return found.insn, found.length, found.width, bool(found.addr32)


def no_core():
    check(vmt_no_core())


def hypercalls():
    cdef int found
    with nogil:
        found = vmt_hypercalls()
    check(found)
    return found


def cpuid_faults():
    cdef int found = vmt_cpuid_faults()
    check(found)
    return bool(found)


def cpuid(uint32_t leaf, uint32_t subleaf):
    cdef uint32_t words[4]
    check(vmt_cpuid(leaf, subleaf, words))
    return words[0], words[1], words[2], words[3]


def own_mounts():
    check(vmt_own_mounts())


def mount(bytes source, bytes target, bytes type, unsigned long flags, bytes options):
    cdef const char *kind = NULL
    cdef const char *words = NULL
    if type is not None:
        kind = PyBytes_AsString(type)
    if options is not None:
        words = PyBytes_AsString(options)
    check(vmt_mount(PyBytes_AsString(source), PyBytes_AsString(target), kind, flags, words))


cdef class Trace:
    cdef vmt_trace trace

    @property
    def kind(self):
        return self.trace.stop.kind

    @property
    def tid(self):
        return self.trace.stop.tid

    @property
    def signal(self):
        return self.trace.stop.signal

    @property
    def event(self):
        return self.trace.stop.event

    @property
    def code(self):
        return self.trace.stop.code

    @property
    def bits(self):
        return self.trace.stop.bits

    @property
    def instruction(self):
        return self.trace.stop.insn.insn

    def wait(self):
        cdef int result
        while True:
            with nogil:
                result = vmt_wait(&self.trace)
            if result == 0:
                return True
            if result == -ECHILD:
                return False
            if result != -EINTR:
                check(result)
            PyErr_CheckSignals()

    def registers(self):
        cdef uint64_t frame[7]
        vmt_get_frame(&self.trace.stop, frame)
        return [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5], frame[6]]

    def answer(self, list registers):
        cdef uint64_t frame[7]
        cdef int i
        if len(registers) != 7:
            raise ValueError("a frame has seven registers")
        for i in range(7):
            frame[i] = <uint64_t>registers[i]
        go_on(vmt_answer(&self.trace.stop, frame))

    def resume(self, int signal=0):
        go_on(vmt_cont(self.trace.stop.tid, signal))

    def listen(self):
        go_on(vmt_listen(self.trace.stop.tid))

    def message(self):
        cdef long message = vmt_message(self.trace.stop.tid)
        go_on(<int>message if message < 0 else 0)
        return max(message, 0)

    def judge(self):
        go_on(vmt_judge(self.trace.stop.tid))
        go_on(vmt_cont(self.trace.stop.tid, 0))

    def arguments(self, int bits):
        cdef uint64_t words[6]
        cdef int result = vmt_arguments(self.trace.stop.tid, bits, words)
        if result < 0:
            go_on(result)
            return [0] * 6
        return [words[0], words[1], words[2], words[3], words[4], words[5]]

    def finish_call(self):
        go_on(vmt_finish_call(self.trace.stop.tid))

    def result(self):
        cdef int64_t value = 0
        cdef int result = vmt_result(self.trace.stop.tid, &value)
        if result < 0:
            go_on(result)
            return -ESRCH
        return value

    def plant(self, uint64_t address, bytes code):
        cdef int result = vmt_plant(
            self.trace.stop.tid, address, <const uint8_t *>PyBytes_AsString(code), <size_t>PyBytes_Size(code)
        )
        if result < 0:
            go_on(result)
        return result > 0

    def inject(self, uint64_t number, uint64_t number_32, uint64_t first=0, uint64_t second=0, uint64_t third=0):
        cdef uint64_t call[5]
        cdef int64_t value = 0
        cdef int result
        call[0] = number
        call[1] = number_32
        call[2] = first
        call[3] = second
        call[4] = third
        with nogil:
            result = vmt_inject(self.trace.stop.tid, call, &value)
        if result < 0:
            go_on(result)
            return -ESRCH
        return value

    def read(self, address, Py_ssize_t size):
        cdef uint64_t where = self.pointer(address)
        cdef bytes data
        cdef char *to
        cdef int result
        if size < 0 or size > <Py_ssize_t>LARGEST_READ:
            raise OSError(EMSGSIZE, f"a guest program wants {size} bytes to be read at once")
        data = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AsString(data)
        with nogil:
            result = vmt_read(self.trace.stop.tid, where, to, <size_t>size)
        check(result)
        return data

    def write(self, address, bytes data):
        cdef uint64_t where = self.pointer(address)
        cdef const char *source = PyBytes_AsString(data)
        cdef size_t size = <size_t>PyBytes_Size(data)
        cdef int result
        with nogil:
            result = vmt_write(self.trace.stop.tid, where, source, size)
        check(result)

    cdef uint64_t pointer(self, object address) except? 0:
        if not 0 <= address <= (HIGHEST_32 if self.trace.stop.bits == 32 else HIGHEST_64):
            raise OSError(EFAULT, os.strerror(EFAULT))
        return <uint64_t>address
