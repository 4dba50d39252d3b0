/* Allocation together with a finalizer. */
#ifndef GC_DISCLAIM_H
#define GC_DISCLAIM_H

#include "gc.h"

#ifdef __cplusplus
extern "C" {
#endif

GC_API void GC_CALL GC_init_finalized_malloc(void);

struct GC_finalizer_closure {
  GC_finalization_proc proc;
  void *cd; /* its second argument */
};

/* A zeroed object for which the closure is called when it is unreachable.  midden calls it like any finalizer, after
 * the collection; the object is reclaimed by the next one. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_finalized_malloc(size_t bytes, const struct GC_finalizer_closure *closure) GC_ATTR_NONNULL(2);

#ifdef __cplusplus
}
#endif

#endif
