/* For language runtimes: object kinds with layouts of their own, mark procedures, and roots reported while marking.
 *
 * A descriptor is a word that says where an object's pointers are; its two low bits say how. */
#ifndef GC_MARK_H
#define GC_MARK_H

#ifndef GC_H
#include "gc.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- descriptors */

#define GC_DS_TAG_BITS 2
#define GC_DS_TAGS ((1 << GC_DS_TAG_BITS) - 1)

/* The descriptor is the number of bytes from the object's start that may hold pointers. */
#define GC_DS_LENGTH 0

/* Its other bits say which words may hold pointers; the highest bit stands for the first word. */
#define GC_DS_BITMAP 1

/* Made by GC_MAKE_PROC: a mark procedure reports the pointers. */
#define GC_DS_PROC 2

/* Where to find the descriptor: as many bytes from the object's start, or, where the value is negative, in a type
 * structure that the object's first word points to, -value - GC_INDIR_PER_OBJ_BIAS bytes from its start. */
#define GC_DS_PER_OBJECT 3
#define GC_INDIR_PER_OBJ_BIAS 0x10

#define GC_LOG_MAX_MARK_PROCS 6
#define GC_MAX_MARK_PROCS (1 << GC_LOG_MAX_MARK_PROCS)
#define GC_RESERVED_MARK_PROCS 8
#define GC_GCJ_RESERVED_MARK_PROC_INDEX 0
#define GC_MAKE_PROC(proc_index, env) \
  (((((env) << GC_LOG_MAX_MARK_PROCS) | (proc_index)) << GC_DS_TAG_BITS) | GC_DS_PROC)

/* ---------------------------------------------------------------- mark procedures */

/* Work that a mark procedure should do before it leaves the rest for another call, in bytes; midden sets no limit. */
#define GC_PROC_BYTES 100

struct GC_ms_entry {
  void *opaque;
};

/* Reports the pointers of the object at `object` by GC_mark_and_push, whose result it hands on and at last returns.
 * Runs while the world is stopped, on several threads at once for different objects; `env` is what the descriptor
 * holds.  It may be given an object that is on a free list: all zero, except that the first word may point to
 * the next. */
typedef struct GC_ms_entry *(*GC_mark_proc)(GC_word *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                            GC_word env);

/* Objects lie between these. */
GC_API void *GC_least_plausible_heap_addr;
GC_API void *GC_greatest_plausible_heap_addr;

/* Marks the object at an address, if it is one.  `source` is where the address was found; midden does not use it. */
GC_API struct GC_ms_entry *GC_CALL GC_mark_and_push(void *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                                    void **source);
#define GC_MARK_AND_PUSH(object, stack, limit, source)                   \
  ((GC_word)(object) >= (GC_word)GC_least_plausible_heap_addr &&         \
           (GC_word)(object) <= (GC_word)GC_greatest_plausible_heap_addr \
       ? GC_mark_and_push(object, stack, limit, source)                  \
       : (stack))

/* An index for GC_MAKE_PROC. */
GC_API unsigned GC_CALL GC_new_proc(GC_mark_proc procedure);
GC_API unsigned GC_CALL GC_new_proc_inner(GC_mark_proc procedure);

/* ---------------------------------------------------------------- kinds */

/* A free list array names a kind to be made; midden keeps its own free lists. */
GC_API void **GC_CALL GC_new_free_list(void);
GC_API void **GC_CALL GC_new_free_list_inner(void);

/* A new kind of object.  `add_size`: the object's size is added to the descriptor.  `clear`: new objects are zeroed.
 * The _inner functions are for within GC_call_with_alloc_lock. */
GC_API unsigned GC_CALL GC_new_kind(void **free_list, GC_word descriptor, int add_size, int clear) GC_ATTR_NONNULL(1);
GC_API unsigned GC_CALL GC_new_kind_inner(void **free_list, GC_word descriptor, int add_size, int clear)
    GC_ATTR_NONNULL(1);

GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_generic_malloc(size_t bytes, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_generic_malloc_ignore_off_page(size_t bytes, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_generic_malloc_uncollectable(size_t bytes, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL GC_generic_or_special_malloc(size_t bytes, int kind);
GC_API GC_ATTR_MALLOC GC_ATTR_ALLOC_SIZE(1) void *GC_CALL
    GC_debug_generic_or_special_malloc(size_t bytes, int kind, GC_EXTRA_PARAMS);
#ifdef GC_DEBUG
#define GC_GENERIC_OR_SPECIAL_MALLOC(bytes, kind) GC_debug_generic_or_special_malloc(bytes, kind, GC_EXTRAS)
#else
#define GC_GENERIC_OR_SPECIAL_MALLOC(bytes, kind) GC_generic_or_special_malloc(bytes, kind)
#endif

/* The kind of an object, and its size where `bytes` is not NULL. */
GC_API int GC_CALL GC_get_kind_and_size(const void *object, size_t *bytes) GC_ATTR_NONNULL(1);

/* libgc's debugging allocators put a header in front of objects; midden's do not. */
GC_API GC_ATTR_CONST size_t GC_CALL GC_get_debug_header_size(void);
#define GC_USR_PTR_FROM_BASE(p) ((void *)((char *)(p) + GC_get_debug_header_size()))
GC_API GC_ATTR_DEPRECATED
#ifdef GC_BUILD
    const
#endif
        size_t GC_debug_header_size;

typedef void(GC_CALLBACK *GC_describe_type_fn)(void *object, char *buffer);
#define GC_TYPE_DESCR_LEN 40
GC_API void GC_CALL GC_register_describe_type_fn(int kind, GC_describe_type_fn function);

/* ---------------------------------------------------------------- during a collection */

/* Called as each collection starts.  It may not use the heap. */
typedef void(GC_CALLBACK *GC_start_callback_proc)(void);
GC_API void GC_CALL GC_set_start_callback(GC_start_callback_proc function);
GC_API GC_start_callback_proc GC_CALL GC_get_start_callback(void);

/* Called in each mark phase to report roots of the program's own by the GC_push functions.  The procedure that was set
 * before must be called too. */
typedef void(GC_CALLBACK *GC_push_other_roots_proc)(void);
GC_API void GC_CALL GC_set_push_other_roots(GC_push_other_roots_proc function);
GC_API GC_push_other_roots_proc GC_CALL GC_get_push_other_roots(void);

/* Report every aligned word of a range.  They do the same; outside of a mark phase they do nothing. */
GC_API void GC_CALL GC_push_all(void *start, void *end);
GC_API void GC_CALL GC_push_all_eager(void *start, void *end);
GC_API void GC_CALL GC_push_conditional(void *start, void *end, int all);
GC_API void GC_CALL GC_push_finalizer_structures(void);

/* Marks of single objects.  Setting one keeps the object in this collection, but not what it points to. */
GC_API int GC_CALL GC_is_marked(const void *object) GC_ATTR_NONNULL(1);
GC_API void GC_CALL GC_set_mark_bit(const void *object) GC_ATTR_NONNULL(1);

/* Lets an object go in this collection already: midden does not, it goes in the next. */
GC_API void GC_CALL GC_clear_mark_bit(const void *object) GC_ATTR_NONNULL(1);

/* Calls `function` for every object that the last collection found reachable, or that was allocated since. */
typedef void(GC_CALLBACK *GC_reachable_object_proc)(void *object, size_t bytes, void *argument);
GC_API void GC_CALL GC_enumerate_reachable_objects_inner(GC_reachable_object_proc function, void *argument)
    GC_ATTR_NONNULL(1);

/* Whether an address lies in the static data of a loaded object. */
GC_API int GC_CALL GC_is_tmp_root(void *address);

/* Returns its argument. */
GC_API void *GC_CALL GC_clear_stack(void *value);

#ifdef __cplusplus
}
#endif

#endif
