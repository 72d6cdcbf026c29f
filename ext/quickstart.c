#undef PyImport_ImportModule /* the header is included everywhere; here the real one is meant */
#include <Python.h>
#include <string.h>

PyObject *vmt_import_module(const char *name);

PyObject *vmt_import_module(const char *name) {
    if (strcmp(name, "inspect") == 0)
        name = "sys"; /* nothing is taken from it: quickstart.h */
    else if (strcmp(name, "collections.abc") == 0)
        name = "_collections_abc"; /* the same classes */
    return PyImport_ImportModule(name);
}
