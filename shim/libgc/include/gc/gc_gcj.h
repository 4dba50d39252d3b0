/* Objects whose first word points to a type structure, which holds the mark descriptor in its second word. */
#ifndef GC_GCJ_H
#define GC_GCJ_H

#ifndef GC_H
#include "gc.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* To be called first; later calls do nothing.  `procedure` is a GC_mark_proc, `index` a reserved one or from GC_new_proc, else it ends
 * the process; GC_MAKE_PROC(index, 1) describes the objects of GC_debug_gcj_malloc. */
GC_API void GC_CALL GC_init_gcj_malloc(int index, void *procedure);

/* A zeroed object that begins with `type`. */
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_gcj_malloc(size_t bytes, void *type);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_gcj_malloc_ignore_off_page(size_t bytes, void *type);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_gcj_malloc(size_t bytes, void *type, GC_EXTRA_PARAMS);

/* Their kinds. */
GC_API int GC_gcj_kind;
GC_API int GC_gcj_debug_kind;

#ifdef GC_DEBUG
#define GC_GCJ_MALLOC(bytes, type) GC_debug_gcj_malloc(bytes, type, GC_EXTRAS)
#define GC_GCJ_MALLOC_IGNORE_OFF_PAGE(bytes, type) GC_debug_gcj_malloc(bytes, type, GC_EXTRAS)
#else
#define GC_GCJ_MALLOC(bytes, type) GC_gcj_malloc(bytes, type)
#define GC_GCJ_MALLOC_IGNORE_OFF_PAGE(bytes, type) GC_gcj_malloc_ignore_off_page(bytes, type)
#endif

#ifdef __cplusplus
}
#endif

#endif
