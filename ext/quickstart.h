/* Included before Python.h where a module must load fast.
 *
 * In the limited API, every module that Cython 3.x makes begins by importing `inspect`, for seven constants that are
 * fixed since Python 3.6, and `collections.abc`: more work than everything else that a command does. Here the constants
 * are given, and the two imports go to modules that every interpreter has loaded by then. */
#ifndef VMT_QUICKSTART_H
#define VMT_QUICKSTART_H

#define CO_OPTIMIZED 0x0001
#define CO_NEWLOCALS 0x0002
#define CO_VARARGS 0x0004
#define CO_VARKEYWORDS 0x0008
#define CO_GENERATOR 0x0020
#define CO_COROUTINE 0x0080
#define CO_ASYNC_GENERATOR 0x0200

/* Python.h then declares this name, and quickstart.c defines it. */
#define PyImport_ImportModule vmt_import_module

#endif
