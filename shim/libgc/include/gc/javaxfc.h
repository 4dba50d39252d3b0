/* For runtimes that must run every finalizer before the program ends. */
#ifndef GC_JAVAXFC_H
#define GC_JAVAXFC_H

#ifndef GC_H
#include "gc.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Runs all finalizers that are registered, also of objects still in use, until none is left. */
GC_API void GC_CALL GC_finalize_all(void);

#ifdef __cplusplus
}
#endif

#endif
